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


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def evidence_kernel(
    low: Array,
    high: Array,
    var: Array,
    far: float,
    square: Array,
    weight: Array,
    log_chance: Array,
    first: Array,
    second: Array,
) -> None:
    """Fill `log P(low < a + noise < high)` and its two derivatives in the mean of `a`.

    All (event,), `a ~ N(0, var)`, logistic noise; a bound at `far` or beyond is no bound. The
    chance is measured in the nearer tail: no difference of near ones.
    """
    least = 1e-38  # that of float32; the tail beyond it counts as flat
    for i in range(len(var)):
        flip = low[i] + high[i] > 0.0
        lower, upper = (-high[i], -low[i]) if flip else (low[i], high[i])
        chance, slope, curvature = 0.0, 0.0, 0.0
        for k in range(len(weight)):
            spread = math.sqrt(max(var[i], 0.0) + square[k])
            below, above = 0.0, 1.0
            if lower > -far:
                z = lower / spread
                density = weight[k] * math.exp(-0.5 * z * z) / (ROOT_TWO_PI * spread)
                below = 0.5 * math.erfc(-z * ROOT_HALF)
                slope += density
                curvature += density * z / spread
            if upper < far:
                z = upper / spread
                density = weight[k] * math.exp(-0.5 * z * z) / (ROOT_TWO_PI * spread)
                above = 0.5 * math.erfc(-z * ROOT_HALF)
                slope -= density
                curvature -= density * z / spread
            chance += weight[k] * (above - below)
        chance = max(chance, least)
        slope = (-slope if flip else slope) / chance
        log_chance[i] = math.log(chance)
        first[i] = slope
        second[i] = curvature / chance - slope * slope
