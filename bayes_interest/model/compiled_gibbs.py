"""Loops over events and items in Gibbs sampling, compiled for the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.exponential import exp_of_negative
from bayes_interest.statespace.lanes import FAST

Array = np.ndarray[Any, Any]
TINY = 1e-300
CHUNK = 256
"""Events at a time: what the loops keep in between stays in the nearest cache."""
FEW = 400
"""Events between logarithms: twice as many factors up to 2 are still a double."""


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def add_said(
    state: Array,
    rho: Array,
    rest: Array,
    precision: Array,
    item: Array,
    matrix: Array,
    linear: Array,
) -> None:
    """Add `precision s s'` to the matrix and `precision rest s` to the linear part of each event's
    item, `s = rho (state, 1)`; only the lower triangles (item, size, size).

    `state` is (event, state_dim), `rest` the utility less what is not the item's.
    """
    size = linear.shape[1]
    row = np.empty(size)
    for e in range(len(item)):
        if precision[e] == 0.0:
            continue
        for i in range(size - 1):
            row[i] = rho[e] * state[e, i]
        row[size - 1] = rho[e]
        own, said = matrix[item[e]], linear[item[e]]
        for i in range(size):
            weighed = precision[e] * row[i]
            said[i] += weighed * rest[e]
            for j in range(i + 1):
                own[i, j] += weighed * row[j]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def effects_evidence(matrix: Array, linear: Array, scale: Array) -> float:
    """Log of `int N(e; 0, I) exp(h' S e - e' S L S e / 2) de`, the sum over items.

    `matrix` L (item, size, size), `linear` h (item, size), S = diag(scale). NaN where some matrix
    is not positive definite.
    """
    n_items, size = linear.shape
    root, half = np.empty((size, size)), np.empty(size)
    total = 0.0
    for item in range(n_items):
        for i in range(size):
            for j in range(i + 1):
                found = scale[i] * matrix[item, i, j] * scale[j]
                for k in range(j):
                    found -= root[i, k] * root[j, k]
                root[i, j] = math.sqrt(1.0 + found) if i == j else found / root[j, j]
            value = scale[i] * linear[item, i]
            for k in range(i):
                value -= root[i, k] * half[k]
            half[i] = value / root[i, i]
            total += 0.5 * half[i] * half[i] - math.log(root[i, i])
    return total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def draw_utilities(
    x: Array,
    path: Array,
    offset: Array,
    mask: Array,
    lower: Array,
    upper: Array,
    uniform: Array,
    scales: Array,
    log_shares: Array,
    utility: Array,
    precision: Array,
) -> None:
    """Fill utilities and the precisions of their noise, (user, step); both 0 without an event.

    The noise is logistic between the outcome's cuts, its scale one of the mixture's given it.
    `uniform` (2, user, step) are random numbers, `log_shares` of the densities at 0.
    """
    dim, n_scales = x.shape[2], len(scales)
    xs, paths = x.reshape(-1, dim), path.reshape(-1, dim)
    means, there, bottoms, tops = offset.ravel(), mask.ravel(), lower.ravel(), upper.ravel()
    first, second = uniform[0].ravel(), uniform[1].ravel()
    drawn, found = utility.ravel(), precision.ravel()
    mean, sign, noise = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    top, level, place = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK, np.int64)
    below = np.empty((n_scales, CHUNK))  # chances of this scale and of those before it
    per_square = 1.0 / scales**2
    for begin in range(0, len(drawn), CHUNK):
        size = min(CHUNK, len(drawn) - begin)
        for i in range(size):
            e = begin + i
            mean[i] = means[e]
            for d in range(dim):
                mean[i] += xs[e, d] * paths[e, d]
            low, high = bottoms[e] - mean[i], tops[e] - mean[i]
            flip = low + high > 0.0  # measured in the nearer tail
            low, high = (-high, -low) if flip else (low, high)
            sign[i] = -1.0 if flip else 1.0
            least, power = exp_of_negative(-abs(low)), exp_of_negative(-abs(high))
            least = least / (1.0 + least) if low < 0.0 else 1.0 / (1.0 + least)
            most = power / (1.0 + power) if high < 0.0 else 1.0 / (1.0 + power)
            chance = max(least + first[e] * (most - least), TINY)
            noise[i] = math.log(chance / (1.0 - chance))
            top[i] = -np.inf
            place[i] = 0
        for k in range(n_scales):
            for i in range(size):
                below[k, i] = log_shares[k] - 0.5 * per_square[k] * noise[i] * noise[i]
                top[i] = max(top[i], below[k, i])
        level[:] = 0.0
        for k in range(n_scales):
            for i in range(size):
                level[i] += exp_of_negative(below[k, i] - top[i])
                below[k, i] = level[i]
        for k in range(n_scales - 1):
            for i in range(size):
                place[i] += second[begin + i] * level[i] > below[k, i]
        for i in range(size):
            e = begin + i
            drawn[e] = mean[i] + sign[i] * noise[i] if there[e] else 0.0
            found[e] = per_square[place[i]] if there[e] else 0.0


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_chance(base: Array, part: Array, factor: float, lower: Array, upper: Array) -> float:
    """Log probability of all outcomes at predictors `base + factor part`, but for what no
    predictor has a say in: the sum of `log sigmoid` of the distances to both cuts, (event,).
    """
    total = 0.0
    for begin in range(0, len(base), FEW):
        product = 1.0
        for e in range(begin, min(len(base), begin + FEW)):
            predictor = base[e] + factor * part[e]
            over, under = upper[e] - predictor, predictor - lower[e]
            total += min(over, 0.0) + min(under, 0.0)
            product *= 1.0 + exp_of_negative(-abs(over))
            product *= 1.0 + exp_of_negative(-abs(under))
        total -= math.log(product)
    return total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def fill_states(
    path: Array,
    decay: Array,
    mask: Array,
    rho: Array,
    mean: Array,
    begin: int,
    states: Array,
    moved: Array,
) -> None:
    """What items' vectors meet at a block's events, from the event `begin` on, (dim, event).

    `states` is the whole state, `moved` what of it came after the first, each times the event's
    reliability `rho` (user, step).
    """
    n_users, n_steps, dim = path.shape
    e = begin
    for u in range(n_users):
        left = 1.0
        for t in range(n_steps):
            if t:
                left *= decay[u, t]
            if not mask[u, t]:
                continue
            for d in range(dim):
                states[d, e] = rho[u, t] * (path[u, t, d] + mean[d])
                moved[d, e] = rho[u, t] * (path[u, t, d] - left * path[u, 0, d])
            e += 1


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def grow_moved(path: Array, decay: Array, more: Array) -> None:
    """Add `more` (dim,) times what of a path (user, step, dim) came after the first, in place."""
    n_users, n_steps, dim = path.shape
    for u in range(n_users):
        left = 1.0
        for t in range(1, n_steps):
            left *= decay[u, t]
            for d in range(dim):
                path[u, t, d] += more[d] * (path[u, t, d] - left * path[u, 0, d])


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def times_rows(rows: Array, item: Array, states: Array, out: Array) -> None:
    """`out = rows[item] states`, number by number; rows (item, dim), the others (dim, event)."""
    for d in range(states.shape[0]):
        for e in range(states.shape[1]):
            out[d, e] = rows[item[e], d] * states[d, e]
