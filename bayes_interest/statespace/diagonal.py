"""The same filter and smoother when every state dimension is a chain of its own.

Used where a site has one precision per dimension (the choice family): all recursions are
elementwise over (user, state_dim). On the CPU, where no gradient is asked for, both passes are
compiled loops.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.statespace.kalman import as_array, site_log_evidence
from bayes_interest.statespace.random_walk import Transition


@dataclass(frozen=True)
class DiagonalSites:
    """`exp(h . z - z' diag(lam) z / 2)` per event; zeros are padding."""

    linear: Tensor  # h, (user, step, state_dim)
    precision: Tensor  # lam >= 0, (user, step, state_dim)


@dataclass(frozen=True)
class DiagonalFiltered:
    """Forward pass: after each event, and before it (`predicted_*`)."""

    mean: Tensor  # (user, step, state_dim), so are all below
    var: Tensor
    predicted_mean: Tensor
    predicted_var: Tensor
    log_evidence: Tensor  # (user,)


@dataclass(frozen=True)
class DiagonalSmoothed:
    """Backward pass: marginals given every event, and scores of the log evidence."""

    mean: Tensor  # (user, step, state_dim), so are all below
    var: Tensor
    variance_score: Tensor  # d log_evidence / d Q_t


def absorb_diagonal(
    mean: Tensor, var: Tensor, linear: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance after a site, elementwise."""
    shrink = 1.0 / (1.0 + precision * var)
    return mean + var * (linear - precision * mean) * shrink, var * shrink


def filter_diagonal(
    sites: DiagonalSites,
    walk: Transition,
    initial: tuple[Tensor, Tensor] | None = None,
) -> DiagonalFiltered:
    """Run the filter; `initial` is (mean, variance), both (user, state_dim)."""
    h, lam = sites.linear, sites.precision
    start = initial or (torch.zeros_like(h[:, 0]), torch.ones_like(h[:, 0]))
    out = h.new_empty(4, *h.shape)
    if _compilable(h, lam, walk.decay, walk.variance, *start):
        from bayes_interest.statespace.compiled_diagonal import filter_diagonal_kernel

        inputs = (h, lam, walk.decay[..., 0], walk.variance, *start)
        filter_diagonal_kernel(*(as_array(part) for part in (*inputs, *out)))
    else:
        _filter_eager(sites, walk, start, out)
    evidence = site_log_evidence(out[2], out[3], h, lam).sum((-1, -2))
    return DiagonalFiltered(out[0], out[1], out[2], out[3], evidence)


def _compilable(*parts: Tensor) -> bool:
    """Compiled loops run on the CPU and know no autograd."""
    grad = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
    return parts[0].device.type == "cpu" and not grad


def _filter_eager(
    sites: DiagonalSites, walk: Transition, start: tuple[Tensor, Tensor], out: Tensor
) -> None:
    """Fill mean, variance, predicted mean and predicted variance, (4, user, step, state_dim)."""
    mean, var = start
    for t in range(out.shape[2]):
        decay = walk.decay[:, t]
        mean, var = mean * decay, var * decay**2 + walk.variance[:, t]
        out[2, :, t], out[3, :, t] = mean, var
        mean, var = absorb_diagonal(mean, var, sites.linear[:, t], sites.precision[:, t])
        out[0, :, t], out[1, :, t] = mean, var


def smooth_diagonal(
    sites: DiagonalSites, walk: Transition, forward: DiagonalFiltered
) -> DiagonalSmoothed:
    """Run the backward pass over the adjoint of the log evidence."""
    h, lam = sites.linear, sites.precision
    means = (forward.mean, forward.var, forward.predicted_mean, forward.predicted_var)
    if not _compilable(h, lam, walk.decay, *means):
        return _smooth_eager(sites, walk, forward)
    from bayes_interest.statespace.compiled_diagonal import smooth_diagonal_kernel

    out = h.new_empty(3, *h.shape)
    inputs = (h, lam, walk.decay[..., 0], *means)
    smooth_diagonal_kernel(*(as_array(part) for part in (*inputs, *out)))
    return DiagonalSmoothed(out[0], out[1], out[2])


def _smooth_eager(
    sites: DiagonalSites, walk: Transition, forward: DiagonalFiltered
) -> DiagonalSmoothed:
    h, lam = sites.linear, sites.precision
    shrink = 1.0 / (1.0 + lam * forward.predicted_var)
    gain, pull = lam * shrink, (h - lam * forward.predicted_mean) * shrink
    adjoint, curvature = torch.zeros_like(h[:, 0]), torch.zeros_like(h[:, 0])
    out = h.new_empty(3, *h.shape)
    for t in reversed(range(h.shape[1])):
        out[0, :, t], out[1, :, t] = adjoint, curvature
        adjoint = adjoint * shrink[:, t] - pull[:, t]
        curvature = curvature * shrink[:, t] ** 2 + gain[:, t]
        out[2, :, t] = 0.5 * (adjoint**2 - curvature)
        decay = walk.decay[:, t]
        adjoint, curvature = adjoint * decay, curvature * decay**2
    mean = forward.mean - forward.var * out[0]
    var = forward.var * (1.0 - forward.var * out[1])
    return DiagonalSmoothed(mean, var, out[2])


def kl_to_prior_diagonal(
    sites: DiagonalSites, smoothed: DiagonalSmoothed, log_evidence: Tensor
) -> Tensor:
    """`KL(q || p) = E_q[log sites] - log Z`, (user,)."""
    second = smoothed.var + smoothed.mean**2
    expected = sites.linear * smoothed.mean - 0.5 * sites.precision * second
    return expected.sum((-1, -2)) - log_evidence
