"""Which of two items: the closed form against joint draws, and what is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.errors import InputError, ItemError
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.answers import find_users
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.predict import advanced_belief, circumstances, clock, predictors
from tests.fitted import FAMILIES, N_ITEMS, model, parts

COLUMNS = ["user_id", "item_id", "other_item_id", "probability", "mean", "sd", "lower", "upper"]
ITEMS = ["i00004", "i00001", "i00009"]


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_closed_form_agrees_with_joint_draws(emission: EmissionName) -> None:
    door = model(emission)
    posterior, n_draws = door.posterior, 40_000
    for user in ("u00001", "u00003"):
        place = posterior.vocabulary.users.index_of([user])
        seconds = np.array([clock(posterior)])
        belief = advanced_belief(posterior, place, seconds)
        extra = circumstances(posterior, place, seconds)
        draws = draw_predictors(posterior, belief, extra, n_draws)[0]
        table = door.compare_items([user], posterior.vocabulary.items.ids.tolist())
        assert len(table) == N_ITEMS * (N_ITEMS - 1) / 2
        first, second = (posterior.vocabulary.items.index_of(table[name]) for name in COLUMNS[1:3])
        apart = (draws[:, first] - draws[:, second]).double().numpy()
        # Four standard errors of a share, and of a mean and a quantile in sds.
        np.testing.assert_allclose(table["probability"], (apart > 0).mean(0), atol=0.011)
        scale = apart.std(0)
        np.testing.assert_allclose((table["mean"] - apart.mean(0)) / scale, 0.0, atol=0.025)
        np.testing.assert_allclose(table["sd"] / scale, 1.0, atol=0.02)
        for name, tail in (("lower", 0.05), ("upper", 0.95)):
            edge = np.quantile(apart, tail, axis=0)
            np.testing.assert_allclose((table[name] - edge) / scale, 0.0, atol=0.05)


def test_a_hand_computed_case() -> None:
    door = model("bernoulli", dtype="float64", rates=False, popularity_days=None)
    posterior = door.posterior
    who = posterior.vocabulary.users.index_of(["u00001"])
    mean, cov = posterior.belief.mean.clone(), posterior.belief.cov.clone()
    mean[who], cov[who] = torch.tensor([1.0, 0.0, 0.0]).double(), torch.eye(3).double()
    last = posterior.last_seconds.copy()
    last[who] = clock(posterior)
    door._posterior = replace(
        posterior, belief=Belief(mean, cov), last_seconds=last,
        item_cov=torch.zeros_like(posterior.item_cov),
    )  # fmt: skip
    found = door.compare_items(["u00001"], pairs=[("i00004", "i00001")]).iloc[0]
    i, j = posterior.vocabulary.items.index_of(["i00004", "i00001"])
    items = posterior.items
    apart = items.vectors[i] - items.vectors[j]
    wanted = float(apart[0] + items.offsets[i] - items.offsets[j]), float(apart.norm())
    assert (found["mean"], found["sd"]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_joint_posterior_is_not_two_marginals(emission: EmissionName) -> None:
    # The state moves both items: where they are alike it cancels, where opposed it adds up.
    door = model(emission)
    wider, place = find_users(door.posterior, ["nobody"])  # at the prior: the covariance is I
    seconds = np.array([clock(wider)])
    made = predictors(
        wider, advanced_belief(wider, place, seconds), circumstances(wider, place, seconds)
    )
    table = door.compare_items(["nobody"], wider.vocabulary.items.ids.tolist())
    first, second = (wider.vocabulary.items.index_of(table[name]) for name in COLUMNS[1:3])
    var, vectors = made.var[0].numpy(), wider.items.vectors.numpy()
    shared = table["sd"] ** 2 - var[first] - var[second]
    wanted = -2.0 * (vectors[first] * vectors[second]).sum(1)
    np.testing.assert_allclose(shared, wanted, atol=1e-4)
    assert np.abs(wanted).max() > 0.1


@pytest.mark.parametrize("emission", FAMILIES)
def test_turning_a_pair_turns_the_answer(emission: EmissionName) -> None:
    door = model(emission)
    there = door.compare_items(["u00001"], pairs=[("i00004", "i00001")]).iloc[0]
    back = door.compare_items(["u00001"], pairs=[("i00001", "i00004")]).iloc[0]
    assert there["probability"] + back["probability"] == pytest.approx(1.0)
    assert there["mean"] == pytest.approx(-back["mean"])
    assert there["upper"] == pytest.approx(-back["lower"])


def test_rows_and_options() -> None:
    door = model("bernoulli")
    table = door.compare_items(["u00003", "nobody"], ITEMS)
    assert table.columns.tolist() == COLUMNS
    assert table["user_id"].tolist() == ["u00003"] * 3 + ["nobody"] * 3
    pairs = [("i00004", "i00001"), ("i00004", "i00009"), ("i00001", "i00009")]
    assert list(zip(table["item_id"], table["other_item_id"], strict=True)) == pairs * 2
    narrow = door.compare_items(["u00003", "nobody"], ITEMS, prob=0.5)
    assert (narrow["lower"] > table["lower"]).all()
    late = door.compare_items(["u00003"], ITEMS, at="2026-01-01")
    assert (late["sd"].to_numpy() > table["sd"].to_numpy()[:3]).all()
    assert len(door.compare_items(pairs=pairs[:1])) == parts("bernoulli")[0]["user_id"].nunique()
    assert door.compare_items([], ITEMS).columns.tolist() == COLUMNS


def test_impossible_questions_are_named() -> None:
    door = model("bernoulli")
    with pytest.raises(InputError, match="needs either items= or pairs=, not both"):
        door.compare_items(["u00001"])
    with pytest.raises(InputError, match="needs either items= or pairs=, not both"):
        door.compare_items(["u00001"], ITEMS, pairs=[ITEMS[:2]])
    with pytest.raises(InputError, match=r"expected at least two different items"):
        door.compare_items(["u00001"], ["i00001", "i00001"])
    with pytest.raises(InputError, match=r"pairs holds 'i00001': expected pairs"):
        door.compare_items(["u00001"], pairs=["i00001"])  # type: ignore[list-item]
    for pair in (["i00001"], ["i00001"] * 2, ITEMS):
        with pytest.raises(InputError, match=r"expected two different item ids"):
            door.compare_items(["u00001"], pairs=[pair])
    with pytest.raises(ItemError, match="item 'ghost' is unknown"):
        door.compare_items(["u00001"], ["i00001", "ghost"])
    with pytest.raises(InputError, match="prob=1: expected the mass"):
        door.compare_items(["u00001"], ITEMS, prob=1)
