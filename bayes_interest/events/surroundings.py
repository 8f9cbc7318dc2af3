"""What came before a moment and bears on every item: counts of a log, from its strict past.

Per item and moment, the covariates of the linear predictor:

- popularity, recency and age: see `popularity.py`;
- repeats: of the user's own earlier events of the item, `log(1 + count)`, and the same with
  events fading over 1 and over 30 days;
- succession: what followed, in anybody's history, the items that the user met last, see
  `succession.py`;
- likeness: cosine of the item's text with that of the user's last item, and the average of those
  with the last few, the later the more;
- rates, of outcomes scaled to [0, 1] less the mean outcome of the whole log so far: of the user,
  exponential averages over about the last 3, 10 and 50 events; of the item,
  `(sum) / (c + count)`; and the level, always one.

Popularity, succession and the item's rate count what has a strictly earlier time. A user's own
past is what comes first in the user's history, so of events at one time the earlier in the log
are past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayes_interest.events.history import History, join_histories
from bayes_interest.events.own_past import FADES_DAYS, OwnPast
from bayes_interest.events.popularity import Popularity
from bayes_interest.events.running_rates import RATE_SHARES, Rates, rates_of_events
from bayes_interest.events.succession import Pairs

N_LIKENESS = 2
OWN_CHUNK = 16_384  # moments worked on at a time


@dataclass(frozen=True)
class Kinds:
    """Which covariates there are."""

    half_lives_days: tuple[float, ...] = ()
    """Of popularity; recency and age go with it."""
    repeats: bool = False
    succession: bool = False
    likeness: bool = False
    rates: bool = False
    top_outcome: float = 1.0
    """The outcome that counts as one in the rates."""

    @property
    def names(self) -> tuple[str, ...]:
        """One per covariate, in the order of the columns."""
        names = [f"popularity_{days:g}_days" for days in self.half_lives_days]
        if self.half_lives_days:
            names += ["recency", "age"]
        if self.repeats:
            names += ["repeats", *(f"repeats_{days:g}_days" for days in FADES_DAYS)]
        if self.succession:
            names += ["succession"]
        if self.likeness:
            names += ["likeness_last", "likeness_recent"]
        if self.rates:
            names += [*(f"user_rate_{share:g}" for share in RATE_SHARES), "level", "item_rate"]
        return tuple(names)

    def columns(self, of: str) -> slice:
        """Where a group of covariates stands; empty where there is none of it."""
        sizes = {
            "popularity": len(self.half_lives_days) + 2 * bool(self.half_lives_days),
            "repeats": (1 + len(FADES_DAYS)) * self.repeats,
            "succession": int(self.succession),
            "likeness": N_LIKENESS * self.likeness,
            "rates": (len(RATE_SHARES) + 2) * self.rates,
        }
        before = list(sizes).index(of)
        begin = sum(list(sizes.values())[:before])
        return slice(begin, begin + sizes[of])


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
    texts: np.ndarray | None = None
    """Directions of the items' texts, unit vectors or zero, (item, text_dim); likeness needs it."""
    asked: np.ndarray | None = None
    """The moments that may be asked about; None is all."""
    rates: Rates | None = None
    """Of the log's absorbed events, where they are known already."""

    def entries(
        self,
        moments: np.ndarray,
        wanted: np.ndarray | None = None,
        without: tuple[str, ...] = (),
    ) -> Iterator[Entries]:
        """All non-zero values, group by group; not of likeness and rates, hardly ever zero.

        With `wanted` (item,) those of other items are left out, and so are groups in `without`.
        """
        now, columns = self.log.seconds[moments], self.kinds.columns
        if wanted is None:
            wanted = np.ones(self.n_items, dtype=bool)
        if self.kinds.half_lives_days:
            yield Entries(columns("popularity"), *self._popularity.entries(now, wanted))
        if self.kinds.repeats:
            yield Entries(columns("repeats"), *self._own.repeats(moments, now, wanted))
        if self.kinds.succession and "succession" not in without:
            found = self._pairs.entries(self._own, moments, now, wanted)
            yield Entries(columns("succession"), *found)

    def succession(
        self, moments: np.ndarray, place: np.ndarray, width: int, always: bool = False
    ) -> np.ndarray | None:
        """Succession as a table (moment, width), each item at its `place` (item,), -1 nowhere;
        None where there is none, or, unless `always`, so little that `entries` are quicker.
        """
        if not self.kinds.succession:
            return None
        if not always and not self._pairs.fills(self._own, moments, width):
            return None
        return self._pairs.table(self._own, moments, self.log.seconds[moments], place, width)

    def likeness(self, moments: np.ndarray) -> np.ndarray:
        """What the texts of items are compared with: `texts @ likeness` is the covariate,
        (moment, 2, text_dim).
        """
        assert self.texts is not None
        return self._own.likeness(moments, self.texts)

    def own(self, moments: np.ndarray) -> np.ndarray:
        """Values for the item of each moment itself, (moment, covariate)."""
        item, now, columns = (
            self.log.item_index[moments],
            self.log.seconds[moments],
            self.kinds.columns,
        )
        out = np.zeros((len(moments), len(self.kinds.names)), dtype=np.float32)
        if self.kinds.half_lives_days:
            out[:, columns("popularity")] = self._popularity.of_events(item, now)
        if self.kinds.rates:
            out[:, columns("rates")] = self._own_rates[moments]
        if self.kinds.repeats:
            out[:, columns("repeats")] = self._own.repeats_of(moments, now, item)
        if self.kinds.succession:
            found = self._pairs.of_items(self._own, moments, now, item)
            out[:, columns("succession").start] = found
        if self.kinds.likeness:
            assert self.texts is not None
            for at in range(0, len(moments), OWN_CHUNK):
                part = slice(at, at + OWN_CHUNK)
                alike = np.einsum(
                    "mkd,md->mk", self.likeness(moments[part]), self.texts[item[part]]
                )
                out[part, columns("likeness")] = alike
        return out

    def own_effects(self, moment: int) -> np.ndarray:
        """What the covariates of the moment's own item would lose without each event of the user's
        absorbed past, (event, covariate): repeats, succession, likeness and the user's rates.

        Zero of the covariates that come from everybody's events.
        """
        log, item = self.log, int(self.log.item_index[moment])
        now, begin = float(log.seconds[moment]), int(log.start[log.user_index[moment]])
        events = begin + np.flatnonzero(log.absorb[begin:moment])
        out = np.zeros((len(events), len(self.kinds.names)))
        if self.kinds.repeats:
            out[:, self.kinds.columns("repeats")] = self._own.repeat_effects(moment, now, item)
        if self.kinds.succession:
            found = self._pairs.effects(self._own, moment, now, item)
            out[:, self.kinds.columns("succession")] = found
        if self.kinds.likeness:
            assert self.texts is not None
            found = self._own.likeness_effects(moment, self.texts, item)
            out[:, self.kinds.columns("likeness")] = found
        if self.kinds.rates:
            rates = self.kinds.columns("rates")
            found = self._rates.user_effects(self._own, events, moment)
            out[:, rates.start : rates.stop - 2] = found
        return out

    def table(self, moments: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Sum of all covariates times their weights (covariate,), (moment, item)."""
        found: np.ndarray = self.tables(moments, weight[None])[0]
        return found

    def tables(
        self, moments: np.ndarray, weights: np.ndarray, items: np.ndarray | None = None
    ) -> np.ndarray:
        """The same for several settings of the weights at once, (setting, moment, item); of all
        items or those at some positions, each at most once.
        """
        everything = np.arange(self.n_items)
        items = everything if items is None else items
        place, wanted = np.zeros(self.n_items, dtype=np.int64), np.zeros(self.n_items, dtype=bool)
        place[items], wanted[items] = np.arange(len(items)), True
        shape = (len(weights), len(moments), len(items))
        out = np.zeros(shape, dtype=np.result_type(weights, np.float32))
        for entries in self.entries(moments, wanted):
            at = place[entries.item]
            for total, part in zip(out, weights[:, entries.columns], strict=True):
                for column, one in enumerate(part):  # no matrix product: last bits vary by place
                    total[entries.row, at] += entries.values[:, column] * one
        if self.kinds.likeness:
            assert self.texts is not None
            like, texts = self.likeness(moments), self.texts[items]
            for total, part in zip(out, weights[:, self.kinds.columns("likeness")], strict=True):
                total += np.einsum("md,id->mi", np.einsum("mkd,k->md", like, part), texts)
        if self.kinds.rates:
            now, turn = np.unique(self.log.seconds[moments], return_inverse=True)
            of_items = self._rates.of_some(items, now)[turn]
            of_users = self._rates.of_users(self._own, moments)
            for total, part in zip(out, weights[:, self.kinds.columns("rates")], strict=True):
                for column, one in enumerate(part[:-1]):
                    total += (of_users[:, column] * one)[:, None]
                total += part[-1] * of_items
        return out

    def item_terms(self, moment: int, weight: np.ndarray) -> np.ndarray:
        """The part of `table` that at one time is the same for all users, (item,)."""
        out = np.zeros(self.n_items, dtype=np.result_type(weight, np.float32))
        now = self.log.seconds[[moment]]
        if self.kinds.half_lives_days:
            _, item, values = self._popularity.entries(now)
            for column, one in enumerate(weight[self.kinds.columns("popularity")]):
                out[item] += values[:, column] * one
        if self.kinds.rates:
            last = weight[self.kinds.columns("rates")][-1]
            out += last * self._rates.of_some(np.arange(self.n_items), now)[0]
        return out

    def user_terms(self, moments: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The part that is the same for all items, (moment,)."""
        out = np.zeros(len(moments), dtype=np.result_type(weight, np.float32))
        if self.kinds.rates:
            of_users = self._rates.of_users(self._own, moments)
            for column, one in enumerate(weight[self.kinds.columns("rates")][:-1]):
                out += of_users[:, column] * one
        return out

    def pair_terms(
        self, moments: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What repeats and succession add: (row, item, value), sorted, each pair once."""
        now, row, item, value = self.log.seconds[moments], [], [], []
        groups = []
        if self.kinds.repeats:
            groups.append(
                ("repeats", self._own.repeats(moments, now, np.ones(self.n_items, dtype=bool)))
            )
        if self.kinds.succession:
            groups.append(("succession", self._pairs.entries(self._own, moments, now)))
        for name, (rows, items, values) in groups:
            row.append(rows)
            item.append(items)
            value.append(values @ weight[self.kinds.columns(name)])
        if not groups:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
        key = np.concatenate(row) * self.n_items + np.concatenate(item)
        pairs, place = np.unique(key, return_inverse=True)
        total = np.bincount(place, np.concatenate(value), minlength=len(pairs))
        return pairs // self.n_items, pairs % self.n_items, total

    @cached_property
    def _popularity(self) -> Popularity:
        log, use = self.log, self.log.absorb
        asked = log.seconds if self.asked is None else log.seconds[self.asked]
        return Popularity.of(
            log.item_index[use], log.seconds[use], self.n_items, self.kinds.half_lives_days, asked
        )

    @cached_property
    def _rates(self) -> Rates:
        return self.rates or Rates.of(self.log, self._own, self.kinds.top_outcome)

    @cached_property
    def _own_rates(self) -> np.ndarray:
        return rates_of_events(self.log, self.n_items, self.kinds.top_outcome)

    @cached_property
    def _own(self) -> OwnPast:
        return OwnPast.of(self.log)

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs.of(self._own, self.n_items)


def surroundings_of(
    past: History,
    later: History,
    n_items: int,
    kinds: Kinds,
    texts: np.ndarray | None,
    rates: Rates | None = None,
) -> tuple[Surroundings, np.ndarray]:
    """Of `later` after `past`, of the same users; also the moment of each entry of `later`.

    `rates` are those of `past`, if `later` absorbs nothing.
    """
    n_users = max(past.n_users, later.n_users)
    if not len(past):
        everything = np.arange(len(later))
        alone = replace(later.numbered(), n_users=n_users)
        return Surroundings(alone, n_items, kinds, texts, everything, rates), everything
    first, second = past.numbered(), later.numbered()
    joined = join_histories(first, second, n_users)
    place = np.empty(len(joined), dtype=np.int64)
    place[joined.order] = np.arange(len(joined))
    moments = place[len(past) :]
    return Surroundings(joined, n_items, kinds, texts, moments, rates), moments
