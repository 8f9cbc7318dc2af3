"""Exact Gaussian filter and smoother for one scalar site per event.

An event's site is `exp(h a - lam a^2 / 2)` with `a = x . z`: rank one, so a filter step costs
`state_dim^2` and needs no factorisation. The backward pass carries the adjoint of the log
evidence (modified Bryson-Frazier; Bierman 1977, ch. X; Koopman & Shephard 1992 for the scores),
so it needs no inverse either, and zero gaps are ordinary.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bayes_interest.statespace.random_walk import Transition

THREAD_WORK = 500_000
"""Events times squared dimensions that are worth a thread: about a millisecond."""


@dataclass(frozen=True)
class ScalarSites:
    """One Gaussian factor per event on its scalar predictor; zeros are padding."""

    linear: Tensor  # h, (user, step)
    precision: Tensor  # lam >= 0, (user, step)


@dataclass(frozen=True)
class GaussianState:
    """Belief about the state at one moment."""

    mean: Tensor  # (user, state_dim)
    cov: Tensor  # (user, state_dim, state_dim)

    @staticmethod
    def standard(n_users: int, state_dim: int, like: Tensor) -> GaussianState:
        """`N(0, I)`: the initial state of every user."""
        eye = torch.eye(state_dim, dtype=like.dtype, device=like.device)
        return GaussianState(
            torch.zeros(n_users, state_dim, dtype=like.dtype, device=like.device),
            eye.repeat(n_users, 1, 1),
        )


@dataclass(frozen=True)
class Filtered:
    """Forward pass. Subscript `-` is before the event is absorbed, none is after."""

    mean: Tensor  # m_t, (user, step, state_dim)
    cov: Tensor  # P_t, (user, step, state_dim, state_dim)
    projected: Tensor  # P-_t x_t, (user, step, state_dim)
    predicted_mean: Tensor  # x_t . m-_t, (user, step)
    predicted_var: Tensor  # x_t . P-_t x_t, (user, step)
    log_evidence: Tensor  # log int N(z) prod_t site_t(z) dz, (user,)


@dataclass(frozen=True)
class Smoothed:
    """Backward pass: marginals given every event, and scores of the log evidence."""

    mean: Tensor  # E z_t, (user, step, state_dim)
    predictor_mean: Tensor  # E a_t, (user, step)
    predictor_var: Tensor  # Var a_t, (user, step)
    predictor_cov: Tensor  # Cov(z_t, a_t) = P^s_t x_t, (user, step, state_dim)
    variance_score: Tensor  # d log_evidence / d Q_t (diagonal), (user, step, state_dim)
    cov: Tensor | None  # P^s_t, (user, step, state_dim, state_dim), on request


def predict(state: GaussianState, decay: Tensor, variance: Tensor) -> GaussianState:
    """One step of the walk: `m- = A m`, `P- = A P A + Q`; decay (user, 1), variance (user, D)."""
    cov = state.cov * decay[..., None] ** 2
    cov.diagonal(dim1=-2, dim2=-1).add_(variance)
    return GaussianState(state.mean * decay, cov)


def project(state: GaussianState, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`P x` (user, D), `x . m` (user,) and `x . P x` (user,) for vectors x (user, D)."""
    projected = torch.bmm(state.cov, x[..., None])[..., 0]
    return projected, (x * state.mean).sum(-1), (x * projected).sum(-1)


def absorb(
    state: GaussianState,
    projected: Tensor,
    predicted: tuple[Tensor, Tensor],
    site: tuple[Tensor, Tensor],
) -> GaussianState:
    """Multiply by the site: `m = m- + P-x w`, `P = P- - g P-x (P-x)'` (rank one)."""
    gain, pull = gain_and_pull(*predicted, *site)
    mean = state.mean + projected * pull[..., None]
    cov = torch.baddbmm(state.cov, (-gain[..., None] * projected)[..., None], projected[:, None])
    return GaussianState(mean, cov)


def gain_and_pull(
    mean: Tensor, var: Tensor, linear: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor]:
    """`g = lam / (1 + lam s)` and `w = (h - lam mu) / (1 + lam s)`."""
    shrink = 1.0 / (1.0 + precision * var)
    return precision * shrink, (linear - precision * mean) * shrink


def site_log_evidence(mean: Tensor, var: Tensor, linear: Tensor, precision: Tensor) -> Tensor:
    """`log int N(a; mean, var) exp(h a - lam a^2 / 2) da`, elementwise."""
    spread = 1.0 + precision * var
    quadratic = linear * mean + 0.5 * linear**2 * var - 0.5 * precision * mean**2
    return quadratic / spread - 0.5 * torch.log(spread)


