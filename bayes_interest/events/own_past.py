"""The user's own past before a moment: repeats, and what the last items' texts were like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bayes_interest.events.history import History
from bayes_interest.schema import SECONDS_PER_DAY

FADES_DAYS = (30.0, 1.0)
FADES = np.array(FADES_DAYS) * SECONDS_PER_DAY
MEMORY = 16
"""Events of the user's past that count as recent, each a fifth less than the one after it."""
KEEP = 0.8


@dataclass(frozen=True)
class OwnPast:
    """The absorbed events in user-then-time order, and where each moment's past lies in them."""

    item: np.ndarray  # (absorbed event,)
    seconds: np.ndarray
    user: np.ndarray
    before: np.ndarray  # absorbed events before each position of the log, (event + 1,)
    first: np.ndarray  # absorbed events before the user's first event, (event,)

    @classmethod
    def of(cls, log: History) -> OwnPast:
        """From a log; mere looks are left out."""
        use = log.absorb
        before = np.concatenate(([0], np.cumsum(use)))
        first = before[log.start[log.user_index]]
        return cls(log.item_index[use], log.seconds[use], log.user_index[use], before, first)

    def span(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last absorbed event of the same user before each moment."""
        return self.first[moments], self.before[moments]

    def repeats(
        self, moments: np.ndarray, now: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, values (entry, 1 + fade)) of the `wanted` (item,) that the user has met."""
        low, high = self.span(moments)
        row, item, values = _kernels()[0](self.item, self.seconds, low, high, now, FADES, wanted)
        return row, item, np.log1p(values, out=values)

    def repeats_of(self, moments: np.ndarray, now: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The same of one item at each moment, (moment, 1 + fade)."""
        low, high = self.span(moments)
        values = _kernels()[1](self.item, self.seconds, low, high, now, FADES, item)
        found: np.ndarray = np.log1p(values, out=values)
        return found

    def likeness(self, moments: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Directions `texts` (item, text_dim) of the last item and of the recent ones on average,
        (moment, 2, text_dim); zero for a user without a past.
        """
        low, high = self.span(moments)
        found: np.ndarray = _kernels()[2](self.item, low, high, np.ascontiguousarray(texts))
        return found

    def repeat_effects(self, moment: int, now: float, item: int) -> np.ndarray:
        """What an item's `repeats` would lose without each event of the past, (event, 1 + fade)."""
        low, high = (int(end[0]) for end in self.span(np.array([moment])))
        faded = np.exp((self.seconds[low:high, None] - now) / FADES)
        terms = np.concatenate((np.ones((high - low, 1)), faded), 1)
        terms *= (self.item[low:high] == item)[:, None]
        total = terms.sum(0)
        effects: np.ndarray = np.log1p(total) - np.log1p((total - terms).clip(0.0))
        return effects

    def likeness_effects(self, moment: int, texts: np.ndarray, item: int) -> np.ndarray:
        """What an item's `likeness` would lose without each event of the past, (event, 2)."""
        low, high = (int(end[0]) for end in self.span(np.array([moment])))
        alike = texts[self.item[low:high]].astype(float) @ texts[item].astype(float)
        out, whole = np.zeros((high - low, 2)), _recent(alike)
        for event in range(max(0, len(alike) - MEMORY), len(alike)):
            out[event] = whole - _recent(np.delete(alike, event))
        return out


def _recent(alike: np.ndarray) -> np.ndarray:
    """The last likeness, and the average of the recent ones, (2,); zero of none."""
    back = alike[: -MEMORY - 1 : -1]
    if not len(back):
        return np.zeros(2)
    return np.array([back[0], np.average(back, weights=KEEP ** np.arange(len(back)))])


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., Any], ...]:
    """Compiled loops; numba is imported when they are first needed."""
    from numba import njit

    @njit(cache=True)
    def all_items(item, seconds, low, high, now, fades, wanted):  # type: ignore[no-untyped-def]
        size = 0
        for r in range(len(low)):
            for event in range(low[r], high[r]):
                size += wanted[item[event]]
        row, column = np.empty(size, np.int64), np.empty(size, np.int64)
        values = np.zeros((size, 1 + len(fades)), np.float32)
        slot, n = np.full(len(wanted), -1), 0
        for r in range(len(low)):
            begin = n
            for event in range(low[r], high[r]):
                i = item[event]
                if not wanted[i]:
                    continue
                if slot[i] < begin:
                    slot[i] = n
                    row[n], column[n] = r, i
                    n += 1
                at = slot[i]
                values[at, 0] += 1.0
                for f in range(len(fades)):
                    values[at, 1 + f] += np.exp((seconds[event] - now[r]) / fades[f])
        return row[:n], column[:n], values[:n]

    @njit(cache=True)
    def one_item(item, seconds, low, high, now, fades, mine):  # type: ignore[no-untyped-def]
        values = np.zeros((len(low), 1 + len(fades)), np.float32)
        for r in range(len(low)):
            for event in range(low[r], high[r]):
                if item[event] == mine[r]:
                    values[r, 0] += 1.0
                    for f in range(len(fades)):
                        values[r, 1 + f] += np.exp((seconds[event] - now[r]) / fades[f])
        return values

    @njit(cache=True)
    def directions(item, low, high, texts):  # type: ignore[no-untyped-def]
        width, one = texts.shape[1], texts.dtype.type(1)
        out = np.zeros((len(low), 2, width), texts.dtype)
        for r in range(len(low)):
            n = min(high[r] - low[r], MEMORY)
            total = 0.0
            for back in range(n):
                total += KEEP**back
            for back in range(n):
                text, share = texts[item[high[r] - 1 - back]], one * (KEEP**back / total)
                for i in range(width):
                    out[r, 1, i] += text[i] * share
            for i in range(width if n else 0):
                out[r, 0, i] = texts[item[high[r] - 1], i]
        return out

    return all_items, one_item, directions
