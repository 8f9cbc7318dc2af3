"""All users at a glance: each figure against another way to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError, TimeOrderError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    clock,
    predictors,
)
from tests.fitted import FAMILIES, N_ITEMS, loud, model, parts
from tests.posterior.test_members import door as with_members

COLUMNS = [
    "user_id", "n_events", "first_event", "last_event", "slate_certainty", "mean_sd", "drifted",
]  # fmt: skip
USERS = ["u00007", "u00003", "nobody"]


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_row_per_user_with_the_facts_of_the_log(emission: EmissionName) -> None:
    table = model(emission).population(n_draws=20)
    assert table.columns.tolist() == COLUMNS
    log = parts(emission)[0].groupby("user_id")["timestamp"]
    facts = table.set_index("user_id")
    assert sorted(facts.index) == sorted(log.groups)
    for name, wanted in (
        ("n_events", log.size()), ("first_event", log.min()), ("last_event", log.max())
    ):  # fmt: skip
        found = facts[name].reindex(wanted.index)
        assert (abs(found - wanted) <= (0 if name == "n_events" else pd.Timedelta("1us"))).all()
    assert table.notna().all(axis=None)


@pytest.mark.parametrize("emission", FAMILIES)
def test_certainty_is_that_of_the_slate_of_all_items(emission: EmissionName) -> None:
    door = model(emission)
    table = door.population(USERS, k=3, n_draws=50, seed=2)
    assert table["user_id"].tolist() == USERS
    slates = door.rank(USERS, k=3, exclude_seen=False, abstain=0.0, n_draws=50, seed=2)
    wanted = slates.drop_duplicates("user_id")["slate_certainty"].tolist()
    assert table["slate_certainty"].tolist() == wanted
    everything = door.population(USERS, k=N_ITEMS)
    np.testing.assert_allclose(everything["slate_certainty"], 1.0)
    other = door.population(USERS, k=3, n_draws=50, seed=3)
    assert other["slate_certainty"].tolist() != wanted


DOORS = [*FAMILIES, "context", "members"]


def door_of(name: str) -> InterestModel:
    if name == "members":
        return with_members("bernoulli")
    return loud("bernoulli") if name == "context" else model(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DOORS)
def test_the_mean_sd_is_of_all_predictors(name: str) -> None:
    door = door_of(name)
    table = door.population(USERS[:2], n_draws=10)
    posterior = door.posterior
    who = posterior.vocabulary.users.index_of(USERS[:2])
    seconds = np.full(2, clock(posterior))
    found = predictors(
        posterior, advanced_belief(posterior, who, seconds), circumstances(posterior, who, seconds)
    )
    wanted = torch.sqrt(found.state_var + found.item_var).mean(1)
    np.testing.assert_allclose(table["mean_sd"], wanted, rtol=1e-5)
    later = door.population(USERS[:2], at="2031-01-01", n_draws=10)
    assert (later["mean_sd"] > table["mean_sd"]).all()
    assert later["drifted"].tolist() == table["drifted"].tolist()


@pytest.mark.parametrize("name", DOORS)
def test_what_drifted_is_the_change_of_the_mean_predictors(name: str) -> None:
    door = door_of(name)
    table = door.population(USERS[:2], n_draws=10).set_index("user_id")
    for user in USERS[:2]:
        first, last = table.loc[user, ["first_event", "last_event"]]
        if name == "choice":
            wanted = _moved_by_states(door, user, first, last)
        else:
            changes = door.changes([user], since=first, at=last)["change"]
            wanted = float(np.sqrt((changes**2).mean()))
        assert table.loc[user, "drifted"] == pytest.approx(wanted, rel=1e-3)
        assert wanted > 0


def _moved_by_states(
    door: InterestModel, user: str, first: pd.Timestamp, last: pd.Timestamp
) -> float:
    """Of choice the table of changes is about probabilities: here by the trajectory's beliefs."""
    from bayes_interest.posterior.trajectory import smoothed_beliefs

    posterior = door.posterior
    place = int(posterior.vocabulary.users.index_of([user])[0])
    seconds = np.array([first.timestamp(), last.timestamp()])
    mean = smoothed_beliefs(posterior, place, seconds).mean
    moved = posterior.items.vectors @ (mean[1] - mean[0])
    return float((moved - moved.mean()).square().mean().sqrt())


def test_a_stranger_has_no_dates_and_has_not_moved() -> None:
    own = model("bernoulli").population(["nobody"]).iloc[0]
    assert (own["n_events"], own["drifted"]) == (0, 0.0)
    assert pd.isna(own["first_event"])
    assert pd.isna(own["last_event"])
    assert 0.0 < own["slate_certainty"] < 1.0
    once = parts("bernoulli")[1].head(1).assign(user_id="once")
    door = model("bernoulli").update(once)
    assert door.population(["once"])["drifted"].tolist() == [0.0]
    assert len(door.population([])) == 0
    assert door.population([]).columns.tolist() == COLUMNS


def test_order_and_company_change_nothing_and_errors_are_named() -> None:
    door = model("bernoulli")
    both = door.population(USERS[:2], n_draws=30)
    alone = door.population(USERS[1:2], n_draws=30)
    pd.testing.assert_frame_equal(both.iloc[1:].reset_index(drop=True), alone, rtol=1e-6)
    with pytest.raises(ConfigError, match="k=0: expected a whole number of places"):
        door.population(USERS, k=0)
    with pytest.raises(TimeOrderError, match="lies before the last absorbed event"):
        door.population(USERS[:1], at="1999-01-01")
