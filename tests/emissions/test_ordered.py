"""Ordered logistic and Bernoulli: against Pyro, against autograd, and far out."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bayes_interest.emissions.ordered import (
    OrderedEmission,
    bernoulli_emission,
    increasing_cuts,
)

CUTS = torch.tensor([-2.1, -0.3, 0.2, 1.7], dtype=torch.float64)
LEVELS = len(CUTS) + 1


def grid() -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances and levels, all (mean, var, level)."""
    mean = torch.linspace(-4.0, 4.0, 7, dtype=torch.float64)
    var = torch.tensor([0.0, 0.3, 3.0], dtype=torch.float64)
    level = torch.arange(LEVELS)
    table = torch.meshgrid(mean, var, level.double(), indexing="ij")
    return table[0].clone(), table[1].clone(), table[2].clone()


def test_probabilities_sum_to_one_over_levels() -> None:
    mean, _, level = grid()
    total = OrderedEmission(CUTS).log_prob(mean, level).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-13, atol=0.0)


def test_predictive_probabilities_sum_to_one_over_levels() -> None:
    total = OrderedEmission(CUTS).predictive(*grid()).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-13, atol=0.0)


def test_log_prob_is_pyros_ordered_logistic() -> None:
    mean, _, level = grid()
    wanted = dist.OrderedLogistic(mean, CUTS).log_prob(level)
    got = OrderedEmission(CUTS).log_prob(mean, level)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_two_levels_are_bernoulli() -> None:
    mean = torch.linspace(-9.0, 9.0, 11, dtype=torch.float64)
    for outcome in (0.0, 1.0):
        there = dist.Bernoulli(logits=mean).log_prob(torch.full_like(mean, outcome))
        here = bernoulli_emission(mean).log_prob(mean, torch.full_like(mean, outcome))
        torch.testing.assert_close(here, there, rtol=1e-13, atol=1e-13)


def test_log_prob_takes_one_more_axis_of_nodes() -> None:
    mean, _, level = grid()
    nodes = torch.randn(*mean.shape, 13, dtype=torch.float64)
    emission = OrderedEmission(CUTS)
    got = emission.log_prob(nodes, level)
    assert got.shape == nodes.shape
    torch.testing.assert_close(got[..., 5], emission.log_prob(nodes[..., 5], level))


@pytest.mark.parametrize("emission", [OrderedEmission(CUTS), bernoulli_emission(CUTS)])
def test_derivatives_are_autograds_of_the_expected_log_prob(emission: OrderedEmission) -> None:
    mean, var, level = grid()
    level = level.clamp_max(len(emission.cuts))
    # At var = 0 the square root has no derivative: check there the plain derivatives below.
    mean, var, level = (table[:, 1:].clone() for table in (mean, var, level))
    mean.requires_grad_()
    expected = emission.expected_log_prob(mean, var, level).sum()
    (first,) = torch.autograd.grad(expected, mean, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), mean)
    slope = emission.expected_derivatives(mean.detach(), var, level)
    torch.testing.assert_close(slope.first, first.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(slope.second, second, rtol=1e-11, atol=1e-12)
    assert (slope.second < 0.0).all()


# Price's identity holds for the integral, and for 20 nodes as far as they resolve it: the error
# falls with the variance (measured 3e-16 at 0.1, 2e-9 at 1, 6e-6 at 3).
@pytest.mark.parametrize(("var", "tolerance"), [(0.1, 1e-13), (1.0, 1e-8), (3.0, 3e-5)])
def test_second_derivative_is_twice_the_slope_in_the_variance(var: float, tolerance: float) -> None:
    emission = OrderedEmission(CUTS)
    mean, table, level = grid()
    spread = torch.full_like(table, var).requires_grad_()
    (slope,) = torch.autograd.grad(emission.expected_log_prob(mean, spread, level).sum(), spread)
    second = emission.expected_derivatives(mean, spread.detach(), level).second
    torch.testing.assert_close(2.0 * slope, second, rtol=0.0, atol=tolerance)


def test_without_variance_the_derivatives_are_the_plain_ones() -> None:
    emission = OrderedEmission(CUTS)
    mean, var, level = grid()
    mean.requires_grad_()
    (first,) = torch.autograd.grad(emission.log_prob(mean, level).sum(), mean, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), mean)
    slope = emission.expected_derivatives(mean.detach(), torch.zeros_like(var), level)
    torch.testing.assert_close(slope.first, first.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(slope.second, second, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [-500.0, 500.0])
@pytest.mark.parametrize("var", [0.0, 1.0, 1e4])
def test_far_out_everything_is_finite(dtype: torch.dtype, mean: float, var: float) -> None:
    cuts = CUTS.to(dtype).requires_grad_()
    emission = OrderedEmission(cuts)
    outcome = torch.arange(LEVELS, dtype=dtype)
    at = torch.full((LEVELS,), mean, dtype=dtype)
    spread = torch.full((LEVELS,), var, dtype=dtype)
    slope = emission.expected_derivatives(at, spread, outcome)
    fit = emission.expected_log_prob(at, spread, outcome)
    (gradient,) = torch.autograd.grad(fit.sum(), cuts)
    values = (
        emission.log_prob(at, outcome),
        fit,
        emission.predictive(at, spread, outcome),
        slope.first,
        slope.second,
        gradient,
    )
    assert all(value.isfinite().all() for value in values)
    if var == 0.0:
        edge = LEVELS - 1 if mean > 0 else 0
        assert fit[edge].item() == pytest.approx(0.0, abs=1e-6)
        assert fit[LEVELS - 1 - edge].item() == pytest.approx(-500.0, rel=0.01)


def test_increasing_cuts_increase() -> None:
    raw = torch.tensor([-1.0, -9.0, 0.0, 2.0], dtype=torch.float64)
    cuts = increasing_cuts(raw)
    assert (torch.diff(cuts) > 0.0).all()
    torch.testing.assert_close(cuts[0], raw[0])
    torch.testing.assert_close(torch.log(torch.diff(cuts)), raw[1:])
