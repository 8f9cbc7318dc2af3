"""What a log says of its items, summed up by a compiled CPU loop."""

from __future__ import annotations

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
