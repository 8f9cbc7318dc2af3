"""The k best items of many users with exact intervals, at about the price of their means.

The variance of a pair of user and item costs as much as `state_dim` means. So the means of all
pairs are streamed, a block of users by a block of items in float32, and compiled loops
(`compiled.py`) keep what may still be among a user's k best: given bounds of its variance, an
item's score lies between two monotone functions of its mean, and what cannot reach a score that k
others surely have is left out. Exact moments are computed for the rest alone. Nothing is guessed:
the slate is that of all items, and a user for whom too much would have to be kept gets them all.

The bounds: `x . P x` lies between `|x|^2` times the least and the greatest eigenvalue of P, these
are bounded by traces of powers, and an item's share by `posterior/item_widths.py`. Items are put
into a few kinds by the variance that they may have, for within a kind the bounds are closer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.posterior.item_widths import by_rows
from bayes_interest.posterior.online import moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Predictors,
    advanced_belief,
    interest_interval,
    predictors,
)
from bayes_interest.progress import bar
from bayes_interest.ranking.moments_slates import Slates, best_of_all, slates_of
from bayes_interest.ranking.scores import RankOptions
from bayes_interest.ranking.user_block import Pairs, UserBlock
from bayes_interest.statespace.kalman import as_array

FIELDS = ("row", "item", "score", "interval")
SHARES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
"""Where the kinds of items end, in the order of the variance that they may have."""


@dataclass(frozen=True)
class Sizes:
    """How the work is cut; the answer does not depend on it."""

    users: int = 512
    """Users at once."""
    items: int = 4096
    """Items of a block of means."""
    room: int = 1024
    """Items that are kept for a user, or four times the slate; with more the user gets all."""


def can_stream(posterior: Posterior, seconds: np.ndarray) -> bool:
    """Whether `stream_slates` knows the model: a scalar family, globals at a point, one moment."""
    belief = posterior.belief
    return (
        not belief.diagonal
        and not belief.members
        and belief.mean.device.type == "cpu"
        and posterior.cold_shift == 0.0
        and len(np.unique(seconds)) == 1
    )


def stream_slates(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    options: RankOptions,
    sizes: Sizes | None = None,
) -> Iterator[Slates]:
    """The k best candidates (positions, sorted) of users (positions) at one moment (user,).

    By mean, lower or upper; a block of users at a time. At most `Sizes.users * Sizes.items`
    means are in memory.
    """
    sizes = sizes or Sizes()
    if not len(users) or not len(candidates):
        return
    search = Search(posterior, users, seconds, candidates, options, sizes)
    step = max(1, min(sizes.users, sizes.users * sizes.room // search.room))
    n_threads = max(1, torch.get_num_threads())
    with ThreadPoolExecutor(n_threads) as pool:
        for begin in bar(range(0, len(users), step), desc="users", unit="block"):
            yield search.block(slice(begin, begin + step), pool, n_threads)


@dataclass(frozen=True)
class Search:
    """What all blocks of users share."""

    posterior: Posterior
    users: np.ndarray
    seconds: np.ndarray
    candidates: np.ndarray
    options: RankOptions
    sizes: Sizes

    @cached_property
    def room(self) -> int:
        """Items kept for a user."""
        return min(len(self.candidates), max(self.sizes.room, 4 * self.options.k))

    @cached_property
    def rows(self) -> CandidateRows:
        """The covariates of the users' moments."""
        return moments_of(self.posterior, self.users, self.seconds)

    @cached_property
    def weight(self) -> np.ndarray:
        """Of the covariates."""
        found = self.posterior.values.get(COVARIATES)
        return np.zeros(0, np.float32) if found is None else found.detach().cpu().numpy()

    @cached_property
    def blend_weight(self) -> np.ndarray | None:
        """Of the likenesses, where there are such."""
        kinds = self.posterior.layout.kinds
        return self.weight[kinds.columns("likeness")] if kinds.likeness else None

    @cached_property
    def offsets(self) -> np.ndarray:
        """What an item adds for everybody at this moment, (item,)."""
        known = as_array(self.posterior.items.offsets)
        if not len(self.weight):
            return known
        moment = int(self.rows.moment[0])
        return np.asarray(known + self.rows.surroundings.item_terms(moment, self.weight))

    @cached_property
    def allowed(self) -> np.ndarray:
        """Whether an item is a candidate, (item,)."""
        out = np.zeros(self.posterior.layout.n_items, dtype=bool)
        out[self.candidates] = True
        return out

    @cached_property
    def vectors(self) -> np.ndarray:
        """Item vectors, (item, state_dim)."""
        return as_array(self.posterior.items.vectors)

    @cached_property
    def item_cov(self) -> np.ndarray:
        """The items' covariances, (item, state_dim + 1, state_dim + 1)."""
        return as_array(by_rows(self.posterior.item_cov))

    @cached_property
    def wide(self) -> np.ndarray:
        """What the users' side is multiplied with: item vectors, and texts where they count."""
        if self.blend_weight is None:
            return self.vectors
        assert self.posterior.texts is not None
        both = np.concatenate((self.vectors, self.posterior.texts), 1)
        return np.ascontiguousarray(both, dtype=self.vectors.dtype)

    @cached_property
    def kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """Candidates in an order of their own, and where each kind begins in it, (kind + 1,)."""
        square, least, most, _, _, own = self.posterior.item_widths[self.candidates].T
        size = float((self.posterior.values["mean"].double() ** 2).sum()) + self.vectors.shape[1]
        most = square + 0.5 * (least + most) * size + own  # of somebody of whom little is known
        order = np.argsort(most, kind="stable")
        edge = np.unique((np.array(SHARES) * len(order)).astype(int))
        order = np.concatenate([np.sort(order[a:b]) for a, b in pairwise(edge)])
        return self.candidates[order], edge

    @cached_property
    def right(self) -> np.ndarray:
        """Item side of the mean in float32, (candidate, column)."""
        item, _ = self.kinds
        ones = np.ones(len(item), dtype=np.float32)
        return np.column_stack((self.wide[item], self.offsets[item], ones)).astype(np.float32)

    @cached_property
    def longest(self) -> float:
        """Length of the longest row of `right`."""
        return float(np.sqrt(np.einsum("ij,ij->i", self.right, self.right).max()))

    @cached_property
    def about(self) -> np.ndarray:
        """`item_widths` in the order of `kinds`, (candidate, 6)."""
        return np.ascontiguousarray(self.posterior.item_widths[self.kinds[0]])

    @cached_property
    def extremes(self) -> np.ndarray:
        """Least and greatest of `item_widths` of each kind, (2, kind, 6)."""
        begin = self.kinds[1][:-1]
        least, most = (f.reduceat(self.about, begin) for f in (np.minimum, np.maximum))
        return np.stack((least, most))

    @cached_property
    def position(self) -> np.ndarray:
        """Of each item in the order of `kinds`, (item,)."""
        out = np.zeros(self.posterior.layout.n_items, dtype=np.int64)
        out[self.kinds[0]] = np.arange(len(self.kinds[0]))
        return out

    def block(self, part: slice, pool: ThreadPoolExecutor, n_threads: int) -> Slates:
        """The slates of some users."""
        rows = np.arange(*part.indices(len(self.users)))
        found = list(self._found(rows, self.room, pool, n_threads))
        joined = [np.concatenate([getattr(one, name) for one in found], -1) for name in FIELDS]
        by_user = np.argsort(joined[0], kind="stable")
        return Slates(*(column[..., by_user] for column in joined))

    def _found(
        self, rows: np.ndarray, room: int, pool: ThreadPoolExecutor, n_threads: int
    ) -> Iterator[Slates]:
        """The slates of the users in those rows; of whom more must be kept than there is room for,
        a few at a time with room for all items.
        """
        belief = advanced_belief(self.posterior, self.users[rows], self.seconds[rows])
        work = UserBlock.of(self, belief, rows)
        edges = np.linspace(0, len(rows), n_threads + 1).astype(int)
        shares = [(int(a), int(b)) for a, b in pairwise(edges)]

        def share(task: Callable[..., None], *about: object) -> None:
            list(pool.map(lambda users: task(users, *about), shares))

        pairs = work.finished(work.streamed(share, room), share)
        yield from self._best(belief, work, pairs, rows)
        crowded, n_items = rows[pairs.given_up], self.posterior.layout.n_items
        step = max(1, self.sizes.users * self.sizes.room // n_items)
        for begin in range(0, len(crowded), step):
            yield from self._found(crowded[begin : begin + step], n_items, pool, n_threads)

    def _best(
        self, belief: Belief, work: UserBlock, pairs: Pairs, rows: np.ndarray
    ) -> Iterator[Slates]:
        """The k best of each user's pairs, and of all items for users of whom that is not sure."""
        posterior, options = self.posterior, self.options
        mean, of_state, of_item = (torch.as_tensor(column) for column in pairs.moments.T)
        found = Predictors(mean, of_state, of_item)
        interval = interest_interval(found, options.prob, 0.0, posterior.recalibration)
        score = getattr(interval, options.by)
        order = np.lexsort((pairs.item, -as_array(score), pairs.row))
        row = pairs.row[order]
        first = np.searchsorted(row, np.arange(len(work.own) + 1))
        order = order[np.arange(len(row)) - first[row] < options.k]
        unsure = self._unsure(pairs, score, order)
        order = order[~(pairs.given_up | unsure)[pairs.row[order]]]
        yield slates_of(rows[pairs.row[order]], pairs.item[order], interval, order, options)
        for doubtful in np.flatnonzero(unsure & ~pairs.given_up).tolist():
            yield self._everything(belief, work, doubtful, int(rows[doubtful]))

    def _unsure(self, pairs: Pairs, score: Tensor, order: np.ndarray) -> np.ndarray:
        """Recalibrated: users of whom something left out may score as high as an entry, (user,)."""
        out = np.zeros(len(pairs.sure), dtype=bool)
        mapped = self.posterior.recalibration
        if mapped is None:
            return out
        raw = torch.as_tensor(pairs.sure)
        limit = mapped((raw if self.options.by == "mean" else torch.sigmoid(raw)).to(score))
        least = np.full(len(out), np.inf)
        np.minimum.at(least, pairs.row[order], as_array(score)[order])
        return np.asarray(np.isfinite(pairs.sure) & (as_array(limit) >= least))

    def _everything(self, belief: Belief, work: UserBlock, row: int, place: int) -> Slates:
        """The slate of one user from the moments of all items."""
        extra = torch.as_tensor(work.terms(row)).to(self.posterior.features)
        one = belief.take(slice(row, row + 1))
        found = predictors(self.posterior, one, extra[None])
        return best_of_all(self.posterior, found, work.may_be_shown(row), place, self.options)
