"""The averages of `logistic` over whole arrays, as compiled CPU loops.

In float32 the exponential and the normal distribution function are short polynomials, so that the
loops become vector instructions; in float64 they are the library's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.compiled import LEAST_CHANCE, evidence_of
from bayes_interest.emissions.exponential import HART_P, HART_Q

Array = np.ndarray[Any, Any]
FAST = {"reassoc", "contract", "nsz"}
CHUNK = 256
"""Numbers at a time: what the loops keep in between stays in the nearest cache."""
ROOT_HALF = math.sqrt(0.5)
PER_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
DENSITY_SCALE = np.float32(PER_ROOT_TWO_PI)
FARTHEST = np.float32(13.0)
"""Beyond, the density of float32 has no bits left."""
DEEP = -35.0
"""A bound so far below: with the widest scales of the mixture, too, it is short of `FARTHEST`."""
HALF, ONE = np.float32(0.5), np.float32(1.0)
TO_BITS = np.float32(-0.5 / math.log(2.0))
E0, E1, E2, E3, E4, E5, E6, E7 = (
    np.float32(math.log(2.0) ** k / math.factorial(k)) for k in range(8)
)
P0, P1, P2, P3, P4, P5, P6 = (np.float32(value) for value in HART_P)
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7 = (np.float32(value) for value in HART_Q)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def normal_single(z: Array, below: Array, density: Array, bits: Array, power: Array) -> None:
    """Fill the standard normal's distribution function and density; `power` sees `bits`.

    As `exponential.normal_tail`, in float32.
    """
    for i in range(len(z)):
        far = min(abs(z[i]), FARTHEST)
        y = TO_BITS * far * far
        whole = np.int32(y - HALF)  # towards zero, and y is not positive
        f = y - np.float32(whole)
        bits[i] = (whole + np.int32(127)) << np.int32(23)
        density[i] = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * (E6 + f * E7))))))
    for i in range(len(z)):
        far = min(abs(z[i]), FARTHEST)
        e = density[i] * power[i]
        p = P0 + far * (P1 + far * (P2 + far * (P3 + far * (P4 + far * (P5 + far * P6)))))
        q = Q4 + far * (Q5 + far * (Q6 + far * Q7))
        q = Q0 + far * (Q1 + far * (Q2 + far * (Q3 + far * q)))
        tail = e * p / q
        below[i] = tail if z[i] < 0 else ONE - tail
        density[i] = DENSITY_SCALE * e


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def normal_double(z: Array, below: Array, density: Array) -> None:
    """The same of float64 numbers."""
    for i in range(len(z)):
        below[i] = 0.5 * math.erfc(-z[i] * ROOT_HALF)
        density[i] = math.exp(-0.5 * z[i] * z[i]) * PER_ROOT_TWO_PI


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def logistic_averages(
    mean: Array, var: Array, square: Array, weight: Array, area: Array, chance: Array, slope: Array
) -> None:
    """Fill `E[softplus(a)]`, `E[sigmoid(a)]` and `E[sigmoid'(a)]` for `a ~ N(mean, var)`.

    All (number,) of one dtype; `square` and `weight` are those of `logistic.scale_mixture`.
    """
    kind = mean.dtype.type
    zero = kind(0)
    spread, z = np.empty(CHUNK, mean.dtype), np.empty(CHUNK, mean.dtype)
    below, density = np.empty(CHUNK, mean.dtype), np.empty(CHUNK, mean.dtype)
    bits = np.empty(CHUNK, np.int32)
    power = bits.view(np.float32)
    for begin in range(0, len(mean), CHUNK):
        size = min(CHUNK, len(mean) - begin)
        m, v = mean[begin : begin + size], var[begin : begin + size]
        a, c = area[begin : begin + size], chance[begin : begin + size]
        s = slope[begin : begin + size]
        a[:], c[:], s[:] = zero, zero, zero
        for k in range(len(weight)):
            wide, share = kind(square[k]), kind(weight[k])
            for i in range(size):
                spread[i] = np.sqrt(max(v[i], zero) + wide)
                z[i] = m[i] / spread[i]
            if mean.itemsize == 4:
                normal_single(z[:size], below, density, bits, power)
            else:
                normal_double(z[:size], below, density)
            for i in range(size):
                a[i] += share * spread[i] * (z[i] * below[i] + density[i])
                c[i] += share * below[i]
                s[i] += share * density[i] / spread[i]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def expect(
    low: Array,
    high: Array,
    var: Array,
    far: float,
    square: Array,
    weight: Array,
    fit: Array,
    first: Array,
    second: Array,
    below: Array,
) -> None:
    """Fill `-E[softplus(low - a)] - E[softplus(a - high)]`, its two derivatives in the mean, and
    `E[sigmoid(low - a)]`.

    All (number,), `a ~ N(0, var)`; a bound at `far` or beyond is no bound. Where no event has two
    bounds, one average does.
    """
    zero = low.dtype.type(0)
    gap, area = np.empty(len(low), low.dtype), np.empty(len(low), low.dtype)
    chance, slope = np.empty(len(low), low.dtype), np.empty(len(low), low.dtype)
    both = 0
    for i in range(len(low)):
        both += low[i] > -far and high[i] < far
        gap[i] = low[i] if low[i] > -far else -high[i]
    logistic_averages(gap, var, square, weight, area, chance, slope)
    for i in range(len(low)):
        under = low[i] > -far
        fit[i], second[i] = -area[i], -slope[i]
        below[i] = chance[i] if under else zero
        first[i] = chance[i] if under else -chance[i]
    if not both:
        return
    for i in range(len(low)):
        gap[i] = -high[i] if low[i] > -far else gap.dtype.type(-far)
    logistic_averages(gap, var, square, weight, area, chance, slope)
    for i in range(len(low)):
        fit[i] -= area[i]
        first[i] -= chance[i]
        second[i] -= slope[i]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def expect_kernel(
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
    """The same without the last."""
    expect(low, high, var, far, square, weight, fit, first, second, np.empty_like(low))


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def evidence_single(
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
    """`compiled.evidence_kernel` of float32 numbers, many at a time."""
    kind, size = low.dtype.type, CHUNK
    zero, one = kind(0), kind(1)
    lower, upper, under = np.empty(size, kind), np.empty(size, kind), np.empty(size, kind)
    chance, slope, curve = np.empty(size, kind), np.empty(size, kind), np.empty(size, kind)
    per, z = np.empty(size, kind), np.empty(size, kind)
    below, density, bits = np.empty(size, kind), np.empty(size, kind), np.empty(size, np.int32)
    power = bits.view(np.float32)
    for begin in range(0, len(low), size):
        n, both = min(size, len(low) - begin), 0
        for i in range(n):
            flip = low[begin + i] + high[begin + i] > zero  # the nearer tail
            lower[i] = -high[begin + i] if flip else low[begin + i]
            upper[i] = -low[begin + i] if flip else high[begin + i]
            under[i] = one if lower[i] > -far else zero
            both += lower[i] > -far
            chance[i], slope[i], curve[i] = zero, zero, zero
        for k in range(len(weight)):
            wide, share = kind(square[k]), kind(weight[k])
            for i in range(n):
                per[i] = one / np.sqrt(max(var[begin + i], zero) + wide)
                z[i] = upper[i] * per[i]
            normal_single(z[:n], below, density, bits, power)
            for i in range(n):
                chance[i] += share * below[i]
                slope[i] -= share * density[i] * per[i]
                curve[i] -= share * density[i] * per[i] * per[i] * z[i]
            if both == 0:
                continue
            for i in range(n):
                z[i] = lower[i] * per[i]
            normal_single(z[:n], below, density, bits, power)
            for i in range(n):
                chance[i] -= under[i] * share * below[i]
                slope[i] += under[i] * share * density[i] * per[i]
                curve[i] += under[i] * share * density[i] * per[i] * per[i] * z[i]
        for i in range(n):
            at = begin + i
            if upper[i] < DEEP:
                c, s, b = evidence_of(low[at], high[at], var[at], far, square, weight)
                log_chance[at], first[at], second[at] = math.log(c), s, b
                continue
            whole = max(chance[i], kind(LEAST_CHANCE))
            flip = low[at] + high[at] > zero
            s = (-slope[i] if flip else slope[i]) / whole
            log_chance[at], first[at], second[at] = np.log(whole), s, curve[i] / whole - s * s
