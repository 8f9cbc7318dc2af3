"""Points that stand for a normal: its moments up to the seventh, and no weight below zero."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import prod

import numpy as np
import pytest

from bayes_interest.model.cubature import MAX_DIM, normal_points


@pytest.mark.parametrize("dim", range(1, MAX_DIM + 1))
def test_moments_up_to_the_seventh_are_those_of_a_normal(dim: int) -> None:
    points = normal_points(dim)
    weight, where = np.exp(points[:, 0]), points[:, 1:]
    assert weight.sum() == pytest.approx(1.0)
    for degree in range(1, 8):
        for axes in combinations_with_replacement(range(dim), degree):
            powers = [axes.count(axis) for axis in set(axes)]
            wanted = prod((0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0)[power - 1] for power in powers)
            found = weight @ where[:, list(axes)].prod(1)
            assert found == pytest.approx(wanted, abs=1e-10), axes


@pytest.mark.parametrize("dim", range(1, MAX_DIM + 1))
def test_far_moments_of_the_radius_are_right(dim: int) -> None:
    points = normal_points(dim)
    square = (points[:, 1:] ** 2).sum(1)
    sixth = np.exp(points[:, 0]) @ square**3
    assert sixth == pytest.approx(dim * (dim + 2) * (dim + 4))
    assert np.sqrt(square.max()) > 3.5  # further than a posterior's tail


def test_nobody_can_change_them_for_others() -> None:
    with pytest.raises(ValueError, match="read-only"):
        normal_points(2)[0, 0] = 1.0
