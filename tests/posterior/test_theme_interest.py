"""Interest in themes: against the items' own answers, a new item, and a joint draw by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import InputError, ItemError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.mixture import unseen_share
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    clock,
    level_cut,
    settings,
)
from bayes_interest.posterior.probability_map import line_map
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import FAMILIES, encoder, fit, loud, model, numbers, parts, same, simulation

GROUP = ["i00004", "i00001", "i00009"]
USERS = ["u00003", "u00007", "somebody"]


def mapped(door: InterestModel) -> InterestModel:
    """Recalibrated, by a map that changes a lot."""
    door._posterior = replace(door.posterior, recalibration=line_map("temperature", 0.5))
    return door


@cache
def with_members() -> Posterior:
    run = FitConfig(max_epochs=1, n_members=3, progress=False)
    return fit(parts("bernoulli")[0], "bernoulli", run, rates=False).posterior


def door_of(name: str) -> InterestModel:
    """A family, with a word for what is special."""
    own, _, special = name.partition(" ")
    if special == "members":
        door = InterestModel(with_members().config, encoder("bernoulli"))
        door._posterior = with_members()
        return door
    if special == "context":
        return loud(own)  # type: ignore[arg-type]
    return mapped(model(own)) if special else model(own)  # type: ignore[arg-type]


DOORS = [
    *FAMILIES,
    *(f"{name} context" for name in ("bernoulli", "choice")),
    *(f"{name} mapped" for name in FAMILIES),
    "bernoulli members",
]


def family(name: str) -> EmissionName:
    return door_of(name).posterior.config.emission


@pytest.mark.parametrize("name", DOORS)
def test_a_group_is_the_mean_of_its_items_and_for_choice_their_sum(name: str) -> None:
    door = door_of(name)
    items = door.interest(USERS, GROUP).groupby("user_id", sort=False)["mean"]
    table = door.interest(USERS, themes={"group": GROUP, "again": [*GROUP, GROUP[0]]})
    assert table.columns[:6].tolist() == ["user_id", "theme", "mean", "sd", "lower", "upper"]
    assert table["theme"].tolist() == ["group", "again"] * 3
    wanted = items.sum() if family(name) == "choice" else items.mean()
    assert_allclose(table["mean"], np.repeat(wanted.to_numpy(), 2), rtol=1e-5)
    assert (table["lower"] < table["mean"]).all()
    assert (table["mean"] < table["upper"]).all()


@pytest.mark.parametrize("name", DOORS)
def test_one_item_is_that_item(name: str) -> None:
    door = door_of(name)
    alone = door.interest(USERS, ["i00004"])
    for themes in ({"one": ["i00004"]}, {"one": ["i00004"], "group": GROUP}):
        table = door.interest(USERS, themes=themes)
        own = table[table["theme"] == "one"]
        assert_allclose(numbers(own), numbers(alone), rtol=2e-5)


def dense_draws(door: InterestModel, user: str, n: int, unseen: bool = True) -> np.ndarray:
    """Interest in every item by joint draws of the state and of what is unsure of each item; where
    globals are drawn, with the covariance that Student's t has beyond that of the draws; without
    `unseen` not so: the mean is that of the draws.
    """
    posterior = door.posterior
    who = posterior.vocabulary.users.index_of([user])
    seconds = np.array([clock(posterior)])
    belief, extra = advanced_belief(posterior, who, seconds), circumstances(posterior, who, seconds)
    rng, parts_of, means = np.random.default_rng(3), [], []
    for one, own in settings(posterior, belief):
        x, m = one.items.vectors.numpy(), one.values["mean"].numpy()
        belief_of = own.mean[0].double().numpy(), own.cov[0].double().numpy()
        y = rng.multivariate_normal(*belief_of, size=n, check_valid="ignore")  # float32's
        # The model's items are Gaussian given the user: residual times state at its mean variance.
        both = np.concatenate((m + y, np.ones((n, 1))), 1)
        spread = np.einsum("nd,ide,ne->ni", both, one.item_cov.numpy(), both).mean(0)
        noise = rng.normal(size=(n, len(spread))) * np.sqrt(spread)
        fixed = (one.items.offsets + extra[0] - level_cut(one)).numpy()
        parts_of.append(y @ x.T + noise + fixed)
        means.append((belief_of[0] @ x.T + fixed)[0])
    drawn = np.concatenate(parts_of)
    if unseen and len(means) > 1:
        cov = unseen_share(len(means)) * np.cov(np.stack(means), rowvar=False, bias=True)
        centre = np.zeros(len(cov))
        drawn += rng.multivariate_normal(centre, cov, size=len(drawn), check_valid="ignore")
    out: np.ndarray = expit(drawn)
    return out


@pytest.mark.parametrize("name", ["bernoulli", "rating", "bernoulli members"])
def test_the_interval_of_a_group_is_that_of_joint_draws(name: str) -> None:
    door = door_of(name)
    ids = door.posterior.vocabulary.items.index_of(GROUP)
    wanted = dense_draws(door, USERS[0], 20_000)[:, ids].mean(1)
    found = door.interest(USERS[:1], themes={"group": GROUP}, n_draws=4_000).iloc[0]
    lower, upper = np.quantile(wanted, [0.05, 0.95])
    got = found[["mean", "sd", "lower", "upper"]].to_numpy(float)
    of_draws = dense_draws(door, USERS[0], 20_000, unseen=False)[:, ids].mean()
    assert_allclose(got, [of_draws, wanted.std(), lower, upper], atol=0.015)


@pytest.mark.parametrize("name", DOORS)
def test_a_vector_is_an_item_that_has_just_been_added(name: str) -> None:
    door, own = door_of(name), family(name)
    vectors = simulation(own).vectors
    vector = np.asarray(vectors.set_index("item_id")["vector"]["i00004"]) * 0.7
    new = pd.concat((vectors, pd.DataFrame({"item_id": ["new"], "vector": [vector]})))
    other = InterestModel(door.config, PrecomputedVectors(new))
    other._posterior = door.posterior
    other.update(parts(own)[0].head(0), items=pd.DataFrame({"item_id": ["new"]}))
    wanted = other.interest(USERS, ["new"])
    found = door.interest(USERS, themes={"text": vector})
    assert_allclose(numbers(found), numbers(wanted), rtol=1e-5)
    past = door.trajectory(USERS[:1], themes={"text": vector}, every_days=30.0)
    assert_allclose(
        numbers(past), numbers(other.trajectory(USERS[:1], ["new"], every_days=30.0)), rtol=1e-5
    )


def test_texts_do_not_compete_with_each_other() -> None:
    door, vector = model("choice"), np.ones(7)
    themes = {"one": vector, "same": vector, "all": door.posterior.vocabulary.items.ids.tolist()}
    table = door.interest(USERS[:1], themes=themes, n_draws=3_000).set_index("theme")
    alone = door.interest(USERS[:1], themes={"one": vector}, n_draws=3_000)
    assert table.loc["all", "mean"] == pytest.approx(1.0)
    for name in ("one", "same"):
        assert table.loc[name, "mean"] == pytest.approx(alone["mean"][0], rel=0.1)


@pytest.mark.parametrize("emission", FAMILIES)
def test_trajectories_of_groups(emission: EmissionName) -> None:
    door = model(emission)
    user, group = USERS[:1], {"b": GROUP, "a": ["i00004"]}
    table = door.trajectory(user, themes=group)
    assert list(dict.fromkeys(table["theme"])) == ["b", "a"]  # as given
    assert table.groupby("theme")["timestamp"].is_monotonic_increasing.all()
    items = door.trajectory(user, GROUP)
    means = items.groupby("timestamp")["mean"]
    wanted = means.sum() if emission == "choice" else means.mean()
    own = table[table["theme"] == "b"]
    assert_allclose(own["mean"], wanted, rtol=1e-5)
    alone = items[items["item_id"] == "i00004"]
    assert_allclose(numbers(table[table["theme"] == "a"]), numbers(alone), rtol=1e-5)
    assert len(door.trajectory([], themes=group)) == 0
    assert door.trajectory([], themes=group).columns[1] == "theme"


def test_the_expected_rating_of_a_group_is_the_mean() -> None:
    door = model("rating")
    items = door.interest(USERS[:1], GROUP)["expected_rating"]
    found = door.interest(USERS[:1], themes={"g": GROUP})["expected_rating"]
    assert_allclose(found, [items.mean()], rtol=1e-6)


def test_every_option_has_its_effect() -> None:
    door = mapped(model("bernoulli"))
    ask = {"users": USERS[:1], "themes": {"g": GROUP}}
    found = door.interest(**ask).iloc[0]  # type: ignore[arg-type]
    wider = door.interest(**ask, prob=0.99).iloc[0]  # type: ignore[arg-type]
    assert wider["lower"] < found["lower"] < found["upper"] < wider["upper"]
    later = door.interest(**ask, at="2030-01-01").iloc[0]  # type: ignore[arg-type]
    assert later["sd"] > found["sd"]
    more = door.interest(**ask, n_draws=50).iloc[0]  # type: ignore[arg-type]
    assert more["mean"] == found["mean"]
    assert more["lower"] != found["lower"]
    raw = door.interest(**ask, raw=True)  # type: ignore[arg-type]
    same(raw, model("bernoulli").interest(**ask))  # type: ignore[arg-type]
    assert abs(raw["mean"][0] - 0.5) > abs(found["mean"] - 0.5)
    past = door.trajectory(USERS[:1], themes={"g": GROUP}, raw=True)
    assert past["mean"].iloc[0] != door.trajectory(USERS[:1], themes={"g": GROUP})["mean"].iloc[0]


def test_what_is_refused() -> None:
    door = model("bernoulli")
    with pytest.raises(InputError, match="either items= or themes=, not both"):
        door.interest(USERS, GROUP, themes={"g": GROUP})
    with pytest.raises(InputError, match="either items= or themes=, not both"):
        door.trajectory(USERS[:1], GROUP, themes={"g": GROUP})
    with pytest.raises(ItemError, match=r"item 'ghost' is unknown .*themes\['g'\]"):
        door.interest(USERS, themes={"g": ["ghost"]})
    with pytest.raises(ItemError, match=r"themes\['g'\] is a text, and this model has no text enc"):
        door.interest(USERS, themes={"g": "jazz"})
    assert door.interest(USERS, themes={}).columns.tolist() == [
        "user_id", "theme", "mean", "sd", "lower", "upper"
    ]  # fmt: skip


def test_a_text_needs_a_model_that_knows_texts() -> None:
    bare = replace(model("bernoulli").posterior)
    door = InterestModel(bare.config)  # by default with a text encoder
    door._posterior = replace(bare, has_text=np.zeros_like(bare.has_text))
    with pytest.raises(ItemError, match=r"themes\['g'\] is a text, and this model knows no texts"):
        door.interest(USERS, themes={"g": "jazz"})


def test_all_items_are_a_theme_too() -> None:
    door = model("bernoulli")
    everything = door.posterior.vocabulary.items.ids.tolist()
    found = door.interest(USERS, themes={"all": everything})
    assert_allclose(
        found["mean"], door.interest(USERS).groupby("user_id", sort=False)["mean"].mean(), rtol=1e-5
    )
