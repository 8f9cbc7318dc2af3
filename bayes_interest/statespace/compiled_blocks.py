"""Filter and smoother where an event says something of all state dimensions, as compiled CPU loops.

An event's site is `exp(h . z - z . W z / 2)` with a curvature W (D, D). As in `kalman` the backward
pass carries the adjoint, so prior covariances K are never inverted and zero gaps are ordinary. One
user at a time; the walk starts at `N(0, I)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True)
def _invert(matrix: Array, inverse: Array) -> None:
    """By elimination with pivots, in place of `matrix`."""
    dim = len(matrix)
    inverse[:] = 0.0
    for i in range(dim):
        inverse[i, i] = 1.0
    for i in range(dim):
        top = i
        for j in range(i + 1, dim):
            if abs(matrix[j, i]) > abs(matrix[top, i]):
                top = j
        if top != i:
            for k in range(dim):
                matrix[i, k], matrix[top, k] = matrix[top, k], matrix[i, k]
                inverse[i, k], inverse[top, k] = inverse[top, k], inverse[i, k]
        pivot = matrix[i, i]
        for k in range(dim):
            matrix[i, k] /= pivot
            inverse[i, k] /= pivot
        for j in range(dim):
            if j != i:
                factor = matrix[j, i]
                for k in range(dim):
                    matrix[j, k] -= factor * matrix[i, k]
                    inverse[j, k] -= factor * inverse[i, k]


@njit(cache=True, nogil=True, fastmath=FAST)
def root_of(cov: Array, root: Array) -> None:
    """Cholesky's lower root of a covariance that may be singular."""
    dim = len(cov)
    root[:] = 0.0
    for i in range(dim):
        for j in range(i + 1):
            rest = cov[i, j]
            for k in range(j):
                rest -= root[i, k] * root[j, k]
            if i == j:
                root[i, i] = np.sqrt(max(rest, 0.0))
            elif root[j, j] > 0.0:
                root[i, j] = rest / root[j, j]


@njit(cache=True, nogil=True, fastmath=FAST)
def invert_root(root: Array, inverse: Array) -> None:
    """Of a lower triangle without a zero on its diagonal."""
    dim = len(root)
    inverse[:] = 0.0
    for i in range(dim):
        inverse[i, i] = 1.0 / root[i, i]
        for j in range(i):
            total = 0.0
            for k in range(j, i):
                total -= root[i, k] * inverse[k, j]
            inverse[i, j] = total / root[i, i]


@njit(cache=True, nogil=True, fastmath=FAST)
def filter_blocks(decay: Array, variance: Array, curvature: Array, gain: Array, cov: Array) -> None:
    """Fill `gain` G = (1 + P- W)^-1 and `cov` P = G P- of each step."""
    n_steps, dim = variance.shape
    before, work = np.eye(dim), np.empty((dim, dim))
    for t in range(n_steps):
        for d in range(dim):
            for e in range(dim):
                before[d, e] *= decay[t] * decay[t]
            before[d, d] += variance[t, d]
        for d in range(dim):
            for e in range(dim):
                work[d, e] = 1.0 if d == e else 0.0
                for k in range(dim):
                    work[d, e] += before[d, k] * curvature[t, k, e]
        _invert(work, gain[t])
        for d in range(dim):
            for e in range(dim):
                cov[t, d, e] = 0.0
                for k in range(dim):
                    cov[t, d, e] += gain[t, d, k] * before[k, e]
        for d in range(dim):
            for e in range(dim):
                before[d, e] = 0.5 * (cov[t, d, e] + cov[t, e, d])


@njit(cache=True, nogil=True, fastmath=FAST)
def smooth_means(
    decay: Array, curvature: Array, gain: Array, cov: Array, linear: Array, out: Array
) -> None:
    """`(K^-1 + W)^-1 linear`, (step, D), after `filter_blocks`."""
    n_steps, dim = linear.shape
    mean, pull = np.zeros(dim), np.empty((n_steps, dim))
    for t in range(n_steps):
        for d in range(dim):
            mean[d] *= decay[t]
        for d in range(dim):
            total = linear[t, d]
            for e in range(dim):
                total -= curvature[t, d, e] * mean[e]
            pull[t, d] = total
        for d in range(dim):
            for e in range(dim):
                mean[d] += cov[t, d, e] * pull[t, e]
            out[t, d] = mean[d]
    adjoint, rest = np.zeros(dim), np.empty(dim)
    for t in range(n_steps - 1, -1, -1):
        for d in range(dim):
            rest[d] = pull[t, d] - adjoint[d]
            for e in range(dim):
                out[t, d] -= cov[t, d, e] * adjoint[e]
        for d in range(dim):
            adjoint[d] = 0.0
            for e in range(dim):
                adjoint[d] -= decay[t] * gain[t, e, d] * rest[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def smooth_covs(decay: Array, curvature: Array, gain: Array, cov: Array, out: Array) -> None:
    """Fill the smoothed covariances (step, D, D), after `filter_blocks`."""
    n_steps, dim = out.shape[:2]
    after, work = np.zeros((dim, dim)), np.empty((dim, dim))
    for t in range(n_steps - 1, -1, -1):
        for d in range(dim):
            for e in range(dim):
                work[d, e] = 0.0
                for k in range(dim):
                    work[d, e] += after[d, k] * cov[t, k, e]
        for d in range(dim):
            for e in range(dim):
                out[t, d, e] = cov[t, d, e]
                for k in range(dim):
                    out[t, d, e] -= cov[t, d, k] * work[k, e]
        for d in range(dim):
            for e in range(dim):
                work[d, e] = curvature[t, d, e]
                for k in range(dim):
                    work[d, e] += after[d, k] * gain[t, k, e]
        for d in range(dim):
            for e in range(dim):
                after[d, e] = 0.0
                for k in range(dim):
                    after[d, e] += gain[t, k, d] * work[k, e]
        for d in range(dim):
            for e in range(d + 1):
                both = 0.5 * decay[t] * decay[t] * (after[d, e] + after[e, d])
                after[d, e] = both
                after[e, d] = both


@njit(cache=True, nogil=True, fastmath=FAST)
def told_forward(decay: Array, dual: Array, out: Array) -> None:
    """`L' dual`: what all later steps say together, (step, D)."""
    n_steps, dim = dual.shape
    for d in range(dim):
        total = 0.0
        for t in range(n_steps - 1, -1, -1):
            total += dual[t, d]
            out[t, d] = total
            total *= decay[t]


@njit(cache=True, nogil=True, fastmath=FAST)
def states_of(decay: Array, variance: Array, dual: Array, work: Array, out: Array) -> None:
    """`K dual`, (step, D)."""
    told_forward(decay, dual, work)
    n_steps, dim = dual.shape
    for d in range(dim):
        state = 0.0
        for t in range(n_steps):
            grown = variance[t, d] + (decay[0] ** 2 if t == 0 else 0.0)
            state = decay[t] * state + grown * work[t, d]
            out[t, d] = state
