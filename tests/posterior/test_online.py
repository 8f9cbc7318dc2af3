"""Updating is filtering: however new events are split, the states are those from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.errors import ItemError, TimeOrderError
from bayes_interest.events.history import make_history
from bayes_interest.events.read import read_events
from bayes_interest.model.prepare import log_history
from bayes_interest.posterior import online
from bayes_interest.posterior.interest import interest
from bayes_interest.posterior.online import absorb, contexts, moments_of, needed, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import advanced_belief
from tests.fitted import FAMILIES, loud, model, numbers, parts, same
from tests.oracles import slow_context

N_SINGLE = 17


def one_by_one(test: pd.DataFrame) -> Iterator[pd.DataFrame]:
    yield test[:-N_SINGLE]
    for row in range(len(test) - N_SINGLE, len(test)):
        yield test[row : row + 1]


def in_chunks(test: pd.DataFrame) -> Iterator[pd.DataFrame]:
    cuts = np.sort(np.random.default_rng(3).integers(0, len(test), 7))
    for first, last in zip((0, *cuts), (*cuts, len(test)), strict=True):
        yield test[first:last]


def by_user(test: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for _, own in test.groupby("user_id"):
        yield own


def from_scratch(posterior: Posterior, events: pd.DataFrame) -> Posterior:
    """Every user at the prior, then one filter pass over all events."""
    config = posterior.config
    history = log_history(read_events(events), posterior.vocabulary, config.emission, config)
    return absorb(restarted(posterior), history)


def table(posterior: Posterior) -> np.ndarray:
    return numbers(interest(posterior, None, None, None, 0.9, 300))


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("split", [one_by_one, in_chunks])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_update_in_any_batches_equals_the_filter_from_scratch(
    emission: EmissionName, split: object, dtype: str, tolerance: float
) -> None:
    train, test = parts(emission)
    online = model(emission, dtype=dtype)
    for chunk in split(test):  # type: ignore[operator]
        online.update(chunk)
    scratch = from_scratch(online.posterior, pd.concat((train, test)))
    assert len(online.posterior.history) == len(scratch.history) == len(train) + len(test)
    np.testing.assert_allclose(table(online.posterior), table(scratch), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(online.posterior.last_seconds, scratch.last_seconds)


@pytest.mark.parametrize("shift", [0.0, -1.5])
def test_choices_are_filtered_alike_in_blocks_of_any_size(
    shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior = restarted(replace(model("choice").posterior, cold_shift=shift))
    assert not posterior.belief.diagonal
    history = model("choice").posterior.history
    whole, after, _ = online.filter_history(posterior, history)
    monkeypatch.setattr(online, "FULL_CELLS", 1)  # a user at a time
    pieces, again, _ = online.filter_history(posterior, history)
    assert whole.log_prob is not None
    assert pieces.log_prob is not None
    assert torch.equal(whole.log_prob, pieces.log_prob)
    assert torch.equal(after.mean, again.mean)
    assert torch.equal(after.cov, again.cov)
    plain = online.filter_history(replace(posterior, cold_shift=0.0), history)[1]
    assert torch.equal(plain.mean, after.mean) == (shift == 0.0)


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("split", [one_by_one, in_chunks])
def test_update_with_a_context_equals_the_filter_from_scratch(
    emission: EmissionName, split: object
) -> None:
    train, test = parts(emission)
    online = loud(emission)
    for chunk in split(test):  # type: ignore[operator]
        online.update(chunk)
    scratch = from_scratch(online.posterior, pd.concat((train, test)))
    np.testing.assert_allclose(table(online.posterior), table(scratch), rtol=0, atol=1e-5)
    silent = scratch.values | {"context_head": 0.0 * scratch.values["context_head"]}
    without = from_scratch(replace(scratch, values=silent), pd.concat((train, test)))
    assert np.abs(table(without) - table(scratch)).max() > 0.01


def slow_user_context(posterior: Posterior, user: int, at: float) -> torch.Tensor:
    """`c_u(at)` by the whole history and one more step, (state_dim,)."""
    own = posterior.history.take((posterior.history.user_index == user) & posterior.history.absorb)
    days = np.diff(own.seconds, prepend=own.seconds[:1], append=at) / 86_400.0
    columns = (own.item_index, own.outcome, own.kind_index)
    padded = [torch.as_tensor(np.append(column, column[:1])) for column in columns]
    vectors, values = posterior.items.vectors, posterior.values
    days = torch.as_tensor(days).to(vectors)
    return slow_context(posterior.layout, values, vectors, *padded, days)[-1]


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_context_of_a_moment_is_that_of_the_whole_history(emission: EmissionName) -> None:
    posterior = loud(emission, dtype="float64").posterior
    users = np.arange(len(posterior.vocabulary.users))
    seconds = posterior.last_seconds + 7_777.0 * users
    found = contexts(posterior, moments_of(posterior, users, seconds))
    assert found is not None
    for user in users:
        wanted = slow_user_context(posterior, user, seconds[user])
        torch.testing.assert_close(found[user], wanted, rtol=1e-9, atol=1e-9)
    later = advanced_belief(posterior, users, seconds)
    silent = posterior.values | {"context_head": 0.0 * posterior.values["context_head"]}
    without = advanced_belief(replace(posterior, values=silent), users, seconds)
    torch.testing.assert_close(later.mean, without.mean + found, rtol=1e-12, atol=1e-12)
    assert torch.equal(later.cov, without.cov)


def test_without_an_earlier_event_there_is_no_context() -> None:
    posterior = loud("choice").posterior.with_users(np.array(["newcomer"], dtype=object))
    newcomer = np.array([len(posterior.vocabulary.users) - 1])
    found = contexts(posterior, moments_of(posterior, newcomer, np.array([2e9])))
    assert found is not None
    assert (found == 0.0).all()
    plain = model("choice").posterior
    assert contexts(plain, moments_of(plain, np.array([0]), np.array([2e9]))) is None


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_needed_are_the_last_absorbed_events_before_each_moment(reach: int) -> None:
    rng = np.random.default_rng(reach)
    zeros = np.zeros(40, dtype=np.int64)
    log = make_history(
        rng.integers(0, 4, 40), zeros, rng.integers(0, 30, 40), zeros, zeros, 4,
        rng.random(40) < 0.7,
    )  # fmt: skip
    moments = rng.integers(0, 40, 5)
    wanted = np.zeros(40, dtype=bool)
    for moment in moments:
        own = log.user_index == log.user_index[moment]
        earlier = np.flatnonzero(own & log.absorb & (np.arange(40) < moment))
        wanted[earlier[-reach:]] = True
    assert wanted.any()
    assert np.array_equal(needed(log, moments, reach), wanted)


@pytest.mark.parametrize("name", ["FILTER_EVENTS", "CHOICE_FILTER_EVENTS"])
def test_the_size_of_the_filters_blocks_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emission: EmissionName = "choice" if name.startswith("CHOICE") else "bernoulli"
    fitted = model(emission)
    whole = restarted(fitted.posterior)
    history = fitted.posterior.history
    found, after, _ = online.filter_history(whole, history)
    monkeypatch.setattr(online, name, 64)
    pieces, end, _ = online.filter_history(whole, history)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(pieces.state_mean, found.state_mean, **close)
    torch.testing.assert_close(end.mean, after.mean, **close)
    torch.testing.assert_close(end.cov, after.cov, **close)


@pytest.mark.parametrize("emission", FAMILIES)
def test_users_can_be_updated_one_after_the_other(emission: EmissionName) -> None:
    # Without what others do a user's state depends on the own events alone.
    train, test = parts(emission)
    online = model(emission, popularity_days=None, succession=False, rates=False)
    for chunk in by_user(test):
        online.update(chunk)
    scratch = from_scratch(online.posterior, pd.concat((train, test)))
    np.testing.assert_allclose(table(online.posterior), table(scratch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_fitted_states_are_those_of_the_filter(emission: EmissionName) -> None:
    fitted = model(emission).posterior
    scratch = from_scratch(fitted, parts(emission)[0])
    assert torch.equal(fitted.belief.mean, scratch.belief.mean)
    assert torch.equal(fitted.belief.cov, scratch.belief.cov)


def test_update_leaves_globals_alone_and_changes_only_the_users_of_the_events() -> None:
    _, test = parts("bernoulli")
    door = model("bernoulli")
    before = door.posterior
    event = test[-1:]
    door.update(event)
    after = door.posterior
    assert before is not after
    assert all(torch.equal(before.values[name], after.values[name]) for name in before.values)
    changed = (before.belief.mean != after.belief.mean).any(1).nonzero().flatten().tolist()
    assert changed == before.vocabulary.users.index_of(event["user_id"]).tolist()


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_new_user_starts_at_the_prior(emission: EmissionName) -> None:
    _, test = parts(emission)
    door = model(emission)
    event = test[-1:].assign(user_id="newcomer")
    prior = door.interest(["newcomer"], at=event["timestamp"].iloc[0])
    scored = door.score_events(event, n_draws=400)
    own = prior[prior["item_id"] == event["item_id"].iloc[0]]
    np.testing.assert_allclose(numbers(scored), numbers(own), atol=1e-6)
    door.update(event)
    later = door.interest(["newcomer"], at=event["timestamp"].iloc[0])
    assert np.abs(numbers(later) - numbers(prior)).max() > 1e-4


def test_an_update_without_events_changes_nothing() -> None:
    for emission in FAMILIES:
        door = model(emission)
        before = door.interest()
        door.update(parts(emission)[1][:0])
        same(before, door.interest())


def test_a_late_event_is_named_and_nothing_changes() -> None:
    train, _ = parts("bernoulli")
    door = model("bernoulli")
    before, late = door.interest(), train[:1]
    message = rf"user '{late['user_id'].iloc[0]}' has an event at \d+ s, before the last one"
    with pytest.raises(TimeOrderError, match=message):
        door.update(late)
    same(before, door.interest())


def test_events_at_the_same_second_as_the_last_are_taken() -> None:
    train, _ = parts("bernoulli")
    door = model("bernoulli")
    last = train[-1:].assign(item_id=train["item_id"].iloc[0])
    door.update(last)
    assert len(door.posterior.history) == len(train) + 1


def test_a_new_item_without_a_vector_is_named_and_nothing_changes() -> None:
    _, test = parts("bernoulli")
    door = model("bernoulli")
    before = door.interest()
    with pytest.raises(ItemError, match=r"item 'strange' is unknown .* has no vector \(1 such\)"):
        door.update(test[-1:].assign(item_id="strange"))
    same(before, door.interest())
