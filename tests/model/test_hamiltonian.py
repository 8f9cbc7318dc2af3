"""Hamiltonian moves leave a density as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bayes_interest.model.hamiltonian import LEAP, Hamiltonian
from bayes_interest.model.item_draws import Noise

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
ROOT = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.3, 0.0], [0.0, 0.2, 0.1]], dtype=torch.float64)
PRECISION = torch.linalg.inv(ROOT @ ROOT.T)


@pytest.mark.parametrize("tightness", [1.0, 9.0], ids=["its own metric", "too careful a metric"])
def test_draws_have_the_moments_of_a_gaussian(tightness: float) -> None:
    def look(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        away = PRECISION @ (point - MEAN)
        return -0.5 * (point - MEAN) @ away, -away, tightness * PRECISION

    noise, moves, point = Noise(1), Hamiltonian(burn_in=50), torch.zeros(3, dtype=torch.float64)
    drawn = []
    for _ in range(6_000):
        point = moves.moved(point, look, noise)
        drawn.append(point)
    found = torch.linalg.solve_triangular(ROOT, (torch.stack(drawn[50:]) - MEAN).T, upper=False)
    assert float(found.mean(1).abs().max()) < 0.15
    assert float((torch.cov(found) - torch.eye(3).double()).abs().max()) < 0.2


def test_leaps_that_are_too_long_shrink_while_the_burn_in_lasts() -> None:
    def look(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        away = PRECISION @ (point - MEAN)
        return -0.5 * (point - MEAN) @ away, -away, 0.02 * PRECISION

    noise, moves, point = Noise(2), Hamiltonian(burn_in=60), MEAN
    for _ in range(60):
        point = moves.moved(point, look, noise)
    settled = moves.leap
    assert settled < 0.5 * LEAP
    found = [moves.moved(point, look, noise) for _ in range(40)]
    assert moves.leap == settled
    assert sum(not torch.equal(one, point) for one in found) > 10
