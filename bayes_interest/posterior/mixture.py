"""Answers from a few draws of the globals: an equal mixture, and what one more draw would add."""

from __future__ import annotations

import math

import torch
from scipy.special import ndtri
from torch import Tensor

LEAST_VARIANCE = 1e-12


def unseen_share(n_draws: int) -> float:
    """Variance of one more draw of the globals less that of `n_draws` equal ones, over the latter.

    Of normal draws of unknown mean and variance the next is Student's t with n - 1 degrees of
    freedom, its variance (n + 1) / (n - 3) times theirs (Geisser 1993): a mixture of few draws ends
    too soon. Up to four draws, where that variance is infinite or nearly, it is that of four.
    """
    return 4.0 / max(n_draws - 3, 1)


def mixture_bounds(mean: Tensor, var: Tensor, prob: float) -> list[Tensor]:
    """Bounds of mass `prob` of equal Gaussians along the first axis, one for each draw of the
    globals; each is widened for the draws that were not made, see `unseen_share`.
    """
    wide = var + unseen_share(len(mean)) * (mean - mean.mean(0)).square().mean(0)
    return [mixture_quantile(mean, wide, tail) for tail in (0.5 - prob / 2.0, 0.5 + prob / 2.0)]


def mixture_quantile(mean: Tensor, var: Tensor, level: float) -> Tensor:
    """Quantile of an equal mixture of Gaussians along the first axis; computed on the CPU."""
    from bayes_interest.posterior.compiled_mixture import mixture_quantiles

    sd = var.clamp_min(LEAST_VARIANCE).sqrt()
    columns = [part.reshape(len(part), -1).cpu().numpy() for part in (mean, sd)]
    out = torch.empty(mean.shape[1:], dtype=mean.dtype)
    mixture_quantiles(*columns, level, float(ndtri(level)), out.reshape(-1).numpy())
    return out.to(mean)


def unseen_noise(means: Tensor, n_draws: int, seed: int) -> Tensor:
    """What draws of the globals that were not made add to joint draws, (..., n_draws, item), given
    the means at those made (..., draw, item): normal, with `unseen_share` of their covariance.
    """
    many = means.shape[-2]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_draws, many, generator=generator, dtype=torch.float64).to(means)
    apart = means - means.mean(-2, keepdim=True)
    return (noise * math.sqrt(unseen_share(many) / many)) @ apart
