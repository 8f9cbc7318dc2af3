"""The exponential and the normal tail of compiled loops beside the library's."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from bayes_interest.emissions.exponential import LEAST_POWER, exp_of_negative, normal_tail


def test_the_exponential_is_the_librarys() -> None:
    near = np.linspace(-40.0, 0.0, 4_001)
    found = np.array([exp_of_negative(y) for y in near])
    np.testing.assert_allclose(found, np.exp(near), rtol=1e-14)
    far = np.linspace(LEAST_POWER, -40.0, 4_001)
    found = np.array([exp_of_negative(y) for y in far])
    np.testing.assert_allclose(found, np.exp(far), rtol=1e-12)  # their own rounding


def test_far_down_it_is_tiny_and_not_a_number_stays_so() -> None:
    assert exp_of_negative(0.0) == 1.0
    assert 0.0 < exp_of_negative(-1e300) < 1e-300
    assert 0.0 < exp_of_negative(-np.inf) < 1e-300
    assert np.isnan(exp_of_negative(np.nan))


def test_the_normal_tail_is_the_librarys() -> None:
    for first, last, digits in ((0.0, 13.0, 2e-7), (13.0, 37.0, 4e-6)):
        z = np.linspace(first, last, 2_001)
        found = np.array([normal_tail(one) for one in z])
        np.testing.assert_allclose(found, ndtr(-z), rtol=digits)
    assert np.isnan(normal_tail(np.nan))
    assert 0.0 <= normal_tail(1e9) < 1e-300
