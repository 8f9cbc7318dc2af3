"""How much variance each item may add to a predictor: a few numbers that bound a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

from bayes_interest.statespace.kalman import as_array

SAFETY = 1.0 + 1e-4  # for the rounding of float32


def item_widths(vectors: Tensor, item_cov: Tensor) -> np.ndarray:
    """Of vectors (item, D) and covariances (item, D + 1, D + 1) `[[R, c], [c', o]]`: (item, 6).

    `|x|^2`; least and greatest number on the diagonal of R; the Frobenius norm of R beside the
    diagonal; `|c|`; and o. For a state z with second moment S and mean m the item adds the variance
    `<R, S> + 2 c . m + o`, which differs by at most (Cauchy and Schwarz)
    `|R - diag R| |S - diag S| + 2 |c| |m|` from a number between the least and the greatest times
    the trace of S, plus o.
    """
    x, cov = as_array(vectors), as_array(by_rows(item_cov))
    out = np.empty((len(cov), 6))
    out[:, 0] = np.einsum("id,id->i", x, x, dtype=np.float64)
    _widths(cov, out)
    out[:, 1] /= SAFETY
    out[:, 2:5] *= SAFETY
    return out


def by_rows(symmetric: Tensor) -> Tensor:
    """The same symmetric matrices, contiguous; what LAPACK gives lies in columns."""
    return symmetric if symmetric.is_contiguous() else symmetric.mT


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _widths(cov: Any, out: Any) -> None:
    dim = cov.shape[1] - 1
    for i in range(len(cov)):
        least, greatest, apart, cross = np.inf, 0.0, 0.0, 0.0
        for row in range(dim):
            line, own = cov[i, row], float(cov[i, row, row])
            total = line.dtype.type(0)
            for column in range(row):
                total += line[column] * line[column]
            apart += 2.0 * total
            least, greatest = min(least, own), max(greatest, own)
            cross += float(line[dim]) ** 2
        out[i, 1], out[i, 2] = max(least, 0.0), greatest
        out[i, 3], out[i, 4] = np.sqrt(apart), np.sqrt(cross)
        out[i, 5] = max(cov[i, dim, dim], 0.0)