def filter_states(
    x: Tensor, sites: ScalarSites, walk: Transition, initial: GaussianState | None = None
) -> Filtered:
    """Run the filter over event vectors x (user, step, state_dim)."""
    n_users, n_steps, dim = x.shape
    state = initial or GaussianState.standard(n_users, dim, x)
    mean, projected = x.new_empty(x.shape), x.new_empty(x.shape)  # contiguous, whatever x is
    cov = x.new_empty(n_users, n_steps, dim, dim)
    predicted = x.new_empty(2, n_users, n_steps)
    if _compilable(x, sites, walk, state.mean, state.cov):
        _filter_compiled(x, sites, walk, state, (mean, cov, projected, predicted))
    else:
        _filter_eager(x, sites, walk, state, (mean, cov, projected, predicted))
    evidence = site_log_evidence(predicted[0], predicted[1], sites.linear, sites.precision)
    return Filtered(mean, cov, projected, predicted[0], predicted[1], evidence.sum(-1))


def filter_to_end(x: Tensor, sites: ScalarSites, walk: Transition) -> GaussianState:
    """The state of `filter_states` after the last step alone; no other is kept."""
    n_users, _, dim = x.shape
    state = GaussianState.standard(n_users, dim, x)
    if not _compilable(x, sites, walk):
        for t in range(x.shape[1]):
            before = predict(state, walk.decay[:, t], walk.variance[:, t])
            along, mu, var = project(before, x[:, t])
            state = absorb(before, along, (mu, var), (sites.linear[:, t], sites.precision[:, t]))
        return state
    from bayes_interest.statespace.compiled import filter_to_end_kernel

    mean, cov = (part.contiguous().clone() for part in (state.mean, state.cov))
    inputs = (x, sites.linear, sites.precision, walk.decay[..., 0], walk.variance)
    filter_to_end_kernel(*(as_array(part) for part in (*inputs, mean, cov)))
    return GaussianState(mean, cov)


def _compilable(x: Tensor, sites: ScalarSites, walk: Transition, *more: Tensor) -> bool:
    """Compiled loops run on the CPU and know no autograd."""
    parts = (x, sites.linear, sites.precision, walk.decay, walk.variance, *more)
    grad = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
    return x.device.type == "cpu" and not grad


def _filter_compiled(
    x: Tensor,
    sites: ScalarSites,
    walk: Transition,
    state: GaussianState,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    from bayes_interest.statespace.compiled import filter_kernel

    inputs = (x, sites.linear, sites.precision, walk.decay[..., 0], walk.variance)
    start = (state.mean, state.cov)
    filter_kernel(*(as_array(part) for part in (*inputs, *start, *out)))


def as_array(tensor: Tensor) -> np.ndarray:
    """The same memory as a contiguous NumPy array."""
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array


def _filter_eager(
    x: Tensor,
    sites: ScalarSites,
    walk: Transition,
    state: GaussianState,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    mean, cov, projected, predicted = out
    for t in range(x.shape[1]):
        before = predict(state, walk.decay[:, t], walk.variance[:, t])
        along, mu, var = project(before, x[:, t])
        state = absorb(before, along, (mu, var), (sites.linear[:, t], sites.precision[:, t]))
        mean[:, t], cov[:, t], projected[:, t] = state.mean, state.cov, along
        predicted[0, :, t], predicted[1, :, t] = mu, var


def smooth_states(
    x: Tensor, sites: ScalarSites, walk: Transition, forward: Filtered, full: bool = False
) -> Smoothed:
    """Run the backward pass; `full` keeps every smoothed covariance."""
    n_users, n_steps, dim = x.shape
    gain, pull = gain_and_pull(
        forward.predicted_mean, forward.predicted_var, sites.linear, sites.precision
    )
    shrink = 1.0 - gain * forward.predicted_var
    adjoints, curvature_x, score = (x.new_empty(x.shape) for _ in range(3))
    keep = x.new_empty(n_users, n_steps, dim, dim) if full else x.new_empty(0, 0, 0, 0)
    out = (adjoints, curvature_x, score, keep)
    if _compilable(x, sites, walk):
        from bayes_interest.statespace.compiled import smooth_kernel

        inputs = (x, forward.projected, gain, pull, walk.decay[..., 0])
        smooth_kernel(*(as_array(part) for part in (*inputs, *out)))
    else:
        _smooth_eager(x, walk, forward, (gain, pull), out)
    return _assemble(x, forward, shrink, adjoints, curvature_x, score, keep if full else None)


def filter_and_smooth(
    x: Tensor, sites: ScalarSites, walk: Transition, predictor_cov: bool = True
) -> tuple[Tensor, Smoothed]:
    """`log_evidence` and what `smooth_states` gives, keeping no covariance on the way.

    Without `predictor_cov`, which takes a pass of its own, that may be empty.
    """
    if not _compilable(x, sites, walk):
        forward = filter_states(x, sites, walk)
        return forward.log_evidence, smooth_states(x, sites, walk, forward)
    from bayes_interest.statespace.compiled import filter_smooth_kernel
    from bayes_interest.statespace.lanes import LEAST, filter_smooth_lanes

    kernel = filter_smooth_kernel if len(x) < LEAST else filter_smooth_lanes
    mean, score = x.new_empty(x.shape), x.new_empty(x.shape)  # contiguous
    whole = predictor_cov or kernel is filter_smooth_kernel
    cov_x = x.new_empty(x.shape if whole else (len(x), 0, 0))
    predictor_mean, predictor_var = x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])
    evidence = x.new_empty(x.shape[0])
    inputs = (x, sites.linear, sites.precision, walk.decay[..., 0], walk.variance)
    out = (mean, cov_x, score, predictor_mean, predictor_var, evidence)
    _by_users(kernel, [as_array(part) for part in (*inputs, *out)])
    return evidence, Smoothed(mean, predictor_mean, predictor_var, cov_x, score, None)


