"""Gauss-Hermite: exact for polynomials of degree up to twice the nodes minus one."""

from __future__ import annotations

import math

import pytest
import torch

from bayes_interest.emissions.quadrature import N_NODES, expect, nodes_and_weights

MEAN = torch.tensor([-1.3, 0.0, 0.7], dtype=torch.float64)
VAR = torch.tensor([0.3, 1.0, 2.1], dtype=torch.float64)


def normal_moment(mean: float, var: float, degree: int) -> float:
    """`E[a^degree]` for `a ~ N(mean, var)`, by the recursion of Stein's identity."""
    before, now = 0.0, 1.0
    for k in range(degree):
        before, now = now, mean * now + k * var * before
    return now


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 7, 20, 39])
def test_powers_are_exact(degree: int) -> None:
    assert degree <= 2 * N_NODES - 1
    got = expect(lambda a: a**degree, MEAN, VAR)
    for value, mean, var in zip(got.tolist(), MEAN.tolist(), VAR.tolist(), strict=True):
        scale = normal_moment(mean, var, 2 * degree) ** 0.5
        assert value == pytest.approx(normal_moment(mean, var, degree), abs=1e-12 * scale)


def test_a_random_polynomial_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(24, generator=generator, dtype=torch.float64)
    got = expect(lambda a: sum((w * a**k for k, w in enumerate(weights)), 0.0 * a), MEAN, VAR)
    for value, mean, var in zip(got.tolist(), MEAN.tolist(), VAR.tolist(), strict=True):
        moments = [normal_moment(mean, var, k) for k in range(24)]
        wanted = math.fsum(w * m for w, m in zip(weights.tolist(), moments, strict=True))
        assert value == pytest.approx(wanted, rel=1e-11)


def test_shapes_dtype_and_negative_variance_from_rounding() -> None:
    mean = torch.zeros(5, 7)
    got = expect(lambda a: a, mean, mean - 1e-9)
    assert got.shape == (5, 7)
    assert got.dtype == torch.float32
    assert torch.equal(got, mean)


def test_weights_sum_to_one() -> None:
    _, weights = nodes_and_weights(MEAN)
    assert weights.sum().item() == pytest.approx(1.0, rel=1e-15)
