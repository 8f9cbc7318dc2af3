"""Some users' part of the search for their best items; see `shortlist.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.predict import level_cut
from bayes_interest.ranking import compiled
from bayes_interest.statespace.kalman import as_array

if TYPE_CHECKING:
    from bayes_interest.ranking.shortlist import Search

ROUNDING = 2.0**-23  # of float32, twice
WIDER = 1.0 + 1e-3
SQUARINGS, STEPS, NEAR = 3, 8, 16
CODES = {"mean": compiled.MEAN, "lower": compiled.LOWER, "upper": compiled.UPPER}

Share = Callable[..., None]  # a compiled loop and its arguments but the first, the users


@dataclass(frozen=True)
class Kept:
    """What may be among each user's best, after all items."""

    mean: np.ndarray  # (user, room)
    place: np.ndarray  # in the order of the items, (user, room)
    count: np.ndarray  # (user,), or GIVEN_UP
    limits: np.ndarray  # means below which nothing was kept, see `raise_limits`


@dataclass(frozen=True)
class Pairs:
    """Exact moments of what may be among each user's best."""

    row: np.ndarray  # user of the block, (pair,)
    item: np.ndarray  # position, (pair,)
    moments: np.ndarray  # mean, variance from the state and from the item, (pair, 3)
    sure: np.ndarray  # what is left out scores less: a probability by mean, else a logit, (user,)
    given_up: np.ndarray  # users who need all items, (user,) bool


