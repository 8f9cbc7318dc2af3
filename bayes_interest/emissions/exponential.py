"""Exponential and normal tail in polynomials, which compiled loops do in vectors."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "nsz"}
PER_LOG_TWO, LEAST_POWER = 1.0 / math.log(2.0), -708.0
E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12 = (
    math.log(2.0) ** k / math.factorial(k) for k in range(13)
)
# Phi(-z) = exp(-z^2 / 2) P(z) / Q(z): Hart et al. (1968), algorithm 5666.
P0, P1, P2, P3, P4, P5, P6 = HART_P = (
    220.206867912376,
    221.213596169931,
    112.079291497871,
    33.912866078383,
    6.37396220353165,
    0.700383064443688,
    0.0352624965998911,
)
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7 = HART_Q = (
    440.413735824752,
    793.826512519948,
    637.333633678831,
    296.564248779674,
    86.7807322029461,
    16.064177579207,
    1.75566716318264,
    0.0883883476483184,
)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def exp_of_negative(y: float) -> float:
    """`exp(y)` of 0 and less: a polynomial; rounding as of the argument.

    The least it gives is `exp(LEAST_POWER)`.
    """
    z = max(y, LEAST_POWER) * PER_LOG_TWO
    whole = np.int32(z - 0.5)  # towards zero, and z is not positive
    f = z - np.float64(whole)
    p = E6 + f * (E7 + f * (E8 + f * (E9 + f * (E10 + f * (E11 + f * E12)))))
    p = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * p)))))
    return p * np.int64((np.int64(whole) + np.int64(1023)) << np.int64(52)).view(np.float64)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def normal_tail(z: float) -> float:
    """`Phi(-z)` of 0 and more; of its digits six are right up to 13, and five up to 37."""
    p = P0 + z * (P1 + z * (P2 + z * (P3 + z * (P4 + z * (P5 + z * P6)))))
    q = Q4 + z * (Q5 + z * (Q6 + z * Q7))
    q = Q0 + z * (Q1 + z * (Q2 + z * (Q3 + z * q)))
    return exp_of_negative(-0.5 * z * z) * p / q
