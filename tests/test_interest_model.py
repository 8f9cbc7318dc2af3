"""The door: thin over the functions, and every option of ModelConfig has its effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, DataWarning
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.posterior.interest import interest, trajectory
from bayes_interest.posterior.learn import learn
from bayes_interest.posterior.predict import advanced_belief, clock
from bayes_interest.ranking.recommend import recommend
from bayes_interest.text.hashing import HashingEncoder
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import (
    CONTEXT,
    FAMILIES,
    LEVELS,
    N_ITEMS,
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


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_door_says_what_the_functions_say(emission: EmissionName) -> None:
    train, test = parts(emission)
    door = InterestModel(model(emission).config, encoder(emission)).fit(train, config=QUICK)
    log = simulation(emission).events
    early = type(log)(log.frame[: len(train)], log.row[: len(train)], log.report)
    posterior = learn(early, None, encoder(emission), door.config, QUICK)
    same(door.interest(n_draws=50), interest(posterior, None, None, None, 0.9, 50))
    same(
        door.rank(k=3, by="upper"),
        recommend(posterior, None, 3, "upper", None, None, True, 0.9, 200, 0),
    )
    user = [train["user_id"].iloc[0]]
    same(door.trajectory(user, None), trajectory(posterior, user, None, None, 0.9))
    assert door.fit(train, config=QUICK) is door
    assert door.update(test) is door
    assert f"{len(train) + len(test):,} events" in repr(door)


@pytest.mark.parametrize("emission", FAMILIES)
def test_save_and_load_change_nothing(emission: EmissionName, tmp_path: Path) -> None:
    _, test = parts(emission)
    door = model(emission)
    door.save(tmp_path / "model")
    loaded = InterestModel.load(tmp_path / "model")
    same(door.interest(), loaded.interest())
    same(door.score_events(test), loaded.score_events(test))
    same(door.update(test).rank(k=3), loaded.update(test).rank(k=3))
    assert loaded.config == door.posterior.config


def test_texts_reach_the_model_and_new_items_are_understood_by_their_text() -> None:
    words = ["red hat", "red scarf", "blue boat", "blue ship"]
    rng = np.random.default_rng(0)
    item = rng.integers(0, 4, 900)
    likes_red = rng.integers(0, 2, 30)
    user = rng.integers(0, 30, 900)
    value = (likes_red[user] == (item < 2)) ^ (rng.random(900) < 0.1)
    events = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": 1.6e9 + np.arange(900) * 3600.0,
            "value": value.astype(float),
        }
    )
    items = pd.DataFrame({"item_id": range(5), "text": [*words, "red coat"]})
    door = InterestModel(ModelConfig(state_dim=2), HashingEncoder(64))
    door.fit(
        events, items, type(QUICK)(max_epochs=15, learning_rate=0.03, n_members=1, progress=False)
    )
    table = door.interest(items=[4]).set_index("user_id")["mean"]
    red, blue = (table[[u for u in range(30) if likes_red[u] == flag]].mean() for flag in (1, 0))
    assert red > blue + 0.1
    late = door.update(
        pd.DataFrame({"user_id": [3], "item_id": [9], "timestamp": [1.7e9], "value": [1.0]}),
        pd.DataFrame({"item_id": [9], "text": ["red shoe"]}),
    )
    assert 9 in set(late.interest([3])["item_id"])
    # What is known by its text alone is less certain than what was seen often.
    cov = door.posterior.item_cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert cov[4] > cov[:4].max()


def test_the_events_own_text_is_used() -> None:
    train, _ = parts("bernoulli")
    told = train.assign(text="about " + train["item_id"])
    door = InterestModel(ModelConfig(state_dim=2), HashingEncoder(16)).fit(told, config=QUICK)
    assert door.posterior.has_text.all()
    late = told[-1:].assign(item_id="new", text="about something")
    assert "new" in set(door.update(late).interest()["item_id"])


# ------------------------------------------------------------------ options of ModelConfig


@pytest.mark.parametrize(
    ("change", "family", "reason"),
    [
        (lambda log: log.drop(columns="value"), "choice", "no value column"),
        (lambda log: log.assign(value=1.0), "choice", "all values are 1"),
        (lambda log: log, "bernoulli", "values are 0 and 1"),
        (lambda log: log.assign(value=log["value"] + 1), "rating", "2 ordered levels"),
    ],
)
def test_emission_auto_says_what_and_why(change: object, family: str, reason: str) -> None:
    door = fit(change(parts("bernoulli")[0]), "bernoulli", emission="auto")  # type: ignore[operator]
    assert door.posterior.config.emission == family
    assert door.fit_report().attrs["emission"] == family
    assert reason in door.fit_report().attrs["reason"]
    assert door.config.emission == "auto"  # what was asked for is kept


def test_positive_threshold_of_bernoulli_cuts_the_values() -> None:
    train, _ = parts("rating")
    low, high = (fit(train, "bernoulli", positive_threshold=cut) for cut in (1.0, 4.0))
    assert low.interest()["mean"].mean() > high.interest()["mean"].mean() + 0.2
    by_hand = fit(train.assign(value=(train["value"] >= 4.0).astype(float)), "bernoulli")
    same(high.interest(), by_hand.interest())
    assert (
        fit(train, "rating", emission="auto", positive_threshold=4.0).posterior.layout.emission
        == "bernoulli"
    )


def test_positive_threshold_of_rating_sets_the_level() -> None:
    means = [
        model("rating", positive_threshold=float(level)).interest()["mean"].mean()
        for level in range(1, LEVELS)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[-1] > 0.2
    same(model("rating").interest(), model("rating", positive_threshold=3.0).interest())


def test_positive_threshold_of_choice_leaves_events_out() -> None:
    train, _ = parts("choice")
    # Without covariates: three epochs and a slice of 22 events say nothing of their weights.
    nothing = ("repeats", "succession", "likeness")
    options = {"popularity_days": None} | dict.fromkeys(nothing, False)
    often = train["item_id"].mode()[0]
    rated = train.assign(value=np.where(train["item_id"] == often, 1.0, 5.0))
    door = fit(rated, "choice", positive_threshold=3.0, **options)
    ignored = door.interest(["nobody"]).set_index("item_id")["mean"]
    taken = model("choice", **options).interest(["nobody"]).set_index("item_id")["mean"]
    assert ignored[often] < taken[often]
    assert not door.posterior.history.absorb.all()


@pytest.mark.parametrize("emission", FAMILIES)
def test_half_life_pulls_the_state_home(emission: EmissionName) -> None:
    door = model(emission, half_life_days=5.0, rates=False)
    far = "2030-01-01"
    user = parts(emission)[0]["user_id"].iloc[-1]
    posterior = door.posterior
    # After many half-lives nothing is left of the user: all are alike, without NaN.
    table = door.interest([user, parts(emission)[0]["user_id"].iloc[0]], at=far, n_draws=50)
    first, second = (part["mean"].to_numpy() for _, part in table.groupby("user_id", sort=False))
    np.testing.assert_allclose(first, second, atol=1e-5) if emission != "choice" else None
    # The variance settles at drift^2 / (2 kappa) instead of growing without end.
    walk = model(emission, rates=False).interest([user], at=far)["sd"].mean()
    assert door.interest([user], at=far)["sd"].mean() < walk
    assert posterior.config.half_life_days == 5.0


@pytest.mark.parametrize("emission", FAMILIES)
def test_item_residuals(emission: EmissionName) -> None:
    with_, without = model(emission).posterior, model(emission, item_residuals=False).posterior
    assert "residual" in with_.values
    assert "residual" not in without.values
    # Vectors are then a linear function of the text alone.
    features = np.c_[without.features.double().numpy(), np.ones(N_ITEMS)]
    for posterior, exact in ((without, True), (with_, False)):
        vectors = posterior.items.vectors.double().numpy()
        left = vectors - features @ np.linalg.lstsq(features, vectors, rcond=None)[0]
        assert (np.abs(left).max() < 1e-5) == exact


@pytest.mark.parametrize("emission", FAMILIES)
def test_popularity_days(emission: EmissionName) -> None:
    plain, popular = (model(emission, popularity_days=days, rates=False) for days in (None, 20.0))
    assert plain.posterior.layout.popularity_days == ()
    assert popular.posterior.layout.popularity_days == (20.0,)
    weight = float(popular.posterior.values[COVARIATES][0])
    assert weight != 0.0
    # An item that everybody meets now gains where the weight is positive, and the reverse.
    now = clock(popular.posterior)
    crowd = pd.DataFrame(
        {
            "user_id": [f"crowd{n}" for n in range(40)],
            "item_id": "i00004",
            "timestamp": now + 86_400.0,
            "value": 0.0 if emission == "rating" else 1.0,
        }
    )
    if emission == "choice":
        crowd = crowd.drop(columns="value")
    for door in (plain, popular):
        before = door.interest(["u00001"], at=now + 5 * 86_400.0, n_draws=2000)
        door.update(crowd)
        after = door.interest(["u00001"], at=now + 5 * 86_400.0, n_draws=2000)
        moved = (after["mean"] - before["mean"])[before["item_id"] == "i00004"].iloc[0]
        if door is plain:
            assert moved == 0.0
        else:
            assert np.sign(moved) == np.sign(weight)


def test_popularity_auto_is_four_half_lives_for_choice_and_none_otherwise() -> None:
    days = [model(emission).posterior.config.popularity_days for emission in FAMILIES]
    assert days == [None, None, (0.1, 1.0, 10.0, 100.0)]
    assert model("choice").posterior.layout.popularity_days == days[-1]


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_tuple_of_one_half_life_is_that_half_life(emission: EmissionName) -> None:
    one, same_one, two = (
        model(emission, popularity_days=days) for days in (20.0, (20.0,), (20.0, 3.0))
    )
    same(one.interest(), same_one.interest())
    names = ("popularity_20_days", "popularity_3_days", "recency", "age")
    assert two.posterior.layout.kinds.names[:4] == names
    assert not np.array_equal(numbers(one.interest()), numbers(two.interest()))


def test_repeats_let_a_users_own_choices_raise_an_item() -> None:
    train, _ = parts("choice")
    habit = train.assign(item_id=train.groupby("user_id")["item_id"].transform("first"))
    habit.loc[habit.index[::4], "item_id"] = train.loc[habit.index[::4], "item_id"]
    config = type(QUICK)(max_epochs=15, learning_rate=0.05, progress=False)
    with_, without = (fit(habit, "choice", config, repeats=flag) for flag in (True, False))
    weight = dict(
        zip(with_.posterior.layout.kinds.names, with_.posterior.values[COVARIATES], strict=True)
    )
    assert sum(float(weight[name]) for name in weight if name.startswith("repeats")) > 0.1
    assert not [name for name in without.posterior.layout.kinds.names if "repeats" in name]
    favourite = habit.groupby("user_id")["item_id"].agg(lambda own: own.mode()[0])
    gains = []
    for door in (with_, without):
        table = door.interest(favourite.index.tolist()).set_index(["user_id", "item_id"])["mean"]
        gains.append(table.loc[list(favourite.items())].mean())
    assert gains[0] > gains[1] + 0.05


def test_repeats_succession_and_likeness_auto_are_on_for_choice_always() -> None:
    train, _ = parts("choice")
    once = train.drop_duplicates(["user_id", "item_id"])
    for posterior, on in (
        (fit(once, "choice").posterior, True),
        (model("choice").posterior, True),
        (model("bernoulli").posterior, False),
        (model("rating").posterior, False),
    ):
        for option in ("repeats", "succession", "likeness"):
            assert getattr(posterior.config, option) is on
            assert getattr(posterior.layout, option) is on


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("option", ["repeats", "succession", "likeness"])
def test_covariates_can_be_switched_on_and_off(emission: EmissionName, option: str) -> None:
    on, off = (model(emission, **{option: flag}) for flag in (True, False))
    for door, there in ((on, True), (off, False)):
        names = door.posterior.layout.kinds.names
        assert any(option in name for name in names) is there
        assert len(names) == len(door.posterior.values.get(COVARIATES, ()))
    assert not np.array_equal(numbers(on.interest()), numbers(off.interest()))


def test_succession_lets_what_usually_follows_raise_an_item() -> None:
    # Everybody goes round the items in one order, from a place of their own.
    rng = np.random.default_rng(0)
    n_users, n_steps = 30, 12
    user = np.repeat(np.arange(n_users), n_steps)
    start = np.repeat(rng.integers(0, N_ITEMS, n_users), n_steps)
    step = np.tile(np.arange(n_steps), n_users)
    events = pd.DataFrame(
        {
            "user_id": user,
            "item_id": [f"i{i:05d}" for i in (start + step) % N_ITEMS],
            "timestamp": 1.6e9 + rng.permutation(n_users)[user] * 600.0 + step * 86_400.0,
        }
    )
    config = type(QUICK)(max_epochs=10, learning_rate=0.05, progress=False)
    options = {"repeats": False, "likeness": False, "popularity_days": None}
    following = [f"i{i:05d}" for i in (start + step + 1)[step == n_steps - 1] % N_ITEMS]
    chances = []
    for flag in (True, False):
        door = fit(events, "choice", config, succession=flag, **options)
        table = door.interest(range(n_users)).set_index(["user_id", "item_id"])["mean"]
        chances.append(table.loc[list(zip(range(n_users), following, strict=True))].mean())
        if flag:
            assert float(door.posterior.values[COVARIATES][0]) > 0.1
    assert chances[0] > chances[1] + 0.05


def test_likeness_lets_an_item_be_raised_by_its_text() -> None:
    """Each user stays with one of three topics: the next item of it has no events of its own."""
    rng = np.random.default_rng(0)
    n_users, n_steps, n_topics, each = 30, 8, 3, 9
    topics = rng.normal(size=(n_topics, 12)).repeat(each, 0)
    ids = [f"i{i:05d}" for i in range(n_topics * each)]
    vectors = (topics + 0.3 * rng.normal(size=topics.shape)).astype(np.float32)
    table = pd.DataFrame({"item_id": ids, "vector": list(vectors)})
    topic = rng.integers(0, n_topics, n_users).repeat(n_steps)
    step = np.tile(np.arange(n_steps), n_users)
    item = topic * each + rng.integers(0, each - 1, len(topic))  # the last of a topic is never met
    events = pd.DataFrame(
        {
            "user_id": np.arange(n_users).repeat(n_steps),
            "item_id": [ids[i] for i in item],
            "timestamp": 1.6e9 + step * 86_400.0 + rng.integers(0, 40_000, len(step)),
        }
    )
    config = type(QUICK)(max_epochs=10, learning_rate=0.05, progress=False)
    doors = []
    for flag in (True, False):
        chosen = ModelConfig(
            "choice", state_dim=2, likeness=flag, repeats=False, succession=False,
            popularity_days=None,
        )  # fmt: skip
        door = InterestModel(chosen, PrecomputedVectors(table))
        doors.append(door.fit(events, table[["item_id"]], config))
    alike, plain = doors
    assert alike.posterior.layout.kinds.names == ("likeness_last", "likeness_recent")
    assert float(alike.posterior.values[COVARIATES].sum()) > 0.5
    # Newcomers to each topic: the state has learned one event, the texts speak at once.
    first = pd.DataFrame(
        {
            "user_id": [f"new{k}" for k in range(n_topics)],
            "item_id": [ids[k * each] for k in range(n_topics)],
            "timestamp": 1.601e9,
        }
    )
    gains = []
    for door in doors:
        answer = door.update(first).interest(first["user_id"].tolist())
        table_of = answer.pivot(index="user_id", columns="item_id", values="mean")
        never_met = table_of[[ids[k * each + each - 1] for k in range(n_topics)]].to_numpy()
        own = never_met.diagonal()
        others = never_met[~np.eye(n_topics, dtype=bool)].reshape(n_topics, -1)
        gains.append(np.log(own / others.max(1)).mean())
    assert gains[0] > np.log(2.0)
    assert gains[0] > gains[1]
    assert plain.posterior.texts is None


@pytest.mark.parametrize("emission", ["choice", "bernoulli"])
def test_likeness_without_any_text_changes_nothing(emission: EmissionName) -> None:
    train, _ = parts(emission)
    tables = []
    for flag in (True, False):
        config = ModelConfig(emission, state_dim=2, likeness=flag, rates=False)
        door = InterestModel(config, None).fit(train, config=QUICK)
        tables.append(numbers(door.interest()))
        if flag:
            assert (door.posterior.texts == 0.0).all()
    np.testing.assert_allclose(*tables, atol=1e-3)


def held_back(door: InterestModel) -> float:
    return float(door.fit_report()["held_back_loss"].min())


def with_followers(seed: int) -> pd.DataFrame:
    """Which item comes next depends on the last one, unless items come at random."""
    rng = np.random.default_rng(seed)
    users, steps = 40, 20
    start = rng.integers(0, 8, users)[:, None]
    item = (start + np.arange(steps)) % 8 if seed == 0 else rng.integers(0, 8, (users, steps))
    seconds = 1.4e9 + np.arange(steps) * 86_400.0 + np.arange(users)[:, None]
    names = np.char.add("u", np.arange(users).astype(str))
    return pd.DataFrame(
        {
            "user_id": np.repeat(names, steps),
            "item_id": np.char.add("i", item.ravel().astype(str)),
            "timestamp": seconds.ravel(),
        }
    )


def spoken_for(door: InterestModel, without: float, with_it: float) -> bool:
    """Whether the events held back are strong evidence for more in the model."""
    said = [note for note in door.fit_report().attrs["notes"] if "events held back" in note]
    return (without - with_it) * int(said[0].split()[0]) > 3.0


@pytest.mark.parametrize("seed", [0, 1])
def test_an_automatic_context_is_what_the_slice_speaks_for(seed: int) -> None:
    plain = {"popularity_days": None, "repeats": False, "succession": False, "likeness": False}
    plain |= {"event_drift": True}
    options = {"emission": "choice", "state_dim": 4, "context_dim": 16} | plain
    run = FitConfig(
        max_epochs=12, batch_events=256, learning_rate=0.05, n_members=1, progress=False
    )
    vectors = np.random.default_rng(3).normal(size=(8, 8))
    known = PrecomputedVectors(vectors, item_ids=[f"i{i}" for i in range(8)])
    doors = {
        layers: InterestModel(ModelConfig(context_layers=layers, **options), known).fit(
            with_followers(seed), config=run
        )
        for layers in (0, 1, "auto")
    }
    losses = [held_back(doors[layers]) for layers in (0, 1)]
    better = int(spoken_for(doors["auto"], *losses))
    if seed == 0:
        assert better == 1  # only the context knows what was last
    found = doors["auto"]
    assert found.posterior.config.context_layers == better
    np.testing.assert_array_equal(
        numbers(found.interest(at=1.5e9)), numbers(doors[better].interest(at=1.5e9))
    )
    notes = found.fit_report().attrs["notes"]
    for layers, loss in enumerate(losses):
        assert f"context_layers={layers}: held-back loss {loss:.4f}" in notes


def test_an_automatic_context_without_a_slice_is_none() -> None:
    run = FitConfig(max_epochs=1, holdout=0.0, n_members=1, progress=False)
    config = ModelConfig(emission="choice", state_dim=2, context_layers="auto")
    door = InterestModel(config, None).fit(with_followers(1), config=run)
    assert door.posterior.config.context_layers == 0


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_context_changes_the_answers(emission: EmissionName) -> None:
    plain = model(emission)
    assert plain.posterior.layout.context_layers == 0
    assert not [name for name in plain.posterior.values if name.startswith("context_")]
    base = model(emission, **CONTEXT)
    tables = [numbers(plain.interest()), numbers(base.interest())]
    for change in ({"context_layers": 1}, {"context_dim": 8}, {"context_events": 5}):
        door = model(emission, **(CONTEXT | change))
        values = door.posterior.values
        assert "context_qkv_0" in values
        assert ("context_qkv_1" in values) == ("context_layers" not in change)
        assert values["context_head"].shape == (3, change.get("context_dim", 6))
        assert values["context_distance_0"].shape == (2, change.get("context_events", 3))
        assert values["context_head"].abs().max() > 0.0  # it has learned something
        tables.append(numbers(door.interest()))
    for first in range(len(tables)):
        for second in range(first):
            assert not np.array_equal(tables[first], tables[second])


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_context_keeps_the_same_seed_the_same_bits(emission: EmissionName) -> None:
    again = fit(parts(emission)[0], emission, **CONTEXT)
    same(model(emission, **CONTEXT).interest(), again.interest())


@pytest.mark.parametrize("emission", FAMILIES)
def test_save_and_load_with_a_context_change_nothing(
    emission: EmissionName, tmp_path: Path
) -> None:
    _, test = parts(emission)
    door = loud(emission, popularity_days=(2.0, 20.0))
    door.save(tmp_path / "model")
    loaded = InterestModel.load(tmp_path / "model")
    assert loaded.config == door.posterior.config
    assert loaded.config.popularity_days == (2.0, 20.0)
    same(door.interest(), loaded.interest())
    same(door.score_events(test, k=3), loaded.score_events(test, k=3))
    user = test["user_id"].iloc[:1].tolist()
    same(door.trajectory(user, None), loaded.trajectory(user, None))
    same(door.update(test).rank(k=3), loaded.update(test).rank(k=3))


@pytest.mark.parametrize("emission", FAMILIES)
def test_event_drift_moves_the_state_with_every_event(emission: EmissionName) -> None:
    still, moving = (model(emission, event_drift=flag) for flag in (False, True))
    assert "log_event_drift" not in still.posterior.values
    assert "log_event_drift" in moving.posterior.values
    assert model(emission).posterior.config.event_drift is (emission == "choice")
    # With no time passing, only the event drift loosens the state of a known user.
    user = parts(emission)[0]["user_id"].iloc[-1]
    for door, loosens in ((still, False), (moving, True)):
        posterior = door.posterior
        row = posterior.vocabulary.users.index_of([user])
        now = advanced_belief(posterior, row, posterior.last_seconds[row])
        assert torch.equal(now.cov[0], posterior.belief.cov[row[0]]) is not loosens


def sorted_by_liking(run_length: int) -> pd.DataFrame:
    """Sessions of seconds in which a user likes, then dislikes, so many in a row."""
    rng = np.random.default_rng(4)
    users, steps = 20, 60
    liked = (np.arange(steps) // run_length + np.arange(users)[:, None]) % 2
    value = liked if run_length > 1 else rng.integers(0, 2, (users, steps))
    names = np.char.add("u", np.arange(users).astype(str))
    return pd.DataFrame(
        {
            "user_id": np.repeat(names, steps),
            "item_id": np.char.add("i", rng.integers(0, 8, users * steps).astype(str)),
            "timestamp": np.tile(1.4e9 + np.arange(steps), users) + np.arange(users).repeat(steps),
            "value": value.ravel(),
        }
    )


@pytest.mark.parametrize("run_length", [1, 15])
def test_an_automatic_event_drift_is_what_the_slice_speaks_for(run_length: int) -> None:
    """Runs within seconds are for a state that moves with events alone."""
    config = ModelConfig(emission="bernoulli", state_dim=2, rates=False)
    run = FitConfig(max_epochs=8, batch_events=256, n_members=1, progress=False)
    log = sorted_by_liking(run_length)
    doors = {
        flag: InterestModel(replace(config, event_drift=flag), None).fit(log, config=run)
        for flag in (False, True, "auto")
    }
    losses = {flag: held_back(doors[flag]) for flag in (False, True)}
    found = doors["auto"]
    better = spoken_for(found, losses[False], losses[True])
    assert better == (run_length == 15)
    assert found.posterior.config.event_drift is better
    np.testing.assert_array_equal(numbers(found.interest()), numbers(doors[better].interest()))
    notes = found.fit_report().attrs["notes"]
    for flag, loss in losses.items():
        assert f"event_drift={flag}: held-back loss {loss:.4f}" in notes


def test_an_automatic_event_drift_without_a_slice_is_none() -> None:
    run = FitConfig(max_epochs=1, holdout=0.0, n_members=1, progress=False)
    door = InterestModel(ModelConfig(state_dim=2), None).fit(sorted_by_liking(15), config=run)
    assert door.posterior.config.event_drift is False


def test_n_candidates_samples_the_softmax() -> None:
    full, sampled, more = (model("choice", n_candidates=n) for n in (None, 6, N_ITEMS))
    assert not np.array_equal(numbers(full.interest()), numbers(sampled.interest()))
    same(full.interest(), more.interest())  # nothing to sample
    np.testing.assert_allclose(full.interest()["mean"], sampled.interest()["mean"], atol=0.1)


@pytest.mark.parametrize("emission", FAMILIES)
def test_dtype(emission: EmissionName) -> None:
    single, double = (model(emission, dtype=dtype) for dtype in ("float32", "float64"))
    assert single.posterior.features.dtype == torch.float32
    for value in (double.posterior.features, double.posterior.belief.cov, double.posterior.item_cov,
                  *double.posterior.values.values()):  # fmt: skip
        assert value.dtype == torch.float64
    np.testing.assert_allclose(single.interest()["mean"], double.interest()["mean"], atol=1e-3)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("emission", FAMILIES)
def test_state_dim(emission: EmissionName) -> None:
    for dim in (1, 5):
        posterior = model(emission, state_dim=dim).posterior
        assert posterior.belief.mean.shape[1] == dim
        assert posterior.items.vectors.shape == (N_ITEMS, dim)
        assert posterior.values["log_drift"].shape == (dim,)


def test_an_unknown_kind_counts_as_the_usual_one() -> None:
    train, test = parts("bernoulli")
    kind = np.where(np.arange(len(train)) % 3 == 1, "rare", "usual")
    door = fit(train.assign(kind=kind), "bernoulli")
    assert door.posterior.vocabulary.kinds == ("usual", "rare")
    with pytest.warns(DataWarning, match=r"kind 'odd' was not in the training log: \d+ events"):
        odd = door.score_events(test.assign(kind="odd"))
    same(odd, door.score_events(test.assign(kind="usual")))
    rare = door.score_events(test.assign(kind="rare"))
    assert not np.allclose(odd["log_prob"], rare["log_prob"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("emission", "poisson"), ("state_dim", 0), ("state_dim", 2.0), ("half_life_days", -1.0),
        ("positive_threshold", float("nan")), ("popularity_days", "week"), ("repeats", "often"),
        ("popularity_days", ()), ("popularity_days", (7.0, 7.0)), ("popularity_days", (7.0, 0.0)),
        ("popularity_days", (7.0, "week")), ("popularity_days", [7.0]), ("succession", "often"),
        ("likeness", "often"), ("likeness", 2),
        ("context_layers", -1), ("context_layers", 1.0), ("context_layers", "some"),
        ("context_layers", True),
        ("context_dim", 0), ("context_dim", 7), ("context_dim", 8.0), ("context_events", 1),
        ("context_events", None), ("rates", "often"), ("event_drift", 3),
        ("n_candidates", 1), ("dtype", "float16"),
    ],
)  # fmt: skip
def test_impossible_options_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{field}=.*: expected"):
        ModelConfig(**{field: value})  # type: ignore[arg-type]
