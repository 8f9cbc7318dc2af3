"""Train and test as one timeline, and what lies strictly before each of its moments."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from bayes_interest.baselines.catalogue import Catalogue
from bayes_interest.events.history import History
from bayes_interest.schema import SECONDS_PER_DAY


@dataclass(frozen=True, eq=False)
class Timeline:
    """All events, in user-then-time order; those of train come first where times tie.

    The rivals' evidence for an event is what has a strictly earlier timestamp. Only the filter of
    seen items counts, as the model does, also the user's tied events that come first in the log:
    everybody ranks the same candidates.
    """

    history: History
    positive: np.ndarray  # engaged, liked or chosen, (event,) bool
    is_test: np.ndarray  # (event,) bool
    emission: str
    catalogue: Catalogue
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def n_items(self) -> int:
        """Number of known items."""
        return len(self.catalogue)

    @cached_property
    def start(self) -> np.ndarray:
        """First event of each event's user, (event,)."""
        starts: np.ndarray = self.history.start[self.history.user_index]
        return starts

    @cached_property
    def tied_first(self) -> np.ndarray:
        """Position of the first event of the same user at the same time, (event,).

        What the user did strictly before event `e` is at positions `start[e]:tied_first[e]`.
        """
        user, seconds = self.history.user_index, self.history.seconds
        changes = (np.diff(user, prepend=-1) != 0) | (np.diff(seconds, prepend=np.nan) != 0)
        first: np.ndarray = np.maximum.accumulate(np.where(changes, np.arange(len(user)), 0))
        return first

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """`make()`, computed once per timeline and key: for tables that every block needs."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def last_of_train(self, share: float, positive_only: bool) -> np.ndarray:
        """Positions of the last share of train, whole timestamps; all of train if that is none."""
        train = np.flatnonzero(~self.is_test)
        seconds = self.history.seconds[train]
        cut = np.sort(seconds)[int(len(train) * (1.0 - share))]
        for part in (train[seconds >= cut], train):
            wanted = part[self.positive[part]] if positive_only else part
            if len(wanted):
                break
        return wanted

    def before(self, seconds: float) -> Timeline:
        """The events strictly before a moment; the same users and items."""
        keep = self.history.seconds < seconds
        return replace(
            self,
            history=self.history.take(keep),
            positive=self.positive[keep],
            is_test=self.is_test[keep],
            _kept={},
        )

    def in_time_order(self, part: np.ndarray) -> np.ndarray:
        """Positions of events, sorted by time; ties keep their order."""
        ordered: np.ndarray = part[np.argsort(self.history.seconds[part], kind="stable")]
        return ordered

    def own_past(self, part: np.ndarray, half_life_days: float | None = None) -> sparse.csr_matrix:
        """Positive events per (event, item) of the event's user, strictly before it.

        With a half-life an event of `d` days ago counts `0.5 ** (d / half_life_days)`.
        """
        before = np.concatenate(([0], np.cumsum(self.positive)))
        low, high = before[self.start[part]], before[self.tied_first[part]]
        pointer = np.concatenate(([0], np.cumsum(high - low)))
        used = np.flatnonzero(self.positive)[ranges(low, high - low)]
        weight = np.ones(len(used), dtype=np.float32)
        if half_life_days is not None:
            now = np.repeat(self.history.seconds[part], high - low)
            age = (now - self.history.seconds[used]) / SECONDS_PER_DAY
            weight = np.exp2(-age / half_life_days).astype(np.float32)
        shape = (len(part), self.n_items)
        return sparse.csr_matrix((weight, self.history.item_index[used], pointer), shape=shape)

    def past_pairs(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, position) of each event of the event's user, strictly before it, any outcome."""
        length = self.tied_first[part] - self.start[part]
        return np.repeat(np.arange(len(part)), length), ranges(self.start[part], length)

    def seen(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, item) pairs that an event's user had met, in the order of the log, before it."""
        length = part - self.start[part]
        row = np.repeat(np.arange(len(part)), length)
        return row, self.history.item_index[ranges(self.start[part], length)]

    def counts(self, use: str = "positive", window_days: float | None = None) -> PastCounts:
        """Counter of "positive" events or of "all" events of items."""
        mask = self.positive if use == "positive" else np.ones_like(self.positive)
        found: PastCounts = self.once(
            ("counts", use, window_days), lambda: PastCounts.of(self, mask, window_days)
        )
        return found


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`start, start + 1, ...` of each length, one after the other."""
    done = np.cumsum(length) - length
    positions: np.ndarray = np.arange(length.sum()) + np.repeat(start - done, length)
    return positions


@dataclass(frozen=True)
class PastCounts:
    """Counts events per item strictly before a moment, in the last `window_days` or ever."""

    item_index: np.ndarray  # in time order, (event,)
    seconds: np.ndarray  # sorted, (event,)
    n_items: int
    window_days: float | None = None

    @classmethod
    def of(
        cls, timeline: Timeline, use: np.ndarray, window_days: float | None = None
    ) -> PastCounts:
        """From the events where `use` (event,) is true."""
        item, seconds = timeline.history.item_index[use], timeline.history.seconds[use]
        order = np.argsort(seconds, kind="stable")
        return cls(item[order], seconds[order], timeline.n_items, window_days)

    @property
    def _window(self) -> float | None:
        return None if self.window_days is None else self.window_days * SECONDS_PER_DAY

    def rows(self, moments: np.ndarray) -> np.ndarray:
        """Of every item at moments in increasing order, (moment, item) float32."""
        table = self._rows(moments)
        return table if self._window is None else table - self._rows(moments - self._window)

    def _rows(self, moments: np.ndarray) -> np.ndarray:
        first, end = np.searchsorted(self.seconds, moments[[0, -1]], side="left")
        table = np.zeros((len(moments), self.n_items), dtype=np.float32)
        table[0] = np.bincount(self.item_index[:first], minlength=self.n_items)
        row = np.searchsorted(moments, self.seconds[first:end], side="right")
        np.add.at(table, (row, self.item_index[first:end]), 1.0)
        return np.cumsum(table, axis=0, out=table)

    def of_events(self, item_index: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Of one item at one moment each, in any order, (event,)."""
        count = self._before(item_index, moments)
        if self._window is not None:
            count = count - self._before(item_index, moments - self._window)
        return count

    def totals(self, moments: np.ndarray) -> np.ndarray:
        """Of all items together, (moment,)."""
        count = np.searchsorted(self.seconds, moments, side="left")
        if self._window is not None:
            count = count - np.searchsorted(self.seconds, moments - self._window, side="left")
        return count

    def _before(self, item_index: np.ndarray, moments: np.ndarray) -> np.ndarray:
        rank = np.searchsorted(self.seconds, moments, side="left")
        start = item_index.astype(np.int64) * (len(self.seconds) + 1)
        key = self._key
        return np.searchsorted(key, start + rank) - np.searchsorted(key, start)

    @cached_property
    def _key(self) -> np.ndarray:
        width = len(self.seconds) + 1
        return np.sort(self.item_index.astype(np.int64) * width + np.arange(width - 1))
