"""Shown and taken, shown and ignored, disliked: each moves interest the way it should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.simulate import simulate
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import model, numbers, parts

USER = "u00003"
LATER = pd.Timedelta(days=3)


def moment(emission: EmissionName) -> pd.Timestamp:
    return parts(emission)[0]["timestamp"].max() + LATER


def event(emission: EmissionName, item: str, value: float, **more: object) -> pd.DataFrame:
    row = {"user_id": USER, "item_id": item, "timestamp": moment(emission), "value": value}
    return pd.DataFrame([row | more])


def interest_after(door: InterestModel, emission: EmissionName, *events: pd.DataFrame) -> pd.Series:
    """Mean interest of the user in every item, soon after some events."""
    if events:
        door.update(pd.concat(events))
    found = door.interest([USER], at=moment(emission) + LATER)
    return found.set_index("item_id")["mean"]


@pytest.mark.parametrize(("emission", "low", "high"), [("bernoulli", 0, 1), ("rating", 0, 4)])
def test_taken_raises_and_ignored_lowers_interest_in_every_item_shown(
    emission: EmissionName, low: float, high: float
) -> None:
    before = interest_after(model(emission, rates=False), emission)
    for item in before.index:
        taken, ignored = (
            interest_after(model(emission, rates=False), emission, event(emission, item, value))
            for value in (high, low)
        )
        assert taken[item] > before[item] > ignored[item]


def test_like_items_follow_and_unlike_ones_go_the_other_way() -> None:
    door = model("bernoulli", rates=False)  # a running rate would lift all items alike
    posterior = door.posterior
    user = posterior.vocabulary.users.index_of([USER])[0]
    days = (moment("bernoulli").timestamp() - posterior.last_seconds[user]) / 86_400
    drift = torch.exp(2.0 * posterior.values["log_drift"])
    cov = posterior.belief.cov[user] + days * torch.diag(drift)
    likeness = (posterior.items.vectors @ cov @ posterior.items.vectors.T).double().numpy()
    ids = posterior.vocabulary.items.ids
    assert (likeness < 0).any()  # some items are unlike others
    before = interest_after(door, "bernoulli")[ids].to_numpy()
    for shown, item in enumerate(ids):
        for value in (1.0, 0.0):
            after = interest_after(
                model("bernoulli", rates=False), "bernoulli", event("bernoulli", item, value)
            )[ids].to_numpy()
            # Below 1e-5 the sign is that of what the Gaussian belief leaves out.
            clear = (np.abs(likeness[shown]) > 0.02) & (np.abs(after - before) > 1e-5)
            assert clear.sum() > 3
            wanted = np.sign(likeness[shown]) * (1.0 if value else -1.0)
            assert (np.sign(after - before)[clear] == wanted[clear]).all()


def test_the_lower_the_rating_the_lower_is_interest_afterwards() -> None:
    found = [
        interest_after(model("rating", rates=False), "rating", event("rating", "i00002", value))[
            "i00002"
        ]
        for value in range(5)
    ]
    assert (np.diff(found) > 0).all()


def test_an_explicit_dislike_says_more_than_an_item_ignored() -> None:
    """Clicks are noisier than thumbs in this log; the model finds out and trusts thumbs more."""
    log = simulate(n_users=60, n_items=20, events_per_user=30, seed=2)
    rng = np.random.default_rng(0)
    frame = log.event_truth.copy()
    thumb = rng.random(len(frame)) < 0.4
    chance = np.where(thumb, frame["probability"] > 0.5, 0.5 + 0.4 * (frame["probability"] - 0.5))
    frame["value"] = rng.binomial(1, chance).astype(float)
    frame["kind"] = np.where(thumb, "thumb", "click")
    door = InterestModel(
        ModelConfig("bernoulli", state_dim=2), PrecomputedVectors(log.vectors)
    ).fit(
        frame.drop(columns="probability"),
        config=FitConfig(max_epochs=8, n_members=1, progress=False),
    )
    assert float(door.posterior.values["log_reliability"][0]) > 0.2
    at = frame["timestamp"].max() + LATER
    users = door.posterior.vocabulary.users.ids
    before = door.interest(users, ["i00004"], at=at)["mean"].to_numpy()
    drop = {}
    for kind in ("thumb", "click"):
        other = InterestModel(door.config, door.encoder)
        other._posterior = door.posterior
        new = pd.DataFrame({"user_id": users, "item_id": "i00004", "timestamp": at})
        other.update(new.assign(value=0.0, kind=kind))
        drop[kind] = before - other.interest(users, ["i00004"], at=at)["mean"].to_numpy()
    assert (drop["click"] > 0).all()
    open_minded = before > 0.4  # whom a refusal tells something
    assert open_minded.sum() > 10
    assert (drop["thumb"] > drop["click"])[open_minded].all()


def test_a_choice_ignored_teaches_nothing_but_is_seen() -> None:
    door = model("choice", positive_threshold=0.5)
    before = door.interest([USER], at=moment("choice") + LATER)
    assert float(door.posterior.values["log_event_drift"].exp().max()) > 0.01  # on by default
    seen = set(parts("choice")[0].query("user_id == @USER")["item_id"])
    ignored = next(item for item in before["item_id"] if item not in seen)
    assert ignored in door.rank([USER], k=99)["item_id"].tolist()
    door.update(event("choice", ignored, 0.0))
    after = door.interest([USER], at=moment("choice") + LATER)
    np.testing.assert_allclose(numbers(after), numbers(before), rtol=0, atol=1e-6)
    assert ignored not in door.rank([USER], k=99)["item_id"].tolist()


def test_a_choice_taken_raises_the_item_and_lowers_the_rest_of_the_probability() -> None:
    # Without covariates: the user's own repeats may well speak against an item just taken.
    plain = {"popularity_days": None, "repeats": False, "succession": False, "likeness": False}
    before = interest_after(model("choice", **plain), "choice")
    item = before.idxmin()
    after = interest_after(model("choice", **plain), "choice", event("choice", item, 1.0))
    assert after[item] > before[item]
    assert after.drop(item).sum() < before.drop(item).sum()
