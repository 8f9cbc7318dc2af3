"""Users' states given their choices, as compiled CPU loops.

Laplace's approximation first: with r = K^-1 y the dual of the most likely states y, K their prior
covariance, W_t the curvature of each choice and S = (K^-1 + W)^-1, the mean is near `y + u`, where
u = S v with `v_t = -1/2 d tr(S_t W_t) / d y_t` (Lindley 1980).

From there expectation propagation (Minka 2001), all steps of a path at once: each choice's site
`exp(h_t . y_t - y_t . W_t y_t / 2)` is set so that the state at its step has the mean and
covariance that it has with the choice itself in the site's place. They are found by cubature, along
the few directions of which the site says most; along the others the site stays.
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
    root_of,
    smooth_covs,
    smooth_means,
)

SWEEPS, TOLERANCE = 8, 1e-2  # the latter in standard deviations of the state
EFFICIENCY = 0.1
"""Where weighted points are worth less than this share of them, for a choice too sharp for so few,
the site takes a part of what it says."""
NARROWEST = 1e-2
"""What is left of a variance, at least, in one sweep: less the points do not see."""


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
def _leading(
    root: Array, curvature: Array, slope: Array, lead: Array, back: Array, linear: Array,
    told: Array,
) -> None:  # fmt: skip
    """Fill the directions of a state `y + root e`, e being N(0, I) given the site, of which its
    site says most, towards what it says: `lead` (D, lead), in the state's coordinates.

    Along each the site is `exp(linear e - told e^2 / 2)`, `slope` (D,) being that of its logarithm
    at y; `back` (D, lead) is `root^-T` times what `root` turns into `lead`.
    """
    dim, n_lead = lead.shape
    half, turned, inverse = np.empty((dim, dim)), np.empty((dim, dim)), np.empty((dim, dim))
    for d in range(dim):
        for e in range(dim):
            half[d, e] = 0.0
            for k in range(e, dim):
                half[d, e] += curvature[d, k] * root[k, e]
    for d in range(dim):
        for e in range(d + 1):
            total = 0.0
            for k in range(d, dim):
                total += root[k, d] * half[k, e]
            turned[d, e] = total
            turned[e, d] = total
    own, way = np.linalg.eigh(turned)
    invert_root(root, inverse)
    for k in range(n_lead):
        at = dim - 1 - k
        told[k], linear[k] = own[at], 0.0
        for d in range(dim):
            lead[d, k], back[d, k] = 0.0, 0.0
            for e in range(d + 1):
                lead[d, k] += root[d, e] * way[e, at]
            for e in range(d, dim):
                back[d, k] += inverse[e, d] * way[e, at]
            linear[k] += lead[d, k] * slope[d]
        if linear[k] < 0.0:
            linear[k] = -linear[k]
            for d in range(dim):
                lead[d, k], back[d, k] = -lead[d, k], -back[d, k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _raised(
    base: Array, vectors: Array, rho: Any, own: Any, y: Array, cov: Array, lead: Array,
    along: Array, level: Array, probs: Array, pulled: Array,
) -> None:  # fmt: skip
    """Fill how far items reach `along` each leading direction (lead, item), and their `level`
    (item,): logits at y for which `exp(rho level)` is averaged over all other directions, but for
    terms of higher order in the variance that they add.
    """
    dim, n_items = vectors.shape
    mean = np.empty(dim)
    _softmax(base, vectors, y, rho, own, probs)
    for d in range(dim):
        mean[d] = 0.0
        for i in range(n_items):
            mean[d] += probs[i] * vectors[d, i]
    _spread(vectors, mean, cov, pulled, level)
    for k in range(len(along)):
        centre = 0.0
        for i in range(n_items):
            along[k, i] = 0.0
        for d in range(dim):
            centre += lead[d, k] * mean[d]
            for i in range(n_items):
                along[k, i] += lead[d, k] * vectors[d, i]
        for i in range(n_items):
            level[i] -= (along[k, i] - centre) ** 2
    for i in range(n_items):
        level[i] = base[i] + np.log1p(0.5 * rho**2 * max(level[i], 0.0)) / rho
    for d in range(dim):
        for i in range(n_items):
            level[i] += vectors[d, i] * y[d]


@njit(cache=True, nogil=True, fastmath=FAST)
def _reweighed(
    points: Array, level: Array, along: Array, rho: Any, own: Any, linear: Array, told: Array,
    probs: Array, ratio: Array, weight: Array, mean: Array, cov: Array,
) -> None:  # fmt: skip
    """Fill the moments of the leading directions with the choice in its site's place.

    With the site they are N(0, I), which `points` stand for, (point, 1 + lead): log weight, then
    where. The site is `exp(linear . e - e . told e / 2)`. Of the log ratio of choice and site a
    half is taken, or a half of that, until the efficiency of the points is `EFFICIENCY`: that of
    weights w whose mean is 1 is `1 / E[w^2]` (Kong 1992).
    """
    n_lead, top = len(along), -np.inf
    for k in range(len(points)):
        where = points[k, 1:]
        ratio[k] = _softmax(level, along, where, rho, own, probs)
        for d in range(n_lead):
            ratio[k] -= (linear[d] - 0.5 * told[d] * where[d]) * where[d]
        top = max(top, ratio[k])
    part, total = 1.0, 0.0
    for _ in range(HALVINGS):
        total, squares = 0.0, 0.0
        for k in range(len(points)):
            weight[k] = np.exp(part * (ratio[k] - top))
            squares += np.exp(points[k, 0]) * weight[k] ** 2
            weight[k] *= np.exp(points[k, 0])
            total += weight[k]
        if total**2 > EFFICIENCY * squares:
            break
        part *= 0.5
    mean[:], cov[:] = 0.0, 0.0
    for k in range(len(points)):
        for d in range(n_lead):
            mean[d] += weight[k] * points[k, 1 + d]
            for e in range(d + 1):
                cov[d, e] += weight[k] * points[k, 1 + d] * points[k, 1 + e]
    for d in range(n_lead):
        mean[d] /= total
        for e in range(d + 1):
            cov[d, e] = cov[d, e] / total - mean[d] * mean[e]
            cov[e, d] = cov[d, e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _site(mean: Array, cov: Array, told: Array, pull: Array, precision: Array) -> None:
    """Fill the site, `pull` and `precision` beside those there are, that turns N(0, I) with the
    precision `told` in it into `N(mean, cov)`.

    A choice is log-concave, and so is its site: what rounding or the points say against that is
    left out.
    """
    dim = len(mean)
    own, way = np.linalg.eigh(cov)
    for d in range(dim):
        for e in range(dim):
            total = 0.0
            for k in range(dim):
                total += way[d, k] * way[e, k] / max(own[k], NARROWEST)
            precision[d, e] = total
        precision[d, d] += told[d] - 1.0
    own, way = np.linalg.eigh(precision)
    for d in range(dim):
        for e in range(dim):
            total = 0.0
            for k in range(dim):
                total += way[d, k] * way[e, k] * max(own[k], 0.0)
            precision[d, e] = total
        precision[d, d] -= told[d]
    for d in range(dim):
        pull[d] = mean[d]
        for e in range(dim):
            pull[d] += precision[d, e] * mean[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _add(back: Array, pull: Array, precision: Array, y: Array, h: Array, curvature: Array) -> None:
    """Of a site around `y` along leading directions to one of the state."""
    dim, n_lead = back.shape
    for d in range(dim):
        for k in range(n_lead):
            h[d] += back[d, k] * pull[k]
        for e in range(dim):
            more = 0.0
            for k in range(n_lead):
                for m in range(n_lead):
                    more += back[d, k] * precision[k, m] * back[e, m]
            curvature[d, e] += more
            h[d] += more * y[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _match(
    points: Array, base: Array, vectors: Array, rho: Array, own: Array, decay: Array,
    variance: Array, h: Array, curvature: Array, gain: Array, filtered: Array, mean: Array,
    cov: Array,
) -> None:  # fmt: skip
    """Set the sites `h` (step, D) and `curvature` (step, D, D), and fill the rest."""
    (n_steps, dim), n_items, n_lead = mean.shape, vectors.shape[1], points.shape[1] - 1
    pulled, along = np.empty((dim, n_items)), np.empty((n_lead, n_items))
    root = np.empty((dim, dim))
    lead, back = np.empty((dim, n_lead)), np.empty((dim, n_lead))
    ratio, weight = np.empty(len(points)), np.empty(len(points))
    level, probs, slope = np.empty(n_items), np.empty(n_items), np.empty(dim)
    linear, told, pull = np.empty(n_lead), np.empty(n_lead), np.empty(n_lead)
    moved, spread = np.empty(n_lead), np.empty((n_lead, n_lead))
    precision = np.empty((n_lead, n_lead))
    for _ in range(SWEEPS):
        far = 0.0
        for t in range(n_steps):
            root_of(cov[t], root)
            if not (rho[t] != 0.0 and np.diag(root).min() > 0.0):
                continue
            for d in range(dim):
                slope[d] = h[t, d]
                for e in range(dim):
                    slope[d] -= curvature[t, d, e] * mean[t, e]
            _leading(root, curvature[t], slope, lead, back, linear, told)
            _raised(
                base[t], vectors, rho[t], own[t], mean[t], cov[t], lead, along, level, probs, pulled
            )
            _reweighed(
                points, level, along, rho[t], own[t], linear, told, probs, ratio, weight, moved,
                spread,
            )  # fmt: skip
            _site(moved, spread, told, pull, precision)
            for k in range(n_lead):
                far = max(far, abs(moved[k]), abs(spread[k, k] - 1.0))
            _add(back, pull, precision, mean[t], h[t], curvature[t])
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
    chosen, and vectors (D, item). `points` (point, 1 + lead) are those of `normal_points` for at
    most D directions; without any the sites stay Laplace's.
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
