"""A user's interest at two moments together: the joint smoothed posterior, not two marginals.

With smoother gains `J_u = P_u A (A P_u A + Q)^-1` of the filtered covariances P_u, the smoothed
path is a Markov chain backwards in time with `E[z_u | z_{u+1}] = ... + J_u z_{u+1}`, so

    Cov(z_s, z_t | all events) = J_s J_{s+1} ... J_{t-1} Cov(z_t | all events)

(Rauch, Tung and Striebel 1965; Shumway and Stoffer 1982, the lag-one covariance smoother).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.trajectory import SmoothedPath, kept, looks_at, smoothed_paths
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import elapsed_growth

USERS_AT_ONCE = 32


@dataclass(frozen=True)
class TwoMoments:
    """Deviations of one user at an earlier and a later moment, jointly Gaussian; float64."""

    before: Belief  # of one user, (1, state_dim) and covariance, as is `after`
    after: Belief
    cross: Tensor  # Cov(before, after), (D, D), or (D,) where beliefs are diagonal

    @property
    def change_mean(self) -> Tensor:
        """Of `after - before`, (state_dim,)."""
        return self.after.mean[0] - self.before.mean[0]

    @property
    def change_cov(self) -> Tensor:
        """Of `after - before`, (D, D), or (D,) where beliefs are diagonal."""
        cross = self.cross if self.before.diagonal else self.cross + self.cross.T
        twice = 2.0 if self.before.diagonal else 1.0
        return self.before.cov[0] + self.after.cov[0] - twice * cross

    @property
    def joint_cov(self) -> Tensor:
        """Of both together, (2 D, 2 D)."""
        before, after, cross = self.before.cov[0], self.after.cov[0], self.cross
        if self.before.diagonal:
            before, after, cross = torch.diag(before), torch.diag(after), torch.diag(cross)
        return torch.cat((torch.cat((before, cross), 1), torch.cat((cross.T, after), 1)))


def cross_covariance(path: SmoothedPath, first: int, second: int) -> Tensor:
    """Covariance of the states at two steps, first <= second, (D, D)."""
    later = path.cov[second].double()
    if first == second:
        return later
    steps = slice(first, second)
    cov = path.filtered_cov[steps].double()
    decay = path.walk.decay[0, first + 1 : second + 1].double()  # (step, 1)
    variance = path.walk.variance[0, first + 1 : second + 1].double()
    decay = decay[..., None]
    moved = decay**2 * cov + torch.diag_embed(variance)
    gains = torch.linalg.solve(moved, decay * cov).mT  # both are symmetric
    for gain in gains.flip(0):
        later = gain @ later
    return later


def in_double(posterior: Posterior) -> Posterior:
    """The same in float64: a change is a small difference of large numbers."""
    return replace(
        posterior,
        features=posterior.features.double(),
        values={name: value.double() for name, value in posterior.values.items()},
        item_cov=posterior.item_cov.double(),
        text_cov=posterior.text_cov.double(),
        belief=Belief(posterior.belief.mean.double(), posterior.belief.cov.double()),
        members=(),
    )


class Moments:
    """The two moments of some users; their log is read once for all."""

    def __init__(self, posterior: Posterior, users: np.ndarray, since: float, at: float) -> None:
        self.posterior, self.since, self.at = posterior, since, at
        history = posterior.history
        self.first = np.full(len(posterior.last_seconds), np.nan)
        own, begin = np.unique(history.user_index, return_index=True)
        self.first[own] = history.seconds[begin]
        known = np.unique(users[np.isfinite(self.first[users])])
        seconds = np.maximum(np.array([since, at])[None], self.first[known][:, None])
        self.looks = looks_at(posterior, np.repeat(known, 2), seconds.ravel())
        self.known = known
        self.paths: dict[int, SmoothedPath] = {}  # of some users together

    def of(self, user: int) -> TwoMoments:
        """The joint belief about one user, context included.

        Before a user's first event the walk runs backwards from there, so that a look there
        changes nothing of what is believed later; without any event it runs back from the prior.
        """
        posterior, first = self.posterior, self.first[user]
        if np.isnan(first):
            after = Belief.prior(1, posterior.values, posterior.belief.diagonal)
            return self._earlier(after, self.at)
        path = self._path(user)
        s, t = path.looks.tolist()
        cov = kept(path.cov, posterior)
        if self.at < first:
            start = Belief(path.mean[t : t + 1], cov[t : t + 1])
            return self._earlier(self._back(start, first - self.at)[0], self.at)
        mean = path.mean + path.context
        after = Belief(mean[t : t + 1], cov[t : t + 1])
        cross = kept(cross_covariance(path, s, t), posterior)
        if self.since >= first:
            return TwoMoments(Belief(mean[s : s + 1], cov[s : s + 1]), after, cross)
        start = Belief(path.mean[s : s + 1], cov[s : s + 1])
        before, decay = self._back(start, first - self.since)
        return TwoMoments(before, after, decay * cross)

    def _path(self, user: int) -> SmoothedPath:
        """Of one user; with the next ones, who are most likely asked about next."""
        if user not in self.paths:
            begin = int(np.searchsorted(self.known, user))
            some = self.known[begin : begin + USERS_AT_ONCE]
            self.paths = dict(smoothed_paths(self.posterior, some, self.looks))
        return self.paths[user]

    def _earlier(self, after: Belief, second: float) -> TwoMoments:
        before, decay = self._back(after, second - self.since)
        return TwoMoments(before, after, decay * after.cov[0])

    def _back(self, belief: Belief, seconds: float) -> tuple[Belief, float]:
        """The walk run backwards, and its decay."""
        values = self.posterior.values
        days = values["mean"].new_tensor([[seconds / SECONDS_PER_DAY]])
        decay, growth = elapsed_growth(days, self.posterior.layout.half_life_days)
        moved = belief.advanced(decay, growth * (2.0 * values["log_drift"]).exp())
        return moved, float(decay)
