"""Products of users and items one pair at a time, as compiled CPU loops.

How a number is rounded does not depend on which other users and items are asked about.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def dot(a: Array, b: Array) -> Any:
    """`a . b`."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True, fastmath=_FAST)
def form(x: Array, cov: Array, line: Array) -> Any:
    """`x . cov x`; four rows at once, so that `line` is read and written less often."""
    dim = len(x)
    four = dim - dim % 4
    line[:] = 0
    for i in range(0, four, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        first, second, third, fourth = cov[i], cov[i + 1], cov[i + 2], cov[i + 3]
        for j in range(dim):
            line[j] += (a * first[j] + b * second[j]) + (c * third[j] + d * fourth[j])
    for i in range(four, dim):
        for j in range(dim):
            line[j] += x[i] * cov[i, j]
    return dot(line, x)


@njit(cache=True, nogil=True)
def dots(rows: Array, columns: Array, some: Array) -> Array:
    """Of every row and some of the columns (column, dim), (row, some)."""
    out = np.empty((len(rows), len(some)), rows.dtype)
    for r in range(len(rows)):
        for at in range(len(some)):
            out[r, at] = dot(rows[r], columns[some[at]])
    return out


@njit(cache=True, nogil=True)
def forms(cov: Array, vectors: Array, some: Array) -> Array:
    """The same of symmetric matrices (row, dim, dim) as quadratic forms of vectors, (row, some)."""
    out = np.empty((len(cov), len(some)), cov.dtype)
    line = np.empty(vectors.shape[1], cov.dtype)
    for r in range(len(cov)):
        for at in range(len(some)):
            out[r, at] = form(vectors[some[at]], cov[r], line)
    return out
