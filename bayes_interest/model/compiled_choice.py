"""Laplace's approximation of users' choices as compiled CPU loops: value and slope of the evidence.

With r = K^-1 y the dual of the most likely states y, K their prior covariance, W_t the curvature
of each choice and S = (K^-1 + W)^-1,

    log Z = sum_t log p(choice_t) - y.r / 2 - log|1 + K W| / 2.

Its slope holds, through u = S v with `v_t = -1/2 d tr(S_t W_t) / d y_t`, that y moves with the
globals (Rasmussen & Williams 2006, 5.5.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.statespace.compiled import copy
from bayes_interest.statespace.compiled_blocks import (
    FAST,
    Array,
    filter_blocks,
    smooth_covs,
    smooth_means,
    states_of,
    told_forward,
)

NEWTON_STEPS, TOLERANCE, HALVINGS, SLACK = 30, 1e-3, 10, 1e-10


@njit(cache=True, nogil=True, fastmath=FAST)
def _softmax(base: Array, vectors: Array, y: Array, rho: Any, own: Any, probs: Array) -> Any:
    """Fill the probabilities of all items; returns the logarithm of the chosen one's."""
    dim, n_items = vectors.shape
    for i in range(n_items):
        probs[i] = base[i]
    for d in range(dim):
        for i in range(n_items):
            probs[i] += vectors[d, i] * y[d]
    top = probs[0]
    for i in range(n_items):
        top = max(top, probs[i])
    norm, chosen = 0.0, rho * (probs[own] - top)
    for i in range(n_items):
        probs[i] = np.exp(rho * (probs[i] - top))
        norm += probs[i]
    for i in range(n_items):
        probs[i] /= norm
    return chosen - np.log(norm)


