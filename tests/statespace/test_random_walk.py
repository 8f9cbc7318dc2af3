"""Growth of the walk over a gap: limits, and two gaps in a row."""

from __future__ import annotations

import math

import pytest
import torch

from bayes_interest.statespace.random_walk import elapsed_growth, transition

GAPS = torch.tensor([0.0, 1e-6, 0.3, 1.0, 17.0, 365.25, 3650.0], dtype=torch.float64)


def test_pure_walk_grows_with_time() -> None:
    decay, growth = elapsed_growth(GAPS, None)
    assert torch.equal(decay, torch.ones_like(GAPS))
    assert torch.equal(growth, GAPS)


def test_a_long_half_life_is_a_pure_walk() -> None:
    decay, growth = elapsed_growth(GAPS, 1e12)
    torch.testing.assert_close(decay, torch.ones_like(GAPS), rtol=1e-8, atol=0.0)
    torch.testing.assert_close(growth, GAPS, rtol=1e-8, atol=0.0)


def test_half_life_means_what_it_says() -> None:
    decay, _ = elapsed_growth(torch.tensor([17.0, 34.0], dtype=torch.float64), 17.0)
    torch.testing.assert_close(decay, torch.tensor([0.5, 0.25], dtype=torch.float64))


def test_growth_settles_at_the_stationary_variance() -> None:
    kappa = math.log(2.0) / 13.0
    decay, growth = elapsed_growth(torch.tensor([1e6], dtype=torch.float64), 13.0)
    assert decay.item() == 0.0
    assert growth.item() == pytest.approx(1.0 / (2.0 * kappa), rel=1e-14)


def test_tiny_gaps_keep_their_digits_in_float32() -> None:
    gap = torch.tensor([1e-7], dtype=torch.float32)
    _, growth = elapsed_growth(gap, 30.0)
    assert growth.item() == pytest.approx(1e-7, rel=1e-5)


@pytest.mark.parametrize("half_life_days", [None, 5.0, 300.0])
def test_two_gaps_compose_to_one(half_life_days: float | None) -> None:
    first, second = GAPS[:, None], GAPS[None, :]
    drift = torch.tensor([0.1, 0.7], dtype=torch.float64)
    one = transition(first + second, drift, half_life_days)
    early = transition(first.expand(7, 7), drift, half_life_days)
    late = transition(second.expand(7, 7), drift, half_life_days)
    torch.testing.assert_close(one.decay, late.decay * early.decay, rtol=1e-12, atol=0.0)
    composed = late.decay**2 * early.variance + late.variance
    torch.testing.assert_close(one.variance, composed, rtol=1e-12, atol=0.0)


def test_variance_is_drift_scale_squared_times_growth() -> None:
    walk = transition(GAPS[None, :], torch.tensor([0.1, 0.7, 1.3], dtype=torch.float64))
    assert walk.decay.shape == (1, 7, 1)
    assert walk.variance.shape == (1, 7, 3)
    assert walk.variance[0, 4].tolist() == pytest.approx([17 * 0.01, 17 * 0.49, 17 * 1.69])
