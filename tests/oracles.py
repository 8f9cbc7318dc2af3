"""Slow, obvious versions of the fast mathematics: dense Gaussians and textbook recursions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DensePosterior:
    mean: Tensor  # (step, state_dim)
    cov: Tensor  # (step, state_dim, step, state_dim)
    log_evidence: Tensor  # scalar


def walk_covariance(decay: Tensor, variance: Tensor) -> Tensor:
    """Prior covariance of one user's path, (step, state_dim, step, state_dim), by propagation."""
    n_steps, dim = variance.shape
    cov = torch.zeros(n_steps, dim, n_steps, dim, dtype=variance.dtype)
    now = torch.ones(dim, dtype=variance.dtype)
    for t in range(n_steps):
        now = now * decay[t] ** 2 + variance[t]
        cross = now.clone()
        for s in range(t, n_steps):
            cross = cross if s == t else cross * decay[s]
            cov[t, range(dim), s, range(dim)] = cross
            cov[s, range(dim), t, range(dim)] = cross
    return cov


def dense_gaussian_posterior(
    x: Tensor, target: Tensor, noise_var: Tensor, decay: Tensor, variance: Tensor
) -> DensePosterior:
    """One user: Gaussian-process regression on y_t = x_t . z_t + N(0, noise_var_t)."""
    n_steps, dim = x.shape
    prior = walk_covariance(decay, variance).reshape(n_steps * dim, n_steps * dim)
    design = torch.zeros(n_steps, n_steps * dim, dtype=x.dtype)
    for t in range(n_steps):
        design[t, t * dim : (t + 1) * dim] = x[t]
    marginal = design @ prior @ design.T + torch.diag(noise_var)
    gain = torch.linalg.solve(marginal, design @ prior).T
    zeros = torch.zeros(n_steps, dtype=x.dtype)
    evidence = torch.distributions.MultivariateNormal(zeros, marginal).log_prob(target)
    return DensePosterior(
        (gain @ target).reshape(n_steps, dim),
        (prior - gain @ design @ prior).reshape(n_steps, dim, n_steps, dim),
        evidence,
    )


def dense_precision_posterior(
    x: Tensor, linear: Tensor, precision: Tensor, decay: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """One user: mean and covariance as the inverse of the dense block-tridiagonal precision."""
    n_steps, dim = x.shape
    total = torch.zeros(n_steps, dim, n_steps, dim, dtype=x.dtype)
    eye = torch.eye(dim, dtype=x.dtype)
    total[0, :, 0, :] += torch.diag(1.0 / (decay[0] ** 2 + variance[0]).expand(dim))
    for t in range(1, n_steps):
        inverse = torch.diag(1.0 / variance[t])
        total[t, :, t, :] += inverse
        total[t - 1, :, t - 1, :] += decay[t] ** 2 * inverse
        total[t - 1, :, t, :] -= decay[t] * inverse
        total[t, :, t - 1, :] -= decay[t] * inverse
    shift = torch.zeros(n_steps, dim, dtype=x.dtype)
    for t in range(n_steps):
        total[t, :, t, :] += precision[t] * torch.outer(x[t], x[t]) + 0.0 * eye
        shift[t] = linear[t] * x[t]
    flat = total.reshape(n_steps * dim, n_steps * dim)
    cov = torch.linalg.inv(flat)
    return (cov @ shift.reshape(-1)).reshape(n_steps, dim), cov.reshape(n_steps, dim, n_steps, dim)


def textbook_smoother(
    x: Tensor, target: Tensor, noise_var: Tensor, decay: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One user: Kalman filter and Rauch-Tung-Striebel smoother with explicit inverses.

    Returns filtered means and covariances, smoothed means and covariances.
    """
    n_steps, dim = x.shape
    mean, cov = torch.zeros(dim, dtype=x.dtype), torch.eye(dim, dtype=x.dtype)
    filtered, predicted = [], []
    for t in range(n_steps):
        mean, cov = decay[t] * mean, decay[t] ** 2 * cov + torch.diag(variance[t])
        predicted.append((mean, cov))
        spread = x[t] @ cov @ x[t] + noise_var[t]
        gain = cov @ x[t] / spread
        mean = mean + gain * (target[t] - x[t] @ mean)
        cov = cov - torch.outer(gain, gain) * spread
        filtered.append((mean, cov))
    smooth = [filtered[-1]]
    for t in reversed(range(n_steps - 1)):
        back = filtered[t][1] * decay[t + 1] @ torch.linalg.inv(predicted[t + 1][1])
        mean = filtered[t][0] + back @ (smooth[0][0] - predicted[t + 1][0])
        cov = filtered[t][1] + back @ (smooth[0][1] - predicted[t + 1][1]) @ back.T
        smooth.insert(0, (mean, cov))
    return (
        torch.stack([m for m, _ in filtered]),
        torch.stack([c for _, c in filtered]),
        torch.stack([m for m, _ in smooth]),
        torch.stack([c for _, c in smooth]),
    )


def gaussian_kl(mean: Tensor, cov: Tensor, prior_cov: Tensor) -> Tensor:
    """`KL(N(mean, cov) || N(0, prior_cov))`, flat."""
    zeros = torch.zeros_like(mean)
    return torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mean, cov),
        torch.distributions.MultivariateNormal(zeros, prior_cov),
    )


def slow_recent_count(
    item: int, at: float, items: np.ndarray, seconds: np.ndarray, window_days: float, ticks: int
) -> int:
    """Events of `item` in the window that ends at the last tick at or before `at`, one by one."""
    window = window_days * 86_400.0
    width = max(1, round(window / ticks))  # whole seconds
    end = math.floor(at / width) * width
    return sum(
        1
        for other, when in zip(items, seconds, strict=True)
        if other == item and end - window <= when < end
    )


def slow_repeats(users: np.ndarray, items: np.ndarray, event: int, item: int) -> int:
    """Earlier events of the event's user with `item`, in the order of the arrays."""
    return sum(1 for other in range(event) if users[other] == users[event] and items[other] == item)
