"""Gaussian random walk in continuous time, with optional mean reversion.

States are deviations from the population mean, so the walk starts at `N(0, 1)` in every
dimension: one unit of drift scale is one population standard deviation of interest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transition:
    """`z_t = decay_t * z_{t-1} + N(0, variance_t)`, elementwise over state dimensions."""

    decay: Tensor  # (user, step, 1)
    variance: Tensor  # (user, step, state_dim)

    @property
    def scale(self) -> Tensor:
        """Root of the variance; its slope at a zero gap is zero, not infinite."""
        moves = self.variance > 0.0
        return torch.where(moves, self.variance, 1.0).sqrt() * moves


def elapsed_growth(elapsed_days: Tensor, half_life_days: float | None) -> tuple[Tensor, Tensor]:
    """Decay `A(d)` and growth `g(d)` of the walk over `elapsed_days`, both shaped like it.

    Without reversion `A = 1, g = d`. With half-life `h` and `kappa = ln 2 / h` this is the
    Ornstein-Uhlenbeck process: `A = exp(-kappa d)`, `g = (1 - exp(-2 kappa d)) / (2 kappa)`.
    """
    if half_life_days is None:
        return torch.ones_like(elapsed_days), elapsed_days
    kappa = math.log(2.0) / half_life_days
    growth = -torch.expm1(-2.0 * kappa * elapsed_days) / (2.0 * kappa)
    return torch.exp(-kappa * elapsed_days), growth


def transition(
    elapsed_days: Tensor, drift_scale: Tensor, half_life_days: float | None = None
) -> Transition:
    """Transition of a walk with `drift_scale` (state_dim,) per sqrt day over (user, step) gaps."""
    decay, growth = elapsed_growth(elapsed_days, half_life_days)
    return Transition(decay[..., None], growth[..., None] * drift_scale**2)