@njit(cache=True, nogil=True, fastmath=FAST)
def _moments(probs: Array, vectors: Array, rho: Any, mean: Array, curvature: Array) -> None:
    """Fill the mean vector (D,) under the softmax and the curvature (D, D) of its logarithm."""
    dim, n_items = vectors.shape
    for d in range(dim):
        total = 0.0
        for i in range(n_items):
            total += probs[i] * vectors[d, i]
        mean[d] = total
    for d in range(dim):
        for e in range(d + 1):
            total = 0.0
            for i in range(n_items):
                total += probs[i] * (vectors[d, i] - mean[d]) * (vectors[e, i] - mean[e])
            curvature[d, e] = rho * rho * total
            curvature[e, d] = curvature[d, e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _look(base: Array, vectors: Array, y: Array, rho: Array, own: Array, probs: Array) -> float:
    """Log probability of all choices at states y (step, D)."""
    total = 0.0
    for t in range(len(y)):
        total += _softmax(base[t], vectors, y[t], rho[t], own[t], probs[t])
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for t in range(a.shape[0]):
        for d in range(a.shape[1]):
            total += a[t, d] * b[t, d]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _mode(
    base: Array, vectors: Array, rho: Array, own: Array, decay: Array, variance: Array,
    y: Array, dual: Array, probs: Array, curvature: Array, gain: Array, cov: Array,
) -> float:  # fmt: skip
    """Newton's method from the `dual` given; fills y, dual, probs; returns sum log p - y.r / 2.

    A step that leads down is halved.
    """
    n_steps, dim = y.shape
    linear, there, turned = np.empty_like(y), np.empty_like(y), np.empty_like(y)
    mean, moved, back = np.empty(dim), np.empty_like(y), np.empty_like(y)
    states_of(decay, variance, dual, there, y)
    best = _look(base, vectors, y, rho, own, probs) - 0.5 * _dot(y, dual)
    for _ in range(NEWTON_STEPS):
        for t in range(n_steps):
            _moments(probs[t], vectors, rho[t], mean, curvature[t])
            for d in range(dim):
                linear[t, d] = rho[t] * (vectors[d, own[t]] - mean[d])
                for e in range(dim):
                    linear[t, d] += curvature[t, d, e] * y[t, e]
        filter_blocks(decay, variance, curvature, gain, cov)
        smooth_means(decay, curvature, gain, cov, linear, there)
        far = 0.0
        for t in range(n_steps):
            for d in range(dim):
                total = linear[t, d]
                for e in range(dim):
                    total -= curvature[t, d, e] * there[t, e]
                turned[t, d] = total
                far = max(far, abs(there[t, d] - y[t, d]))
        size = 1.0
        for _ in range(HALVINGS):
            for t in range(n_steps):
                for d in range(dim):
                    moved[t, d] = y[t, d] + size * (there[t, d] - y[t, d])
                    back[t, d] = dual[t, d] + size * (turned[t, d] - dual[t, d])
            value = _look(base, vectors, moved, rho, own, probs) - 0.5 * _dot(moved, back)
            if value >= best - SLACK * abs(best):
                break
            size *= 0.5
        best = value
        copy(moved, y)
        copy(back, dual)
        if size * far < TOLERANCE:
            break
    return best


@njit(cache=True, nogil=True, fastmath=FAST)
def _spread(vectors: Array, mean: Array, cov: Array, pulled: Array, wide: Array) -> None:
    """Fill `S (x - e)` (D, item) and `(x - e) S (x - e)` (item,)."""
    dim, n_items = vectors.shape
    wide[:] = 0.0
    for d in range(dim):
        for i in range(n_items):
            pulled[d, i] = 0.0
        for e in range(dim):
            for i in range(n_items):
                pulled[d, i] += cov[d, e] * (vectors[e, i] - mean[e])
        for i in range(n_items):
            wide[i] += pulled[d, i] * (vectors[d, i] - mean[d])


@njit(cache=True, nogil=True, fastmath=FAST)
def _turns(probs: Array, vectors: Array, rho: Any, mean: Array, wide: Array, out: Array) -> None:
    """`-1/2 d tr(S W) / d y`: the third moment of the vectors under the softmax."""
    dim, n_items = vectors.shape
    for d in range(dim):
        total = 0.0
        for i in range(n_items):
            total += probs[i] * wide[i] * (vectors[d, i] - mean[d])
        out[d] = -0.5 * rho**3 * total


@njit(cache=True, nogil=True, fastmath=FAST)
def _slopes(
    base: Array, table: Array, vectors: Array, rho: Any, own: Any, kind: Any, y: Array, u: Array,
    probs: Array, mean: Array, pulled: Array, wide: Array, slope: Array,
    d_vectors: Array, d_offsets: Array, d_weight: Array, d_rho: Array,
) -> None:  # fmt: skip
    """Add one choice's slopes; see `evidence_kernel`. `slope` is room to work in."""
    dim, n_items = vectors.shape
    spread, own_u = 0.0, 0.0
    for i in range(n_items):
        spread += probs[i] * wide[i]
        slope[i] = 0.0
    for d in range(dim):
        own_u += (vectors[d, own] - mean[d]) * u[d]
        for i in range(n_items):
            slope[i] += (vectors[d, i] - mean[d]) * u[d]
    for i in range(n_items):
        slope[i] = -probs[i] * (1.0 + 0.5 * rho * rho * (wide[i] - spread) + rho * slope[i])
    slope[own] += 1.0
    total = own_u - rho * spread
    for i in range(n_items):
        total += slope[i] * base[i]
        d_offsets[i] += rho * slope[i]
    for d in range(dim):
        for i in range(n_items):
            total += slope[i] * vectors[d, i] * y[d]
            rest = rho * pulled[d, i] + u[d]
            d_vectors[d, i] += rho * (slope[i] * y[d] - probs[i] * rest)
        d_vectors[d, own] += rho * u[d]
    d_rho[kind] += total
    for k in range(table.shape[0]):
        total = 0.0
        for i in range(n_items):
            total += slope[i] * table[k, i]
        d_weight[k] += rho * total


@njit(cache=True, nogil=True, fastmath=FAST)
def path_kernel(
    base: Array, own: Array, rho: Array, decay: Array, vectors: Array, variance: Array,
    mean: Array, cov: Array, filtered: Array,
) -> None:  # fmt: skip
    """One user's states given all choices: mean (step, D) and covariances (step, D, D), and the
    covariances given what came up to the step.

    Logits are `rho (base + y . vectors)` with base (step, item), rho (step,), 0 where nothing was
    chosen, and vectors (D, item). The mean is the mode and `u`, the first correction by third
    derivatives (Lindley 1980).
    """
    n_steps, dim = mean.shape
    n_items = vectors.shape[1]
    y, dual, probs = np.empty((n_steps, dim)), np.zeros((n_steps, dim)), np.empty(base.shape)
    curvature, gain = np.empty((n_steps, dim, dim)), np.empty((n_steps, dim, dim))
    means, turns, told = np.empty_like(y), np.empty_like(y), np.empty_like(y)
    pulled, wide = np.empty((dim, n_items)), np.empty(n_items)
    _mode(base, vectors, rho, own, decay, variance, y, dual, probs, curvature, gain, filtered)
    for t in range(n_steps):
        _moments(probs[t], vectors, rho[t], means[t], curvature[t])
    filter_blocks(decay, variance, curvature, gain, filtered)
    smooth_covs(decay, curvature, gain, filtered, cov, told)
    for t in range(n_steps):
        _spread(vectors, means[t], cov[t], pulled, wide)
        _turns(probs[t], vectors, rho[t], means[t], wide, turns[t])
    smooth_means(decay, curvature, gain, filtered, turns, mean)
    for t in range(n_steps):
        for d in range(dim):
            mean[t, d] += y[t, d]


@njit(cache=True, nogil=True, fastmath=FAST)
def evidence_kernel(
    start: Array, own: Array, kind: Array, decay: Array, table: Array,
    vectors: Array, offsets: Array, weight: Array, rho: Array, variance: Array,
    dual: Array, value: Array,
    d_vectors: Array, d_offsets: Array, d_weight: Array, d_rho: Array, d_variance: Array,
) -> None:  # fmt: skip
    """Of all users at many settings: fill `value` (setting, user) and add to the slopes.

    Events of user u are `start[u]` to `start[u + 1]`: their own item, kind and decay (event,) and
    covariates of all items, `table` (event, covariate, item). By setting: vectors (D, item),
    offsets (item,), weight (covariate,), rho (kind,), variance (event, D). `dual` (setting, event,
    D) is where Newton's method starts, zero or of a setting nearby, and where it ends.
    """
    dim, n_items = vectors.shape[1:]
    most = 0
    for user in range(len(start) - 1):
        most = max(most, start[user + 1] - start[user])
    n_weights = table.shape[1]
    base, probs = np.empty((most, n_items)), np.empty((most, n_items))
    y, u, turns = np.empty((most, dim)), np.empty((most, dim)), np.empty((most, dim))
    means, told = np.empty((most, dim)), np.empty((most, dim))
    curvature, gain = np.empty((most, dim, dim)), np.empty((most, dim, dim))
    cov, smoothed = np.empty((most, dim, dim)), np.empty((most, dim, dim))
    ahead, ahead_u, scales = np.empty((most, dim)), np.empty((most, dim)), np.empty(most)
    pulled, wide, slope = np.empty((dim, n_items)), np.empty(n_items), np.empty(n_items)
    for s in range(len(vectors)):
        x = vectors[s]
        for user in range(len(start) - 1):
            begin, end = start[user], start[user + 1]
            n = end - begin
            for t in range(n):
                scales[t] = rho[s, kind[begin + t]]
                for i in range(n_items):
                    base[t, i] = offsets[s, i]
                for k in range(n_weights):
                    for i in range(n_items):
                        base[t, i] += weight[s, k] * table[begin + t, k, i]
            a, q, r, items = (
                decay[begin:end],
                variance[s, begin:end],
                dual[s, begin:end],
                own[begin:end],
            )
            found = _mode(
                base[:n], x, scales[:n], items, a, q, y[:n], r, probs[:n], curvature[:n],
                gain[:n], cov[:n],
            )  # fmt: skip
            for t in range(n):
                _moments(probs[t], x, scales[t], means[t], curvature[t])
            log_det = filter_blocks(a, q, curvature[:n], gain[:n], cov[:n])
            value[s, user] = found - 0.5 * log_det
            smooth_covs(a, curvature[:n], gain[:n], cov[:n], smoothed[:n], told[:n])
            for t in range(n):
                _spread(x, means[t], smoothed[t], pulled, wide)
                _turns(probs[t], x, scales[t], means[t], wide, turns[t])
            smooth_means(a, curvature[:n], gain[:n], cov[:n], turns[:n], u[:n])
            for t in range(n):
                _spread(x, means[t], smoothed[t], pulled, wide)  # again: kept for one step only
                _slopes(
                    base[t], table[begin + t], x, scales[t], items[t], kind[begin + t], y[t], u[t],
                    probs[t], means[t], pulled, wide, slope,
                    d_vectors[s], d_offsets[s], d_weight[s], d_rho[s],
                )  # fmt: skip
                for d in range(dim):  # now what u leaves: K^-1 u = v - W u
                    for e in range(dim):
                        turns[t, d] -= curvature[t, d, e] * u[t, e]
            told_forward(a, r, ahead[:n])
            told_forward(a, turns[:n], ahead_u[:n])
            for t in range(n):
                for d in range(dim):
                    both = ahead[t, d] * (0.5 * ahead[t, d] + ahead_u[t, d])
                    d_variance[s, begin + t, d] = both - 0.5 * told[t, d]
