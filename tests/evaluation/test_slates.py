"""Figures of slates by hand and against slow loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.errors import InputError
from bayes_interest.evaluation.slates import (
    coverage,
    diversity,
    make_catalogue,
    mean_of_slate,
    slate_array,
)

IDS = pd.Index(list("abcde"))


def items(counts: list[int], window: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": list("abcde"),
            "n_train": counts,
            "user_share": [1.0, 0.5, 0.25, 0.25, 0.125],
            "popularity": ["head", "mid", "tail", "tail", "tail"],
            "window": window,
        }
    )


def test_the_catalogue_by_hand() -> None:
    found = make_catalogue(items([9, 5, 2, 2, 0]), None)
    assert found.information[0].tolist() == [0.0, 1.0, 2.0, 2.0, 3.0]
    assert found.percentile[0].tolist() == [1.0, 0.75, 0.375, 0.375, 0.0]
    assert found.place[0].tolist() == [1, 2, 3, 4, 5]
    assert found.tail[0].tolist() == [False, False, True, True, True]
    assert found.vectors is None


def test_popularity_is_that_of_the_events_window() -> None:
    both = pd.concat((items([9, 5, 2, 2, 0]), items([0, 0, 0, 0, 9], window=1)))
    found = make_catalogue(both, None)
    slates, window = np.array([[4, 0], [4, 0]]), np.array([0, 1])
    assert mean_of_slate(found.percentile, window, slates).tolist() == [0.5, (1.0 + 0.375) / 2]


def test_slates_become_positions_with_minus_one_where_short() -> None:
    slates = pd.Series([["c", "a"], [], None, np.array(["e"], dtype=object)])
    assert slate_array(slates, IDS, "m").tolist() == [[2, 0], [-1, -1], [-1, -1], [4, -1]]
    with pytest.raises(InputError, match="model 'm': slate with unknown item 'z'"):
        slate_array(pd.Series([["a"], ["z"]]), IDS, "m")
    with pytest.raises(InputError, match="'a', 'b', 'a'"):
        slate_array(pd.Series([["a", "b"], ["a", "b", "a"]]), IDS, "m")


def test_means_pass_over_empty_places() -> None:
    values = np.array([[1.0, 3.0, 10.0]])
    slates = np.array([[0, 1], [2, -1], [-1, -1]])
    found = mean_of_slate(values, np.zeros(3, dtype=int), slates)
    assert found[:2].tolist() == [2.0, 10.0]
    assert math.isnan(found[2])


def test_coverage_by_hand() -> None:
    slates = np.array([[0, 1], [1, 3], [0, -1]])
    assert coverage(slates, 5) == 3 / 5
    assert coverage(slates[:, :1], 5) == 2 / 5
    assert math.isnan(coverage(np.full((2, 2), -1), 5))


def test_diversity_by_hand() -> None:
    unit = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    slates = np.array([[0, 1], [0, 2], [0, 3], [0, 0], [0, -1]])
    found = diversity(slates, unit)
    assert found[:2].tolist() == [1.0, 2.0]
    assert np.isnan(found[2])  # one of the two has no vector
    assert found[3] == pytest.approx(0.0)
    assert np.isnan(found[4])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 5))
def test_diversity_is_one_less_the_mean_cosine_of_pairs(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"item_id": IDS, "vector": list(rng.normal(size=(5, 3)))})
    unit = make_catalogue(items([1, 1, 1, 1, 1]), table).vectors
    assert unit is not None
    slates = np.stack([rng.permutation(5)[:length] for _ in range(7)])
    cosine = [np.mean([unit[i] @ unit[j] for i, j in combinations(slate, 2)]) for slate in slates]
    np.testing.assert_allclose(diversity(slates, unit), 1 - np.array(cosine), atol=1e-6)
    mixed = rng.permuted(slates, axis=1)
    np.testing.assert_allclose(diversity(mixed, unit), diversity(slates, unit), atol=1e-12)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(5, 3))
    slates = np.stack([rng.permutation(5)[:3] for _ in range(11)])
    whole = diversity(slates, unit)
    monkeypatch.setattr("bayes_interest.evaluation.slates.CELLS", 20)
    np.testing.assert_array_equal(diversity(slates, unit), whole)
