"""The Gaussian family's closed forms, by quadrature."""

from __future__ import annotations

import math

import torch

from bayes_interest.emissions.gaussian import GaussianEmission
from bayes_interest.emissions.quadrature import expect

EMISSION = GaussianEmission(torch.tensor(0.7, dtype=torch.float64))
MEAN = torch.tensor([[-1.3], [0.2], [2.9]], dtype=torch.float64).expand(3, 5)
VAR = torch.tensor([0.0, 0.1, 0.4, 0.9, 2.0], dtype=torch.float64).expand(3, 5)
OUTCOME = torch.linspace(-2.0, 2.0, 15, dtype=torch.float64).reshape(3, 5)


def test_log_prob_is_torchs() -> None:
    wanted = torch.distributions.Normal(MEAN, math.sqrt(0.7)).log_prob(OUTCOME)
    torch.testing.assert_close(EMISSION.log_prob(MEAN, OUTCOME), wanted, rtol=1e-14, atol=1e-14)


def test_expected_log_prob_by_quadrature() -> None:
    wanted = expect(lambda a: EMISSION.log_prob(a, OUTCOME), MEAN, VAR)
    got = EMISSION.expected_log_prob(MEAN, VAR, OUTCOME)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_derivatives_are_autograds() -> None:
    mean, var = MEAN.clone().requires_grad_(), VAR.clone().requires_grad_()
    expected = EMISSION.expected_log_prob(mean, var, OUTCOME).sum()
    first, half = torch.autograd.grad(expected, (mean, var))
    slope = EMISSION.expected_derivatives(MEAN, VAR, OUTCOME)
    torch.testing.assert_close(slope.first, first)
    torch.testing.assert_close(slope.second, 2.0 * half)


def test_predictive_is_the_integral() -> None:
    grid = torch.linspace(-25.0, 25.0, 20_011, dtype=torch.float64)
    got = EMISSION.predictive(MEAN, VAR, OUTCOME)
    for row, column in [(0, 1), (1, 3), (2, 4)]:
        mean, var, outcome = MEAN[row, column], VAR[row, column], OUTCOME[row, column]
        density = torch.distributions.Normal(mean, var.sqrt()).log_prob(grid)
        likelihood = EMISSION.log_prob(grid, outcome.expand_as(grid))
        wanted = torch.trapezoid((density + likelihood).exp(), grid)
        torch.testing.assert_close(got[row, column], wanted, rtol=1e-10, atol=1e-12)
