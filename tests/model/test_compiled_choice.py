"""The exponential of the softmax loops beside the library's."""

from __future__ import annotations

import numpy as np

from bayes_interest.model.compiled_choice import LEAST_POWER, exp_of_negative


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
