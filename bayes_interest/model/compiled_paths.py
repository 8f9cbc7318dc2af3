"""Users' paths beside their choices, as compiled CPU loops: log probability, slopes, and draws."""

from __future__ import annotations

import numpy as np
from numba import njit

from bayes_interest.model.compiled_choice import _mode, _moments, _softmax
from bayes_interest.statespace.compiled_blocks import (
    FAST,
    Array,
    filter_blocks,
    root_of,
    smooth_means,
)


@njit(cache=True, nogil=True, fastmath=FAST)
def _longest(start: Array) -> int:
    most = 0
    for user in range(len(start) - 1):
        most = max(most, start[user + 1] - start[user])
    return most


@njit(cache=True, nogil=True, fastmath=FAST)
def _base(offsets: Array, weight: Array, table: Array, out: Array) -> None:
    """Fill the logits of all items at a state of zero: `table` is (covariate, item)."""
    for i in range(len(out)):
        out[i] = offsets[i]
    for k in range(len(weight)):
        for i in range(len(out)):
            out[i] += weight[k] * table[k, i]


@njit(cache=True, nogil=True, fastmath=FAST)
def paths_kernel(
    start: Array, own: Array, kind: Array, decay: Array, table: Array,
    vectors: Array, offsets: Array, weight: Array, rho: Array, scale: Array, step: Array,
    value: Array,
    d_vectors: Array, d_offsets: Array, d_weight: Array, d_rho: Array, d_scale: Array,
    d_step: Array,
) -> None:  # fmt: skip
    """Log probability of all choices at many settings: fill `value` (setting,) and `d_scale`,
    `d_step` (setting, event, D), and add to the other slopes.

    Events of user u are `start[u]` to `start[u + 1]`: their own item, kind and decay (event,) and
    covariates of all items, `table` (event, covariate, item). By setting: vectors (D, item),
    offsets (item,), weight (covariate,), rho (kind,), scale and step (event, D).
    """
    dim, n_items = vectors.shape[1:]
    most = _longest(start)
    y, back = np.empty((most, dim)), np.empty((most, dim))
    base, slope = np.empty(n_items), np.empty(n_items)
    for s in range(len(vectors)):
        x, total = vectors[s], 0.0
        for user in range(len(start) - 1):
            begin, end = start[user], start[user + 1]
            for t in range(end - begin):
                event = begin + t
                for d in range(dim):
                    y[t, d] = scale[s, event, d] * step[s, event, d]
                    if t > 0:
                        y[t, d] += decay[event] * y[t - 1, d]
                r = rho[s, kind[event]]
                _base(offsets[s], weight[s], table[event], base)
                total += _softmax(base, x, y[t], r, own[event], slope)
                for i in range(n_items):
                    slope[i] = -slope[i]
                slope[own[event]] += 1.0
                of_rho = 0.0
                for i in range(n_items):
                    of_rho += slope[i] * base[i]
                    d_offsets[s, i] += r * slope[i]
                for d in range(dim):
                    along = 0.0
                    for i in range(n_items):
                        along += slope[i] * x[d, i]
                        d_vectors[s, d, i] += r * slope[i] * y[t, d]
                    of_rho += along * y[t, d]
                    back[t, d] = r * along
                d_rho[s, kind[event]] += of_rho
                for k in range(table.shape[1]):
                    along = 0.0
                    for i in range(n_items):
                        along += slope[i] * table[event, k, i]
                    d_weight[s, k] += r * along
            for d in range(dim):
                pull = 0.0
                for t in range(end - begin - 1, -1, -1):
                    event = begin + t
                    pull += back[t, d]
                    d_scale[s, event, d] = pull * step[s, event, d]
                    d_step[s, event, d] = pull * scale[s, event, d]
                    pull *= decay[event]
        value[s] = total


@njit(cache=True, nogil=True, fastmath=FAST)
def draw_steps_kernel(
    start: Array, own: Array, kind: Array, decay: Array, table: Array,
    vectors: Array, offsets: Array, weight: Array, rho: Array, scale: Array,
    noise: Array, step: Array, precision: Array,
) -> None:  # fmt: skip
    """Turn `step` (setting, event, D), standard normals, into those of a path drawn from Laplace's
    approximation of its posterior; fill the `precision` of each given all other steps.

    With p from the prior K, eta ~ N(0, W) and S = (K^-1 + W)^-1, `p - S (W p - eta)` is N(0, S).
    `noise`: standard normals, for eta.
    """
    dim, n_items = vectors.shape[1:]
    most = _longest(start)
    base, probs = np.empty((most, n_items)), np.empty((most, n_items))
    y, away, linear = np.empty((most, dim)), np.empty((most, dim)), np.empty((most, dim))
    curvature, gain = np.empty((most, dim, dim)), np.empty((most, dim, dim))
    cov, root, mean = np.empty((most, dim, dim)), np.empty((dim, dim)), np.empty(dim)
    dual = np.empty((most, dim))
    path, variance, scales = np.empty((most, dim)), np.empty((most, dim)), np.empty(most)
    for s in range(len(vectors)):
        x = vectors[s]
        for user in range(len(start) - 1):
            begin, n = start[user], start[user + 1] - start[user]
            for t in range(n):
                event = begin + t
                scales[t] = rho[s, kind[event]]
                _base(offsets[s], weight[s], table[event], base[t])
                for d in range(dim):
                    variance[t, d] = scale[s, event, d] ** 2
                    if t == 0:
                        variance[t, d] -= decay[event] ** 2  # `filter_blocks` adds the start's own
            a, q, items = decay[begin : begin + n], variance[:n], own[begin : begin + n]
            dual[:n] = 0.0
            _mode(
                base[:n], x, scales[:n], items, a, q, y[:n], dual[:n], probs[:n], curvature[:n],
                gain[:n], cov[:n],
            )  # fmt: skip
            for t in range(n):
                _moments(probs[t], x, scales[t], mean, curvature[t])
            filter_blocks(a, q, curvature[:n], gain[:n], cov[:n])
            for t in range(n):
                event = begin + t
                root_of(curvature[t], root)
                for d in range(dim):
                    path[t, d] = scale[s, event, d] * step[s, event, d]
                    if t > 0:
                        path[t, d] += decay[event] * path[t - 1, d]
                for d in range(dim):
                    total = 0.0
                    for e in range(dim):
                        total += curvature[t, d, e] * path[t, e] - root[d, e] * noise[s, event, e]
                    linear[t, d] = total
            smooth_means(a, curvature[:n], gain[:n], cov[:n], linear[:n], away[:n])
            for t in range(n):
                event = begin + t
                for d in range(dim):
                    y[t, d] += path[t, d] - away[t, d]
                    if scale[s, event, d] > 0.0:
                        moved = y[t, d]
                        if t > 0:
                            moved -= decay[event] * y[t - 1, d]
                        step[s, event, d] = moved / scale[s, event, d]
            for d in range(dim):
                told = 0.0
                for t in range(n - 1, -1, -1):
                    event = begin + t
                    told += curvature[t, d, d]
                    precision[s, event, d] = 1.0 + told * scale[s, event, d] ** 2
                    told *= decay[event] ** 2
