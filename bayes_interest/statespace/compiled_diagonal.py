"""The recursions of `diagonal` as compiled CPU loops: same arithmetic, same results to rounding.

An event is some twenty operations per dimension; in eager tensor code every step of a padded block
costs two dozen calls, however few users are left in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def filter_diagonal_kernel(
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    start_mean: Array,
    start_var: Array,
    mean: Array,
    var: Array,
    predicted_mean: Array,
    predicted_var: Array,
) -> None:
    """Fill the last four, (user, step, dim); `decay` is (user, step)."""
    n_users, n_steps, dim = linear.shape
    one = linear.dtype.type(1)
    for u in range(n_users):
        m, p = start_mean[u].copy(), start_var[u].copy()
        for t in range(n_steps):
            a = decay[u, t]
            for i in range(dim):
                before = m[i] * a
                spread = p[i] * a * a + variance[u, t, i]
                predicted_mean[u, t, i], predicted_var[u, t, i] = before, spread
                shrink = one / (one + precision[u, t, i] * spread)
                m[i] = before + spread * (linear[u, t, i] - precision[u, t, i] * before) * shrink
                p[i] = spread * shrink
                mean[u, t, i], var[u, t, i] = m[i], p[i]


@njit(cache=True, nogil=True, fastmath=_FAST)
def smooth_diagonal_kernel(
    linear: Array,
    precision: Array,
    decay: Array,
    mean: Array,
    var: Array,
    predicted_mean: Array,
    predicted_var: Array,
    smoothed_mean: Array,
    smoothed_var: Array,
    score: Array,
) -> None:
    """Fill the last three, (user, step, dim), from the forward pass."""
    n_users, n_steps, dim = linear.shape
    one, half = linear.dtype.type(1), linear.dtype.type(0.5)
    adjoint, curve = np.empty(dim, linear.dtype), np.empty(dim, linear.dtype)
    for u in range(n_users):
        adjoint[:], curve[:] = 0, 0
        for t in range(n_steps - 1, -1, -1):
            a = decay[u, t]
            for i in range(dim):
                spread = var[u, t, i]
                smoothed_mean[u, t, i] = mean[u, t, i] - spread * adjoint[i]
                smoothed_var[u, t, i] = spread * (one - spread * curve[i])
                lam = precision[u, t, i]
                shrink = one / (one + lam * predicted_var[u, t, i])
                pull = (linear[u, t, i] - lam * predicted_mean[u, t, i]) * shrink
                push = adjoint[i] * shrink - pull
                bend = curve[i] * shrink * shrink + lam * shrink
                score[u, t, i] = half * (push * push - bend)
                adjoint[i], curve[i] = push * a, bend * a * a
