"""What a slate is sorted by, on tables small enough to count by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from bayes_interest.ranking.scores import score, top_k_probability

DRAWS = torch.tensor(
    [[3.0, 2.0, 1.0, 9.0], [1.0, 2.0, 3.0, 9.0], [5.0, 4.0, 1.0, 9.0], [0.0, 1.0, 0.5, 9.0]]
)
ALLOWED = torch.tensor([True, True, True, False])


def test_top_k_probability_by_hand() -> None:
    assert top_k_probability(DRAWS, ALLOWED, 1).tolist() == [0.5, 0.25, 0.25, 0.0]
    assert top_k_probability(DRAWS, ALLOWED, 2).tolist() == [0.5, 1.0, 0.5, 0.0]
    assert top_k_probability(DRAWS, ALLOWED, 3).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert top_k_probability(DRAWS, ALLOWED, 7).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_top_k_probability_against_counting() -> None:
    draws = torch.randn(31, 11, generator=torch.Generator().manual_seed(2))
    allowed = torch.arange(11) % 3 != 0
    for k in (1, 3, 5):
        counts = [0] * 11
        for row in draws.tolist():
            order = sorted((i for i in range(11) if allowed[i]), key=lambda i, r=row: -r[i])
            for item in itertools.islice(order, k):
                counts[item] += 1
        expected = [count / 31 for count in counts]
        assert top_k_probability(draws, allowed, k).tolist() == pytest.approx(expected)


def test_each_score_is_the_column_it_names() -> None:
    points, chance = torch.full((4,), 3.0), torch.full((4,), 7.0)
    for by, value in (("mean", 3.0), ("lower", 3.0), ("upper", 3.0), ("p_top_k", 7.0)):
        assert score(by, points, DRAWS, chance, 0).unique().tolist() == [value]
    assert score("thompson", points, DRAWS, chance, 2).tolist() == [5.0, 4.0, 1.0, 9.0]


def test_exploration_is_the_share_of_the_way_from_the_mean_to_the_draw() -> None:
    points = torch.zeros(4)
    mean, draw = DRAWS.mean(0), DRAWS[2]
    for share in (0.0, 0.25, 1.0, 2.0):
        found = score("thompson", points, DRAWS, torch.zeros(4), 2, share)
        torch.testing.assert_close(found, mean + share * (draw - mean))
