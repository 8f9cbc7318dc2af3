"""What came before a moment and bears on every item: counts of a log, from its strict past.

Per item and moment, the covariates of the linear predictor:

- popularity: `log(1 + events of the item in the last w days)`, one for each window w;
- repeats: of the user's own earlier events of the item, `log(1 + count)`, and the same with
  events fading over 1 and over 30 days;
- succession: what followed, in anybody's history, the items that the user met last (Markov
  chains of order one: Rendle et al. 2010, here with the last few items and counts in place of
  factors): `log(1 + s / s_0)` with
  `s_j = sum_l 1 / l * count(i_l -> j) / (c + count(i_l -> anything))`, i_l the l-th last item, and
  `j` followed `i` at distance d counting 1 / d.

- rates, of outcomes scaled to [0, 1] less the mean outcome of the whole log so far: of the user,
  exponential averages over about the last 3, 10 and 50 events; of the item,
  `(sum) / (c + count)`; and the level, always one.

Popularity, succession and the item's rate count what has a strictly earlier time. A user's own
past is what comes first in the user's history, so of events at one time the earlier in the log
are past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from bayes_interest.events.history import History, join_histories
from bayes_interest.events.popularity import RecentCounts
from bayes_interest.schema import SECONDS_PER_DAY

FADES_DAYS = (30.0, 1.0)
REACH = 5
"""Items of the user's past that succession looks at, and how far ahead it counts."""
MAX_PAIRS = 400
"""Of one item, only the latest so many successions count."""
CAUTION = 5.0
RATE_SHARES = (0.3, 0.1, 0.02)
"""Weight of the latest event in the user's running rates."""
SCALE = 1.0 / 300.0


@dataclass(frozen=True)
class Kinds:
    """Which covariates there are."""

    windows_days: tuple[float, ...] = ()
    repeats: bool = False
    succession: bool = False
    rates: bool = False
    top_outcome: float = 1.0
    """The outcome that counts as one in the rates."""

    @property
    def names(self) -> tuple[str, ...]:
        """One per covariate, in the order of the columns."""
        names = [f"popularity_{days:g}_days" for days in self.windows_days]
        if self.repeats:
            names += ["repeats", *(f"repeats_{days:g}_days" for days in FADES_DAYS)]
        if self.succession:
            names += ["succession"]
        if self.rates:
            names += [*(f"user_rate_{share:g}" for share in RATE_SHARES), "level", "item_rate"]
        return tuple(names)

    @property
    def n_rates(self) -> int:
        """How many of the last columns are rates."""
        return len(RATE_SHARES) + 2 if self.rates else 0


@dataclass(frozen=True)
class Entries:
    """The non-zero values of some covariates, for some moments."""

    columns: slice  # which covariates
    row: np.ndarray  # position among the moments, (entry,)
    item: np.ndarray  # (entry,)
    values: np.ndarray  # (entry, covariate) float32


