"""Averages of the logistic function against scipy's adaptive quadrature, at any variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import kstwobign, norm

from bayes_interest.emissions.averages import evidence_single
from bayes_interest.emissions.compiled import evidence_kernel
from bayes_interest.emissions.logistic import (
    N_SCALES,
    LogisticAverages,
    _kolmogorov_density,
    scale_mixture,
)
from bayes_interest.emissions.ordered import OrderedEmission, bernoulli_emission

MEAN = torch.tensor([-7.0, -1.3, 0.0, 0.4, 5.0], dtype=torch.float64)
CUTS = torch.tensor([-1.5, -0.2, 2.0], dtype=torch.float64)


def average(function: object, mean: float, var: float) -> float:
    """`E[f(a)]` for `a ~ N(mean, var)`, by adaptive quadrature."""
    if var == 0.0:
        return float(function(mean))  # type: ignore[operator]
    sd = math.sqrt(var)
    inner = lambda z: function(mean + sd * z) * norm.pdf(z)  # type: ignore[operator]  # noqa: E731
    points = sorted({float(np.clip(-mean / sd, -9.0, 9.0)), 0.0})
    return float(quad(inner, -10.0, 10.0, points=points, epsabs=1e-13, limit=200)[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float64, 2e-14)])
def test_the_mixture_is_the_logistic_function(dtype: torch.dtype, tolerance: float) -> None:
    scales, weights = scale_mixture(N_SCALES[dtype])
    a = np.linspace(-60.0, 60.0, 4_001)
    mixed = (norm.cdf(a[:, None] / scales) * weights).sum(1)
    assert np.abs(mixed - expit(a)).max() < tolerance
    assert weights.sum() == pytest.approx(1.0, abs=1e-13)


def test_the_scales_follow_kolmogorov() -> None:
    k = np.linspace(0.2, 3.0, 57)
    slope = (kstwobign.cdf(k + 1e-6) - kstwobign.cdf(k - 1e-6)) / 2e-6
    np.testing.assert_allclose(_kolmogorov_density(k), slope, atol=1e-6)


@pytest.mark.parametrize("var", [0.0, 0.3, 4.0, 150.0])
def test_averages_are_exact_at_any_variance(var: float) -> None:
    found = LogisticAverages(torch.full_like(MEAN, var))

    def slope(a: float) -> float:
        return float(expit(a) * expit(-a))

    def curvature(a: float) -> float:
        return slope(a) * (1.0 - 2.0 * float(expit(a)))

    cases = {
        "sigmoid": expit,
        "slope": slope,
        "curvature": curvature,
        "softplus": lambda a: np.logaddexp(0.0, a),
    }
    for name, function in cases.items():
        wanted = [average(function, mean, var) for mean in MEAN.tolist()]
        np.testing.assert_allclose(getattr(found, name)(MEAN).numpy(), wanted, atol=3e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 4])
def test_the_compiled_loop_gives_the_same(dtype: torch.dtype, levels: int) -> None:
    mean = torch.linspace(-9.0, 9.0, 37, dtype=dtype)[:, None].expand(-1, levels)
    var = torch.linspace(0.0, 7.0, 37, dtype=dtype)[:, None].expand(-1, levels)
    outcome = torch.arange(levels, dtype=dtype).expand(37, -1)
    emission = bernoulli_emission(mean) if levels == 2 else OrderedEmission(CUTS.to(dtype))
    found = emission.expected(mean, var, outcome)
    slope = emission.expected_derivatives(mean, var, outcome)
    close = {"rtol": 0.0, "atol": 5e-6 if dtype == torch.float32 else 1e-13}
    torch.testing.assert_close(
        found.log_prob, emission.expected_log_prob(mean, var, outcome), **close
    )
    torch.testing.assert_close(found.slope.first, slope.first, **close)
    torch.testing.assert_close(found.slope.second, slope.second, **close)
    found = emission.evidence(mean, var, outcome)
    wanted = emission.evidence_by_tensors(mean, var, outcome)
    tiny = 1e-3 if dtype == torch.float32 else 1e-12  # chances of 1e-5 keep three digits
    close = {"rtol": tiny, "atol": tiny}
    torch.testing.assert_close(found.log_prob, wanted.log_prob, **close)
    torch.testing.assert_close(found.slope.first, wanted.slope.first, **close)
    torch.testing.assert_close(found.slope.second, wanted.slope.second, **close)


@pytest.mark.parametrize("levels", [2, 4])
def test_many_single_numbers_at_a_time_give_what_one_does(levels: int) -> None:
    """Chunks and their rest; far tails, too, where the vector loop would run out of exponents."""
    mean = torch.linspace(-90.0, 90.0, 1_999)[:, None].expand(-1, levels)
    var = torch.linspace(0.0, 30.0, 1_999).roll(700)[:, None].expand(-1, levels)
    outcome = torch.arange(levels, dtype=torch.float32).expand(1_999, -1)
    emission = bernoulli_emission(mean) if levels == 2 else OrderedEmission(CUTS.float())
    found, wanted = (
        emission._compiled(kernel, mean, var, outcome)
        for kernel in (evidence_single, evidence_kernel)
    )
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("var", [0.0, 0.7, 30.0])
def test_evidence_derivatives_are_those_of_the_log_predictive(var: float) -> None:
    emission, level = OrderedEmission(CUTS), torch.arange(4.0, dtype=torch.float64)
    mean = MEAN[:, None].expand(-1, 4).clone().requires_grad_()
    spread = torch.full((len(MEAN), 4), var, dtype=torch.float64)
    log_prob = emission.predictive(mean, spread, level.expand(len(MEAN), -1)).log()
    (first,) = torch.autograd.grad(log_prob.sum(), mean, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), mean)
    found = emission.evidence(mean.detach(), spread, level.expand(len(MEAN), -1))
    torch.testing.assert_close(found.log_prob, log_prob.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.slope.first, first.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.slope.second, second, rtol=1e-7, atol=1e-9)


def test_cuts_of_their_own_for_every_row() -> None:
    rows = torch.stack((CUTS, CUTS + 0.5, 2.0 * CUTS))
    mean = torch.linspace(-2.0, 2.0, 15, dtype=torch.float64).reshape(3, 5)
    var, outcome = torch.rand(3, 5, dtype=torch.float64), torch.arange(15).reshape(3, 5) % 4
    many = OrderedEmission(rows[:, None])
    for row in range(3):
        one = OrderedEmission(rows[row])
        for name in ("expected_log_prob", "predictive"):
            got = getattr(many, name)(mean, var, outcome)[row]
            want = getattr(one, name)(mean[row], var[row], outcome[row])
            torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-15)
