"""The two recursions of `kalman` as compiled CPU loops.

An event costs a few hundred arithmetic operations: in eager tensor code the overhead of each call
is many times that. Same arithmetic, same results to rounding; `kalman` falls back to tensor code
on other devices and where autograd is asked for. One thread: a pool's idle workers would spin
beside the rest of the fit, and the loops are a small part of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}


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
    n_users, n_steps, dim = x.shape
    for u in range(n_users):
        m = start_mean[u].copy()
        p = start_cov[u].copy()
        along = np.empty(dim, x.dtype)
        for t in range(n_steps):
            a = decay[u, t]
            mu, s = x.dtype.type(0), x.dtype.type(0)
            for i in range(dim):
                m[i] *= a
                for j in range(dim):
                    p[i, j] *= a * a
                p[i, i] += variance[u, t, i]
                mu += x[u, t, i] * m[i]
            for i in range(dim):
                total = x.dtype.type(0)
                for j in range(dim):
                    total += p[i, j] * x[u, t, j]
                along[i] = total
                s += total * x[u, t, i]
            shrink = 1 / (1 + precision[u, t] * s)
            gain = precision[u, t] * shrink
            pull = (linear[u, t] - precision[u, t] * mu) * shrink
            for i in range(dim):
                m[i] += along[i] * pull
                scaled = gain * along[i]
                for j in range(dim):
                    p[i, j] -= scaled * along[j]
                    cov[u, t, i, j] = p[i, j]
                mean[u, t, i] = m[i]
                projected[u, t, i] = along[i]
            predicted[0, u, t] = mu
            predicted[1, u, t] = s


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
