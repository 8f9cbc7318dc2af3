"""Nothing leaks: no future into the past, no user into another, no run into the next."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from tests.fitted import (
    CONTEXT,
    FAMILIES,
    QUICK,
    encoder,
    fit,
    loud,
    model,
    numbers,
    parts,
    same,
    simulation,
)


def flipped(late: pd.DataFrame) -> pd.DataFrame:
    """Other items, other outcomes."""
    items = late["item_id"].iloc[::-1].to_numpy()
    changed = late.assign(item_id=items)
    return changed.assign(value=late["value"].iloc[::-1].to_numpy()) if "value" in late else changed


def removed(late: pd.DataFrame) -> pd.DataFrame:
    return late[:0]


def thinned(late: pd.DataFrame) -> pd.DataFrame:
    return late[::3]


def added(late: pd.DataFrame) -> pd.DataFrame:
    """More events, of more users."""
    strangers = late.assign(user_id=late["user_id"] + "x")
    later = late.assign(timestamp=late["timestamp"] + pd.Timedelta(days=400))
    return pd.concat((late, strangers, later))


CHANGES = [flipped, removed, thinned, added]


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_scores_before_a_moment_ignore_everything_at_or_after_it(
    emission: EmissionName, change: object, share: float
) -> None:
    _, test = parts(emission)
    at = test["timestamp"].iloc[int(share * len(test))]
    early, late = test[test["timestamp"] < at], test[test["timestamp"] >= at]
    # Texts make the matrix products longer: their last bits vary with the number of rows.
    for door, exact in ((model(emission, likeness=False), True), (model(emission), False)):
        scores = door.score_events(test)[: len(early)]
        changed = pd.concat((early, change(late)))  # type: ignore[operator]
        other = door.score_events(changed)[: len(early)]
        if exact or emission != "choice":
            same(scores, other)
        else:
            np.testing.assert_allclose(numbers(scores), numbers(other), rtol=0, atol=1e-6)
            np.testing.assert_allclose(scores["log_prob"], other["log_prob"], rtol=0, atol=1e-5)
            assert scores["rank"].tolist() == other["rank"].tolist()


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_scores_with_a_context_ignore_the_future_too(
    emission: EmissionName, change: object, share: float
) -> None:
    _, test = parts(emission)
    at = test["timestamp"].iloc[int(share * len(test))]
    early, late = test[test["timestamp"] < at], test[test["timestamp"] >= at]
    door = loud(emission)
    scores = door.score_events(test, k=3)[: len(early)]
    changed = pd.concat((early, change(late)))  # type: ignore[operator]
    other = door.score_events(changed, k=3)[: len(early)]
    np.testing.assert_allclose(numbers(scores), numbers(other), rtol=0, atol=1e-6)
    plain = model(emission).score_events(early)
    assert np.abs(numbers(plain) - numbers(scores)).max() > 0.01


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_fit_on_the_past_ignores_the_future(emission: EmissionName, change: object) -> None:
    events = simulation(emission).events.frame
    at = parts(emission)[1]["timestamp"].iloc[0]
    early, late = events[events["timestamp"] < at], events[events["timestamp"] >= at]
    other = pd.concat((change(late), early))  # type: ignore[operator]
    train = split_by_time(other, at)[0] if len(other) > len(early) else early
    same(model(emission).interest(at=at), fit(train, emission).interest(at=at))


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_order_of_the_rows_changes_nothing(emission: EmissionName) -> None:
    train, test = parts(emission)
    order = np.random.default_rng(1).permutation(len(train))
    shuffled = fit(train.iloc[order], emission)
    users = train["user_id"].unique()
    same(model(emission).interest(users), shuffled.interest(users))
    order = np.random.default_rng(2).permutation(len(test))
    same(
        model(emission).update(test).interest(users),
        model(emission).update(test.iloc[order]).interest(users),
    )


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_names_of_users_and_their_order_in_a_question_change_nothing(
    emission: EmissionName,
) -> None:
    train, _ = parts(emission)
    names = {user: f"{row:03d}" for row, user in enumerate(sorted(train["user_id"].unique()))}
    renamed = fit(
        train.assign(user_id=train["user_id"].map(lambda u: "z" + names[u][::-1])), emission
    )
    users = sorted(names)
    plain = model(emission).interest(users)
    other = renamed.interest(["z" + names[user][::-1] for user in users])
    same(plain.drop(columns="user_id"), other.drop(columns="user_id"))
    backwards = model(emission).interest(users[::-1])
    for user in users[:3]:
        same(
            plain[plain["user_id"] == user].reset_index(drop=True),
            backwards[backwards["user_id"] == user].reset_index(drop=True),
        )


@pytest.mark.parametrize("emission", FAMILIES)
def test_padding_changes_nothing(emission: EmissionName) -> None:
    # One user with a very long history makes the blocks of the others longer.
    _, test = parts(emission)
    door = model(emission, popularity_days=None, succession=False, rates=False)
    user = test["user_id"].iloc[0]
    own = test[test["user_id"] == user]
    long = pd.concat([test.assign(user_id="long")] * 3).assign(
        timestamp=pd.date_range(test["timestamp"].min(), periods=3 * len(test), freq="h")
    )
    alone = door.score_events(own)
    for others in (test[test["user_id"] != user], long):
        mixed = door.score_events(pd.concat((own, others)))[: len(own)]
        same(alone.reset_index(drop=True), mixed.reset_index(drop=True))


@pytest.mark.parametrize("emission", FAMILIES)
def test_same_seed_same_bits(emission: EmissionName) -> None:
    train, _ = parts(emission)
    first, second = model(emission), fit(train, emission)
    same(first.interest(), second.interest())
    for name, value in first.posterior.values.items():
        assert torch.equal(value, second.posterior.values[name]), name
    other = fit(train, emission, FitConfig(max_epochs=3, progress=False, seed=1))
    assert not np.array_equal(numbers(first.interest()), numbers(other.interest()))


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_second_fit_forgets_the_first(emission: EmissionName) -> None:
    train, _ = parts(emission)
    early = train[: len(train) // 2]
    door, fresh = (InterestModel(model(emission).config, encoder(emission)) for _ in range(2))
    door.fit(early, config=FitConfig(max_epochs=1, progress=False, seed=9))
    door.update(train[len(early) :])
    door.fit(train, config=QUICK)
    same(fresh.fit(train, config=QUICK).interest(), door.interest())


def everything(emission: EmissionName) -> None:
    train, test = parts(emission)
    door = fit(train, emission)
    door.rank(by="thompson", k=2)
    door.interest(["u00001"], at="2025-01-01")
    door.trajectory(train["user_id"].iloc[:1].tolist(), None)
    door.score_events(test)
    door.update(test)
    door.fit_report()


@pytest.mark.parametrize("emission", FAMILIES)
def test_global_random_states_are_left_alone(emission: EmissionName) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index]
    everything(emission)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()


@pytest.mark.parametrize("config", [{}, CONTEXT], ids=["plain", "context"])
def test_global_random_states_change_nothing(config: dict[str, int]) -> None:
    tables = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        door = fit(parts("choice")[0], "choice", **config)
        tables.append(door.rank(by="thompson", k=3))
    same(*tables)


def test_settings_of_torch_and_pyro_are_left_alone() -> None:
    pyro.get_param_store()["mine"] = torch.ones(2)
    threads, grad, dtype = (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )
    for emission in FAMILIES:
        everything(emission)
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.equal(pyro.get_param_store()["mine"], torch.ones(2))
    assert (threads, grad, dtype) == (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_callers_tables_are_left_alone(emission: EmissionName) -> None:
    train, test = (part.copy(deep=True) for part in parts(emission))
    door = fit(train, emission)
    door.score_events(test)
    door.update(test)
    same(train, parts(emission)[0])
    same(test, parts(emission)[1])
