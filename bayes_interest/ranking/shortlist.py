"""The k best items of many users with exact intervals, at about the price of their means.

The variance of a pair of user and item costs as much as `state_dim` means. So the means of all
pairs are streamed, a block of users by a block of items in float32, and compiled loops
(`compiled.py`) look at the greatest first: whatever the variance of an item may be, its score is at
most a function of its mean and of a bound of that variance, and what cannot reach the k-th best
score found so far is left out. Of the rest the variance of the state comes first, which narrows the
bound, then that of the item. Nothing is guessed: the slate is that of all items.

The bounds: `x . P x` lies between `|x|^2` times the least and the greatest eigenvalue of P, these
are bounded by a norm of a power, and an item's share by `posterior/item_widths.py`. Items are put
into a few kinds by the variance that they may have, for within a kind the bounds are closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.special import ndtri
from threadpoolctl import ThreadpoolController
from torch import Tensor

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.model.candidates import CandidateRows
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
from bayes_interest.ranking import compiled
from bayes_interest.ranking.drawn_tops import DrawnTops
from bayes_interest.ranking.moments_slates import Slates, best_of_all, slates_of
from bayes_interest.ranking.scores import POINTS, RankOptions
from bayes_interest.ranking.user_block import CODES, Pairs, UserBlock
from bayes_interest.statespace.kalman import as_array

FIELDS = ("row", "item", "score", "interval")
MOST_KEPT, MOST_DRAWN = 2**20, 2**18  # entries of a block of users; those of their draws
STRIP = 64  # means that are skipped together
SHARES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
"""Where the kinds of items end, in the order of the variance that they may have."""


def can_stream(posterior: Posterior, seconds: np.ndarray) -> bool:
    """Whether `stream_slates` knows the model: a scalar family, globals at a point, one moment."""
    belief = posterior.belief
    return (
        not posterior.choice
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
    users_at_once: int = 512,
) -> Iterator[Slates]:
    """The k best candidates (positions, sorted) of users (positions) at one moment (user,).

    By mean, lower or upper, or with draws (`drawn_tops.py`) by p_top_k or thompson; a block of
    users at a time, of whose means a part is in memory.
    """
    if not len(users) or not len(candidates):
        return
    search = Search(posterior, users, seconds, candidates, options)
    step = max(1, min(users_at_once, MOST_KEPT // search.places))
    if options.n_draws:
        step = max(1, min(step, MOST_DRAWN // (options.n_draws * search.places)))
    n_threads = max(1, torch.get_num_threads())
    parts = [slice(begin, begin + step) for begin in range(0, len(users), step)]
    with ThreadPoolExecutor(n_threads) as pool:
        next_one = pool.submit(search.prepared, parts[0])
        for part in bar([*parts[1:], None], desc="users", unit="block"):
            work = next_one.result()
            if part is not None:  # while this one is searched
                next_one = pool.submit(search.prepared, part)
            yield search.slates(work, pool, n_threads)


@dataclass(frozen=True)
class Search:
    """What all blocks of users share."""

    posterior: Posterior
    users: np.ndarray
    seconds: np.ndarray
    candidates: np.ndarray
    options: RankOptions

    @cached_property
    def places(self) -> int:
        """Of a slate."""
        return min(len(self.candidates), self.options.k)

    @cached_property
    def asked(self) -> compiled.Ask:
        """What makes an item good: the score, and the logistic function's scale mixture."""
        options = self.options
        scales, weights = scale_mixture(N_SCALES[self.posterior.features.dtype])
        z = float(ndtri(0.5 + options.prob / 2.0))
        return compiled.Ask(self.places, CODES[options.by], z, scales**2, weights)

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
    def in_loops(self) -> compiled.Items:
        """All of it, as the compiled loops need it."""
        cov = as_array(by_rows(self.posterior.item_cov))
        place = np.zeros(self.posterior.layout.n_items, dtype=np.int64)
        place[self.order] = np.arange(len(self.order))
        strip = max(1, min(STRIP, len(self.order) // (2 * compiled.FIRST * self.places)))
        sides = self.wide, self.vectors, self.offsets
        return compiled.Items(self.order, self.about, self.edge, strip, place, *sides, cov)

    @cached_property
    def wide(self) -> np.ndarray:
        """What the users' side is multiplied with: item vectors, and texts where they count."""
        if self.blend_weight is None:
            return self.vectors
        assert self.posterior.texts is not None
        both = np.concatenate((self.vectors, self.posterior.texts), 1)
        return np.ascontiguousarray(both, dtype=self.vectors.dtype)

    @cached_property
    def by_variance(self) -> np.ndarray:
        """Candidates by the variance that they may have."""
        square, least, most, _, _, own = self.posterior.item_widths[self.candidates].T
        size = float((self.posterior.values["mean"].double() ** 2).sum()) + self.vectors.shape[1]
        most = square + 0.5 * (least + most) * size + own  # of somebody of whom little is known
        return self.candidates[np.argsort(most, kind="stable")]

    @cached_property
    def edge(self) -> np.ndarray:
        """Where each kind of items begins in `order`, and the end, (kind + 1,)."""
        return np.unique((np.array(SHARES) * len(self.candidates)).astype(int))

    @cached_property
    def order(self) -> np.ndarray:
        """Candidates by kind, and by position within a kind."""
        kinds = pairwise(self.edge)
        return np.concatenate([np.sort(self.by_variance[begin:end]) for begin, end in kinds])

    @cached_property
    def right(self) -> np.ndarray:
        """Item side of the mean in float32, (candidate, column)."""
        item, ones = self.order, np.ones(len(self.order), dtype=np.float32)
        return np.column_stack((self.wide[item], self.offsets[item], ones)).astype(np.float32)

    @cached_property
    def longest(self) -> float:
        """Length of the longest row of `right`."""
        return float(np.sqrt(np.einsum("ij,ij->i", self.right, self.right).max()))

    @cached_property
    def about(self) -> np.ndarray:
        """`item_widths` in that order, (candidate, 6)."""
        return np.ascontiguousarray(self.posterior.item_widths[self.order])

    @cached_property
    def extremes(self) -> np.ndarray:
        """Least and greatest of `item_widths` of each kind, (2, kind, 6)."""
        least, most = (f.reduceat(self.about, self.edge[:-1]) for f in (np.minimum, np.maximum))
        return np.stack((least, most))

    def prepared(self, part: slice) -> UserBlock:
        """Some of the users."""
        rows = np.arange(*part.indices(len(self.users)))
        belief = advanced_belief(self.posterior, self.users[rows], self.seconds[rows])
        return UserBlock.of(self, belief, rows)

    def slates(self, work: UserBlock, pool: ThreadPoolExecutor, n_threads: int) -> Slates:
        """The slates of some users."""
        points = None
        with _libraries().limit(limits=1, user_api="blas"):  # a thread of ours has one of theirs
            parts = work.parts(n_threads)
            users = work.described(pool, parts)
            if self.options.by in POINTS:
                points = self._points(work, work.searched(users, pool, parts))
            if points is not None and not self.options.n_draws:
                return points
            return self.draws.slates(work, users, points, pool, n_threads)

    @cached_property
    def draws(self) -> DrawnTops:
        """What all users' joint draws share."""
        return DrawnTops(self)

    def _points(self, work: UserBlock, pairs: Pairs) -> Slates:
        """The slates by a point or an edge, user by user."""
        found = list(self._best(work, pairs))
        joined = [np.concatenate([getattr(one, name) for one in found], -1) for name in FIELDS]
        by_user = np.argsort(joined[0], kind="stable")
        return Slates(*(column[..., by_user] for column in joined))

    def _best(self, work: UserBlock, pairs: Pairs) -> Iterator[Slates]:
        """The k best of each user's pairs, and of all items for users of whom that is not sure."""
        posterior, options, rows = self.posterior, self.options, work.rows
        mean, of_state, of_item = (torch.as_tensor(column) for column in pairs.moments.T)
        found = Predictors(mean, of_state, of_item)
        interval = interest_interval(found, options.prob, 0.0, posterior.recalibration)
        score = getattr(interval, options.by)
        order = np.lexsort((pairs.item, -as_array(score), pairs.row))
        row = pairs.row[order]
        first = np.searchsorted(row, np.arange(len(work.own) + 1))
        order = order[np.arange(len(row)) - first[row] < options.k]
        unsure = self._unsure(pairs, score, order)
        unsure |= pairs.given_up
        order = order[~unsure[pairs.row[order]]]
        yield slates_of(rows[pairs.row[order]], pairs.item[order], interval, order, options)
        for doubtful in np.flatnonzero(unsure).tolist():
            yield self._everything(work, doubtful)

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

    def _everything(self, work: UserBlock, row: int) -> Slates:
        """The slate of one user from the moments of all items."""
        extra = torch.as_tensor(work.terms(row)).to(self.posterior.features)
        one = work.belief.take(slice(row, row + 1))
        found = predictors(self.posterior, one, extra[None, None]).of(0, slice(None))
        allowed, place = work.may_be_shown(row), int(work.rows[row])
        return best_of_all(self.posterior, found, allowed, place, self.options)


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """What has threads of its own; to look for them takes longer than a short search."""
    return ThreadpoolController()
