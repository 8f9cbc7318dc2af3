"""Bad input is named, in words that tell what to do, and loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import (
    BayesInterestError,
    ConfigError,
    DataWarning,
    DeviceError,
    EncoderError,
    EventError,
    InputError,
    ItemError,
    NotFittedError,
    TimeOrderError,
)
from bayes_interest.events.read import read_items
from bayes_interest.interest_model import InterestModel
from bayes_interest.text.encoder import TextEncoder
from bayes_interest.text.hashing import HashingEncoder
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import FAMILIES, QUICK, model, parts, same, simulation

DAY = 86_400.0


def log(**columns: object) -> pd.DataFrame:
    """Two users, three items, eight events, with columns replaced."""
    base: dict[str, object] = {
        "user_id": list("ababbaab"),
        "item_id": list("xyzxyzxy"),
        "timestamp": [1.6e9 + day * DAY for day in range(8)],
        "value": [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0],
    }
    return pd.DataFrame(base | columns)


def fit(events: object, items: object | None = None, **config: object) -> InterestModel:
    chosen = ModelConfig(**{"state_dim": 2} | config)  # type: ignore[arg-type]
    return InterestModel(chosen, HashingEncoder(16)).fit(events, items, QUICK)


BAD_LOGS = {
    "a column is missing": (
        log().drop(columns="item_id"), EventError, r"column 'item_id' is missing, found \['user_id'"
    ),
    "a column has another name": (
        log().rename(columns={"user_id": "userid"}), EventError, "did you mean 'userid'"
    ),
    "no log at all": ([1, 2], EventError, "expected a path or a data frame, got list"),
    "a file that is not there": ("missing.csv", EventError, r"missing\.csv: no such file"),
    "empty": (log()[:0], EventError, "no event to work with"),
    "one event": (log()[:1], EventError, "nothing to learn from|needs at least two"),
    "values of the wrong type": (
        log(value=["good"] * 8), EventError, "value must hold numbers, got 'good' in row 0"
    ),
    "times of the wrong type": (
        log(timestamp=[True] * 8), EventError, "timestamp must hold numbers.* got a column of bool"
    ),
    "ids of the wrong type": (
        log(user_id=[["a"]] * 8), EventError, "user_id must hold integers or strings, got list"
    ),
    "ids of two types": (log(item_id=["x", 1] * 4), EventError, "item_id mixes types"),
    "all values missing": (log(value=[np.nan] * 8), EventError, "no event to work with"),
    "times in the future": (
        log(timestamp=[time.time() + 30 * DAY] * 8), EventError, "lie more than 1 day in the future"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LOGS)
def test_a_bad_log_is_named_and_an_earlier_fit_survives(name: str) -> None:
    events, error, message = BAD_LOGS[name]
    for emission in FAMILIES:
        door = model(emission)
        before = door.interest()
        with pytest.raises(error, match=message):  # type: ignore[arg-type]
            door.fit(events, config=QUICK)
        same(before, door.interest())


@pytest.mark.parametrize("name", [name for name in BAD_LOGS if name not in ("empty", "one event")])
def test_a_bad_update_is_named_and_loses_nothing(name: str) -> None:
    events, error, message = BAD_LOGS[name]
    if name == "all values missing":
        return  # nothing to absorb is no error of an update
    door = model("bernoulli")
    before = door.interest()
    for ask in (door.update, door.score_events):
        with pytest.raises(error, match=message):  # type: ignore[arg-type]
            ask(events)
    same(before, door.interest())


def test_one_user_with_several_events_is_enough() -> None:
    table = fit(log(user_id=["a"] * 8)).interest()
    assert table["mean"].between(0, 1).all()
    choices = fit(log(user_id=["a"] * 8).drop(columns="value"))
    np.testing.assert_allclose(choices.interest()["mean"].sum(), 1.0, atol=1e-5)


def test_one_item() -> None:
    table = fit(log(item_id=["x"] * 8)).interest()
    assert table["item_id"].unique().tolist() == ["x"]
    with pytest.raises(EventError, match="only one item was ever chosen: a choice needs at least"):
        fit(log(item_id=["x"] * 8).drop(columns="value"))


def test_all_outcomes_equal() -> None:
    with pytest.raises(EventError, match='all 8 outcomes are equal: emission="bernoulli" has noth'):
        fit(log(value=[1.0] * 8), emission="bernoulli")
    with pytest.raises(EventError, match='all 8 outcomes are equal: emission="rating"'):
        fit(log(value=[3.0] * 8), emission="rating")
    with pytest.raises(EventError, match="no event reaches positive_threshold"):
        fit(log(value=[1.0] * 8), emission="choice", positive_threshold=4.0)
    door = fit(log(value=[1.0] * 8))  # left to itself it takes every event as a choice
    assert door.posterior.config.emission == "choice"
    assert "every event is a choice" in door.fit_report().attrs["reason"]


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_a_scalar_family_needs_values(emission: EmissionName) -> None:
    bare = log().drop(columns="value")
    with pytest.raises(EventError, match=f'emission="{emission}" needs a value column; the log ha'):
        fit(bare, emission=emission)
    door = model(emission)
    with pytest.raises(EventError, match="needs a value column"):
        door.update(parts(emission)[1].drop(columns="value"))


def test_outcomes_outside_the_family() -> None:
    with pytest.raises(EventError, match=r'value 7 in row 3 does not fit emission="bernoulli"'):
        fit(log(value=[0, 1, 1, 7, 0, 1, 0, 1]), emission="bernoulli")
    with pytest.raises(ConfigError, match=r"value has 30 different values, .* positive_threshold="):
        fit(pd.concat([log()] * 4)[:30].assign(
            value=np.arange(30) / 7, timestamp=1.6e9 + np.arange(30)))  # fmt: skip


@pytest.mark.parametrize(
    ("emission", "value", "message"),
    [
        ("bernoulli", 2.0, r"value 2 in row 1 does not fit .*: expected 0 or 1 \(or pass"),
        ("rating", 2.5, r"value 2.5 in row 1 does not fit .*: expected one of the levels 0, 1, 2"),
        ("rating", 9.0, "value 9 in row 1 does not fit"),
    ],
)
def test_new_outcomes_outside_the_family(
    emission: EmissionName, value: float, message: str
) -> None:
    _, test = parts(emission)
    test = test.assign(value=[test["value"].iloc[0], value, *test["value"].iloc[2:]])
    door = model(emission)
    before = door.interest()
    for ask in (door.update, door.score_events):
        with pytest.raises(EventError, match=message):
            ask(test)
    same(before, door.interest())


def test_empty_texts_are_items_without_text() -> None:
    items = pd.DataFrame({"item_id": list("xyz"), "text": ["a red hat", "", "  "]})
    door = fit(log(), items)
    assert door.posterior.has_text.tolist() == [True, False, False]
    assert np.isfinite(door.interest()[["mean", "sd"]]).all(axis=None)
    nothing = fit(log(), items.assign(text=""))
    assert not nothing.posterior.has_text.any()


def test_new_items_of_a_model_without_texts_are_named() -> None:
    items = pd.DataFrame({"item_id": ["new"], "text": ["a red hat"]})
    event = log()[-1:].assign(item_id="new", timestamp=1.7e9)
    door = fit(log())
    before = door.interest()
    for ask in (door.update, door.score_events):
        with pytest.raises(
            ItemError, match=r"item 'new' .* vector of 16 numbers, but the model was"
        ):
            ask(event, items)
        with pytest.raises(ItemError, match=r"item 'new' is unknown .* has no text \(1 such\)"):
            ask(event)
    same(before, door.interest())
    with_text = fit(log(), pd.DataFrame({"item_id": list("xyz"), "text": ["hat", "cat", "hut"]}))
    assert "new" in set(with_text.update(event, items).interest()["item_id"])


def test_milliseconds_are_taken_and_said() -> None:
    with pytest.warns(DataWarning, match=r"read as ms since 1970-01-01; pass time_unit"):
        door = fit(log(timestamp=[(1.6e9 + day * DAY) * 1000 for day in range(8)]))
    same(door.interest(), fit(log()).interest())


def test_unsorted_events_are_fine() -> None:
    same(
        fit(log()[::-1]).interest(["a", "b"], list("xyz")),
        fit(log()).interest(["a", "b"], list("xyz")),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_events_without_a_finite_value_are_left_out_and_counted(value: float) -> None:
    broken = log(value=[1.0, 0.0, value, 1.0, 0.0, 0.0, 1.0, 0.0])
    door = fit(broken)
    assert len(door.posterior.history) == 7
    same(door.interest(), fit(log().drop(index=2)).interest())


def test_items_given_twice_are_counted_and_the_first_is_taken() -> None:
    items = pd.DataFrame({"item_id": ["x", "y", "x", "z"], "text": ["hat", "cat", "hut", "fox"]})
    assert read_items(items).report.to_frame()["reason"].tolist() == ["item_id repeated"]
    same(fit(log(), items).interest(), fit(log(), items.drop(index=2)).interest())


def test_vectors_given_twice() -> None:
    vectors = pd.DataFrame({"item_id": ["x", "x"], "one": [1.0, 2.0]})
    with pytest.raises(ItemError, match=r"1 item\(s\) have more than one vector, first: 'x'"):
        PrecomputedVectors(vectors)


def test_numbers_in_the_events_and_strings_in_the_items() -> None:
    whole = log(item_id=[1, 2, 3, 1, 2, 3, 1, 2])
    items = pd.DataFrame({"item_id": ["1", "2", "3"], "text": ["hat", "cat", "hut"]})
    with pytest.raises(ItemError, match="holds integers in the events but strings in the items"):
        fit(whole, items)
    door = fit(whole, items.assign(item_id=[1, 2, 3]))
    with pytest.raises(ItemError, match="item '1' is unknown to the model"):
        door.interest(items=["1"])
    before = door.interest()
    late = whole[-1:].assign(item_id="1", timestamp=1.7e9)
    with pytest.raises(ItemError, match="item '1' is unknown to the model"):
        door.update(late)
    same(before, door.interest())


def test_precomputed_vectors_of_another_width() -> None:
    _, test = parts("bernoulli")
    door = model("bernoulli")
    door.encoder = PrecomputedVectors(np.ones((1, 3)), item_ids=["new"])
    with pytest.raises(
        ItemError, match=r"'new' is unknown .* vector of 3 numbers, .* fitted with 7"
    ):
        door.update(test[-1:].assign(item_id="new"))


def test_an_event_before_the_users_last_one() -> None:
    train, test = parts("rating")
    user, last = train["user_id"].iloc[-1], train["timestamp"].iloc[-1]
    late = test[-1:].assign(user_id=user, timestamp=last - pd.Timedelta(seconds=1))
    door = model("rating")
    before = door.interest()
    seconds = int(last.timestamp())
    message = (
        rf"user '{user}' has an event at {seconds - 1} s, before the last one absorbed at "
        rf"{seconds} s \(1 such events\)\. Refit with them, or leave them out"
    )
    for ask in (door.update, door.score_events):
        with pytest.raises(TimeOrderError, match=message):
            ask(late)
    same(before, door.interest())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "abacus"])
def test_a_device_that_is_not_there(device: str) -> None:
    door = model("bernoulli")
    before = door.interest()
    with pytest.raises(DeviceError, match=rf'device="{device}" cannot be used .* \(0 CUDA devices'):
        door.fit(parts("bernoulli")[0], config=FitConfig(device=device, progress=False))
    same(before, door.interest())


def test_an_encoder_that_cannot_be_found(tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": list("xyz"), "text": ["hat", "cat", "hut"]})
    missing = TextEncoder(tmp_path / "no-such-model", cache=tmp_path / "cache")
    with pytest.raises(EncoderError, match="no-such-model"):
        InterestModel(ModelConfig(state_dim=2), missing).fit(log(), items, QUICK)


def test_nothing_can_be_asked_before_a_fit() -> None:
    door = InterestModel()
    events = simulation("choice").events
    asks = [
        door.interest, door.rank, door.fit_report, lambda: door.trajectory(["a"], ["x"]),
        lambda: door.update(events), lambda: door.score_events(events), lambda: door.save("model"),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(NotFittedError, match="not fitted yet: call fit"):
            ask()
    assert "not fitted" in repr(door)


def test_a_string_is_no_list_of_users() -> None:
    for ask in ("interest", "rank", "trajectory"):
        with pytest.raises(
            InputError, match=r"users='u1': expected a list of ids, .* users=\['u1'"
        ):
            getattr(model("bernoulli"), ask)(
                users="u1", **{"items": None} if ask == "trajectory" else {}
            )


@pytest.mark.parametrize("value", [None, float("nan"), 1.5])
def test_a_user_that_can_be_no_id(value: object) -> None:
    with pytest.raises(InputError, match="ids must be integers or strings"):
        model("bernoulli").interest(users=[value])


def test_every_error_can_be_caught_at_once() -> None:
    for error in (EventError, ItemError, ConfigError, DeviceError, EncoderError, NotFittedError):
        assert issubclass(error, BayesInterestError)
    for error in (EventError, ItemError, ConfigError, TimeOrderError, InputError):
        assert issubclass(error, ValueError)
