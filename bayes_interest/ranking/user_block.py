"""Some users' part of the search for their best items; see `shortlist.py`."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.predict import level_cut
from bayes_interest.ranking import compiled
from bayes_interest.statespace.kalman import as_array

if TYPE_CHECKING:
    from bayes_interest.ranking.shortlist import Search

ROUNDING = 2.0**-23  # of float32, twice
WIDER = 1.0 + 1e-3
SQUARINGS, NEAR = 2, 16
SPARE = 64  # entries of equal score that are kept beyond a slate
CODES = {"mean": compiled.MEAN, "lower": compiled.LOWER, "upper": compiled.UPPER}

MEANS = 2**23  # at once in a thread
LEAST = 8  # users
PANEL = 64  # strips of items whose means are made together, and looked at while in the cache


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
    rows: np.ndarray  # places among the users asked about, (user,)
    belief: Belief
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
            rows=part,
            belief=belief,
            deviation=mean if blend is None else np.concatenate((mean, blend), 1),
            state=as_array(posterior.values["mean"] + belief.mean),
            cov=np.ascontiguousarray(as_array(belief.cov)),
            own=own - mean.dtype.type(level_cut(posterior)),
            blend=blend,
            seen=lists[0],
            added=(*lists[1], value),
            skipped=(np.searchsorted(both_keys, starts), both_keys % n_items),
        )

    def parts(self, n_threads: int) -> list[slice]:
        """Of the users, as many in each thread as fit into memory with the means of all items."""
        n_users, at_most = len(self.own), max(LEAST, MEANS // len(self.items.order))
        turns = -(-n_users // (at_most * n_threads))
        ends = np.linspace(0, n_users, turns * n_threads + 1).astype(int).tolist()
        return [slice(*both) for both in pairwise(ends)]

    def described(self, pool: Executor, parts: list[slice]) -> compiled.Users:
        """The users for the compiled loops. `extent` (user, 6) is what bounds variances: numbers
        below and above the eigenvalues of the covariance; trace of the second moment and its
        Frobenius norm beside the diagonal; `|E z|`; and a bound of the rounding of float32 in the
        means.
        """
        n_users, dim = self.state.shape
        second = np.empty((n_users, dim + 1, dim + 1), self.cov.dtype)
        extent = np.empty((n_users, 6))
        list(pool.map(lambda part: self._describe(part, second, extent), parts))
        return compiled.Users(
            self.deviation, self.cov, second, self.own, extent, *self.variances(extent),
            *self.skipped,
        )  # fmt: skip

    def searched(self, users: compiled.Users, pool: Executor, parts: list[slice]) -> Pairs:
        """Look at the means of all items, and closely at what is good, a part of the users at a
        time in each thread.
        """
        n_users, k = len(self.own), self.items.places
        size = k + max(k, SPARE)
        best = compiled.Best(
            item=np.empty((n_users, size), np.int64),
            score=np.empty((n_users, size)),
            moments=np.empty((n_users, size, 3), self.cov.dtype),
            n_kept=np.zeros(n_users, np.int64),
            top=np.empty((n_users, k)),
            filled=np.zeros(n_users, np.int64),
            floor=np.full(n_users, -np.inf),
        )
        list(pool.map(lambda part: self._search(part, users, best), parts))
        some = np.arange(size) < best.n_kept[:, None]
        some &= best.score >= best.floor[:, None]
        row = np.repeat(np.arange(n_users), some.sum(1))
        given_up = best.n_kept == compiled.GIVEN_UP
        return Pairs(row, best.item[some], best.moments[some], best.floor, given_up)

    def _describe(self, part: slice, second: np.ndarray, extent: np.ndarray) -> None:
        out = extent[part]
        compiled.second_moments(self.state[part], self.cov[part], second[part], out[:, 2:5])
        out[:, 3:5] *= WIDER
        out[:, 0], out[:, 1] = eigenvalue_bounds(self.cov[part])
        length = np.linalg.norm(self.left[part].astype(np.float64), axis=1)
        out[:, 5] = ROUNDING * (self.left.shape[1] + 4) * length * self.items.longest

    def _search(self, part: slice, users: compiled.Users, best: compiled.Best) -> None:
        """Fill the part of some users in `best`."""
        left, right, strip = self.left[part], self.items.right, self.items.in_loops.strip
        means = np.empty((len(left), len(right)), np.float32)
        tops = np.empty((len(left), -(-len(right) // strip)), np.float32)
        for begin in range(0, len(right), PANEL * strip):
            end = min(begin + PANEL * strip, len(right))
            with np.errstate(invalid="ignore"):  # OpenBLAS may raise that flag over finite numbers
                np.matmul(left, right[begin:end].T, out=means[:, begin:end])
            compiled.fill_tops(means, begin, end, strip, tops)
        own = {name: column[part] for name, column in users._asdict().items()}
        starts = slice(part.start, part.stop + 1)
        own |= {"start": users.start[starts], "skipped": users.skipped}
        added = (self.added[0][starts], *self.added[1:])
        mine = compiled.Best(*(column[part] for column in best))
        compiled.search(
            means, tops, added, compiled.Users(**own), self.items.in_loops, mine, self.items.asked
        )

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
    def left(self) -> np.ndarray:
        """Users' side of the means in float32, (user, column)."""
        ones = np.ones(len(self.own))
        return np.column_stack((self.deviation, ones, self.own)).astype(np.float32)

    def variances(self, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the predictor's variance for items of each kind, (user, kind) each."""
        least, most = self.items.extremes
        small, great, trace, apart, length = (column[:, None] for column in extent.T[:5])
        mixed = apart * most[:, 3] + 2.0 * length * most[:, 4]
        low = np.maximum(0.0, trace * least[:, 1] + least[:, 5] - mixed) + small * least[:, 0]
        high = trace * most[:, 2] + most[:, 5] + mixed + great * most[:, 0]
        together = self._of_all_users(extent)
        return np.maximum(low, together[0]), np.minimum(high, together[1])

    def _of_all_users(self, extent: np.ndarray) -> np.ndarray:
        """Bounds of the variance that hold for every user of the block, item by item, (2, kind)."""
        square, least, most, apart, cross, own = self.items.about.T
        lowest, highest = extent.min(0), extent.max(0)
        mixed = highest[3] * apart + 2.0 * highest[4] * cross
        low = np.maximum(0.0, lowest[2] * least + own - mixed) + lowest[0] * square
        high = highest[2] * most + own + mixed + highest[1] * square
        begin = self.items.edge[:-1]
        return np.stack((np.minimum.reduceat(low, begin), np.maximum.reduceat(high, begin)))


def _keys(start: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    """`row * n_items + item` of CSR rows."""
    row = np.repeat(np.arange(len(start) - 1), np.diff(start))
    found: np.ndarray = row * n_items + item
    return found


def eigenvalue_bounds(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Below the least and above the greatest eigenvalue of covariances, (user,) each.

    No eigenvalue is farther from their mean g than `(sum_j (lambda_j - g)^8)^(1/8)`, the fourth
    root of the Frobenius norm of `(P - g I)^4`. No factorisation: two products of matrices.
    """
    low, high = np.empty(len(cov)), np.empty(len(cov))
    eye = np.eye(cov.shape[1], dtype=cov.dtype)
    for begin in range(0, len(cov), NEAR):
        some = slice(begin, begin + NEAR)
        middle = np.einsum("uii->u", cov[some]) / cov.dtype.type(len(eye))
        scale = np.maximum(middle, np.finfo(cov.dtype).tiny)
        power = (cov[some] - middle[:, None, None] * eye) / scale[:, None, None]
        for _ in range(SQUARINGS):
            power = power @ power
        norm = np.sqrt(np.einsum("uij,uij->u", power, power, dtype=np.float64))
        apart = WIDER * scale * norm ** (0.5**SQUARINGS)
        low[some], high[some] = np.maximum(0.0, middle / WIDER - apart), WIDER * middle + apart
    return low, high
