"""Weighted statistics against scikit-learn on repeated events, and properties of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bayes_interest.evaluation.metrics import calibration_error
from bayes_interest.evaluation.statistics import (
    Auc,
    CalibrationError,
    Fixed,
    Ratio,
    auc_by_user,
    ratios_at_once,
)

N_USERS, N_EVENTS, N_DRAWS = 7, 61, 5


def case(seed: int, decimals: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """user, positive, prob (many ties), weights (draw, user) that are not all one."""
    rng = np.random.default_rng(seed)
    prob = rng.uniform(size=N_EVENTS).round(decimals)
    positive = rng.uniform(size=N_EVENTS) < prob
    user = rng.integers(0, N_USERS, N_EVENTS)
    return user, positive, prob, rng.integers(0, 4, (N_DRAWS, N_USERS)).astype(float)


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_auc_is_that_of_scikit_learn_with_repeated_events(seed: int, decimals: int) -> None:
    user, positive, prob, weights = case(seed, decimals)
    found = Auc(user, positive, prob)(weights)
    for value, weight in zip(found, weights, strict=True):
        copies = np.repeat(np.arange(N_EVENTS), weight[user].astype(int))
        assert value == pytest.approx(roc_auc_score(positive[copies], prob[copies]), abs=1e-12)


def test_auc_without_both_outcomes_is_missing() -> None:
    user, _, prob, weights = case(0)
    assert np.isnan(Auc(user, np.ones(N_EVENTS, dtype=bool), prob)(weights)).all()
    none = np.empty(0)
    assert np.isnan(Auc(none.astype(int), none.astype(bool), none)(weights)).all()


@pytest.mark.parametrize("decimals", [1, 8])
def test_auc_per_user_is_the_mean_of_scikit_learns(decimals: int) -> None:
    user, positive, prob, _ = case(4, decimals)
    user[:9], positive[:9] = 6, True  # one user without a negative event does not count
    user[9:][user[9:] == 6] = 5
    ratio = auc_by_user(user, positive, prob, N_USERS)
    single = [
        roc_auc_score(positive[user == u], prob[user == u])
        for u in range(N_USERS)
        if 0 < positive[user == u].sum() < (user == u).sum()
    ]
    assert ratio.count.sum() == len(single) < N_USERS
    assert ratio(np.ones((1, N_USERS)))[0] == pytest.approx(np.mean(single), abs=1e-12)


def test_calibration_error_with_weights_one_is_the_plain_one() -> None:
    user, positive, prob, _ = case(2, 8)
    found = CalibrationError(user, positive, prob, N_USERS)(np.ones((1, N_USERS)))
    assert found[0] == pytest.approx(calibration_error(positive.astype(float), prob), abs=1e-14)


def test_calibration_error_repeats_users_inside_the_samples_bins() -> None:
    user, positive, prob, weights = case(3)
    found = CalibrationError(user, positive, prob, N_USERS)(weights)
    edges = np.sort(prob)[np.arange(1, 15) * N_EVENTS // 15]
    bins = np.searchsorted(edges, prob, side="right")
    for value, weight in zip(found, weights, strict=True):
        w = weight[user]
        slow = sum(abs((w * (positive - prob))[bins == b].sum()) for b in range(15)) / w.sum()
        assert value == pytest.approx(slow, abs=1e-12)


def test_ratios_at_once_are_the_single_ratios() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, (N_DRAWS, N_USERS)).astype(float)
    ratios = [Ratio(rng.normal(size=N_USERS), rng.integers(0, 2, N_USERS)) for _ in range(11)]
    ratios.append(Ratio(np.zeros(N_USERS), np.zeros(N_USERS)))
    table = ratios_at_once(ratios, weights)
    np.testing.assert_allclose(table, np.stack([r(weights) for r in ratios], axis=1), atol=1e-14)
    assert np.isnan(table[:, -1]).all()
    assert ratios_at_once([], weights).shape == (N_DRAWS, 0)


def test_a_fixed_figure_is_not_resampled() -> None:
    assert np.isnan(Fixed(0.5)(np.ones((3, 2)))).all()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), decimals=st.integers(0, 8))
def test_order_of_events_does_not_count_and_values_are_shares(seed: int, decimals: int) -> None:
    user, positive, prob, weights = case(seed, decimals)
    order = np.random.default_rng(seed).permutation(N_EVENTS)
    for make in (
        lambda u, y, p: Auc(u, y, p),
        lambda u, y, p: CalibrationError(u, y, p, N_USERS),
        lambda u, y, p: auc_by_user(u, y, p, N_USERS),
    ):
        found = make(user, positive, prob)(weights)
        again = make(user[order], positive[order], prob[order])(weights)
        np.testing.assert_allclose(found, again, atol=1e-12)
        known = found[~np.isnan(found)]
        assert ((known >= -1e-12) & (known <= 1 + 1e-12)).all()
