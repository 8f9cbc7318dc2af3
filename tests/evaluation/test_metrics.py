"""Metrics against numbers by hand and slow, obvious versions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bayes_interest.evaluation.metrics import binary_metrics, calibration_error, hit_rate, ndcg


def slow_ndcg(ranks: list[int], k: int) -> float:
    """Discounted gain of each slate over that of the ideal slate."""
    total = 0.0
    for rank in ranks:
        gains = [1.0 if place == rank else 0.0 for place in range(1, k + 1)]
        dcg = sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, start=1))
        total += dcg / (1.0 / math.log2(2))
    return total / len(ranks)


def slow_calibration_error(outcome: np.ndarray, prob: np.ndarray, n_bins: int) -> float:
    """Fill the bins one event at a time."""
    n = len(prob)
    ordered = sorted(prob)
    starts = [ordered[i * n // n_bins] for i in range(1, n_bins)]
    bins: dict[int, list[tuple[float, float]]] = {}
    for y, p in zip(outcome, prob, strict=True):
        bins.setdefault(sum(p >= start for start in starts), []).append((y, p))
    error = 0.0
    for members in bins.values():
        observed = sum(y for y, _ in members) / len(members)
        expected = sum(p for _, p in members) / len(members)
        error += len(members) / n * abs(observed - expected)
    return error


def test_ndcg_and_hit_rate_by_hand() -> None:
    rank = np.array([1, 3, 10, 11])
    assert ndcg(rank, 10) == pytest.approx((1.0 + 0.5 + 1.0 / math.log2(11)) / 4)
    assert hit_rate(rank, 10) == 0.75
    assert hit_rate(rank, 1) == 0.25


def test_ndcg_equals_the_slow_one() -> None:
    ranks = np.random.default_rng(0).integers(1, 40, 101)
    for k in (1, 5, 10):
        assert ndcg(ranks, k) == pytest.approx(slow_ndcg(ranks.tolist(), k), rel=1e-12)


def test_without_a_positive_event_there_is_no_figure() -> None:
    none = np.array([], dtype=float)
    assert math.isnan(ndcg(none, 10))
    assert math.isnan(hit_rate(none, 10))
    assert math.isnan(calibration_error(none, none))
    assert all(math.isnan(value) for value in binary_metrics(none, none).values())


@pytest.mark.parametrize("decimals", [1, 8])  # many ties; none
@pytest.mark.parametrize("n", [3, 15, 211])
def test_calibration_error_equals_the_slow_one(n: int, decimals: int) -> None:
    rng = np.random.default_rng(n)
    prob = rng.uniform(size=n).round(decimals)
    outcome = rng.binomial(1, prob**2).astype(float)
    found = calibration_error(outcome, prob)
    assert found == pytest.approx(slow_calibration_error(outcome, prob, 15), abs=1e-12)


def test_calibration_error_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    prob = rng.uniform(size=97).round(1)
    outcome = rng.binomial(1, 0.5, 97).astype(float)
    order = rng.permutation(97)
    again = calibration_error(outcome[order], prob[order])
    assert again == pytest.approx(calibration_error(outcome, prob), abs=1e-14)


def test_calibration_error_sees_a_constant_excess() -> None:
    outcome = np.array([0.0, 1.0] * 30)
    assert calibration_error(outcome, np.full(60, 0.7)) == pytest.approx(0.2)
    assert calibration_error(outcome, np.full(60, 0.5)) == pytest.approx(0.0, abs=1e-15)


def test_binary_metrics_by_hand() -> None:
    outcome, prob = np.array([1, 0, 1, 0]), np.array([0.8, 0.8, 0.6, 0.2])
    found = binary_metrics(outcome, prob)
    log_loss = -(math.log(0.8) + math.log(0.2) + math.log(0.6) + math.log(0.8)) / 4
    assert found["log_loss"] == pytest.approx(log_loss)
    assert found["auc"] == pytest.approx((0.5 + 1.0 + 0.0 + 1.0) / 4)  # pairs; a tie is a half
    assert found["brier"] == pytest.approx((0.04 + 0.64 + 0.16 + 0.04) / 4)


def test_auc_is_missing_where_all_outcomes_are_equal() -> None:
    found = binary_metrics(np.ones(5), np.full(5, 0.9))
    assert math.isnan(found["auc"])
    assert found["log_loss"] == pytest.approx(-math.log(0.9))
    assert found["brier"] == pytest.approx(0.01)
