"""Loops over events and items in Gibbs sampling, compiled for the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from bayes_interest.statespace.lanes import FAST

Array = np.ndarray[Any, Any]
TINY = 1e-300
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
    n_users, n_steps, dim = x.shape
    n_scales = len(scales)
    chances = np.empty(n_scales)
    for u in range(n_users):
        for t in range(n_steps):
            if not mask[u, t]:
                utility[u, t] = precision[u, t] = 0.0
                continue
            predictor = offset[u, t]
            for d in range(dim):
                predictor += x[u, t, d] * path[u, t, d]
            low, high = lower[u, t] - predictor, upper[u, t] - predictor
            flip = low + high > 0.0  # measured in the nearer tail
            if flip:
                low, high = -high, -low
            below, above = 1.0 / (1.0 + math.exp(-low)), 1.0 / (1.0 + math.exp(-high))
            chance = max(below + uniform[0, u, t] * (above - below), TINY)
            noise = math.log(chance / (1.0 - chance))
            top = -np.inf
            for k in range(n_scales):
                chances[k] = log_shares[k] - 0.5 * (noise / scales[k]) ** 2
                top = max(top, chances[k])
            total = 0.0
            for k in range(n_scales):
                total += math.exp(chances[k] - top)
                chances[k] = total
            k = 0
            while k < n_scales - 1 and uniform[1, u, t] * total > chances[k]:
                k += 1
            utility[u, t] = predictor + (-noise if flip else noise)
            precision[u, t] = 1.0 / scales[k] ** 2


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_chance(base: Array, part: Array, factor: float, lower: Array, upper: Array) -> float:
    """Log probability of all outcomes at predictors `base + factor part`, but for what no
    predictor has a say in: the sum of `log sigmoid` of the distances to both cuts, (event,).
    """
    total, product = 0.0, 1.0
    for e in range(len(base)):
        predictor = base[e] + factor * part[e]
        for distance in (upper[e] - predictor, predictor - lower[e]):
            if distance < np.inf:
                total += min(distance, 0.0)
                product *= 1.0 + math.exp(-abs(distance))
        if e % FEW == 0:
            total -= math.log(product)
            product = 1.0
    return total - math.log(product)
