"""The two recursions of `kalman` as compiled CPU loops.

An event costs a few hundred arithmetic operations: in eager tensor code the overhead of each call
is many times that. Same arithmetic, same results to rounding; `kalman` falls back to tensor code
on other devices and where autograd is asked for. They release the interpreter, so that plain
threads can share out the users; a pool of compiled loops would spin beside the rest of the fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def _filter_step(
    x: Array, h: Any, lam: Any, a: Any, variance: Array, m: Array, p: Array, along: Array
) -> tuple[Any, Any]:
    """Predict and absorb one event in place; returns its predicted mean and variance."""
    dim = len(x)
    one, zero, square = x.dtype.type(1), x.dtype.type(0), a * a
    mu, s = zero, zero
    for i in range(dim):
        m[i] *= a
        mu += x[i] * m[i]
        total = zero
        for j in range(dim):
            total += p[i, j] * x[j]
        along[i] = square * total + variance[i] * x[i]
        s += along[i] * x[i]
    shrink = one / (one + lam * s)
    gain, pull = lam * shrink, (h - lam * mu) * shrink
    for i in range(dim):
        m[i] += along[i] * pull
        scaled = gain * along[i]
        for j in range(dim):
            p[i, j] = square * p[i, j] - scaled * along[j]
        p[i, i] += variance[i]
    return mu, s


@njit(cache=True, nogil=True)
def copy(source: Array, to: Array) -> None:
    """A table into another of its shape; `to[:] = source` takes seconds to compile."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            to[i, j] = source[i, j]


@njit(cache=True, nogil=True, fastmath=_FAST)
def filter_kernel(
    x: Array,
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    start_mean: Array,
    start_cov: Array,
    mean: Array,
    cov: Array,
    projected: Array,
    predicted: Array,
) -> None:
    """Fill mean, cov, projected (user, step, ...) and predicted (2, user, step)."""
    for u in range(x.shape[0]):
        m, p = start_mean[u].copy(), start_cov[u].copy()
        for t in range(x.shape[1]):
            mu, s = _filter_step(
                x[u, t],
                linear[u, t],
                precision[u, t],
                decay[u, t],
                variance[u, t],
                m,
                p,
                projected[u, t],
            )
            for i in range(len(m)):
                mean[u, t, i] = m[i]
            copy(p, cov[u, t])
            predicted[0, u, t] = mu
            predicted[1, u, t] = s


@njit(cache=True, nogil=True, fastmath=_FAST)
def filter_to_end_kernel(
    x: Array,
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    mean: Array,
    cov: Array,
) -> None:
    """Move mean (user, dim) and cov (user, dim, dim) past all steps, in place."""
    along = np.empty(x.shape[2], x.dtype)
    for u in range(x.shape[0]):
        for t in range(x.shape[1]):
            h, lam = linear[u, t], precision[u, t]
            _filter_step(x[u, t], h, lam, decay[u, t], variance[u, t], mean[u], cov[u], along)


