"""Pareto k-hat: how heavy the tail of importance weights is, and so whether a guide can be used.

Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling (JMLR 2024); the fit
is that of Zhang and Stephens (Technometrics 2009) with the small-sample prior of the former.
"""

from __future__ import annotations

import numpy as np

PRIOR_WEIGHT, PRIOR_K = 10.0, 0.5


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """k-hat of each column of log importance weights (draw, column), (column,).

    The tail is the largest `min(0.2 S, 3 sqrt(S))` of S weights. -inf where a tail is too short
    (fewer than 5) or all its weights are equal: there is no tail to distrust.
    """
    n_draws = len(log_weights)
    tail = int(np.ceil(min(0.2 * n_draws, 3.0 * np.sqrt(n_draws))))
    if tail < 5:
        return np.full(log_weights.shape[1], -np.inf)
    ordered = np.sort(log_weights - log_weights.max(0), axis=0)
    excess = np.exp(ordered[-tail:]) - np.exp(ordered[-tail - 1])
    return np.array([_shape(column) for column in excess.T])


def _shape(excess: np.ndarray) -> float:
    """Shape of a generalised Pareto distribution from its sorted excesses (tail,)."""
    n = len(excess)
    if excess[-1] <= 0.0 or excess[-1] - excess[0] < 1e-12 * excess[-1]:
        return -np.inf
    n_grid = 30 + int(np.sqrt(n))
    quartile = max(excess[int(n / 4 + 0.5) - 1], np.finfo(float).tiny)
    theta = 1.0 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))
    theta = theta / (3.0 * quartile) + 1.0 / excess[-1]
    k = np.log1p(-theta[:, None] * excess).mean(1)
    profile = n * (np.log(-theta / k) - k - 1.0)
    weight = np.exp(profile - profile.max())
    best = float((theta * weight).sum() / weight.sum())
    found = float(np.log1p(-best * excess).mean())
    return (n * found + PRIOR_WEIGHT * PRIOR_K) / (n + PRIOR_WEIGHT)


def effective_share(log_weights: np.ndarray) -> np.ndarray:
    """Effective sample size over the number of draws, `(mean w)^2 / mean w^2`, by column."""
    weights = np.exp(log_weights - log_weights.max(0))
    share: np.ndarray = weights.mean(0) ** 2 / (weights**2).mean(0)
    return share
