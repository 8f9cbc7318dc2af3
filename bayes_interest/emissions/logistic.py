"""Expectations of the logistic function under a Gaussian, in closed form at any variance.

The logistic distribution is a normal with random scale: `sigmoid(a) = E_k[Phi(a / 2k)]` with `k`
of Kolmogorov's distribution (Andrews & Mallows 1974; Stefanski 1991). A Gauss rule for `log k`
makes it a sum of normal distribution functions, exact to rounding, and these have exact Gaussian
averages: `E[Phi(a / s)] = Phi(m / S)` for `a ~ N(m, v)`, `S^2 = s^2 + v`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

N_SCALES = {torch.float32: 8, torch.float64: 22}
"""Enough for the rounding of the dtype: the sum is off by 9e-8 and 4e-14 at most."""
ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


@lru_cache(maxsize=4)
def scale_mixture(n_scales: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales `s = 2k` and weights, (scale,) each, by Stieltjes' recursion (Gautschi 2004)."""
    k = np.linspace(0.01, 6.0, 60_001)
    mass = _kolmogorov_density(k)
    mass, u = mass / mass.sum(), np.log(k)
    before, now = np.zeros_like(u), np.ones_like(u)
    diagonal, ratio = np.empty(n_scales), np.empty(n_scales)
    size, last = 1.0, 0.0
    for i in range(n_scales):
        diagonal[i] = (mass * u * now * now).sum() / size
        before, now = now, (u - diagonal[i]) * now - last * before
        grown = (mass * now * now).sum()
        ratio[i] = last = grown / size
        size = grown
    off = np.sqrt(ratio[:-1])
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    return 2.0 * np.exp(nodes), vectors[0] ** 2


def _kolmogorov_density(k: np.ndarray) -> np.ndarray:
    """Of the limit distribution of Kolmogorov's statistic; one series each for small and large."""
    odd, j = np.arange(1.0, 22.0, 2.0)[:, None] ** 2 * math.pi**2, np.arange(1.0, 12.0)[:, None]
    small, large = np.minimum(k, 1.0), np.maximum(k, 0.5)
    left = ((odd / (4.0 * small**4) - small**-2.0) * np.exp(-odd / (8.0 * small**2))).sum(0)
    right = ((-1.0) ** (j + 1) * j**2 * np.exp(-2.0 * j**2 * large**2)).sum(0)
    density: np.ndarray = np.where(k < 0.8, ROOT_TWO_PI * left, 8.0 * large * right)
    return density


def normal_density(z: Tensor) -> Tensor:
    """Standard normal."""
    return torch.exp(-0.5 * z**2) / ROOT_TWO_PI


class LogisticAverages:
    """Averages over `a ~ N(., var)`; arguments have the shape of `var`."""

    def __init__(self, var: Tensor) -> None:
        scales, weights = scale_mixture(N_SCALES[var.dtype])
        known = var.clamp_min(0.0)
        self.parts = [
            (float(weight), torch.sqrt(known + float(scale) ** 2))
            for scale, weight in zip(scales, weights, strict=True)
        ]

    def _average(self, mean: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sum over the mixture, a scale at a time: a table of all of them would be large."""
        total = torch.zeros_like(mean)
        for weight, spread in self.parts:
            total = total + weight * term(mean / spread, spread)
        return total

    def sigmoid(self, mean: Tensor) -> Tensor:
        """`E[sigmoid(a)]`, for `a` of mean `mean`, as are all below."""
        return self._average(mean, lambda z, _: torch.special.ndtr(z))

    def slope(self, mean: Tensor) -> Tensor:
        """Its derivative in the mean, `E[sigmoid'(a)]`."""
        return self._average(mean, lambda z, spread: normal_density(z) / spread)

    def curvature(self, mean: Tensor) -> Tensor:
        """Its second derivative."""
        return self._average(mean, lambda z, spread: -z * normal_density(z) / spread**2)

    def softplus(self, mean: Tensor) -> Tensor:
        """`E[log(1 + exp(a))]`: the integral of the sum of normal distribution functions."""
        return self._average(
            mean, lambda z, spread: spread * (z * torch.special.ndtr(z) + normal_density(z))
        )


def sigmoid_and_slope(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """`E[sigmoid(a)]` and `E[sigmoid'(a)]` for `a ~ N(mean, var)`, of one shape, without gradients;
    a compiled loop on the CPU.
    """
    if mean.device.type != "cpu":
        averages = LogisticAverages(var)
        return averages.sigmoid(mean), averages.slope(mean)
    from bayes_interest.emissions.averages import logistic_averages

    scales, weights = scale_mixture(N_SCALES[mean.dtype])
    _, chance, slope = out = torch.empty(3, *mean.shape, dtype=mean.dtype)
    flat = (part.detach().reshape(-1).numpy() for part in (mean, var))
    logistic_averages(*flat, scales**2, weights, *out.reshape(3, -1).numpy())
    return chance, slope
