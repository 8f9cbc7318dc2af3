"""Risk-coverage curves: by hand, equals in random order, and bounds by resampling users."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.errors import InputError
from bayes_interest.evaluation.metrics import ndcg
from bayes_interest.evaluation.selective import COLUMNS, area_difference, risk_coverage

RANK = np.array([1.0, 3.0, 1.0, 20.0])


def test_by_hand() -> None:
    table = risk_coverage(RANK, [0.9, 0.5, 0.7, 0.1], k=10, coverages=(1.0, 0.75, 0.5, 0.25))
    assert table.columns.tolist() == COLUMNS
    np.testing.assert_allclose(table["ndcg"], [2.5 / 4, 2.5 / 3, 1.0, 1.0])
    np.testing.assert_allclose(table["gain"], [0.0, 1 / 3, 0.6, 0.6])
    assert table["n"].tolist() == [4, 3, 2, 1]
    assert table["certainty"].tolist() == [0.1, 0.5, 0.7, 0.9]
    assert table[["lower", "upper"]].isna().all(axis=None)


def test_all_events_is_the_figure_of_the_backtest() -> None:
    rank = np.random.default_rng(0).integers(1, 40, 57)
    table = risk_coverage(rank, -rank, k=7)
    assert table["ndcg"].iloc[0] == pytest.approx(ndcg(rank, 7))
    assert table["ndcg"].is_monotonic_increasing  # sorted by the outcome itself
    backwards = risk_coverage(rank, rank, k=7)
    assert backwards["ndcg"].is_monotonic_decreasing


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), kept=st.integers(1, 5))
def test_equals_are_dropped_in_random_order(seed: int, kept: int) -> None:
    rng = np.random.default_rng(seed)
    rank, sure = rng.integers(1, 5, 5), rng.integers(0, 3, 5)
    found = risk_coverage(rank, sure, k=3, coverages=[kept / 5])["ndcg"].iloc[0]
    values = np.where(rank <= 3, 1.0 / np.log2(1.0 + rank), 0.0)
    means = []
    for order in itertools.permutations(range(5)):
        ordered = sorted(order, key=lambda event: -sure[event])  # stable: equals as permuted
        means.append(values[ordered[:kept]].mean())
    assert found == pytest.approx(np.mean(means))


def test_bounds_resample_users_and_follow_prob_and_seed() -> None:
    rng = np.random.default_rng(1)
    rank, sure, users = rng.integers(1, 20, 400), rng.random(400), rng.integers(0, 40, 400)
    ask = {"rank": rank, "certainty": sure, "users": users, "n_boot": 200}
    table, again, other = (risk_coverage(**ask, seed=seed) for seed in (0, 0, 1))
    assert table["lower"].tolist() == again["lower"].tolist() != other["lower"].tolist()
    assert (table["lower"] < table["ndcg"]).all()
    assert (table["ndcg"] < table["upper"]).all()
    narrow = risk_coverage(**ask, prob=0.5)
    assert (narrow["lower"] > table["lower"]).all()
    # One event of each user: the bounds of a mean of independent values.
    alone = risk_coverage(rank, sure, users=range(400), coverages=[1.0], n_boot=2000)
    values = np.where(rank <= 10, 1.0 / np.log2(1.0 + rank), 0.0)
    half = 1.645 * values.std() / 20
    assert alone["upper"][0] - alone["lower"][0] == pytest.approx(2 * half, rel=0.1)


def test_one_curve_above_another_is_the_mean_of_their_differences() -> None:
    rng = np.random.default_rng(2)
    rank, users = rng.integers(1, 20, 400), rng.integers(0, 40, 400)
    good, chance = -rank + rng.normal(size=400), rng.random(400)
    ask = {"rank": rank, "users": users, "n_boot": 200}
    value, lower, upper = area_difference(certainty=good, other=chance, **ask)
    means = [risk_coverage(rank, sure)["ndcg"].mean() for sure in (good, chance)]
    assert value == pytest.approx(means[0] - means[1])
    assert 0.0 < lower < value < upper
    assert area_difference(certainty=chance, other=chance, **ask) == (0.0, 0.0, 0.0)
    # The same users are in both curves: the bounds are narrower than of two apart.
    apart = [risk_coverage(certainty=sure, **ask) for sure in (good, good + 1e-3 * chance)]
    spread = [float((one["upper"] - one["lower"]).mean()) for one in apart]
    _, lower, upper = area_difference(certainty=good, other=good + 1e-3 * chance, **ask)
    assert upper - lower < 0.2 * min(spread)
    with pytest.raises(InputError, match=r"certainty at position 1 is NaN"):
        area_difference(RANK, RANK, [1, np.nan, 3, 4], ["a"] * 4)


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"got \(4,\) ranks and \(3,\) certainties"):
        risk_coverage(RANK, [1, 2, 3])
    with pytest.raises(InputError, match=r"got \(0,\) ranks"):
        risk_coverage([], [])
    with pytest.raises(InputError, match=r"certainty at position 2 is NaN"):
        risk_coverage(RANK, [1, 2, np.nan, 4])
    with pytest.raises(InputError, match=r"k=0: expected a whole number"):
        risk_coverage(RANK, RANK, k=0)
    with pytest.raises(InputError, match=r"coverages=\[0, 1.5\]: expected shares"):
        risk_coverage(RANK, RANK, coverages=[0, 0.5, 1.5])
    with pytest.raises(InputError, match=r"users: expected an id per event, 4 of them"):
        risk_coverage(RANK, RANK, users=["a"])