def _by_users(kernel: Callable[..., None], arrays: list[np.ndarray]) -> None:
    """Users are shared out among as many threads as torch would use; they do not meet."""
    n_users, n_steps, dim = arrays[0].shape
    n_threads = min(torch.get_num_threads(), n_users * n_steps * dim**2 // THREAD_WORK)
    if n_threads < 2:
        kernel(*arrays)
        return
    edges = np.linspace(0, n_users, n_threads + 1).astype(int)
    with ThreadPoolExecutor(n_threads) as pool:
        parts = [[part[a:b] for part in arrays] for a, b in pairwise(edges)]
        list(pool.map(lambda part: kernel(*part), parts))


def _smooth_eager(
    x: Tensor,
    walk: Transition,
    forward: Filtered,
    gains: tuple[Tensor, Tensor],
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """`adjoint` is -d log_evidence(t+1..) / d m_t, `curvature` its derivative's negative."""
    gain, pull = gains
    adjoints, curvature_x, score, keep = out
    adjoint = torch.zeros_like(x[:, 0])
    curvature = x.new_zeros(x.shape[0], x.shape[2], x.shape[2])
    for t in reversed(range(x.shape[1])):
        xt, along, g = x[:, t], forward.projected[:, t], gain[:, t, None]
        u = torch.bmm(curvature, along[..., None])[..., 0]
        adjoints[:, t], curvature_x[:, t] = adjoint, u
        if len(keep):
            keep[:, t] = curvature
        inner = (along * u).sum(-1, keepdim=True)
        half = 0.5 * (g * g * inner + g) * xt - g * u
        curvature = torch.baddbmm(
            curvature, torch.stack((xt, half), -1), torch.stack((half, xt), -2)
        )
        adjoint = adjoint - xt * (g * (along * adjoint).sum(-1, keepdim=True) + pull[:, t, None])
        score[:, t] = 0.5 * (adjoint**2 - curvature.diagonal(dim1=-2, dim2=-1))
        decay = walk.decay[:, t]
        adjoint, curvature = adjoint * decay, curvature * decay[..., None] ** 2


def _assemble(
    x: Tensor,
    forward: Filtered,
    shrink: Tensor,
    adjoint: Tensor,
    curvature_x: Tensor,
    score: Tensor,
    curvature: Tensor | None,
) -> Smoothed:
    """`E z = m - P adj` and `P^s = P - P curv P`, from filtered moments (no large differences)."""
    mean = forward.mean - (forward.cov @ adjoint[..., None])[..., 0]
    cov_x = shrink[..., None] * forward.projected  # P_t x_t
    curvature_x = shrink[..., None] * curvature_x
    smoothed_cov_x = cov_x - (forward.cov @ curvature_x[..., None])[..., 0]
    predictor_mean = (x * forward.mean).sum(-1) - (cov_x * adjoint).sum(-1)
    predictor_var = shrink * forward.predicted_var - (cov_x * curvature_x).sum(-1)
    cov = None if curvature is None else forward.cov - forward.cov @ curvature @ forward.cov
    return Smoothed(mean, predictor_mean, predictor_var, smoothed_cov_x, score, cov)


def kl_to_prior(sites: ScalarSites, smoothed: Smoothed, log_evidence: Tensor) -> Tensor:
    """`KL(q || p) = E_q[log sites] - log Z`, (user,), since q is prior times sites over Z."""
    second = smoothed.predictor_var + smoothed.predictor_mean**2
    expected = sites.linear * smoothed.predictor_mean - 0.5 * sites.precision * second
    return expected.sum(-1) - log_evidence
