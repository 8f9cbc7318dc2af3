"""How much, how lately and since when anybody has met an item, at any moment, from its strict past.

Of an item at time t, from its events at times s < t:

- popularity: `log(1 + sum 2^(-(t - s) / half_life))`, one for each half-life;
- recency: `log((w + h) / (elapsed + h))` of the time elapsed since its latest event, and
- age: the same since its first one, with w the window and h one hour; no less than zero.

All are zero for an item without an event within the window before t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bayes_interest.schema import SECONDS_PER_DAY

HOUR = np.float32(3600.0)
WINDOW_HALF_LIVES = 2.0
"""The window, in multiples of the longest half-life."""
MIN_STRIDE = 64
FAINT = np.float32(-30.0)  # log of what is as good as nothing; below, arithmetic is slow
BLOCK = 32_768  # entries worked on at a time, so that they stay in the cache


@dataclass(frozen=True)
class Popularity:
    """The events of all users in the order of time, and which was each item's latest, now and then.

    The latest events are kept ready at marks, one every so many events; what came after a mark is
    looked through.
    """

    item: np.ndarray  # in time order, (event,)
    seconds: np.ndarray  # sorted, (event,)
    after: np.ndarray  # faded count of the event's item, with the event, (half-life, event)
    first: np.ndarray  # time of the first event of each item, inf without one, (item,)
    half_lives: np.ndarray  # in seconds
    stride: int  # events from mark to mark
    marks: np.ndarray  # which of them are kept, sorted, (mark,)
    start: np.ndarray  # where each one begins in `latest`, (mark + 1,)
    latest: np.ndarray  # events, one for each item with an event in the window before the mark

    @classmethod
    def of(
        cls,
        item: np.ndarray,
        seconds: np.ndarray,
        n_items: int,
        half_lives_days: tuple[float, ...],
        asked: np.ndarray,
    ) -> Popularity:
        """From events in any order; `asked` are the moments, in seconds, that will be looked at."""
        order = np.argsort(seconds, kind="stable")
        item, seconds = item[order], seconds[order]
        half_lives = np.array(half_lives_days) * SECONDS_PER_DAY
        stride = max(MIN_STRIDE, n_items // 4)
        marks = np.unique(np.searchsorted(seconds, asked, side="left") // stride)
        after, first, start, latest = _kernels()[0](
            item, seconds, n_items, half_lives, _window(half_lives), marks * stride
        )
        return cls(item, seconds, after, first, half_lives, stride, marks, start, latest)

    def entries(
        self, now: np.ndarray, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, values (entry, half-life + 2)) of the items met within the window; of those
        `wanted` (item,) alone, if given.
        """
        if wanted is None:
            wanted = np.ones(len(self.first), dtype=bool)
        before = np.searchsorted(self.seconds, now, side="left")
        mark = before // self.stride
        if not np.isin(mark, self.marks).all():
            raise ValueError("a moment that was not among those asked for")
        row, event = _kernels()[1](
            self.item, mark * self.stride, before, np.searchsorted(self.marks, mark), self.start,
            self.latest, wanted,
        )  # fmt: skip
        return row, self.item[event], self._values(now[row], event)

    def of_events(self, item: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Values of one item at one moment each, (event, half-life + 2)."""
        out = np.zeros((len(item), len(self.half_lives) + 2), dtype=np.float32)
        if not len(self.item):
            return out
        before = np.searchsorted(self.seconds, now, side="left")
        width = len(self.item) + 1
        key = self.item.astype(np.int64) * width + np.arange(len(self.item))
        order = np.argsort(key)
        place = np.searchsorted(key[order], item.astype(np.int64) * width + before) - 1
        event = order[np.maximum(place, 0)]
        known = (place >= 0) & (self.item[event] == item)
        out[known] = self._values(now[known], event[known])
        return out

    def _values(self, now: np.ndarray, event: np.ndarray) -> np.ndarray:
        """Covariates at some moments of the items whose latest events these are."""
        window, n_half_lives = np.float32(_window(self.half_lives)), len(self.half_lives)
        pace = (-np.log(2.0) / self.half_lives).astype(np.float32)
        out = np.empty((n_half_lives + 2, len(now)), dtype=np.float32)  # fast column by column
        for at in range(0, len(now), BLOCK):
            part, moment = event[at : at + BLOCK], now[at : at + BLOCK]
            block = out[:, at : at + BLOCK]
            exact = moment - self.seconds[part]
            elapsed = exact.astype(np.float32)
            age = (moment - self.first[self.item[part]]).astype(np.float32)
            for column in range(n_half_lives):
                faded = np.exp(np.maximum(elapsed * pace[column], FAINT))
                np.log(1.0 + faded * self.after[column][part], out=block[column])
            for column, since in ((-2, elapsed), (-1, age)):
                left = (window + HOUR) / (since + HOUR)
                np.maximum(np.log(left, out=left), 0.0, out=block[column])
            block[:, exact > _window(self.half_lives)] = 0.0  # to the second, as the marks are
        return out.T


def _window(half_lives: np.ndarray) -> float:
    return float(WINDOW_HALF_LIVES * half_lives.max())


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., Any], ...]:
    """Compiled loops; numba is imported when they are first needed."""
    from numba import njit

    @njit(cache=True)
    def prepare(item, seconds, n_items, half_lives, window, marks):  # type: ignore[no-untyped-def]
        after = np.empty((len(half_lives), len(item)), np.float32)
        first, last = np.full(n_items, np.inf), np.full(n_items, -1)
        counts = np.zeros((n_items, len(half_lives)))
        start, kept = np.zeros(len(marks) + 1, np.int64), np.empty(len(marks) * n_items, np.int32)
        m, n = 0, 0
        for event in range(len(item) + 1):
            if m < len(marks) and marks[m] == event:
                for i in range(n_items):
                    if last[i] >= 0 and seconds[last[i]] >= seconds[event - 1] - window:
                        kept[n] = last[i]
                        n += 1
                m += 1
                start[m] = n
            if event == len(item):
                break
            i = item[event]
            first[i] = min(first[i], seconds[event])
            for h in range(len(half_lives)):
                if last[i] >= 0:
                    counts[i, h] *= 2.0 ** ((seconds[last[i]] - seconds[event]) / half_lives[h])
                counts[i, h] += 1.0
                after[h, event] = counts[i, h]
            last[i] = event
        return after, first, start, kept[:n].copy()

    @njit(cache=True)
    def look(item, low, high, place, start, kept, wanted):  # type: ignore[no-untyped-def]
        size = (high - low).sum()
        for r in range(len(place)):
            size += start[place[r] + 1] - start[place[r]]
        row, latest = np.empty(size, np.int64), np.empty(size, np.int64)
        slot, n = np.full(len(wanted), -1), 0
        for r in range(len(place)):
            begin = n
            for at in range(start[place[r]], start[place[r] + 1]):
                i = item[kept[at]]
                if wanted[i]:
                    row[n], latest[n], slot[i] = r, kept[at], n
                    n += 1
            for event in range(low[r], high[r]):
                i = item[event]
                if wanted[i]:
                    if slot[i] < begin:
                        slot[i], row[n] = n, r
                        n += 1
                    latest[slot[i]] = event
        return row[:n], latest[:n]

    return prepare, look