@dataclass(frozen=True)
class Surroundings:
    """The covariates of the moments of a history, of every item.

    A moment is a position in `log`; it may be an event or, with `absorb` false, a mere look.
    """

    log: History
    n_items: int
    kinds: Kinds

    def entries(self, moments: np.ndarray) -> Iterator[Entries]:
        """All non-zero values, group by group; the rates, which are hardly ever zero, apart."""
        for index in range(len(self.kinds.windows_days)):
            table, row_of = self._popularity[index]
            part = table[row_of[moments]].tocoo()
            columns = slice(index, index + 1)
            yield Entries(columns, part.row, part.col, part.data[:, None].astype(np.float32))
        if self.kinds.repeats:
            begin = len(self.kinds.windows_days)
            yield Entries(slice(begin, begin + 1 + len(FADES_DAYS)), *self._own_past(moments))
        if self.kinds.succession:
            last = len(self.kinds.names) - self.kinds.n_rates
            yield Entries(slice(last - 1, last), *self._succession(moments))

    def own(self, moments: np.ndarray) -> np.ndarray:
        """Values for the item of each moment itself, (moment, covariate)."""
        item = self.log.item_index[moments]
        out = np.zeros((len(moments), len(self.kinds.names)), dtype=np.float32)
        size = max(1, 2_000_000 // max(1, int(self.log.lengths.max(initial=1))))
        for index, counts in enumerate(self._recent):
            out[:, index] = counts.of_events(item, self.log.seconds[moments])
        begin, n_rates = len(self.kinds.windows_days), self.kinds.n_rates
        last = len(self.kinds.names) - n_rates
        if n_rates:
            out[:, last:-1] = self._rates.user[moments]
            out[:, -1] = self._rates.of_item(item, self.log.seconds[moments])
        for at in range(0, len(moments), size) if begin < last else ():
            part = slice(at, at + size)
            groups = []
            if self.kinds.repeats:
                groups.append((begin, self._own_past(moments[part])))
            if self.kinds.succession:
                groups.append((last - 1, self._succession(moments[part])))
            for first, (row, other, values) in groups:
                mine = other == item[part][row]
                out[at + row[mine], first : first + values.shape[1]] = values[mine]
        return out

    def table(self, moments: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Sum of all covariates times their weights (covariate,), (moment, item)."""
        out = np.zeros((len(moments), self.n_items), dtype=np.result_type(weight, np.float32))
        for entries in self.entries(moments):
            part = weight[entries.columns]
            for column, one in enumerate(part):  # no matrix product: its last bits vary by place
                out[entries.row, entries.item] += entries.values[:, column] * one
        if self.kinds.rates:
            n_rates = self.kinds.n_rates
            for column, one in enumerate(weight[-n_rates:-1]):
                out += (self._rates.user[moments, column] * one)[:, None]
            out += weight[-1] * self._rates.of_all(self.n_items, self.log.seconds[moments])
        return out

    @cached_property
    def _recent(self) -> list[RecentCounts]:
        use = self.log.absorb
        item, seconds = self.log.item_index[use], self.log.seconds[use]
        windows = self.kinds.windows_days
        return [RecentCounts.of(item, seconds, self.n_items, days) for days in windows]

    @cached_property
    def _popularity(self) -> list[tuple[sparse.csr_matrix, np.ndarray]]:
        """A sparse row per tick, and the row of each moment."""
        found = []
        for counts in self._recent:
            ticks, row_of = np.unique(counts.tick(self.log.seconds), return_inverse=True)
            found.append((counts.rows_at(ticks), row_of))
        return found

    @cached_property
    def _rates(self) -> _Rates:
        return _Rates.of(self.log, self._own, self.kinds.top_outcome)

    @cached_property
    def _own(self) -> _OwnPast:
        return _OwnPast.of(self.log)

    @cached_property
    def _pairs(self) -> _Pairs:
        return _Pairs.of(self._own, self.n_items)

    def _own_past(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = self._own
        low, high = own.span(moments)
        fades = np.array(FADES_DAYS) * SECONDS_PER_DAY
        row, item, values = _kernels()["own"](
            own.item, own.seconds, low, high, self.log.seconds[moments], fades, self.n_items
        )
        return row, item, np.log1p(values, out=values)

    def _succession(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own, pairs = self._own, self._pairs
        low, high = own.span(moments)
        row, item, values = _kernels()["succession"](
            own.item,
            np.maximum(low, high - REACH),
            high,
            self.log.seconds[moments],
            pairs.start,
            pairs.target,
            pairs.seconds,
            pairs.weight,
            self.n_items,
        )
        values *= np.float32(1.0 / SCALE)
        return row, item, np.log1p(values, out=values)[:, None]


@dataclass(frozen=True)
class _OwnPast:
    """The absorbed events in user-then-time order, and where each moment's past lies in them."""

    item: np.ndarray  # (absorbed event,)
    seconds: np.ndarray
    user: np.ndarray
    before: np.ndarray  # absorbed events before each position of the log, (event + 1,)
    first: np.ndarray  # absorbed events before the user's first event, (event,)

    @classmethod
    def of(cls, log: History) -> _OwnPast:
        use = log.absorb
        before = np.concatenate(([0], np.cumsum(use)))
        first = before[log.start[log.user_index]]
        return cls(log.item_index[use], log.seconds[use], log.user_index[use], before, first)

    def span(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last absorbed event of the same user before each moment."""
        return self.first[moments], self.before[moments]


@dataclass(frozen=True)
class _Pairs:
    """`source -> target` successions, by source and then by the time of the target."""

    start: np.ndarray  # (item + 1,)
    target: np.ndarray  # (pair,)
    seconds: np.ndarray
    weight: np.ndarray  # 1 / distance

    @classmethod
    def of(cls, own: _OwnPast, n_items: int) -> _Pairs:
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


@dataclass(frozen=True)
class _Rates:
    """Running rates of users at every position of a log, and of items at any time."""

    user: np.ndarray  # and a one, (event, share + 1) float32
    item: np.ndarray  # absorbed events by item and then time, (absorbed event,)
    seconds: np.ndarray
    total: np.ndarray  # running sum of the excess outcomes in that order, with a zero before

    @classmethod
    def of(cls, log: History, own: _OwnPast, top_outcome: float) -> _Rates:
        outcome = log.outcome[log.absorb] / top_outcome
        excess = outcome - _earlier_mean(outcome, own.seconds)
        shares = np.array(RATE_SHARES)
        after = _kernels()["averages"](own.user, excess, shares)
        user = np.zeros((len(log), len(shares) + 1), dtype=np.float32)
        user[:, -1] = 1.0
        low, high = own.span(np.arange(len(log)))
        user[high > low, :-1] = after[high[high > low] - 1]
        order = np.lexsort((own.seconds, own.item))
        total = np.concatenate(([0.0], np.cumsum(excess[order])))
        return cls(user, own.item[order], own.seconds[order], total)

    def of_item(self, item: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Rate of one item at one moment each, from what is strictly earlier."""
        start = np.searchsorted(self.item, item, side="left")
        end = np.searchsorted(self.item, item, side="right")
        stop = _kernels()["searches"](self.seconds, start, end, seconds)
        rates: np.ndarray = (self.total[stop] - self.total[start]) / (CAUTION + stop - start)
        return rates

    def of_all(self, n_items: int, seconds: np.ndarray) -> np.ndarray:
        """Of every item at some moments, (moment, item)."""
        item = np.tile(np.arange(n_items), len(seconds))
        return self.of_item(item, np.repeat(seconds, n_items)).reshape(len(seconds), n_items)


def _earlier_mean(outcome: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Mean of all strictly earlier outcomes, cautiously a half without any, (event,)."""
    order = np.argsort(seconds, kind="stable")
    total = np.concatenate(([0.0], np.cumsum(outcome[order])))
    count = np.searchsorted(seconds[order], seconds, side="left")
    mean: np.ndarray = (total[count] + 0.5) / (count + 1.0)
    return mean


@lru_cache(maxsize=1)
def _kernels() -> dict[str, Callable[..., Any]]:
    """Compiled loops; numba is imported when they are first needed."""
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

    @njit(cache=True)
    def averages(user, excess, shares):  # type: ignore[no-untyped-def]
        out = np.zeros((len(user), len(shares)), np.float32)
        for event in range(len(user)):
            for s in range(len(shares)):
                before = 0.0
                if event > 0 and user[event] == user[event - 1]:
                    before = out[event - 1, s]
                out[event, s] = before + shares[s] * (excess[event] - before)
        return out

    @njit(cache=True)
    def searches(seconds, start, end, at):  # type: ignore[no-untyped-def]
        stop = np.empty(len(start), np.int64)
        for k in range(len(start)):
            stop[k] = start[k] + np.searchsorted(seconds[start[k] : end[k]], at[k])
        return stop

    return {"own": own, "succession": succession, "averages": averages, "searches": searches}


def surroundings_of(
    past: History, later: History, n_items: int, kinds: Kinds
) -> tuple[Surroundings, np.ndarray]:
    """Of `later` after `past`, of the same users; also the moment of each entry of `later`."""
    n_users = max(past.n_users, later.n_users)
    first, second = past.numbered(), later.numbered()
    joined = join_histories(first, second, n_users)
    place = np.empty(len(joined), dtype=np.int64)
    place[joined.order] = np.arange(len(joined))
    return Surroundings(joined, n_items, kinds), place[len(past) :]
