"""Sums over events and items in Gibbs sampling, compiled for the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from bayes_interest.statespace.lanes import FAST

Array = np.ndarray[Any, Any]


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
