"""The evidence of an ordered outcome and its derivatives, as a compiled CPU loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
ROOT_HALF = math.sqrt(0.5)
ROOT_TWO_PI = math.sqrt(2.0 * math.pi)
LEAST_CHANCE = 1e-38
"""That of float32; the tail beyond it counts as flat."""


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

    All (event,), `a ~ N(0, var)`, logistic noise; a bound at `far` or beyond is no bound.
    """
    for i in range(len(var)):
        chance, slope, curvature = evidence_of(low[i], high[i], var[i], far, square, weight)
        log_chance[i], first[i], second[i] = math.log(chance), slope, curvature


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def evidence_of(
    low: float, high: float, var: float, far: float, square: Array, weight: Array
) -> tuple[float, float, float]:
    """The chance itself of one event, and the derivatives of its logarithm.

    It is measured in the nearer tail: no difference of near ones.
    """
    flip = low + high > 0.0
    lower, upper = (-high, -low) if flip else (low, high)
    chance, slope, curvature = 0.0, 0.0, 0.0
    for k in range(len(weight)):
        spread = math.sqrt(max(var, 0.0) + square[k])
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
    chance = max(chance, LEAST_CHANCE)
    slope = (-slope if flip else slope) / chance
    return chance, slope, curvature / chance - slope * slope
