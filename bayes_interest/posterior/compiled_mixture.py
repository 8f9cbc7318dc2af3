"""Quantiles of mixtures of Gaussians as a compiled CPU loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.averages import FAST, normal_double, normal_single

Array = np.ndarray[Any, Any]
STEPS = 60
"""At most: a step at least halves what the last one did, or the bracket."""
NEAR = 1e-5
"""Share of the least spread that the last step may move by."""
TINY = 1e-30


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def mixture_quantiles(mean: Array, sd: Array, level: float, z_level: float, out: Array) -> None:
    """Fill the quantiles (number,) of equal mixtures of Gaussians (component, number).

    `z_level` is the standard normal's. Newton's steps; one that leaves the bracket, or is no half
    of the last one, goes to the middle (Press et al. 2007, section 9.4).
    """
    size, kind = len(mean), mean.dtype.type
    m, s, z = np.empty(size, kind), np.empty(size, kind), np.empty(size, kind)
    below, density = np.empty(size, kind), np.empty(size, kind)
    bits = np.empty(size, np.int32)
    power = bits.view(np.float32)
    for i in range(mean.shape[1]):
        low, high, least, point = np.inf, -np.inf, np.inf, 0.0
        for j in range(size):
            m[j], s[j] = mean[j, i], sd[j, i]
            edge = m[j] + z_level * s[j]
            low, high, least = min(low, edge), max(high, edge), min(least, s[j])
            point += edge / size
        moved = high - low
        for _ in range(STEPS):
            for j in range(size):
                z[j] = (kind(point) - m[j]) / s[j]
            if mean.itemsize == 4:
                normal_single(z, below, density, bits, power)
            else:
                normal_double(z, below, density)
            excess, slope = -level, 0.0
            for j in range(size):
                excess += below[j] / size
                slope += density[j] / s[j] / size
            if excess < 0.0:
                low = point
            else:
                high = point
            there = point - excess / max(slope, TINY)
            if there < low or there > high or 2.0 * abs(there - point) > moved:
                there = 0.5 * (low + high)
            moved, point = abs(there - point), there
            if moved <= NEAR * least:
                break
        out[i] = point