@njit(cache=True, nogil=True, fastmath=_FAST)
def filter_smooth_kernel(
    x: Array,
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    mean: Array,
    cov_x: Array,
    score: Array,
    predictor_mean: Array,
    predictor_var: Array,
    evidence: Array,
) -> None:
    """Both passes, user by user from `N(0, I)`: a user's covariances never leave the cache.

    Fill mean, cov_x, score (user, step, dim), predictor_mean, predictor_var (user, step) and
    evidence (user,).
    """
    n_users, n_steps, dim = x.shape
    kind = x.dtype.type
    half_of, one, zero = kind(0.5), kind(1), kind(0)
    covs = np.empty((n_steps, dim, dim), x.dtype)
    means, alongs = np.empty((n_steps, dim), x.dtype), np.empty((n_steps, dim), x.dtype)
    seen = np.empty((2, n_steps), x.dtype)
    adjoint, push_x = np.empty(dim, x.dtype), np.empty(dim, x.dtype)
    curve, half = np.empty((dim, dim), x.dtype), np.empty(dim, x.dtype)
    m, p = np.empty(dim, x.dtype), np.empty((dim, dim), x.dtype)
    for u in range(n_users):
        m[:], p[:], adjoint[:], curve[:] = zero, zero, zero, zero
        for i in range(dim):
            p[i, i] = one
        total = 0.0
        for t in range(n_steps):
            h, lam = linear[u, t], precision[u, t]
            mu, s = _filter_step(x[u, t], h, lam, decay[u, t], variance[u, t], m, p, alongs[t])
            for i in range(dim):
                means[t, i] = m[i]
            copy(p, covs[t])
            seen[0, t], seen[1, t] = mu, s
            spread = one + lam * s
            total += (h * mu + half_of * (h * h * s - lam * mu * mu)) / spread
            total -= half_of * np.log(spread)
        evidence[u] = total
        for t in range(n_steps - 1, -1, -1):
            mu, s = seen[0, t], seen[1, t]
            shrink = one / (one + precision[u, t] * s)
            g, w = precision[u, t] * shrink, (linear[u, t] - precision[u, t] * mu) * shrink
            inner, push, at = zero, zero, zero
            for i in range(dim):
                along = zero
                for j in range(dim):
                    along += curve[i, j] * alongs[t, j]
                half[i] = along
                inner += along * alongs[t, i]
                push += alongs[t, i] * adjoint[i]
                at += x[u, t, i] * means[t, i]
            predictor_mean[u, t] = at - shrink * push
            predictor_var[u, t] = shrink * (s - shrink * inner)
            for i in range(dim):
                moved, narrowed = zero, zero
                for j in range(dim):
                    moved += covs[t, i, j] * adjoint[j]
                    narrowed += covs[t, i, j] * half[j]
                mean[u, t, i] = means[t, i] - moved
                cov_x[u, t, i] = shrink * (alongs[t, i] - narrowed)
            c, a = half_of * (g * g * inner + g), decay[u, t]
            for i in range(dim):
                push_x[i] = c * x[u, t, i] - g * half[i]
                adjoint[i] -= x[u, t, i] * (g * push + w)
            square = a * a
            for i in range(dim):
                straight = curve[i, i] + kind(2) * x[u, t, i] * push_x[i]
                score[u, t, i] = half_of * (adjoint[i] * adjoint[i] - straight)
                for j in range(dim):
                    grown = curve[i, j] + x[u, t, i] * push_x[j] + push_x[i] * x[u, t, j]
                    curve[i, j] = square * grown
            for i in range(dim):
                adjoint[i] *= a


@njit(cache=True, nogil=True, fastmath=_FAST)
def smooth_kernel(
    x: Array,
    projected: Array,
    gain: Array,
    pull: Array,
    decay: Array,
    adjoints: Array,
    curvature_x: Array,
    score: Array,
    curvatures: Array,
) -> None:
    """Fill adjoints, curvature_x, score (user, step, dim); curvatures too unless it is empty."""
    n_users, n_steps, dim = x.shape
    keep = curvatures.shape[0] > 0
    for u in range(n_users):
        adjoint = np.zeros(dim, x.dtype)
        curve = np.zeros((dim, dim), x.dtype)
        half = np.empty(dim, x.dtype)
        for t in range(n_steps - 1, -1, -1):
            g, w = gain[u, t], pull[u, t]
            inner, push = x.dtype.type(0), x.dtype.type(0)
            for i in range(dim):
                total = x.dtype.type(0)
                for j in range(dim):
                    total += curve[i, j] * projected[u, t, j]
                half[i] = total
                inner += total * projected[u, t, i]
                push += projected[u, t, i] * adjoint[i]
                adjoints[u, t, i] = adjoint[i]
                curvature_x[u, t, i] = total
            if keep:
                for i in range(dim):
                    for j in range(dim):
                        curvatures[u, t, i, j] = curve[i, j]
            c = (g * g * inner + g) / 2
            for i in range(dim):
                half[i] = c * x[u, t, i] - g * half[i]
            for i in range(dim):
                for j in range(dim):
                    curve[i, j] += x[u, t, i] * half[j] + half[i] * x[u, t, j]
                adjoint[i] -= x[u, t, i] * (g * push + w)
            a = decay[u, t]
            for i in range(dim):
                score[u, t, i] = (adjoint[i] * adjoint[i] - curve[i, i]) / 2
            for i in range(dim):
                adjoint[i] *= a
                for j in range(dim):
                    curve[i, j] *= a * a
