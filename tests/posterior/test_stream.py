"""A stream gives what `update` gives, event by event; its forecasts are those of `score_events`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bayes_interest as bi
from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import DataWarning, EventError, InputError, ItemError, TimeOrderError
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.stream_states import CompiledStates, FilteredStates
from tests.fitted import FAMILIES, fit, loud, model, parts

MEMBERS = FitConfig(max_epochs=3, n_members=3, progress=False)
SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")


@cache
def with_members(emission: EmissionName) -> bi.InterestModel:
    found = fit(parts(emission)[0], emission, MEMBERS)
    assert len(found.posterior.members) == 3
    return found


@cache
def with_kinds() -> bi.InterestModel:
    train = parts("bernoulli")[0]
    kinds = np.where(np.arange(len(train)) % 3 == 0, "view", "click")
    return fit(train.assign(kind=kinds), "bernoulli", half_life_days=20.0, event_drift=True)


def rows(events: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in events.to_dict("records"):
        names = ("user_id", "item_id", "timestamp", "value", "kind")
        yield {name: row[name] for name in names if name in row}


def streamed(door: bi.InterestModel, events: pd.DataFrame) -> bi.InterestModel:
    stream = door.stream()
    for row in rows(events):
        stream.observe(**row)
    assert len(stream) == len(events)
    return stream.model()


def updated(door: bi.InterestModel, events: pd.DataFrame) -> bi.InterestModel:
    other = bi.InterestModel(door.config, door.encoder)
    other._posterior = door.posterior
    return other.update(events)


def close(one: Posterior, other: Posterior, tolerance: float = 1e-5) -> None:
    """The same beliefs to rounding; the same log, ids and times exactly."""
    pairs = zip(
        (one.belief, *one.belief.members), (other.belief, *other.belief.members), strict=True
    )
    for first, second in pairs:
        torch.testing.assert_close(first.mean, second.mean, rtol=0, atol=tolerance)
        torch.testing.assert_close(first.cov, second.cov, rtol=0, atol=tolerance)
    assert one.vocabulary.users == other.vocabulary.users
    np.testing.assert_array_equal(one.last_seconds, other.last_seconds)
    for name in ("user_index", "item_index", "seconds", "outcome", "kind_index", "absorb"):
        np.testing.assert_array_equal(getattr(one.history, name), getattr(other.history, name))


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_stream_ends_where_update_ends(
    emission: EmissionName, dtype: str, tolerance: float
) -> None:
    door, test = model(emission, dtype=dtype), parts(emission)[1]
    if emission == "choice":
        test = test[-9:]
    before = door.posterior
    close(streamed(door, test).posterior, updated(door, test).posterior, tolerance)
    assert door.posterior is before


@pytest.mark.parametrize("emission", SCALAR)
def test_members_move_with_every_event(emission: EmissionName) -> None:
    door, test = with_members(emission), parts(emission)[1]
    found = streamed(door, test).posterior
    close(found, updated(door, test).posterior)
    pairs = zip(found.belief.members, door.posterior.belief.members, strict=True)
    moved = [bool((after.mean != before.mean).any()) for after, before in pairs]
    assert all(moved)


@pytest.mark.parametrize(
    "config",
    [
        {"rates": False},
        {"rates": False, "half_life_days": 11.0},
        {"event_drift": True},
        {"item_residuals": False},
        {"positive_threshold": 0.5},
    ],
    ids=str,
)
def test_settings_of_the_compiled_step(config: dict[str, Any]) -> None:
    door, test = model("bernoulli", **config), parts("bernoulli")[1]
    stream = door.stream()
    assert isinstance(stream._states, CompiledStates)
    close(streamed(door, test).posterior, updated(door, test).posterior)


@pytest.mark.parametrize("config", [{"repeats": True}, {"popularity_days": (3.0,)}], ids=str)
def test_other_covariates_go_by_the_filter_of_logs(config: dict[str, Any]) -> None:
    door, test = model("bernoulli", **config), parts("bernoulli")[1][-9:]
    assert isinstance(door.stream()._states, FilteredStates)
    close(streamed(door, test).posterior, updated(door, test).posterior)


def test_a_context_goes_by_the_filter_of_logs() -> None:
    door, test = loud("bernoulli"), parts("bernoulli")[1][-9:]
    assert isinstance(door.stream()._states, FilteredStates)
    close(streamed(door, test).posterior, updated(door, test).posterior)


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("members", [False, True])
def test_forecasts_are_those_of_score_events(emission: EmissionName, members: bool) -> None:
    door = with_members(emission) if members else model(emission)
    test = parts(emission)[1]
    if emission == "choice":
        test = test[-7:]
    scores = door.score_events(test)
    stream = door.stream()
    found = [stream.observe(**row) for row in rows(test)]
    table = np.array([(one.mean, one.sd, one.log_prob) for one in found])
    np.testing.assert_allclose(table, scores[["mean", "sd", "log_prob"]], rtol=0, atol=2e-5)
    assert np.ptp(table[:, 0]) > 0.01


@pytest.mark.parametrize("emission", SCALAR)
def test_forecasts_of_a_recalibrated_model_are_mapped(emission: EmissionName) -> None:
    train, test = parts(emission)
    plain, half = fit(train, emission), len(test) // 2
    raw = [plain.stream().observe(**row) for row in rows(test[half:])]
    mapped = plain.recalibrate(test[:half], method="platt")
    scores = mapped.score_events(test[half:])
    stream = mapped.stream()
    found = [stream.observe(**row) for row in rows(test[half:])]
    table = np.array([(one.mean, one.sd, one.log_prob) for one in found])
    np.testing.assert_allclose(table, scores[["mean", "sd", "log_prob"]], rtol=0, atol=2e-5)
    assert max(abs(a.mean - b.mean) for a, b in zip(raw, found, strict=True)) > 1e-3
    assert stream.model().posterior.recalibration is mapped.posterior.recalibration


def test_kinds_have_their_reliability() -> None:
    door, test = with_kinds(), parts("bernoulli")[1]
    kinds = np.where(np.arange(len(test)) % 2 == 0, "view", "click")
    events = test.assign(kind=kinds)
    stream, scores = door.stream(), door.score_events(events)
    found = [stream.observe(**row) for row in rows(events)]
    close(stream.model().posterior, updated(door, events).posterior)
    table = np.array([(one.mean, one.sd, one.log_prob) for one in found])
    np.testing.assert_allclose(table, scores[["mean", "sd", "log_prob"]], rtol=0, atol=2e-5)
    reference = streamed(door, test).posterior  # None counts as the most frequent kind
    close(reference, updated(door, test).posterior)
    assert not torch.equal(reference.belief.mean, stream.model().posterior.belief.mean)
    before = repr(stream)
    with pytest.warns(DataWarning, match="kind 'scroll' was not in the training log"):
        stream.observe(**(next(rows(test[-1:])) | {"kind": "scroll"}))
    assert repr(stream) != before


def test_forecasts_of_other_kinds_are_mapped_too() -> None:
    door, test = with_kinds(), parts("bernoulli")[1]
    events = test.assign(kind=np.where(np.arange(len(test)) % 2 == 0, "view", "click"))
    half = len(test) // 2
    mapped = door._with(door.posterior).recalibrate(events[:half], method="platt")
    scores, stream = mapped.score_events(events[half:]), mapped.stream()
    found = [stream.observe(**row) for row in rows(events[half:])]
    table = np.array([(one.mean, one.sd, one.log_prob) for one in found])
    np.testing.assert_allclose(table, scores[["mean", "sd", "log_prob"]], rtol=0, atol=2e-5)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(0, 10), st.sampled_from((0.0, 0.0, 1.0, 4_000.5)),
        st.booleans(), st.booleans(),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(events=EVENTS)
def test_any_stream_in_time_order_equals_update_in_one_piece(
    events: list[tuple[int, int, float, bool, bool]],
) -> None:
    """Ties, users new and old, models taken in the middle: nothing changes the end."""
    door = model("bernoulli")
    known = door.posterior.vocabulary
    seconds = float(np.nanmax(door.posterior.last_seconds))
    stream, told = door.stream(), []
    for user, item, gap, engaged, pause in events:
        seconds += gap
        user_id = f"new {user}" if user > 3 else known.users.ids[user]
        told.append((user_id, known.items.ids[item], seconds, float(engaged)))
        stream.observe(*told[-1])
        if pause:
            stream.model()
    frame = pd.DataFrame(told, columns=["user_id", "item_id", "timestamp", "value"])
    distinct = frame.drop_duplicates()
    if len(distinct) == len(frame):  # `update` drops repeats within one log, a stream cannot
        close(stream.model().posterior, updated(door, frame).posterior)
    single = door
    for row in range(len(frame)):
        single = updated(single, frame[row : row + 1])
    close(stream.model().posterior, single.posterior)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(6)))
def test_events_that_are_late_for_others_count_as_in_single_updates(order: list[int]) -> None:
    door = model("bernoulli")
    known, start = door.posterior.vocabulary, float(np.nanmax(door.posterior.last_seconds))
    stream, single = door.stream(), door
    for place in order:
        told = (known.users.ids[place], known.items.ids[place % 2], start + 50.0 * place, 1.0)
        stream.observe(*told)
        frame = pd.DataFrame([told], columns=["user_id", "item_id", "timestamp", "value"])
        single = updated(single, frame)
    close(stream.model().posterior, single.posterior)


@pytest.mark.parametrize("members", [False, True], ids=["points", "draws"])
def test_the_model_taken_is_not_touched_by_later_events(members: bool) -> None:
    door = with_members("bernoulli") if members else model("bernoulli")
    test = parts("bernoulli")[1]
    stream = door.stream()
    events = list(rows(test))
    for row in events[:20]:
        stream.observe(**row)
    early = stream.model()
    before = early.posterior.belief.mean.clone(), len(early.posterior.history)
    for row in events[20:]:
        stream.observe(**row)
    assert torch.equal(early.posterior.belief.mean, before[0])
    assert len(early.posterior.history) == before[1] == len(door.posterior.history) + 20
    close(early.posterior, updated(door, test[:20]).posterior)
    close(stream.model().posterior, updated(door, test).posterior)
    assert len(early.rank(users=[events[0]["user_id"]], k=2)) == 2


def test_more_new_users_than_there_was_room_for() -> None:
    door, test = model("rating"), parts("rating")[1]
    item, start = test["item_id"].iloc[0], test["timestamp"].iloc[-1]
    events = pd.DataFrame(
        {
            "user_id": np.arange(200) % 150,
            "item_id": item,
            "timestamp": start + pd.to_timedelta(np.arange(200), unit="min"),
            "value": 3.0,
        }
    ).assign(user_id=lambda frame: "more " + frame["user_id"].astype(str))
    close(streamed(door, events).posterior, updated(door, events).posterior)


@pytest.mark.parametrize(
    "given_as",
    [
        lambda at: at,
        lambda at: at.timestamp(),
        lambda at: int(at.timestamp()),
        lambda at: at.to_pydatetime(),
        lambda at: at.to_pydatetime().replace(tzinfo=None),
        lambda at: at.to_pydatetime().astimezone(dt.timezone(dt.timedelta(hours=5))),
        lambda at: at.tz_localize(None),
        lambda at: at.isoformat(),
        lambda at: at.tz_localize(None).isoformat(" "),
        lambda at: at.tz_convert("Asia/Tokyo").isoformat(),
        lambda at: f"{at:%Y%m%dT%H%M%S}Z",
        lambda at: np.datetime64(at.tz_localize(None)),
        lambda at: np.float64(at.timestamp()),
        lambda at: str(int(at.timestamp())),
    ],
)
def test_times_are_read_as_in_a_log(given_as: Any) -> None:
    door = model("bernoulli", rates=False)
    row = next(rows(parts("bernoulli")[1][-1:]))
    at = pd.Timestamp(row["timestamp"]).floor("s")
    stream = door.stream()
    stream.observe(**(row | {"timestamp": given_as(at)}))
    assert stream.model().posterior.history.seconds.max() == at.timestamp()


def test_fractions_of_a_second_are_those_of_a_log() -> None:
    door, row = model("bernoulli"), next(rows(parts("bernoulli")[1][-1:]))
    seconds = pd.Timestamp(row["timestamp"]).timestamp() + 0.123456789
    frame = pd.DataFrame([row | {"timestamp": seconds}])
    found = streamed(door, frame).posterior.last_seconds
    np.testing.assert_array_equal(found, updated(door, frame).posterior.last_seconds)


WRONG = [
    ({"user_id": None}, EventError, "user_id must be an integer or a string, got NoneType"),
    ({"user_id": True}, EventError, "user_id must be an integer or a string, got bool True"),
    ({"user_id": "  "}, EventError, "user_id is missing"),
    ({"user_id": 2**70}, EventError, "beyond 64 bits"),
    ({"item_id": 1.5}, EventError, "item_id must be an integer or a string, got float 1.5"),
    ({"item_id": "no such"}, ItemError, r"item 'no such' is unknown .*update\(events, items="),
    ({"timestamp": None}, EventError, "timestamp=None: expected unix seconds.*missing"),
    ({"timestamp": float("nan")}, EventError, "timestamp=nan: expected unix seconds"),
    ({"timestamp": "soon"}, EventError, "timestamp='soon'.*unreadable"),
    ({"timestamp": "2024-02-30T00:00:00Z"}, EventError, "timestamp='2024-02-30.*unreadable"),
    ({"timestamp": True}, EventError, "timestamp must hold numbers"),
    ({"timestamp": 1.7e12}, EventError, "Divide milliseconds by 1,000"),
    ({"timestamp": "1700000000000"}, EventError, "read as ms"),
    ({"timestamp": 9e9}, EventError, "more than 1 day in the future.*allow_future=True"),
    ({"timestamp": pd.Timestamp("2300-01-01")}, EventError, "timestamp too late"),
    ({"timestamp": "1000-01-01"}, EventError, "timestamp too early"),
    ({"timestamp": dt.datetime(1000, 1, 1)}, EventError, "timestamp too early"),
    ({"timestamp": 5.0}, TimeOrderError, r"has an event at 5 s, before the last one absorbed at"),
    ({"value": None}, EventError, 'emission="bernoulli" needs a value'),
    ({"value": 0.5}, EventError, "value=0.5 does not fit .* expected 0 or 1"),
    ({"value": float("inf")}, EventError, "value must be a finite number, got inf"),
    ({"value": "much"}, EventError, "value must be a finite number, got 'much'"),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
def test_what_is_wrong_is_named_and_nothing_changes(
    change: dict[str, Any], error: type[InputError], message: str
) -> None:
    door, test = model("bernoulli"), parts("bernoulli")[1]
    stream, row = door.stream(), next(rows(test[-1:]))
    stream.observe(**row)
    before = stream.model().posterior
    with pytest.raises(error, match=message):
        stream.observe(**(row | change))
    if not {"user_id", "timestamp"} & set(change):  # of a new user, who must not stay either
        with pytest.raises(error, match=message):
            stream.observe(**(row | {"user_id": "newcomer"} | change))
    assert stream.model().posterior is before
    assert len(stream) == 1


def test_a_rating_outside_the_levels_is_named() -> None:
    stream, row = model("rating").stream(), next(rows(parts("rating")[1][-1:]))
    with pytest.raises(EventError, match=r"value=2\.5 does not fit .* one of the levels"):
        stream.observe(**(row | {"value": 2.5}))


def test_the_future_can_be_allowed() -> None:
    row = next(rows(parts("bernoulli")[1][-1:])) | {"timestamp": 9e9}
    stream = model("bernoulli").stream(allow_future=True)
    stream.observe(**row)
    assert np.nanmax(stream.model().posterior.last_seconds) == 9e9


def test_a_choice_needs_no_value_and_one_below_the_threshold_is_no_outcome() -> None:
    door = model("choice", positive_threshold=0.5)
    row = next(rows(parts("choice")[1][-1:]))
    row.pop("value", None)
    assert np.isfinite(door.stream().observe(**row).log_prob)
    stream = door.stream()
    assert np.isnan(stream.observe(**row, value=0.0).log_prob)
    later = stream.model().posterior
    assert torch.equal(later.belief.mean, door.posterior.belief.mean)
    assert len(later.history) == len(door.posterior.history) + 1


def test_a_stream_of_a_streams_model_goes_on() -> None:
    door, test = model("bernoulli"), parts("bernoulli")[1]
    half = streamed(door, test[:30])
    close(streamed(half, test[30:]).posterior, updated(door, test).posterior)


def test_a_stream_says_what_it_has_absorbed() -> None:
    door, test = model("bernoulli"), parts("bernoulli")[1]
    stream = door.stream()
    assert repr(stream) == "InterestStream(0 events since it was made)"
    assert stream.model().posterior is door.posterior
    stream.observe(**next(rows(test[-1:])))
    assert repr(stream) == "InterestStream(1 events since it was made)"
