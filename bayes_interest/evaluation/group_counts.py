"""Whether predicted counts of groups of events hold: intervals for rates of users and items.

The count of positive outcomes of a group has a Poisson-binomial distribution if its events are
independent given their probabilities.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit
from scipy.stats import beta

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
EDGE = 1e-9


def poisson_binomial(probs: np.ndarray) -> np.ndarray:
    """Probabilities of 0 .. n events, (node, n + 1), from those of each, (node, n).

    By adding one event after the other, which is exact.
    """
    out = np.zeros((len(probs), probs.shape[1] + 1))
    out[:, 0] = 1.0
    for n, column in enumerate(probs.T):
        chance = column[:, None]
        out[:, 1 : n + 2] = out[:, 1 : n + 2] * (1.0 - chance) + out[:, : n + 1] * chance
        out[:, 0] *= 1.0 - column
    return out


def shared_probabilities(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Probabilities (node, event) at nodes of one normal error that all events share.

    Logit-normal with about these means and sds: the spread of the logit by the delta method, its
    centre by MacKay's (1992) rule `E sigmoid(a) = sigmoid(m / sqrt(1 + pi s^2 / 8))`.
    """
    mean = np.clip(mean, EDGE, 1.0 - EDGE)
    spread = np.minimum(sd / (mean * (1.0 - mean)), 10.0)
    centre = logit(mean) * np.sqrt(1.0 + np.pi * spread**2 / 8.0)
    probs: np.ndarray = 1.0 / (1.0 + np.exp(-(centre + NODES[:, None] * spread)))
    return probs


def count_distribution(mean: np.ndarray, sd: np.ndarray | None) -> np.ndarray:
    """Probabilities of 0 .. n positive events of a group, (n + 1,).

    Without `sd` events are independent; with it their errors are all the same one.
    """
    if sd is None:
        alone: np.ndarray = poisson_binomial(mean[None])[0]
        return alone
    mixed: np.ndarray = WEIGHTS @ poisson_binomial(shared_probabilities(mean, sd))
    return mixed


def inside(chances: np.ndarray, count: int, prob: float, draw: float) -> bool:
    """Whether a count lies in the middle `prob` of its distribution (n + 1,).

    A count has mass of its own; `draw` in [0, 1) says where in it it lies, so that counts that do
    have this distribution are inside with probability `prob` exactly.
    """
    place = chances[:count].sum() + draw * chances[count]
    return bool(abs(place - 0.5) <= prob / 2.0)


def rate_width(chances: np.ndarray, prob: float) -> float:
    """Width of the equal-tailed interval of the rate, count over n."""
    total = np.cumsum(chances)
    low, high = np.searchsorted(total, [0.5 - prob / 2.0, 0.5 + prob / 2.0])
    return float(high - low) / (len(chances) - 1)


def share_interval(hits: int, n: int, prob: float) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share."""
    tail = 0.5 - prob / 2.0
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1.0 - tail, hits + 1, n - hits))
    return low, high
