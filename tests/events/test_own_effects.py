"""What the covariates of a moment would lose without each own past event: by leaving it out."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_interest.events.history import History, make_history
from bayes_interest.events.own_past import OwnPast
from bayes_interest.events.surroundings import Kinds, Surroundings

DAY = 86_400.0
N_USERS, N_ITEMS, N_EVENTS = 3, 7, 89
CHOICE = Kinds((2.0,), repeats=True, likeness=True)
OWN = ("repeats", "succession", "likeness", "user_rate")


def log(seed: int, rates: bool = False) -> History:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(N_USERS, size=N_EVENTS), rng.integers(N_ITEMS, size=N_EVENTS)
    seconds = rng.integers(40, size=N_EVENTS) * 0.5 * DAY  # with ties
    outcome = rng.integers(2, size=N_EVENTS)
    absorb = np.ones(N_EVENTS, dtype=bool) if rates else rng.random(N_EVENTS) < 0.8
    return make_history(user, item, seconds, outcome, 0 * user, N_USERS, absorb)


def texts() -> np.ndarray:
    drawn = np.random.default_rng(5).normal(size=(N_ITEMS, 3)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def past_of(history: History, moment: int) -> np.ndarray:
    first = history.start[history.user_index[moment]]
    return first + np.flatnonzero(history.absorb[first:moment])


@pytest.mark.parametrize("seed", [0, 1])
def test_effects_are_what_leaving_an_event_out_takes_away(seed: int) -> None:
    history, looked = log(seed), 0
    around = Surroundings(history, N_ITEMS, CHOICE, texts())
    columns = [at for at, name in enumerate(CHOICE.names) if name.startswith(OWN)]
    for moment in range(0, N_EVENTS, 5):
        effects, past = around.own_effects(moment), past_of(history, moment)
        assert len(effects) == len(past)
        assert not np.delete(effects, columns, axis=1).any()
        whole = around.own(np.array([moment]))[0]
        for effect, event in zip(effects, past, strict=True):
            less = history.take(np.arange(N_EVENTS) != event)
            without = Surroundings(less, N_ITEMS, CHOICE, texts()).own(np.array([moment - 1]))[0]
            np.testing.assert_allclose(
                effect[columns], (whole - without)[columns], rtol=1e-4, atol=1e-6
            )
            looked += 1
    assert looked > N_EVENTS


def test_successions_are_lost_with_their_source_among_the_last_five() -> None:
    history = log(3)
    around = Surroundings(history, N_ITEMS, Kinds(succession=True))
    own, pairs = OwnPast.of(history), around._pairs
    for moment in range(0, N_EVENTS, 7):
        past, now = past_of(history, moment), history.seconds[moment : moment + 1]
        effects, whole = around.own_effects(moment)[:, 0], around.own(np.array([moment]))[0, 0]
        for place, event in enumerate(past):
            less = history.take(np.arange(N_EVENTS) != event)
            found = OwnPast.of(less)
            _, item, values = pairs.entries(found, np.array([moment - 1]), now)
            same = item == history.item_index[moment]
            without = float(values[same, 0].sum())
            assert effects[place] == pytest.approx(whole - without, rel=1e-4, abs=1e-6)
        assert not effects[:-6].any()
    assert len(own.item)


def test_a_users_rates_lose_what_was_new_in_the_event() -> None:
    """Exponential averages, one event left out; the excess outcomes as they were."""
    history, share = log(4, rates=True), 0.3
    around = Surroundings(history, N_ITEMS, Kinds(rates=True))
    moment = int(history.start[1] + 12)
    rates = around._rates.of_users(around._own, np.arange(history.start[1], moment + 1))[
        :, 0
    ].astype(float)
    excess = (rates[1:] - (1.0 - share) * rates[:-1]) / share
    effects = around.own_effects(moment)[:, 0]
    for event in range(12):
        rate = 0.0
        for one in np.delete(excess, event):
            rate += share * (one - rate)
        assert effects[event] == pytest.approx(rates[-1] - rate, rel=1e-4, abs=1e-6)
