"""The k best items of users in each of many joint draws, for users whose slates are searched.

A draw moves the state, which is a product for every item, and each item by noise of its own, with a
sd that costs as much as `state_dim` means. That noise is bounded by the greatest of its draws and
a bound of the sd, so what cannot be among the k best so far of a draw is left out, and few sds are
computed. Nothing is guessed: draws and their k best are those of `draws.draw_predictors`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from bayes_interest.posterior.draws import draw_states, item_noise
from bayes_interest.posterior.predict import (
    Interval,
    extra_tables,
    interest_interval,
    interest_probabilities,
    level_cut,
    predictors,
)
from bayes_interest.posterior.products import PairByPair
from bayes_interest.ranking import compiled, compiled_draws
from bayes_interest.ranking.moments_slates import Slates
from bayes_interest.ranking.scores import POINTS, picked
from bayes_interest.ranking.user_block import UserBlock
from bayes_interest.statespace.kalman import as_array

if TYPE_CHECKING:
    from bayes_interest.ranking.shortlist import Search

NAMES = [field.name for field in fields(Slates)]
FIRST = 20
"""Times the slate: the best by mean come first, so that little is better than the best so far."""
AT_ONCE, PANEL = 32, 512
"""Users of a thread, and candidates whose predictors are made, and whose noise is, while in the
cache."""


@dataclass(frozen=True)
class DrawnTops:
    """The draws that all users share."""

    search: Search

    @cached_property
    def items(self) -> _Items:
        """The candidates, and their noise."""
        search, every = self.search, self.search.in_loops
        options, item, place = search.options, search.candidates, every.place.copy()
        noise = as_array(item_noise(options.n_draws, len(every.place), options.seed))
        if len(item) < len(place):
            noise = np.take(noise, item, axis=1)
        right, about = search.right[place[item]], search.posterior.item_widths[item]
        place[item] = np.arange(len(item))
        return _Items(item, place, right, about, every.cov, noise)

    def slates(
        self,
        work: UserBlock,
        users: compiled.Users,
        points: Slates | None,
        pool: Executor,
        n_threads: int,
    ) -> Slates:
        """Slates of a block of users with the share of draws in which an entry is among the k best:
        of the items of `points`, or by that share or by one draw.
        """
        tops = self.of_users(work, users, pool, n_threads)
        given: list[np.ndarray | None] = [None] * len(tops)
        if points is not None:
            starts = np.searchsorted(points.row, np.append(work.rows, work.rows[-1] + 1))
            given = [points.item[begin:end] for begin, end in pairwise(starts)]
        found = pool.map(
            lambda row: self._slate(work, row, tops[row], given[row]), range(len(tops))
        )
        columns = zip(*([getattr(one, name) for name in NAMES] for one in found), strict=True)
        return Slates(*(np.concatenate(column, -1) for column in columns))

    def _slate(
        self, work: UserBlock, row: int, tops: compiled_draws.Tops, item: np.ndarray | None
    ) -> Slates:
        """One user's: of the items given, else by `p_top_k` or `thompson`."""
        options = self.search.options
        drawn = tops.item[:, : tops.filled[0]]  # every draw has all that may be shown
        share = np.bincount(drawn.ravel(), minlength=len(self.items.place)) / len(drawn)
        score = share
        if item is None and options.by == "thompson":
            item, score = self._drawn(tops)
        elif item is None:
            # Equal scores keep the order in which the model met the items.
            some = np.flatnonzero(share)
            item = some[np.argsort(-share[some], kind="stable")][: drawn.shape[1]]
            score = share[item]
        interval = self._interval(work, row, item)
        columns = torch.stack([interval.mean, interval.sd, interval.lower, interval.upper])
        if options.by in POINTS:
            score = as_array(getattr(interval, options.by))
            order = np.lexsort((item, -score))
            item, score, columns = item[order], score[order], columns[:, order]
        numbers = score.astype(np.float64), columns.double().numpy(), share[item]
        return Slates(np.full(len(item), work.rows[row]), item, *numbers)

    def _drawn(self, tops: compiled_draws.Tops) -> tuple[np.ndarray, np.ndarray]:
        """The best items of the draw that `thompson` follows, and their probabilities there."""
        posterior, pick = self.search.posterior, picked(self.search.options)
        value, item = (column[pick, : tops.filled[pick]] for column in (tops.value, tops.item))
        order = np.lexsort((item, -value))
        drawn = torch.as_tensor(value[order]) + level_cut(posterior)
        return item[order], as_array(interest_probabilities(posterior, drawn))

    def _interval(self, work: UserBlock, row: int, item: np.ndarray) -> Interval:
        """What `InterestModel.interest` says of some items (positions)."""
        posterior, rows = self.search.posterior, self.search.rows
        moment = replace(rows, moment=rows.moment[work.rows[row : row + 1]])
        extra = extra_tables(posterior, moment, item)
        belief = work.belief.take(slice(row, row + 1))
        found = predictors(posterior, belief, extra, PairByPair(torch.as_tensor(item)))
        one, cut = found.of(0, slice(None)), level_cut(posterior)
        return interest_interval(one, self.search.options.prob, cut, posterior.recalibration)

    def of_users(
        self, work: UserBlock, users: compiled.Users, pool: Executor, n_threads: int
    ) -> list[compiled_draws.Tops]:
        """Of each user of a block."""
        items = self.items  # made before the threads want them
        n_users = len(work.own)
        n_parts = n_threads * -(-n_users // (n_threads * AT_ONCE))
        parts = np.array_split(np.arange(n_users), n_parts)
        found = pool.map(lambda rows: self._of_some(work, users, rows, items), parts)
        return [tops for part in found for tops in part]

    def _of_some(
        self, work: UserBlock, users: compiled.Users, rows: np.ndarray, items: _Items
    ) -> list[compiled_draws.Tops]:
        """First the items that are likely among a user's best, then all others, some at a time."""
        each = [_OneUser.of(self.search, items, work, users, row) for row in rows.tolist()]
        for one in each:
            one.put_first(items)
        for begin in range(0, len(items.item), PANEL):
            for one in each:
                one.put(begin, items)
        return [one.tops for one in each]


class _Items(NamedTuple):
    """The candidates by position; where not said otherwise (candidate, ...)."""

    item: np.ndarray  # positions
    place: np.ndarray  # of a position among them, (item,)
    right: np.ndarray  # their side of the predictors, (candidate, column)
    about: np.ndarray  # `item_widths`
    cov: np.ndarray  # of all items, (item, state_dim + 1, state_dim + 1)
    noise: np.ndarray  # of the items themselves, standard normals, (draw, candidate)


@dataclass(frozen=True)
class _OneUser:
    """A user, and what is found."""

    left: np.ndarray  # the user's side of the predictors in each draw, (draw, column)
    second: np.ndarray  # `E[(z, 1) (z, 1)']`, flat
    first: np.ndarray  # places of what is likely among the best, greatest mean first
    more: np.ndarray  # terms of the user's own that they have
    hidden: np.ndarray  # not to be shown, or put already, (candidate,) bool
    sd: np.ndarray  # of an item's own noise, or a bound of it, (candidate,)
    known: np.ndarray  # which of the two, (candidate,) bool
    tops: compiled_draws.Tops

    @staticmethod
    def of(
        search: Search, items: _Items, work: UserBlock, users: compiled.Users, row: int
    ) -> _OneUser:
        """Nothing put yet."""
        n_draws, k, right = search.options.n_draws, search.places, items.right
        start, item, value = work.added
        skipped = work.skipped[1][slice(*work.skipped[0][row : row + 2])]
        hidden = np.zeros(len(right), dtype=bool)
        hidden[items.place[skipped[search.allowed[skipped]]]] = True
        means = right @ work.left[row]
        means[hidden] = -np.inf
        many = min(len(means), FIRST * k)
        best = np.argpartition(-means, many - 1)[:many]
        own = slice(start[row], start[row + 1])
        with_terms = items.place[item[own]]
        first = np.union1d(best[~hidden[best]], with_terms)
        more = np.zeros(len(first), np.float32)
        more[np.searchsorted(first, with_terms)] = value[own]
        order = np.argsort(-means[first], kind="stable")
        first, more = first[order], more[order]
        sd = np.empty(len(right), np.float32)
        compiled_draws.widest(items.about, users.extent[row], sd)
        # One user at a time: bits shall not depend on who else is asked about.
        states = draw_states(work.belief.take(slice(row, row + 1)), n_draws, search.options.seed)
        left = np.repeat(work.left[row : row + 1], n_draws, 0)
        left[:, : states.shape[2]] = as_array(states[0])
        tops = compiled_draws.Tops(
            value=np.empty((n_draws, k), np.float32),
            item=np.empty((n_draws, k), np.int64),
            filled=np.zeros(n_draws, np.int64),
        )
        known = np.zeros(len(right), dtype=bool)
        second = users.second[row].ravel()
        return _OneUser(left, second, first, more, hidden, sd, known, tops)

    def put_first(self, items: _Items) -> None:
        """What is likely among the best."""
        some = self.first
        with np.errstate(invalid="ignore"):  # as in `UserBlock`
            base = self.left @ items.right[some].T + self.more
        noise = np.ascontiguousarray(items.noise[:, some])
        item, sd, known = items.item[some], self.sd[some], self.known[some]
        compiled_draws.put(base, 0, noise, sd, known, self.second, item, items.cov, self.tops)
        self.hidden[some] = True

    def put(self, begin: int, items: _Items) -> None:
        """The candidates from a place on, a panel of them."""
        some = slice(begin, begin + PANEL)
        with np.errstate(invalid="ignore"):
            base = self.left @ items.right[some].T
        base[:, np.flatnonzero(self.hidden[some])] = -np.inf
        noise, item, sd, known = items.noise, items.item, self.sd, self.known
        compiled_draws.put(base, begin, noise, sd, known, self.second, item, items.cov, self.tops)
