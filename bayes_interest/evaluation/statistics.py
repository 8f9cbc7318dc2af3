"""Figures as functions of how often each user counts: for the bootstrap over users.

A statistic maps weights (draw, user), the number of times each user was drawn, to a value per
draw (draw,). With all weights one it is the figure itself; NaN where it is not defined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from bayes_interest.evaluation.metrics import N_BINS, calibration_bins

Statistic = Callable[[np.ndarray], np.ndarray]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


@dataclass(frozen=True, eq=False)
class Ratio:
    """`sum_u w_u total_u / sum_u w_u count_u`: every mean over events, and precision, F1."""

    total: np.ndarray  # (user,)
    count: np.ndarray  # (user,)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(draw, user) -> (draw,)."""
        return _divided(weights @ self.total, weights @ self.count)


def ratios_at_once(ratios: list[Ratio], weights: np.ndarray) -> np.ndarray:
    """Values (draw, ratio) of many ratios with one product."""
    if not ratios:
        return np.empty((len(weights), 0))
    sums = weights @ np.stack([part for r in ratios for part in (r.total, r.count)], axis=1)
    return _divided(sums[:, 0::2], sums[:, 1::2])


class Auc:
    """P(a positive event has the higher probability than a negative one), ties count one half.

    Events weigh as much as their users. With `P_g`, `N_g` the weights of positive and negative
    events at the g-th distinct probability: `sum_g P_g (N_{<g} + N_g / 2) / (P N)`.
    """

    def __init__(self, user: np.ndarray, positive: np.ndarray, prob: np.ndarray) -> None:
        order = np.argsort(prob, kind="stable")
        ordered = prob[order]
        self.user, self.positive = user[order], positive[order].astype(float)
        self.starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(draw, user) -> (draw,)."""
        if not len(self.user):
            return np.full(len(weights), np.nan)
        all_ = weights[:, self.user]
        positive = np.add.reduceat(all_ * self.positive, self.starts, axis=1)
        negative = np.add.reduceat(all_, self.starts, axis=1) - positive
        below = np.cumsum(negative, axis=1) - 0.5 * negative
        return _divided((positive * below).sum(1), positive.sum(1) * negative.sum(1))


class CalibrationError:
    """Expected calibration error over the sample's bins of equal mass, which stay fixed."""

    def __init__(
        self,
        user: np.ndarray,
        positive: np.ndarray,
        prob: np.ndarray,
        n_users: int,
        n_bins: int = N_BINS,
    ) -> None:
        self.excess, self.count = np.zeros((n_users, n_bins)), np.zeros(n_users)
        if len(prob):
            np.add.at(self.excess, (user, calibration_bins(prob, n_bins)), positive - prob)
            self.count = np.bincount(user, minlength=n_users).astype(float)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(draw, user) -> (draw,)."""
        return _divided(np.abs(weights @ self.excess).sum(1), weights @ self.count)


@dataclass(frozen=True)
class Fixed:
    """A figure that is not resampled: draws are NaN, so it has no interval."""

    value: float

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(draw, user) -> (draw,): NaN."""
        return np.full(len(weights), np.nan)


def auc_by_user(user: np.ndarray, positive: np.ndarray, prob: np.ndarray, n_users: int) -> Ratio:
    """Mean AUC of the users that have both outcomes, each counting once.

    From ranks within the user (Mann-Whitney): `(R+ - n+ (n+ + 1) / 2) / (n+ n-)`.
    """
    order = np.lexsort((prob, user))
    sizes = np.bincount(user, minlength=n_users)
    # Rank of the pair (user, prob), less the events of earlier users.
    both = user[order].astype(float), prob[order]
    changes = np.append(True, (np.diff(both[0]) != 0) | (np.diff(both[1]) != 0))[: len(order)]
    rank = np.empty(len(order))
    rank[order] = rankdata(np.cumsum(changes))
    rank -= (np.cumsum(sizes) - sizes)[user]
    n_pos = np.bincount(user, weights=positive, minlength=n_users)
    sum_pos = np.bincount(user, weights=rank * positive, minlength=n_users)
    pairs = n_pos * (sizes - n_pos)
    area = _divided(sum_pos - n_pos * (n_pos + 1) / 2, pairs)
    return Ratio(np.nan_to_num(area), (pairs > 0).astype(float))
