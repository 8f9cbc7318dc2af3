"""Rates and biases against slow versions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from bayes_interest.baselines.base import Baseline
from bayes_interest.baselines.bias import fit_biases, user_biases
from bayes_interest.baselines.rates import BINARY, decayed_outcomes, logistic
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.hashing import HashingEncoder
from tests.baselines import oracle
from tests.baselines.logs import cut, fit, make_frame, with_positive


@cache
def fitted(name: str, **options: float) -> Baseline:
    return fit("bernoulli", name, **options)


def running(past: pd.DataFrame, decay: float, strength: float, rate: float) -> tuple[float, float]:
    """The user's two regressors, an event at a time."""
    hits = count = 0.0
    for positive in past["positive"]:
        hits, count = decay * hits + positive, decay * count + 1.0
    odds = logit((hits + strength * rate) / (count + strength)) - logit(rate)
    return odds, odds * count / (count + strength)


def test_the_running_rate_equals_the_loop() -> None:
    rival = fit("bernoulli", "running_rate", decay=0.8)
    learned = rival.fitted.learned
    frame = with_positive(make_frame("bernoulli"), "bernoulli")
    test = cut(make_frame("bernoulli"))[1]
    scores = rival.score_events(test, exclude_seen=False)
    item_rate = oracle.rate_scorer(learned.item_strength)
    for row, (_, event) in enumerate(test.iterrows()):
        past = frame[frame["timestamp"] < event["timestamp"]]
        rate = (past["positive"].sum() + 0.5) / (len(past) + 1.0)
        mine = past[past["user_id"] == event["user_id"]]
        user = running(mine, 0.8, learned.strength, rate)
        x = np.array([*user, logit(item_rate(event, past, event["item_id"]))])
        chance = expit(x @ learned.weights + learned.intercept)
        assert scores["mean"][row] == pytest.approx(chance, rel=1e-4)


def test_decayed_outcomes_of_ties_are_those_before_them() -> None:
    timeline = fitted("running_rate").fitted.known.timeline()
    history = timeline.history
    hits, count = decayed_outcomes(timeline, 0.9)
    for event in range(len(history)):
        mine = (history.user_index == history.user_index[event]) & (
            history.seconds < history.seconds[event]
        )
        weight = 0.9 ** np.arange(mine.sum())[::-1]
        assert count[event] == pytest.approx(weight.sum())
        assert hits[event] == pytest.approx(weight @ timeline.positive[mine])


def test_biases_are_the_penalised_maximum() -> None:
    timeline = fitted("user_item_bias").fitted.known.timeline()
    history, outcome = timeline.history, timeline.positive
    n_users, n_items = history.n_users, timeline.n_items

    def loss(x: np.ndarray) -> float:
        user, item = x[1 : 1 + n_users], x[1 + n_users :]
        odds = x[0] + user[history.user_index] + item[history.item_index]
        fit = np.logaddexp(0.0, np.where(outcome, -odds, odds)).sum()
        return float(fit + 0.7 / 2 * (user**2).sum() + 2.0 / 2 * (item**2).sum())

    start = np.zeros(1 + n_users + n_items)
    slow = minimize(loss, start, method="BFGS", options={"gtol": 1e-6}).x
    found = fit_biases(timeline, 0.7, 2.0, tol=1e-8)
    assert found.intercept == pytest.approx(slow[0], abs=1e-4)
    np.testing.assert_allclose(found.item, slow[1 + n_users :], atol=1e-4)


def test_a_users_bias_is_fitted_to_the_own_past() -> None:
    timeline = fitted("user_item_bias").fitted.known.timeline()
    biases = fit_biases(timeline, 0.7, 2.0)
    part = np.arange(len(timeline.history))
    found = user_biases(timeline, part, biases)
    history = timeline.history
    for event in part[::9]:
        mine = (history.user_index == history.user_index[event]) & (
            history.seconds < history.seconds[event]
        )
        base = biases.intercept + biases.item[history.item_index[mine]]
        odds = np.where(timeline.positive[mine], -1.0, 1.0)

        def loss(b: np.ndarray, base: np.ndarray = base, odds: np.ndarray = odds) -> float:
            return float(np.logaddexp(0.0, odds * (base + b[0])).sum() + 0.35 * b[0] ** 2)

        assert found[event] == pytest.approx(minimize(loss, [0.0]).x[0], abs=1e-4)


def moods(seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Users like most or little of what they see, and change their mind slowly."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(47):
        level = rng.normal(0.0, 1.5)
        for step in range(37):
            level = 0.97 * level + 0.4 * rng.normal()
            item = rng.integers(0, 13)
            liked = rng.random() < expit(level + (item - 6) / 6)
            rows.append((f"u{user}", f"i{item}", 1_600_000_000 + 4_000 * step + user, float(liked)))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "value"])
    frame = frame.sort_values("timestamp", ignore_index=True)
    return frame.iloc[:1400], frame.iloc[1400:].reset_index(drop=True)


def test_on_moods_the_running_rate_is_the_best() -> None:
    from bayes_interest.baselines import ItemMean, RunningRate, UserItemBias

    train, test = moods()
    run, loss = FitConfig(progress=False, device="cpu"), {}
    for kind in (ItemMean, UserItemBias, RunningRate):
        config = ModelConfig(emission="bernoulli")
        rival = kind(config, HashingEncoder()).fit(train, config=run)
        loss[kind] = -rival.score_events(test)["log_prob"].mean()
    assert loss[RunningRate] < loss[UserItemBias] - 0.005
    assert loss[UserItemBias] < loss[ItemMean] - 0.03


@pytest.mark.parametrize("family", BINARY)
def test_outcomes_that_are_equal_early_in_train_can_be_fitted(family: str) -> None:
    """The part before the last fifth is all positive: nothing to choose a ridge on."""
    train = cut(make_frame(family))[0]
    train["value"] = np.where(np.arange(len(train)) < 85, 1.0 if family == "bernoulli" else 4.0, 0)
    from tests.baselines.logs import RUN, make

    for name in ("user_item_bias", "running_rate", "item_mean"):
        rival = make(family, name).fit(train, config=RUN)
        assert rival.rank(["u1"], k=2, exclude_seen=False)["mean"].between(0, 1).all()


def test_a_regression_on_equal_outcomes_is_flat() -> None:
    weights, intercept = logistic(np.ones((9, 2)), np.ones(9, dtype=bool))
    assert (weights == 0.0).all()
    assert expit(intercept) == pytest.approx(9.5 / 10.0)
