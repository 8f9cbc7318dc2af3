"""Users' states given their choices, as compiled CPU loops.

Laplace's approximation first: with r = K^-1 y the dual of the most likely states y, K their prior
covariance, W_t the curvature of each choice and S = (K^-1 + W)^-1, the mean is near `y + u`, where
u = S v with `v_t = -1/2 d tr(S_t W_t) / d y_t` (Lindley 1980).

From there expectation propagation (Minka 2001), all steps of a path at once: each choice's site
`exp(h_t . y_t - y_t . W_t y_t / 2)` is set so that the state at its step has the mean and
covariance that it has with the choice itself in the site's place, found by cubature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.model.compiled_choice import HALVINGS, _mode, _moments, _softmax
from bayes_interest.statespace.compiled_blocks import (
    FAST,
    Array,
    filter_blocks,
    invert_root,
    is_positive,
    root_of,
    smooth_covs,
    smooth_means,
)

SWEEPS, TOLERANCE = 8, 1e-2  # the latter in standard deviations of the state
RESOLVED = 1e-3
"""Sites stay where a state with its choice has less than this of its standard deviation without:
so little the points do not see."""


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
def _reweighed(
    points: Array, base: Array, vectors: Array, rho: Any, own: Any, y: Array, root: Array,
    h: Array, curvature: Array, state: Array, probs: Array, weight: Array,
    mean: Array, cov: Array,
) -> None:  # fmt: skip
    """Fill the moments of e, where `y + root e` is the state with the choice in its site's place.

    With the site e is N(0, 1), which `points` stand for, (point, 1 + D): log weight, then where.
    """
    dim, top = len(y), -np.inf
    for k in range(len(points)):
        for d in range(dim):
            state[d] = y[d]
            for e in range(d + 1):
                state[d] += root[d, e] * points[k, 1 + e]
        weight[k] = points[k, 0] + _softmax(base, vectors, state, rho, own, probs)
        for d in range(dim):
            along = h[d]
            for e in range(dim):
                along -= 0.5 * curvature[d, e] * state[e]
            weight[k] -= along * state[d]
        top = max(top, weight[k])
    total = 0.0
    mean[:], cov[:] = 0.0, 0.0
    for k in range(len(points)):
        weight[k] = np.exp(weight[k] - top)
        total += weight[k]
        for d in range(dim):
            mean[d] += weight[k] * points[k, 1 + d]
            for e in range(d + 1):
                cov[d, e] += weight[k] * points[k, 1 + d] * points[k, 1 + e]
    for d in range(dim):
        mean[d] /= total
        for e in range(d + 1):
            cov[d, e] = cov[d, e] / total - mean[d] * mean[e]
            cov[e, d] = cov[d, e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _told(
    root: Array, mean: Array, cov: Array, y: Array, work: Array, linear: Array, curvature: Array
) -> bool:
    """Fill what `N(y + root mean, root cov root')` has beyond `N(y, root root')` in its natural
    parameters; false where the covariances are too small for that.
    """
    dim = len(y)
    low, back, inverse, moved = work[0], work[1], work[2], work[3, 0]
    root_of(cov, low)
    for d in range(dim):
        if not (low[d, d] > RESOLVED and root[d, d] > 0.0):
            return False
    invert_root(low, back)
    for d in range(dim):
        for e in range(dim):
            inverse[d, e] = 0.0
            for k in range(max(d, e), dim):
                inverse[d, e] += back[k, d] * back[k, e]
    for d in range(dim):
        moved[d] = 0.0
        for e in range(dim):
            moved[d] += inverse[d, e] * mean[e]
    for d in range(dim):
        inverse[d, d] -= 1.0
    invert_root(root, back)
    for d in range(dim):
        for e in range(dim):
            low[d, e] = 0.0
            for k in range(e, dim):
                low[d, e] += inverse[d, k] * back[k, e]
    for d in range(dim):
        linear[d] = 0.0
        for e in range(dim):
            curvature[d, e] = 0.0
            for k in range(d, dim):
                curvature[d, e] += back[k, d] * low[k, e]
            linear[d] += back[e, d] * moved[e] + curvature[d, e] * y[e]
    return True


@njit(cache=True, nogil=True, fastmath=FAST)
def _match(
    points: Array, base: Array, vectors: Array, rho: Array, own: Array, decay: Array,
    variance: Array, h: Array, curvature: Array, gain: Array, filtered: Array, mean: Array,
    cov: Array,
) -> None:  # fmt: skip
    """Set the sites `h` (step, D) and `curvature` (step, D, D), and fill the rest.

    A choice is log-concave, and so are its site and a step towards it: one that would not be, by
    rounding or too few points, is halved.
    """
    n_steps, dim = mean.shape
    root, spread, more = np.empty((dim, dim)), np.empty((dim, dim)), np.empty((dim, dim))
    moved, state, linear = np.empty(dim), np.empty(dim), np.empty(dim)
    work, probs, weight = np.empty((4, dim, dim)), np.empty(vectors.shape[1]), np.empty(len(points))
    for _ in range(SWEEPS):
        far = 0.0
        for t in range(n_steps):
            if rho[t] == 0.0:
                continue
            root_of(cov[t], root)
            _reweighed(
                points, base[t], vectors, rho[t], own[t], mean[t], root, h[t], curvature[t],
                state, probs, weight, moved, spread,
            )  # fmt: skip
            if not _told(root, moved, spread, mean[t], work, linear, more):
                continue
            for d in range(dim):
                far = max(far, abs(moved[d]), abs(spread[d, d] - 1.0))
            size = 1.0
            for _ in range(HALVINGS):
                for d in range(dim):
                    for e in range(dim):
                        spread[d, e] = curvature[t, d, e] + size * more[d, e]
                if is_positive(spread, root):
                    for d in range(dim):
                        h[t, d] += size * linear[d]
                        for e in range(dim):
                            curvature[t, d, e] = spread[d, e]
                    break
                size *= 0.5
        filter_blocks(decay, variance, curvature, gain, filtered)
        smooth_covs(decay, curvature, gain, filtered, cov)
        smooth_means(decay, curvature, gain, filtered, h, mean)
        if far < TOLERANCE:
            break


@njit(cache=True, nogil=True, fastmath=FAST)
def path_kernel(
    base: Array, own: Array, rho: Array, decay: Array, vectors: Array, variance: Array,
    points: Array, mean: Array, cov: Array, filtered: Array,
) -> None:  # fmt: skip
    """One user's states given all choices: mean (step, D) and covariances (step, D, D), and the
    covariances given what came up to the step.

    Logits are `rho (base + y . vectors)` with base (step, item), rho (step,), 0 where nothing was
    chosen, and vectors (D, item). `points` are those of `normal_points`; without any the sites
    stay Laplace's.
    """
    n_steps, dim = mean.shape
    n_items = vectors.shape[1]
    y, dual, probs = np.empty((n_steps, dim)), np.zeros((n_steps, dim)), np.empty(base.shape)
    curvature, gain = np.empty((n_steps, dim, dim)), np.empty((n_steps, dim, dim))
    means, turns = np.empty_like(y), np.empty_like(y)
    pulled, wide = np.empty((dim, n_items)), np.empty(n_items)
    _mode(base, vectors, rho, own, decay, variance, y, dual, probs, curvature, gain, filtered)
    for t in range(n_steps):
        _moments(probs[t], vectors, rho[t], means[t], curvature[t])
    filter_blocks(decay, variance, curvature, gain, filtered)
    smooth_covs(decay, curvature, gain, filtered, cov)
    for t in range(n_steps):
        _spread(vectors, means[t], cov[t], pulled, wide)
        _turns(probs[t], vectors, rho[t], means[t], wide, turns[t])
        for d in range(dim):
            turns[t, d] += rho[t] * (vectors[d, own[t]] - means[t, d])
            for e in range(dim):
                turns[t, d] += curvature[t, d, e] * y[t, e]
    smooth_means(decay, curvature, gain, filtered, turns, mean)
    if len(points) > 0:
        _match(
            points, base, vectors, rho, own, decay, variance, turns, curvature, gain, filtered,
            mean, cov,
        )  # fmt: skip
