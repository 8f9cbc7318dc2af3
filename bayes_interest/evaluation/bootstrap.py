"""Percentile intervals of figures by resampling users.

A user's events go together, for they are not independent. All figures share the draws, so the
difference of two models is paired (Efron and Tibshirani 1993, chapters 13 and 16).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bayes_interest.evaluation.statistics import (
    CalibrationError,
    Ratio,
    Statistic,
    ratios_at_once,
)

CELLS = 2_000_000
MIN_USERS = 5


@dataclass(frozen=True, eq=False)
class Figure:
    """A metric of one model in one stratum."""

    metric: str
    k: int | None
    value: float
    n: int  # what counts: events, or users, or slates
    n_users: int  # users with anything that counts
    statistic: Statistic


@dataclass(frozen=True, eq=False)
class Group:
    """Figures over the same users; their statistics take weights of these users only."""

    users: np.ndarray  # positions among all users of the backtest
    n_events: int
    figures: Sequence[Figure]


def resamples(n_users: int, n_boot: int, n_events: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user was drawn, with replacement, in chunks (draw, user) of all draws."""
    rng = np.random.default_rng(seed)
    size = max(1, CELLS // max(1, n_users, n_events))
    for begin in range(0, n_boot, size):
        count = min(size, n_boot - begin)
        drawn = rng.integers(0, n_users, (count, n_users)) + n_users * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * n_users)
        yield weights.reshape(count, n_users).astype(np.float64)


def bootstrap(groups: Sequence[Group], n_users: int, n_boot: int, seed: int) -> list[np.ndarray]:
    """Values of every figure in every draw: per group (draw, figure)."""
    found: list[list[np.ndarray]] = [[] for _ in groups]
    longest = max((group.n_events for group in groups), default=1)
    for weights in resamples(n_users, n_boot, longest, seed):
        for group, kept in zip(groups, found, strict=True):
            kept.append(_draws(group.figures, weights[:, group.users]))
    return [
        _recentred(np.concatenate(kept), group.figures)
        if kept
        else np.empty((0, len(group.figures)))
        for group, kept in zip(groups, found, strict=True)
    ]


def _recentred(draws: np.ndarray, figures: Sequence[Figure]) -> np.ndarray:
    """Draws of a calibration error less their bias: noise adds to it, in a resample once more."""
    for i, figure in enumerate(figures):
        if isinstance(figure.statistic, CalibrationError) and not np.isnan(draws[:, i]).all():
            draws[:, i] += figure.value - np.nanmean(draws[:, i])
            draws[:, i] = np.maximum(draws[:, i], 0.0)
    return draws


def _draws(figures: Sequence[Figure], weights: np.ndarray) -> np.ndarray:
    out = np.empty((len(weights), len(figures)))
    plain = [i for i, figure in enumerate(figures) if isinstance(figure.statistic, Ratio)]
    ratios = [f.statistic for f in figures if isinstance(f.statistic, Ratio)]
    out[:, plain] = ratios_at_once(ratios, weights)
    for i in sorted(set(range(len(figures))) - set(plain)):
        out[:, i] = figures[i].statistic(weights)
    return out


def bounds(draws: np.ndarray, n_users: Sequence[int], prob: float) -> np.ndarray:
    """Equal-tailed percentile bounds (2, figure); NaN with fewer than 5 users or without draws.

    Draws in which a figure is not defined are left out.
    """
    out = np.full((2, draws.shape[1]), np.nan)
    tails = np.array([0.5 - prob / 2.0, 0.5 + prob / 2.0])
    usable = ~np.isnan(draws).all(axis=0) & (np.asarray(n_users) >= MIN_USERS)
    if usable.any():
        out[:, usable] = np.nanquantile(draws[:, usable], tails, axis=0)
    return out
