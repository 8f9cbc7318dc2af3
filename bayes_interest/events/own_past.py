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
        self, moments: np.ndarray, now: np.ndarray, n_items: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, values (entry, 1 + fade)) of the items that the user has met."""
        low, high = self.span(moments)
        fades = np.array(FADES_DAYS) * SECONDS_PER_DAY
        row, item, values = _kernel()(self.item, self.seconds, low, high, now, fades, n_items)
        return row, item, np.log1p(values, out=values)

    def likeness(self, moments: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Directions `texts` (item, text_dim) of the last item and of the recent ones on average,
        (moment, 2, text_dim); zero for a user without a past.
        """
        low, high = self.span(moments)
        back = high[:, None] - 1 - np.arange(MEMORY)
        known = back >= low[:, None]
        weight = np.where(known, KEEP ** np.arange(MEMORY), 0.0).astype(texts.dtype)
        weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)
        out = np.zeros((len(moments), 2, texts.shape[1]), dtype=texts.dtype)
        if len(self.item):
            item = self.item[np.maximum(back, 0)]
            out[:, 0] = texts[item[:, 0]] * known[:, :1]
            for place in range(MEMORY):
                out[:, 1] += texts[item[:, place]] * weight[:, place, None]
        return out

    def repeat_effects(self, moment: int, now: float, item: int) -> np.ndarray:
        """What an item's `repeats` would lose without each event of the past, (event, 1 + fade)."""
        low, high = (int(end[0]) for end in self.span(np.array([moment])))
        fades = np.array(FADES_DAYS) * SECONDS_PER_DAY
        faded = np.exp((self.seconds[low:high, None] - now) / fades)
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
def _kernel() -> Callable[..., Any]:
    """A compiled loop; numba is imported when it is first needed."""
    from numba import njit

    @njit(cache=True)
    def own(item, seconds, low, high, now, fades, n_items):  # type: ignore[no-untyped-def]
        size = (high - low).sum()
        row, column = np.empty(size, np.int64), np.empty(size, np.int64)
        values = np.zeros((size, 1 + len(fades)), np.float32)
        slot, n = np.full(n_items, -1), 0
        for r in range(len(low)):
            begin = n
            for event in range(low[r], high[r]):
                i = item[event]
                if slot[i] < begin:
                    slot[i] = n
                    row[n], column[n] = r, i
                    n += 1
                at = slot[i]
                values[at, 0] += 1.0
                for f in range(len(fades)):
                    values[at, 1 + f] += np.exp((seconds[event] - now[r]) / fades[f])
        return row[:n], column[:n], values[:n]

    return own  # type: ignore[no-any-return]
