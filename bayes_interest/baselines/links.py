"""From scores to interest probabilities; what has to be learned is learned on train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

SCALES = np.geomspace(0.5, 128.0, 17)


class Link(Protocol):
    """Gives a score its probability."""

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Probabilities (event, m) of items with scores `own` (event, m), among the row's scores.

        `scores` (event, item) are those of all known items: choice divides by their sum.
        """
        ...


@dataclass(frozen=True)
class NoChance:
    """The score says nothing about a probability: NaN."""

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """NaN."""
        return np.full(own.shape, np.nan)


@dataclass(frozen=True)
class Itself:
    """The score is the probability."""

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The scores."""
        return own.astype(np.float64)


@dataclass(frozen=True)
class Sigmoid:
    """The score is the log odds."""

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """`1 / (1 + exp(-score))`."""
        chance: np.ndarray = expit(own.astype(np.float64))
        return chance


@dataclass(frozen=True)
class Share:
    """choice: `(score + a) / sum (score + a)` of scores that are not negative."""

    smoothing: float  # a

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The item's share."""
        total = scores.sum(1, dtype=np.float64) + self.smoothing * scores.shape[1]
        share: np.ndarray = (own.astype(np.float64) + self.smoothing) / total[:, None]
        return share


@dataclass(frozen=True)
class LogisticCurve:
    """`P(positive) = sigmoid(intercept + slope x)`, x the score or log(1 + score)."""

    slope: float
    intercept: float
    log1p: bool = False
    floor: float = 0.0  # the smallest finite x of the fit, for minus infinity

    @classmethod
    def fit(cls, x: np.ndarray, outcome: np.ndarray, log1p: bool = False) -> LogisticCurve:
        """By (nearly unpenalised) maximum likelihood; a constant where all outcomes are equal.

        Minus infinity among `x` counts as the smallest finite one.
        """
        if outcome.all() or not outcome.any():
            return cls(0.0, float(logit((outcome.sum() + 0.5) / (len(outcome) + 1.0))), log1p)
        x = np.log1p(x) if log1p else x
        floor = float(x[np.isfinite(x)].min()) if np.isfinite(x).any() else 0.0
        x = np.where(np.isneginf(x), floor, x)
        found = LogisticRegression(C=1e3).fit(x[:, None], outcome)
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]), log1p, floor)

    def at(self, x: np.ndarray) -> np.ndarray:
        """Probabilities, of the shape of `x`, the scores."""
        x = np.log1p(x) if self.log1p else x
        x = np.where(np.isneginf(x), self.floor, x)
        chance: np.ndarray = expit(self.intercept + self.slope * x)
        return chance

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """From the curve."""
        return self.at(own.astype(np.float64))


@dataclass(frozen=True)
class Softmax:
    """choice: `exp(scale score) / sum exp(scale score)`."""

    scale: float = 1.0

    @classmethod
    def fit(
        cls, blocks: Iterable[tuple[np.ndarray, np.ndarray]], scales: np.ndarray = SCALES
    ) -> Softmax:
        """The scale with the best log loss of choices: blocks of scores (event, item) and own."""
        total = np.zeros(len(scales))
        for scores, own in blocks:
            total += [softmax_log_prob(scores, own, scale).sum() for scale in scales]
        return cls(float(scales[int(np.argmax(total))]))

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Probabilities of the softmax."""
        chance: np.ndarray = np.exp(softmax_log_prob(scores, own, self.scale))
        return chance


def softmax_log_prob(scores: np.ndarray, own: np.ndarray, scale: float) -> np.ndarray:
    """Of items with scores `own` (event, m) or (event,): `scale own - logsumexp(scale scores)`."""
    top = scores.max(1, keepdims=True)
    masses = np.exp((scores - top) * np.float32(scale)).sum(1, dtype=np.float64)
    total = np.log(masses) + scale * top[:, 0].astype(np.float64)
    log_prob: np.ndarray = scale * own.astype(np.float64) - total.reshape(
        -1, *(1,) * (own.ndim - 1)
    )
    return log_prob


def least(loss: Callable[[float], float], grid: np.ndarray) -> float:
    """The grid value with the smallest loss."""
    return float(grid[int(np.argmin([loss(float(value)) for value in grid]))])


def binary_log_loss(chance: np.ndarray, positive: np.ndarray) -> float:
    """Mean of minus the log probability of outcomes (event,)."""
    return -float(np.log(np.where(positive, chance, 1.0 - chance)).mean())
