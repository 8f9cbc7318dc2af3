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
FULL = 0.25
"""Pairs looked at, per cell, from which on a table is the quicker way."""


@dataclass(frozen=True)
class Pairs:
    """`source -> target` successions, by source and then by the time of the target."""

    start: np.ndarray  # (item + 1,)
    target: np.ndarray  # (pair,)
    seconds: np.ndarray
    weight: np.ndarray  # 1 / distance
    total: np.ndarray  # of the weights of the source's pairs up to and with each one, float64

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
        weight = weight[order]
        total = _kernels()[2](start, weight)
        return cls(start, target[order].astype(np.int32), seconds[order], weight, total)

    def entries(
        self,
        own: OwnPast,
        moments: np.ndarray,
        now: np.ndarray,
        wanted: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, `log(1 + s / SCALE)` (entry, 1)) of what may follow; of those `wanted`
        (item,) alone, if given.
        """
        if wanted is None:
            wanted = np.ones(len(self.start) - 1, dtype=bool)
        row, item, values = _kernels()[0](*self._asked(own, moments, now), wanted)
        return row, item, _scaled(values)[:, None]

    def table(
        self, own: OwnPast, moments: np.ndarray, now: np.ndarray, place: np.ndarray, width: int
    ) -> np.ndarray:
        """The same as a table (moment, width), each item at its `place` (item,); -1 is nowhere.

        Bit for bit the values of `entries`, sooner where most of them are not zero.
        """
        column = np.where(place < 0, width, place).astype(np.int32)
        return _scaled(_kernels()[3](*self._asked(own, moments, now), column, width))

    def fills(self, own: OwnPast, moments: np.ndarray, width: int) -> bool:
        """Whether so many pairs are looked at that a table of that width is hardly empty."""
        low, high = own.span(moments)
        back = high[:, None] - 1 - np.arange(REACH)
        if not len(own.item):
            return False
        source = own.item[np.maximum(back, 0)]
        pairs = np.minimum(self.start[source + 1] - self.start[source], MAX_PAIRS)
        return bool((pairs * (back >= low[:, None])).sum() >= FULL * width * len(moments))

    def of_items(
        self, own: OwnPast, moments: np.ndarray, now: np.ndarray, item: np.ndarray
    ) -> np.ndarray:
        """The same of one item at each moment, (moment,)."""
        return _scaled(_kernels()[1](*self._asked(own, moments, now), item))

    def _asked(self, own: OwnPast, moments: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, ...]:
        low, high = own.span(moments)
        last = (own.item, np.maximum(low, high - REACH), high, now)
        return (*last, self.start, self.target, self.seconds, self.weight, self.total)

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


def _scaled(values: np.ndarray) -> np.ndarray:
    values *= np.float32(1.0 / SCALE)
    values += np.float32(1.0)
    found: np.ndarray = np.log(values, out=values)  # never tiny: faster than log1p, as exact
    return found


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., Any], ...]:
    """Compiled loops; numba is imported when they are first needed."""
    from numba import njit

    @njit(cache=True)
    def span(source, now, start, seconds, total):  # type: ignore[no-untyped-def]
        """First pair that counts, one past the last, and what divides their weights."""
        begin = start[source]
        end = begin + np.searchsorted(seconds[begin : start[source + 1]], now)
        first = max(begin, end - MAX_PAIRS)
        whole = CAUTION
        if end > begin:
            whole += total[end - 1]
        if first > begin:
            whole -= total[first - 1]
        return first, end, whole

    @njit(cache=True)
    def all_items(  # type: ignore[no-untyped-def]
        item, low, high, now, start, target, seconds, weight, total, wanted
    ):
        reach, most = 0, wanted.sum()
        for r in range(len(low)):
            pairs = 0
            for event in range(low[r], high[r]):
                source = item[event]
                pairs += min(start[source + 1] - start[source], MAX_PAIRS)
            reach += min(pairs, most)
        row, column = np.empty(reach, np.int64), np.empty(reach, np.int64)
        values = np.zeros(reach, np.float32)
        slot, n = np.full(len(wanted), -1), 0
        for r in range(len(low)):
            begin = n
            for back in range(high[r] - low[r]):
                source = item[high[r] - 1 - back]
                first, end, whole = span(source, now[r], start, seconds, total)
                share = 1.0 / (whole * (back + 1))
                for pair in range(first, end):
                    j = target[pair]
                    if not wanted[j]:
                        continue
                    if slot[j] < begin:
                        slot[j] = n
                        row[n], column[n] = r, j
                        n += 1
                    values[slot[j]] += share * weight[pair]
        return row[:n], column[:n], values[:n]

    @njit(cache=True)
    def one_item(  # type: ignore[no-untyped-def]
        item, low, high, now, start, target, seconds, weight, total, mine
    ):
        values = np.zeros(len(low), np.float32)
        for r in range(len(low)):
            for back in range(high[r] - low[r]):
                source = item[high[r] - 1 - back]
                first, end, whole = span(source, now[r], start, seconds, total)
                share = 1.0 / (whole * (back + 1))
                for pair in range(first, end):
                    if target[pair] == mine[r]:
                        values[r] += share * weight[pair]
        return values

    @njit(cache=True)
    def totals(start, weight):  # type: ignore[no-untyped-def]
        out = np.empty(len(weight))
        for source in range(len(start) - 1):
            so_far = 0.0
            for pair in range(start[source], start[source + 1]):
                so_far += weight[pair]
                out[pair] = so_far
        return out

    @njit(cache=True)
    def table(  # type: ignore[no-untyped-def]
        item, low, high, now, start, target, seconds, weight, total, column, width
    ):
        out = np.empty((len(low), width), np.float32)
        sums = np.empty(width + 1, np.float32)  # the last takes what is not wanted: no branch
        for r in range(len(low)):
            sums[:] = 0.0
            for back in range(high[r] - low[r]):
                source = item[high[r] - 1 - back]
                first, end, whole = span(source, now[r], start, seconds, total)
                share = 1.0 / (whole * (back + 1))
                for pair in range(first, end):
                    sums[column[target[pair]]] += share * weight[pair]
            for j in range(width):
                out[r, j] = sums[j]
        return out

    return all_items, one_item, totals, table
