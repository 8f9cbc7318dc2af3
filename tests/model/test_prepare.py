"""Features of texts and where they point: unit vectors along principal axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bayes_interest.model.prepare import TEXT_DIRECTIONS, Embedded, Standardizer
from bayes_interest.model.problem import Problem
from tests.model.problems import small_problem, text_directions
from tests.oracles import slow_covariates

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def embedded(n_items: int, dim: int, unknown: tuple[int, ...] = ()) -> Embedded:
    """Vectors of unequal spread that go together, some unknown."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(dim, dim)) * np.linspace(2.0, 0.1, dim)
    vectors = (3.0 + rng.normal(size=(n_items, dim)) @ mixed.T).astype(np.float32)
    known = np.ones(n_items, dtype=bool)
    known[list(unknown)] = False
    vectors[~known] = 0.0
    return Embedded(vectors, known)


def cosines(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0.0, length, 1.0)
    return unit @ unit.T


def test_features_have_mean_zero_and_spread_one_and_no_text_is_zero() -> None:
    items = embedded(40, 6, unknown=(3, 17))
    features = Standardizer.of(items, 40).apply(items)
    np.testing.assert_allclose(features[items.known].mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(features[items.known].std(0), 1.0, rtol=1e-5)
    assert (features[~items.known] == 0.0).all()


@pytest.mark.parametrize("dim", [1, 6, TEXT_DIRECTIONS, TEXT_DIRECTIONS + 9])
@pytest.mark.parametrize("n_items", [4, 200])
def test_axes_are_the_leading_principal_ones(dim: int, n_items: int) -> None:
    items = embedded(n_items, dim)
    found = Standardizer.of(items, n_items)
    n_axes = min(dim, TEXT_DIRECTIONS)
    assert found.axes.shape == (dim, n_axes)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(n_axes), atol=1e-9)
    features = found.apply(items)
    along = np.square(features @ found.axes).sum(0)
    strengths = np.square(np.linalg.svd(features, compute_uv=False))
    strengths = np.concatenate((strengths, np.zeros(dim)))[:n_axes]
    np.testing.assert_allclose(along, strengths, rtol=1e-6, atol=1e-6 * strengths[0])


def test_directions_keep_the_angles_of_the_features() -> None:
    items = embedded(30, 9, unknown=(0, 11))
    found = Standardizer.of(items, 20)
    features = found.apply(items)
    got = found.directions(features)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), items.known, **CLOSE)
    assert (got[~items.known] == 0.0).all()
    np.testing.assert_allclose(got @ got.T, cosines(features), **CLOSE)


def test_of_many_dimensions_the_leading_ones_are_compared() -> None:
    items = embedded(150, TEXT_DIRECTIONS + 40)
    found = Standardizer.of(items, 150)
    features = found.apply(items)
    got = found.directions(features)
    assert got.shape == (150, TEXT_DIRECTIONS)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1.0, **CLOSE)
    leading = np.linalg.svd(features, full_matrices=False)[2][:TEXT_DIRECTIONS]
    np.testing.assert_allclose(got @ got.T, cosines(features @ leading.T), **CLOSE)
    assert np.abs(got @ got.T - cosines(features)).max() < 0.3


def test_later_items_do_not_move_the_axes() -> None:
    items = embedded(30, 5)
    early = Embedded(items.vectors[:20], items.known[:20])
    first, second = Standardizer.of(early, 20), Standardizer.of(items, 20)
    for name in ("mean", "scale", "axes"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("n_known", [0, 1])
def test_of_fewer_than_two_texts_nothing_is_learned(n_known: int) -> None:
    items = embedded(4, 3, unknown=tuple(range(n_known, 4)))
    found = Standardizer.of(items, 4)
    assert np.array_equal(found.axes, np.eye(3))
    got = found.directions(found.apply(items))
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), items.known, **CLOSE)


def test_a_problem_has_the_texts_of_its_items() -> None:
    small = small_problem("choice")
    texts = text_directions()
    whole = Problem(small.layout, small.features, small.history, texts)
    assert whole.rows.surroundings.texts is texts
    keep = (small.history.item_index < 7) & (np.arange(len(small.history)) < 30)
    part = whole.before(keep, 7)
    assert np.array_equal(part.texts, texts[:7])
    for moment in (5, len(part.history) - 1):
        wanted = slow_covariates(part.history, 7, part.layout.kinds, moment, texts)
        got = part.rows.own()[moment]
        np.testing.assert_allclose(got, wanted[part.history.item_index[moment]], **CLOSE)
    without = Problem(replace(small.layout, likeness=False), small.features, small.history)
    assert without.before(keep, 7).texts is None