@dataclass(frozen=True)
class UserBlock:
    """Some users, as the compiled loops need them; lists of items are CSR rows."""

    items: Search
    deviation: np.ndarray  # users' side of `Search.wide`, (user, column)
    state: np.ndarray  # (user, state_dim)
    cov: np.ndarray  # (user, state_dim, state_dim)
    own: np.ndarray  # added for every item, less the cut, (user,)
    blend: np.ndarray | None  # direction that texts are compared with, (user, text_dim)
    seen: tuple[np.ndarray, np.ndarray]  # start, item: not to be shown
    added: tuple[np.ndarray, np.ndarray, np.ndarray]  # start, item, value: allowed pairs with terms
    skipped: tuple[np.ndarray, np.ndarray]  # start, item: both of these

    @staticmethod
    def of(items: Search, belief: Belief, part: np.ndarray) -> UserBlock:
        """The users in the rows `part` of the call with their beliefs at the moment."""
        posterior, moments = items.posterior, items.rows.moment[part]
        mean, surroundings = as_array(belief.mean), items.rows.surroundings
        own = np.zeros(len(mean), mean.dtype)
        row, item, value = (np.zeros(0, dtype=np.int64),) * 2 + (np.zeros(0),)
        blend = None
        if len(items.weight):
            own = own + surroundings.user_terms(moments, items.weight)
            row, item, value = surroundings.pair_terms(moments, items.weight)
        if items.blend_weight is not None:
            both = surroundings.likeness(moments)
            blend = np.einsum("mkd,k->md", both, items.blend_weight).astype(mean.dtype)
        n_items = len(items.allowed)
        none = np.zeros(0, dtype=np.int64)
        seen = posterior.seen[items.users[part]] if items.options.exclude_seen else None
        met = none if seen is None else _keys(seen.indptr, seen.indices, n_items)
        keys = row * n_items + item
        keep = items.allowed[item] & ~np.isin(keys, met, assume_unique=True)
        keys, value = keys[keep], value[keep].astype(mean.dtype)
        starts = np.arange(len(mean) + 1) * n_items
        lists = [(np.searchsorted(k, starts), k % n_items) for k in (met, keys)]
        both_keys = np.sort(np.concatenate((met, keys)))
        return UserBlock(
            items=items,
            deviation=mean if blend is None else np.concatenate((mean, blend), 1),
            state=as_array(posterior.values["mean"] + belief.mean),
            cov=as_array(belief.cov),
            own=own - mean.dtype.type(level_cut(posterior)),
            blend=blend,
            seen=lists[0],
            added=(*lists[1], value),
            skipped=(np.searchsorted(both_keys, starts), both_keys % n_items),
        )

    def streamed(self, share: Share, room: int) -> Kept:
        """Look at the means of all items, a block at a time; keep at most `room` of a user."""
        items, n_users = self.items, len(self.own)
        order, edge = items.kinds
        kept = Kept(
            np.empty((n_users, room), np.float32),
            np.empty((n_users, room), np.int32),
            np.zeros(n_users, np.int64),
            np.full((n_users, STEPS + 2), -np.inf),
        )
        low, high = self.variances
        means = np.empty((n_users, items.sizes.items), np.float32)
        for kind in range(len(edge) - 1):
            bounds = (low[:, kind].copy(), high[:, kind].copy())
            for first in range(edge[kind], edge[kind + 1], items.sizes.items):
                part = items.right[first : min(first + items.sizes.items, edge[kind + 1])]
                np.matmul(self.left, part.T, out=means[:, : len(part)])
                share(
                    compiled.scan,
                    *(means, len(part), first, order, *self.skipped),
                    *(kept.mean, kept.place, kept.count, kept.limits),
                    *(*bounds, items.about, self.extent, *self.asked),
                )
        return kept

    def finished(self, kept: Kept, share: Share) -> Pairs:
        """Compute the moments of what may still be among the best."""
        items, n_users = self.items, len(self.own)
        order, _ = items.kinds
        start, added_item, added = self.added
        size = kept.mean.shape[1] + int(np.diff(start).max(initial=0))
        item, found = np.empty((n_users, size), np.int64), np.zeros(n_users, np.int64)
        moments = np.empty((n_users, size, 3), self.cov.dtype)
        sure = np.full(n_users, -np.inf)

        share(
            compiled.finish,
            *(kept.mean, kept.place, kept.count, kept.limits, items.about, self.extent, order),
            *(start, added_item, added, self.deviation, self.state, self.cov, self.own),
            *(items.wide, items.vectors, items.offsets, items.item_cov),
            *(items.position, *self.asked, item, moments, sure, found),
        )
        some = np.arange(size) < found[:, None]
        row = np.repeat(np.arange(n_users), found)
        given_up = kept.count == compiled.GIVEN_UP
        return Pairs(row, item[some], moments[some], sure, given_up)

    def terms(self, row: int) -> np.ndarray:
        """What the moment adds to the predictor of every item for one user."""
        items = self.items
        extra = items.offsets - as_array(items.posterior.items.offsets) + self.own[row]
        extra = extra + float(level_cut(items.posterior))
        if self.blend is not None:
            assert items.posterior.texts is not None
            extra = extra + items.posterior.texts @ self.blend[row]
        start, item, value = self.added
        mine = slice(start[row], start[row + 1])
        extra[item[mine]] += value[mine]
        return np.asarray(extra)

    def may_be_shown(self, row: int) -> np.ndarray:
        """Candidates that the user has not met, or may meet again, (item,) bool."""
        start, item = self.seen
        allowed = self.items.allowed.copy()
        allowed[item[start[row] : start[row + 1]]] = False
        return allowed

    @cached_property
    def asked(self) -> tuple[int, int, float, np.ndarray, np.ndarray]:
        """Places, code of the score, half-width in sds, and the logistic scale mixture."""
        options = self.items.options
        scales, weights = scale_mixture(N_SCALES[torch.from_numpy(self.cov[:0]).dtype])
        z = float(ndtri(0.5 + options.prob / 2.0))
        return options.k, CODES[options.by], z, scales**2, weights

    @cached_property
    def left(self) -> np.ndarray:
        """Users' side of the means in float32, (user, column)."""
        ones = np.ones(len(self.own))
        return np.column_stack((self.deviation, ones, self.own)).astype(np.float32)

    @cached_property
    def moments(self) -> np.ndarray:
        """What bounds variances, (user, 5): least and greatest eigenvalue of the covariance;
        trace of the second moment S of the state; Frobenius norm of S beside its diagonal; `|E z|`.
        """
        parts = torch.from_numpy(self.cov).split(NEAR)  # what stays in the cache
        least, greatest = np.concatenate([eigenvalue_bounds(part) for part in parts], 1)
        second = self.cov + self.state[:, :, None] * self.state[:, None, :]
        diagonal = np.einsum("uii->ui", second).astype(np.float64)
        apart = np.einsum("uij,uij->u", second, second, dtype=np.float64) - (diagonal**2).sum(1)
        length = np.linalg.norm(self.state.astype(np.float64), axis=1)
        apart = WIDER * np.sqrt(np.maximum(apart, 0.0))
        return np.stack((least, greatest, diagonal.sum(1), apart, WIDER * length), 1)

    @cached_property
    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the predictor's variance for items of each kind, (user, kind) each."""
        least, most = self.items.extremes
        small, great, trace, apart, length = (column[:, None] for column in self.moments.T)
        mixed = apart * most[:, 3] + 2.0 * length * most[:, 4]
        low = np.maximum(0.0, trace * least[:, 1] + least[:, 5] - mixed) + small * least[:, 0]
        high = trace * most[:, 2] + most[:, 5] + mixed + great * most[:, 0]
        together = self._of_all_users()
        return np.maximum(low, together[0]), np.minimum(high, together[1])

    def _of_all_users(self) -> np.ndarray:
        """Bounds of the variance that hold for every user of the block, item by item, (2, kind)."""
        square, least, most, apart, cross, own = self.items.about.T
        lowest, highest = self.moments.min(0), self.moments.max(0)
        mixed = highest[3] * apart + 2.0 * highest[4] * cross
        low = np.maximum(0.0, lowest[2] * least + own - mixed) + lowest[0] * square
        high = highest[2] * most + own + mixed + highest[1] * square
        begin = self.items.kinds[1][:-1]
        return np.stack((np.minimum.reduceat(low, begin), np.maximum.reduceat(high, begin)))

    @cached_property
    def extent(self) -> np.ndarray:
        """`moments`; the least variance of all and the step of `raise_limits`; and a bound of the
        rounding of float32 in the means, (user, 8).
        """
        low, high = self.variances
        begin = low.min(1) / WIDER
        step = np.maximum(WIDER * high.max(1) - begin, WIDER - 1.0) / STEPS
        length = np.linalg.norm(self.left.astype(np.float64), axis=1)
        error = ROUNDING * (self.left.shape[1] + 4) * length * self.items.longest
        return np.column_stack((self.moments, begin, step, error))


def _keys(start: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    """`row * n_items + item` of CSR rows."""
    row = np.repeat(np.arange(len(start) - 1), np.diff(start))
    found: np.ndarray = row * n_items + item
    return found


def eigenvalue_bounds(cov: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Below the least and above the greatest eigenvalue of covariances, (user,) each.

    The greatest of a matrix is at most `(sum_j lambda_j^16)^(1/16)`; the least of P is g less the
    greatest of `g I - P`, for g at least the greatest of P. No factorisation, 30 times cheaper
    than the eigenvalues.
    """
    great = _greatest(cov)
    eye = torch.eye(cov.shape[1], dtype=cov.dtype)
    rest = torch.from_numpy(great).to(cov)[:, None, None] * eye - cov
    return np.maximum(0.0, great / WIDER - _greatest(rest)), great


def _greatest(matrix: Tensor) -> np.ndarray:
    scale = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    power = matrix / scale[:, None, None]
    for _ in range(SQUARINGS):
        power = power @ power
    exponent = 0.5**SQUARINGS
    norm = torch.linalg.vector_norm(power, dim=(1, 2), dtype=torch.float64)
    found: np.ndarray = (WIDER * scale.double() * norm**exponent).numpy()
    return found
