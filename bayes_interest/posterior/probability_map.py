"""A monotone map from raw to calibrated probabilities, fitted to outcomes: a line between logits.

Calibration of a fitted classifier after Platt (1999; `platt`), Guo and others (2017; `temperature`)
and Zadrozny and Elkan (2002; `isotonic`). A map is strictly increasing, so it never changes an
order, and takes (0, 1) into (0, 1), so a log loss stays finite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit, xlogy
from sklearn.isotonic import isotonic_regression
from torch import Tensor

MapName = Literal["isotonic", "platt", "temperature"]
MethodName = Literal["auto", "identity", "isotonic", "platt", "temperature"]
METHODS: tuple[str, ...] = get_args(MethodName)
EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1."""
BIN_EVENTS = 100
MAX_BINS = 100
PRIOR_EVENTS = 10.0
"""The share of a bin counts this many events more, at the bin's mean raw probability."""
SLOPES = (0.1, 10.0)


@dataclass(frozen=True)
class ProbabilityMap:
    """`logit g(p)`: linear between knots, and beyond them with `slope`.

    With one knot it is `slope (logit p - raw_0) + mapped_0`. For choices `slope` multiplies all
    logits of the softmax, and the knot is zero.
    """

    method: str
    raw: np.ndarray  # logits, increasing, (knot,)
    mapped: np.ndarray  # logits, increasing, (knot,)
    slope: float  # one over the temperature
    evidence: np.ndarray  # a row per event that it was learned from, in order of time; what a row
    # holds depends on the family, see `posterior/recalibration.py`

    def __call__(self, probability: Tensor) -> Tensor:
        """`g(p)`, elementwise, in the dtype of `p`."""
        x = torch.logit(probability.double().clamp(EDGE, 1.0 - EDGE))
        raw, mapped = (torch.as_tensor(v, device=x.device) for v in (self.raw, self.mapped))
        inside = x.clamp(raw[0], raw[-1])
        y = mapped[0] + self.slope * (x - inside)
        if len(raw) > 1:
            at = (torch.searchsorted(raw, inside.contiguous()) - 1).clamp(0, len(raw) - 2)
            steepness = (mapped.diff() / raw.diff())[at]
            y = mapped[at] + steepness * (inside - raw[at]) + self.slope * (x - inside)
        return torch.sigmoid(y).clamp(EDGE, 1.0 - EDGE).to(probability)

    def inverse(self) -> ProbabilityMap:
        """The map back, from calibrated to raw probabilities."""
        return replace(self, raw=self.mapped, mapped=self.raw, slope=1.0 / self.slope)

    def of_arrays(self, probability: np.ndarray) -> np.ndarray:
        """`g(p)` of an array."""
        out: np.ndarray = self(torch.as_tensor(np.asarray(probability, dtype=float))).numpy()
        return out


def line_map(method: str, slope: float = 1.0, bias: float = 0.0) -> ProbabilityMap:
    """Logits times a number, the inverse temperature, and moved; by default the identity."""
    return ProbabilityMap(method, np.zeros(1), np.array([bias]), slope, np.zeros((0, 0)))


def fit_map(method: str, probability: np.ndarray, outcome: np.ndarray) -> ProbabilityMap:
    """The map of one method that fits outcomes (event,) bool best, by log loss.

    `probability` (event,) are the raw ones. Isotonic is a least-squares fit to shares of bins of
    equal mass, shrunk a little to the raw ones, with a knot in the middle of each flat piece.
    """
    probability = np.clip(probability, EDGE, 1.0 - EDGE)
    if method == "identity":
        return line_map("identity")
    if method == "isotonic":
        return _isotonic(probability, outcome)
    x = logit(probability)
    return line_map(method, *_line(x, outcome, biased=method == "platt"))


def best_map(probability: np.ndarray, outcome: np.ndarray) -> ProbabilityMap:
    """The method that predicts the later half best when fitted on the earlier one, on all events.

    Arrays (event,) in the order of time. The simpler one where two are equal.
    """
    half = len(probability) // 2
    losses = []
    names = ("identity", "temperature", "platt", "isotonic")
    for name in names:
        found = fit_map(name, probability[:half], outcome[:half])
        losses.append(binary_log_loss(found.of_arrays(probability[half:]), outcome[half:]))
    return fit_map(names[int(np.argmin(losses))], probability, outcome)


def binary_log_loss(probability: np.ndarray, outcome: np.ndarray) -> float:
    """Minus the mean log probability of outcomes that are 0 or 1."""
    hits = np.asarray(outcome, dtype=float)
    return -float((xlogy(hits, probability) + xlogy(1.0 - hits, 1.0 - probability)).mean())


def _line(x: np.ndarray, outcome: np.ndarray, biased: bool) -> tuple[float, float]:
    """Slope and bias of logits, by maximum likelihood; slopes stay within `SLOPES`."""
    hits = np.asarray(outcome, dtype=float)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        y = at[0] * x + at[1] * biased
        rest = expit(y) - hits
        gradient = np.array([(rest * x).mean(), rest.mean() * biased])
        return float((np.logaddexp(0.0, y) - hits * y).mean()), gradient

    limits = [SLOPES, (-10.0, 10.0)]
    start = np.array([1.0, 0.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, tol=1e-12).x
    return float(found[0]), float(found[1])


def _isotonic(probability: np.ndarray, outcome: np.ndarray) -> ProbabilityMap:
    n_events = len(probability)
    n_bins = int(np.clip(n_events // BIN_EVENTS, 1, MAX_BINS))
    # Equal probabilities share a bin.
    edges = np.sort(probability)[np.arange(1, n_bins) * n_events // n_bins]
    _, place = np.unique(np.searchsorted(edges, probability, side="right"), return_inverse=True)
    count = np.bincount(place).astype(float)
    mean = np.bincount(place, weights=probability) / count
    hits = np.bincount(place, weights=np.asarray(outcome, dtype=float))
    share = (hits + PRIOR_EVENTS * mean) / (count + PRIOR_EVENTS)
    fitted = isotonic_regression(share, sample_weight=count)
    value, block = np.unique(fitted, return_inverse=True)
    weight = np.bincount(block, weights=count)
    middle = np.bincount(block, weights=count * mean) / weight
    return ProbabilityMap("isotonic", logit(middle), logit(value), 1.0, np.zeros((0, 0)))
