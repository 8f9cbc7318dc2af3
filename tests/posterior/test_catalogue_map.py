"""The map of the items: like items are near each other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.interest_model import InterestModel
from tests.fitted import FAMILIES, N_ITEMS, fit, model, parts, same


def directions(door: InterestModel) -> np.ndarray:
    vectors = door.posterior.items.vectors.numpy()
    out: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return out


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_neighbours_stay_neighbours(method: str) -> None:
    door = model("bernoulli")
    table = door.catalogue_map(method=method)  # type: ignore[arg-type]
    assert table.columns.tolist() == ["item_id", "x", "y", "n_events"]
    spot = table[["x", "y"]].to_numpy()
    assert trustworthiness(directions(door), spot, n_neighbors=3) > 0.8
    mixed = np.random.default_rng(0).permutation(spot)
    assert trustworthiness(directions(door), mixed, n_neighbors=3) < 0.7
    events = parts("bernoulli")[0]["item_id"].value_counts()
    assert table["n_events"].tolist() == events.reindex(table["item_id"]).tolist()


def test_pca_keeps_the_distances_of_two_dimensions() -> None:
    door = model("bernoulli")
    spot = door.catalogue_map(method="pca")[["x", "y"]].to_numpy()
    points = directions(door) - directions(door).mean(0)
    left, size, _ = np.linalg.svd(points, full_matrices=False)
    flat = left[:, :2] * size[:2]
    np.testing.assert_allclose(np.abs(spot), np.abs(flat), atol=1e-5)


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_interest_of_a_user_stands_beside(emission: str) -> None:
    door = model(emission)  # type: ignore[arg-type]
    table = door.catalogue_map("u00003", at="2024-06-01", prob=0.5, method="pca")
    wanted = door.interest(["u00003"], at="2024-06-01", prob=0.5)
    assert table["item_id"].tolist() == wanted["item_id"].tolist()
    for name in ("mean", "lower", "upper"):
        assert table[name].tolist() == wanted[name].tolist()
    assert "mean" in door.catalogue_map("a stranger", method="pca")


def test_the_seed_decides_and_nothing_else() -> None:
    door = model("bernoulli")
    same(door.catalogue_map(seed=1), door.catalogue_map(seed=1))
    assert len(door.catalogue_map()) == N_ITEMS


def test_large_catalogues_get_the_quick_map(monkeypatch: pytest.MonkeyPatch) -> None:
    door = model("bernoulli")
    same(door.catalogue_map(), door.catalogue_map(method="tsne"))
    monkeypatch.setattr("bayes_interest.posterior.catalogue_map.MANY", N_ITEMS - 1)
    same(door.catalogue_map(), door.catalogue_map(method="pca"))


def test_a_state_of_one_dimension_is_a_line() -> None:
    door = fit(parts("bernoulli")[0], "bernoulli", state_dim=1)
    table = door.catalogue_map(method="pca")
    assert table["y"].tolist() == [0.0] * N_ITEMS
    vectors = door.posterior.items.vectors[:, 0].numpy()
    assert abs(np.corrcoef(table["x"], vectors)[0, 1]) == pytest.approx(1.0)
    same(door.catalogue_map(), table)


def test_few_items_lie_in_a_plane() -> None:
    few = parts("bernoulli")[0].query("item_id < 'i00004'")
    door = fit(few, "bernoulli")
    found = door.catalogue_map()
    assert len(found) == 4
    same(found, door.catalogue_map(method="pca"))


def test_what_is_refused() -> None:
    door = model("bernoulli")
    with pytest.raises(ConfigError, match="method='umap': expected one of auto, tsne, pca"):
        door.catalogue_map(method="umap")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed=-1: expected a whole number >= 0"):
        door.catalogue_map(seed=-1)
    with pytest.raises(InputError, match=r"at='2024-06-01' is of a user's interest: give user="):
        door.catalogue_map(at="2024-06-01")
