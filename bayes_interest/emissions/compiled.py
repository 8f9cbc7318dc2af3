"""The averages of `logistic` for an ordered outcome, as one compiled CPU loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
ROOT_HALF = math.sqrt(0.5)
ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def ordered_kernel(
    low: Array,
    high: Array,
    var: Array,
    far: float,
    square: Array,
    weight: Array,
    fit: Array,
    first: Array,
    second: Array,
) -> None:
    """Fill `-E[softplus(low - a)] - E[softplus(a - high)]` and its two derivatives in the mean.

    All (event,), `a ~ N(0, var)`; a bound at `far` or beyond is no bound.
    """
    for i in range(len(var)):
        fit[i] = first[i] = second[i] = 0.0
        for side in range(2):
            m = low[i] if side == 0 else -high[i]
            if m <= -far:
                continue
            area, chance, slope = 0.0, 0.0, 0.0
            for k in range(len(weight)):
                spread = math.sqrt(max(var[i], 0.0) + square[k])
                z = m / spread
                below = 0.5 * math.erfc(-z * ROOT_HALF)
                density = math.exp(-0.5 * z * z) / ROOT_TWO_PI
                area += weight[k] * spread * (z * below + density)
                chance += weight[k] * below
                slope += weight[k] * density / spread
            fit[i] -= area
            first[i] += chance if side == 0 else -chance
            second[i] -= slope
