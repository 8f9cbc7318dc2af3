"""Threshold lists: what is in them, and what is said where they are empty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import norm

from bayes_interest.config import EmissionName
from bayes_interest.errors import InputError
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    clock,
    level_cut,
    predictors,
)
from bayes_interest.ranking.above import ItemsAbove
from tests.fitted import FAMILIES, N_ITEMS, model, parts

USERS = ["u00001", "u00003", "nobody"]


def low(emission: str) -> float:
    return 1.0 / N_ITEMS if emission == "choice" else 0.5


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_list_holds_what_is_sure_enough_and_nothing_else(emission: EmissionName) -> None:
    door, p = model(emission), low(emission)
    everything = door.above(USERS, p=p, c=1e-9, exclude_seen=False)
    c = float(everything.items["probability"].quantile(0.7, "higher"))
    found = door.above(USERS, p=p, c=c, exclude_seen=False)
    assert 0 < len(found.items) < len(everything.items)
    assert (found.items["probability"] >= c).all()
    sure = everything.items[everything.items["probability"] >= c]
    assert set(map(tuple, sure[["user_id", "item_id"]].to_numpy())) == set(
        map(tuple, found.items[["user_id", "item_id"]].to_numpy())
    )
    for user, table in found.items.groupby("user_id"):
        assert table["probability"].is_monotonic_decreasing
        row = found.users.set_index("user_id").loc[user]
        assert row["n_items"] == len(table)
        assert row["nearest_item_id"] == table["item_id"].iloc[0]
        assert row["why"] == ""


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_the_probability_is_the_posteriors(emission: EmissionName) -> None:
    door = model(emission)
    posterior = door.posterior
    place = posterior.vocabulary.users.index_of(["u00001"])
    seconds = np.array([clock(posterior)])
    extra = circumstances(posterior, place, seconds)
    made = predictors(posterior, advanced_belief(posterior, place, seconds), extra)
    mean, sd = (made.mean[0] - level_cut(posterior)).numpy(), made.var[0].sqrt().numpy()
    wanted = 1.0 - norm.cdf((logit(0.4) - mean) / sd)
    table = door.above(["u00001"], p=0.4, c=1e-12, exclude_seen=False).items
    got = table.set_index("item_id")["probability"]
    ids = posterior.vocabulary.items.ids
    np.testing.assert_allclose(got.loc[ids], wanted, rtol=1e-4)
    # lower is the probability that is exceeded with 95 %.
    interval = door.interest(["u00001"], prob=0.9).set_index("item_id")
    at = float(interval["lower"].iloc[3])
    again = door.above(["u00001"], p=at, c=1e-12, exclude_seen=False).items.set_index("item_id")
    assert again["probability"].loc[interval.index[3]] == pytest.approx(0.95, abs=1e-4)


def test_choices_count_draws() -> None:
    door = model("choice")
    found = door.above(["u00001"], p=0.05, c=1e-9, n_draws=8, exclude_seen=False, seed=1)
    shares = found.items["probability"] * 8
    np.testing.assert_allclose(shares, shares.round())
    other = door.above(["u00001"], p=0.05, c=1e-9, n_draws=8, exclude_seen=False, seed=2)
    assert other.items["probability"].tolist() != found.items["probability"].tolist()


@pytest.mark.parametrize("emission", FAMILIES)
def test_an_empty_list_says_why(emission: EmissionName) -> None:
    door = model(emission)
    found = door.above(USERS, p=0.999, c=0.99)
    assert len(found.items) == 0
    assert found.items.columns.tolist()[:3] == ["user_id", "item_id", "probability"]
    assert found.users["user_id"].tolist() == USERS
    assert (found.users["n_items"] == 0).all()
    why = found.users["why"].iloc[0]
    assert why.startswith("the nearest, 'i000")
    assert "has P(interest > 0.999) = " in why
    assert why.endswith("< 0.99")
    assert repr(found) == (
        "ItemsAbove: 0 items with P(interest > 0.999) >= 0.99 for 3 users, 3 of them without any"
    )
    assert isinstance(found, ItemsAbove)


def test_no_candidate_is_said_too() -> None:
    train, _ = parts("bernoulli")
    user = str(train["user_id"].iloc[0])
    seen = train.loc[train["user_id"] == user, "item_id"].unique().tolist()
    found = model("bernoulli").above([user, "nobody"], p=0.01, c=0.01, candidates=seen)
    assert found.users["why"].tolist() == ["no candidate is allowed", ""]
    assert found.users["n_candidates"].tolist() == [0, len(seen)]
    assert np.isnan(found.users["nearest_probability"].iloc[0])
    assert set(found.items["user_id"]) == {"nobody"}
    assert len(model("bernoulli").above([]).users) == 0


def test_later_is_less_sure_and_prob_widens() -> None:
    door = model("bernoulli")
    soon, late = (
        door.above(["u00001"], p=0.5, c=1e-9, at=at, exclude_seen=False).items
        for at in (None, "2026-01-01")
    )
    far = (np.abs(table["probability"] - 0.5).mean() for table in (soon, late))
    assert next(far) > next(far)
    narrow = door.above(["u00001"], p=0.5, c=1e-9, prob=0.5, exclude_seen=False).items
    assert (narrow["lower"] > soon["lower"]).all()


def test_impossible_arguments_are_named() -> None:
    door = model("bernoulli")
    for name in ("p", "c"):
        for value in (0, 1, 50, "0.5", True):
            with pytest.raises(InputError, match=rf"{name}=.*: expected a probability between"):
                door.above(**{name: value})
    with pytest.raises(InputError, match=r"seed=-1: expected a whole number"):
        door.above(seed=-1)
