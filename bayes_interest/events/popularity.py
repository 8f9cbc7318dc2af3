"""What everybody did just before: recent popularity and own repeats, from the strict past.

Popularity at time t counts the events of an item in a window that ends at the last tick before
t. Ticks are a fixed grid (1/56 of the window: 3 hours for 7 days), so the count depends on the
events before the tick and on nothing else, and events of one tick share one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayes_interest.schema import SECONDS_PER_DAY

TICKS_PER_WINDOW = 56


@dataclass(frozen=True)
class RecentCounts:
    """Counts events per item in the last `window_days` before a moment."""

    item_index: np.ndarray  # in time order, (event,)
    seconds: np.ndarray  # sorted, (event,)
    n_items: int
    window_days: float

    @classmethod
    def of(
        cls, item_index: np.ndarray, seconds: np.ndarray, n_items: int, window_days: float
    ) -> RecentCounts:
        """From events in any order."""
        order = np.argsort(seconds, kind="stable")
        return cls(item_index[order], seconds[order], n_items, window_days)

    def tick(self, seconds: np.ndarray) -> np.ndarray:
        """The last tick at or before each moment, in seconds."""
        # Whole seconds, so that a tick is its own tick.
        width = max(1.0, round(self.window_days * SECONDS_PER_DAY / TICKS_PER_WINDOW))
        seconds = np.asarray(seconds, dtype=np.float64)
        ticks: np.ndarray = np.minimum(np.floor(seconds / width) * width, seconds)
        return ticks

    def rows(self, seconds: np.ndarray) -> sparse.csr_matrix:
        """`log(1 + count)` per (moment, item), one row per entry of `seconds`."""
        return self.rows_at(self.tick(seconds))

    def rows_at(self, end: np.ndarray) -> sparse.csr_matrix:
        """The same for windows that end at these ticks."""
        window = self.window_days * SECONDS_PER_DAY
        high = np.searchsorted(self.seconds, end, side="left")
        low = np.searchsorted(self.seconds, end - window, side="left")
        length = high - low
        pointer = np.concatenate(([0], np.cumsum(length)))
        column = np.arange(pointer[-1]) - np.repeat(pointer[:-1] - low, length)
        counts = sparse.csr_matrix(
            (np.ones(pointer[-1]), self.item_index[column], pointer),
            shape=(len(end), self.n_items),
        )
        counts.sum_duplicates()
        return counts.log1p().astype(np.float32)

    def of_events(self, item_index: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """`log(1 + count)` of one item at one moment each, (event,)."""
        end = self.tick(seconds)
        window = self.window_days * SECONDS_PER_DAY
        count = self._before(item_index, end) - self._before(item_index, end - window)
        logs: np.ndarray = np.log1p(count)
        return logs

    def _before(self, item_index: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Events of each item strictly before each moment, by search in (item, rank in time)."""
        rank = np.searchsorted(self.seconds, seconds, side="left")
        width = len(self.seconds) + 1
        key = np.sort(self.item_index.astype(np.int64) * width + np.arange(len(self.seconds)))
        below = np.searchsorted(key, item_index.astype(np.int64) * width + rank, side="left")
        return below - np.searchsorted(key, item_index.astype(np.int64) * width, side="left")

    def extend(self, item_index: np.ndarray, seconds: np.ndarray, n_items: int) -> RecentCounts:
        """With more events (and perhaps more items) added."""
        return RecentCounts.of(
            np.concatenate((self.item_index, item_index)),
            np.concatenate((self.seconds, seconds)),
            n_items,
            self.window_days,
        )
