"""What followed, in anybody's history, the items that a user met last.

`s_j = sum_l 1 / l * count(i_l -> j) / (c + count(i_l -> anything))`, i_l the l-th last item, and
`j` followed `i` at distance d counting 1 / d. Markov chains of order one (Rendle et al. 2010), here
with the last few items and counts in place of factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bayes_interest.events.own_past import OwnPast

REACH = 5
"""Items of the user's past that succession looks at, and how far ahead it counts."""
MAX_PAIRS = 400
"""Of one item, only the latest so many successions count."""
CAUTION = 5.0
SCALE = 1.0 / 300.0


@dataclass(frozen=True)
class Pairs:
    """`source -> target` successions, by source and then by the time of the target."""

    start: np.ndarray  # (item + 1,)
    target: np.ndarray  # (pair,)
    seconds: np.ndarray
    weight: np.ndarray  # 1 / distance

    @classmethod
    def of(cls, own: OwnPast, n_items: int) -> Pairs:
        """All successions within `REACH` of users' absorbed events."""
        parts = []
        for distance in range(1, REACH + 1):
            same = np.flatnonzero(own.user[distance:] == own.user[:-distance]) + distance
            weight = np.full(len(same), 1.0 / distance, dtype=np.float32)
            source = own.item[same - distance]
            parts.append((source, own.item[same], own.seconds[same], weight))
        source, target, seconds, weight = (np.concatenate(p) for p in zip(*parts, strict=True))
        order = np.lexsort((seconds, source))
        start = np.searchsorted(source[order], np.arange(n_items + 1))
        return cls(start, target[order], seconds[order], weight[order])

    def entries(
        self, own: OwnPast, moments: np.ndarray, now: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, `log(1 + s / SCALE)` (entry, 1)) of what may follow."""
        low, high = own.span(moments)
        row, item, values = _kernel()(
            own.item,
            np.maximum(low, high - REACH),
            high,
            now,
            self.start,
            self.target,
            self.seconds,
            self.weight,
            len(self.start) - 1,
        )
        values *= np.float32(1.0 / SCALE)
        return row, item, np.log1p(values, out=values)[:, None]

    def effects(self, own: OwnPast, moment: int, now: float, item: int) -> np.ndarray:
        """What an item's succession would lose without each event of the past, (event, 1).

        What has followed what in anybody's history, this user's too, is taken as it is.
        """
        low, high = (int(end[0]) for end in own.span(np.array([moment])))
        begin = max(low, high - REACH - 1)
        share = np.array([self._share(source, now, item) for source in own.item[begin:high]])
        out, whole = np.zeros((high - low, 1)), _value(share)
        for event in range(max(low, high - REACH), high):
            out[event - low] = whole - _value(np.delete(share, event - begin))
        return out

    def _share(self, source: int, now: float, item: int) -> float:
        """How much of what followed an item was the other item."""
        begin, end = self.start[source], self.start[source + 1]
        end = begin + np.searchsorted(self.seconds[begin:end], now)
        block = slice(max(begin, end - MAX_PAIRS), end)
        weight = self.weight[block].astype(float)
        return float(weight[self.target[block] == item].sum() / (CAUTION + weight.sum()))


def _value(shares: np.ndarray) -> float:
    """The covariate from the shares of the last items, the latest last."""
    back = shares[: -REACH - 1 : -1]
    return float(np.log1p((back / np.arange(1.0, len(back) + 1.0)).sum() / SCALE))


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., Any]:
    """A compiled loop; numba is imported when it is first needed."""
    from numba import njit

    @njit(cache=True)
    def succession(  # type: ignore[no-untyped-def]
        item, low, high, now, start, target, seconds, weight, n_items
    ):
        reach = 0
        stop = np.empty((len(low), REACH), np.int64)
        for r in range(len(low)):
            for back in range(high[r] - low[r]):
                source = item[high[r] - 1 - back]
                block = seconds[start[source] : start[source + 1]]
                stop[r, back] = start[source] + np.searchsorted(block, now[r])
                reach += min(stop[r, back] - start[source], MAX_PAIRS)
        row, column = np.empty(reach, np.int64), np.empty(reach, np.int64)
        values = np.zeros(reach, np.float32)
        slot, n = np.full(n_items, -1), 0
        for r in range(len(low)):
            begin = n
            for back in range(high[r] - low[r]):
                end = stop[r, back]
                source = item[high[r] - 1 - back]
                first = max(start[source], end - MAX_PAIRS)
                total = CAUTION
                for pair in range(first, end):
                    total += weight[pair]
                share = 1.0 / (total * (back + 1))
                for pair in range(first, end):
                    j = target[pair]
                    if slot[j] < begin:
                        slot[j] = n
                        row[n], column[n] = r, j
                        n += 1
                    values[slot[j]] += share * weight[pair]
        return row[:n], column[:n], values[:n]

    return succession  # type: ignore[no-any-return]
