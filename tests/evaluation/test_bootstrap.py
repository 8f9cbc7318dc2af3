"""The bootstrap over users: draws, known standard errors, and what has no interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from bayes_interest.evaluation.bootstrap import Figure, Group, bootstrap, bounds, resamples
from bayes_interest.evaluation.statistics import CalibrationError, Fixed, Ratio, Statistic

N_USERS = 400


def group(statistics: Sequence[Statistic], users: np.ndarray, n_events: int = 1) -> Group:
    figures = [Figure("m", None, 0.0, 1, len(users), statistic) for statistic in statistics]
    return Group(users, n_events, figures)


def test_every_draw_has_as_many_users_as_there_are() -> None:
    weights = np.concatenate(list(resamples(13, 101, 7, seed=0)))
    assert weights.shape == (101, 13)
    assert (weights.sum(1) == 13).all()
    assert (weights >= 0).all()
    assert (weights == np.concatenate(list(resamples(13, 101, 7, seed=0)))).all()
    assert (weights != np.concatenate(list(resamples(13, 101, 7, seed=1)))).any()


def test_chunks_change_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resamples(13, 50, 1, seed=0)))
    monkeypatch.setattr("bayes_interest.evaluation.bootstrap.CELLS", 40)
    parts = list(resamples(13, 50, 1, seed=0))
    assert len(parts) > 10
    assert (np.concatenate(parts) == whole).all()


def test_the_spread_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=N_USERS)
    one = group([Ratio(values, np.ones(N_USERS))], np.arange(N_USERS))
    (draws,) = bootstrap([one], N_USERS, 4000, seed=1)
    error = values.std() / math.sqrt(N_USERS)
    assert draws.std() == pytest.approx(error, rel=0.05)
    lower, upper = bounds(draws, [N_USERS], 0.9)[:, 0]
    assert lower == pytest.approx(values.mean() - 1.645 * error, abs=0.1 * error)
    assert upper == pytest.approx(values.mean() + 1.645 * error, abs=0.1 * error)


def test_events_of_one_user_are_not_independent_evidence() -> None:
    """Ten equal events per user must leave the interval as wide as one event per user."""
    values = np.random.default_rng(0).normal(size=N_USERS)
    users = np.arange(N_USERS)
    once = group([Ratio(values, np.ones(N_USERS))], users)
    ten = group([Ratio(10 * values, np.full(N_USERS, 10.0))], users)
    first, second = bootstrap([once, ten], N_USERS, 200, seed=1)
    np.testing.assert_allclose(first, second)


def test_groups_share_the_draws_of_their_users() -> None:
    values = np.random.default_rng(2).normal(size=N_USERS)
    some = np.arange(0, N_USERS, 3)
    small = group([Ratio(values[some], np.ones(len(some)))], some)
    inside = np.zeros(N_USERS)
    inside[some] = 1.0
    masked = group([Ratio(values * inside, inside)], np.arange(N_USERS))
    first, second = bootstrap([small, masked], N_USERS, 100, seed=4)
    np.testing.assert_allclose(first, second)


def test_the_draws_of_a_calibration_error_surround_it() -> None:
    """Of a calibrated forecast it is all noise, and a resample of noise is noisier."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(size=N_USERS)
    positive, users = rng.uniform(size=N_USERS) < prob, np.arange(N_USERS)
    statistic = CalibrationError(users, positive, prob, N_USERS)
    value = float(statistic(np.ones((1, N_USERS)))[0])
    figure = Figure("calibration_error", None, value, N_USERS, N_USERS, statistic)
    (draws,) = bootstrap([Group(users, N_USERS, [figure])], N_USERS, 300, seed=0)
    raw = np.concatenate([statistic(w) for w in resamples(N_USERS, 300, N_USERS, seed=0)])
    assert raw.mean() > 1.2 * value
    assert draws.mean() == pytest.approx(value)
    assert draws.std() == pytest.approx(raw.std())
    assert (draws >= 0).all()


def test_few_users_and_fixed_figures_have_no_interval() -> None:
    users = np.arange(N_USERS)
    one = group([Ratio(np.ones(N_USERS), np.ones(N_USERS)), Fixed(0.3)], users)
    (draws,) = bootstrap([one], N_USERS, 50, seed=0)
    assert np.isnan(bounds(draws, [4, 4], 0.9)).all()
    assert np.isfinite(bounds(draws, [5, 5], 0.9)[:, 0]).all()
    assert np.isnan(bounds(draws, [5, 5], 0.9)[:, 1]).all()
    assert np.isnan(bounds(np.empty((0, 2)), [9, 9], 0.9)).all()


def test_more_mass_is_a_wider_interval() -> None:
    draws = np.random.default_rng(0).normal(size=(500, 1))
    narrow, wide = bounds(draws, [9], 0.5)[:, 0], bounds(draws, [9], 0.95)[:, 0]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
