"""Maps of probabilities: increasing, inside (0, 1), and near the truth that made the outcomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from bayes_interest.posterior.probability_map import (
    BIN_EVENTS,
    PRIOR_EVENTS,
    ProbabilityMap,
    best_map,
    binary_log_loss,
    fit_map,
    line_map,
)

FITTED = ("temperature", "platt", "isotonic")
GRID = np.linspace(1e-5, 1.0 - 1e-5, 999)


def outcomes(slope: float, bias: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw probabilities, and outcomes whose true logit is `slope logit(p) + bias`."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(1.2, 1.0, n)
    return raw, rng.random(n) < expit(slope * logit(raw) + bias)


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=2, max_size=300),
    st.sampled_from(FITTED),
)
@settings(max_examples=60, deadline=None)
def test_maps_increase_and_stay_inside(events: list[tuple[float, bool]], method: str) -> None:
    raw = np.array([p for p, _ in events])
    found = fit_map(method, raw, np.array([y for _, y in events]))
    mapped = found.of_arrays(GRID)
    assert (np.diff(mapped) >= 0.0).all()
    inner = mapped[(mapped > 2e-6) & (mapped < 1.0 - 2e-6)]
    assert (np.diff(inner) > 0.0).all()  # strictly: no order is lost
    assert ((mapped > 0.0) & (mapped < 1.0)).all()
    ends = found.of_arrays(np.array([0.0, 1.0]))
    assert np.isfinite(binary_log_loss(ends, np.array([True, False])))


@pytest.mark.parametrize("method", FITTED)
def test_a_known_distortion_is_undone(method: str) -> None:
    bias = 0.0 if method == "temperature" else -0.4
    raw, outcome = outcomes(0.6, bias, 40_000, 1)
    found = fit_map(method, raw, outcome)
    truth = expit(0.6 * logit(GRID) + bias)
    middle = (GRID > 0.03) & (GRID < 0.97)
    assert np.abs(found.of_arrays(GRID) - truth)[middle].max() < 0.04
    if method != "isotonic":
        assert found.slope == pytest.approx(0.6, abs=0.02)


def test_platt_is_a_logistic_regression_and_temperature_one_without_intercept() -> None:
    raw, outcome = outcomes(1.7, 0.3, 900, 2)
    x = logit(raw)[:, None]
    for method, intercept in (("platt", True), ("temperature", False)):
        slow = LogisticRegression(C=1e10, fit_intercept=intercept, tol=1e-10).fit(x, outcome)
        expected = slow.predict_proba(logit(GRID)[:, None])[:, 1]
        np.testing.assert_allclose(
            fit_map(method, raw, outcome).of_arrays(GRID), expected, atol=2e-4
        )


def test_isotonic_is_the_shrunk_share_where_one_bin_is_all() -> None:
    raw, outcome = outcomes(1.0, 1.0, BIN_EVENTS, 3)
    found = fit_map("isotonic", raw, outcome)
    share = (outcome.sum() + PRIOR_EVENTS * raw.mean()) / (len(raw) + PRIOR_EVENTS)
    assert expit(found.raw) == pytest.approx([raw.mean()])
    assert expit(found.mapped) == pytest.approx([share])
    # beyond its only knot the map is parallel to the raw logit
    move = logit(share) - logit(raw.mean())
    np.testing.assert_allclose(found.of_arrays(GRID), expit(logit(GRID) + move), rtol=1e-9)


def test_isotonic_pools_what_falls() -> None:
    """Three groups of equal probability, the first two in the wrong order."""
    raw = np.repeat([0.2, 0.4, 0.8], 200)
    outcome = np.concatenate([np.arange(200) < hits for hits in (90, 70, 150)])
    found = fit_map("isotonic", raw, outcome)
    shares = (np.array([90, 70, 150]) + PRIOR_EVENTS * np.array([0.2, 0.4, 0.8])) / 210
    np.testing.assert_allclose(expit(found.raw), [0.3, 0.8])
    np.testing.assert_allclose(expit(found.mapped), [shares[:2].mean(), shares[2]])


def test_between_knots_the_logits_lie_on_lines() -> None:
    raw, mapped = np.array([-1.0, 0.5, 2.0]), np.array([-2.0, 0.0, 0.5])
    found = ProbabilityMap("isotonic", raw, mapped, 1.0, np.zeros((0, 0)))
    x = np.array([-1.0, -0.3, 0.5, 1.9, 2.0])
    np.testing.assert_allclose(
        logit(found.of_arrays(expit(x))), np.interp(x, raw, mapped), atol=1e-9
    )
    outside = logit(found.of_arrays(expit(np.array([-3.0, 4.0]))))
    np.testing.assert_allclose(outside, [-4.0, 2.5])


@pytest.mark.parametrize("method", FITTED)
def test_the_inverse_leads_back(method: str) -> None:
    found = fit_map(method, *outcomes(0.7, -0.2, 2_000, 9))
    inner = GRID[(GRID > 0.01) & (GRID < 0.99)]
    there = found.of_arrays(inner)
    np.testing.assert_allclose(found.inverse().of_arrays(there), inner, rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_stay(dtype: torch.dtype) -> None:
    given_ = torch.rand(3, 5, 7, dtype=dtype)
    found = line_map("platt", 2.0, -1.0)(given_)
    assert found.shape == given_.shape
    assert found.dtype is dtype
    expected = torch.sigmoid(2.0 * torch.logit(given_.double()) - 1.0)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("slope", "bias", "wanted"),
    [(0.5, 0.0, "temperature"), (1.0, -1.0, "platt")],
)
def test_auto_takes_what_predicts_the_later_half(slope: float, bias: float, wanted: str) -> None:
    raw, outcome = outcomes(slope, bias, 3_000, 11)
    found = best_map(raw, outcome)
    assert found.method == wanted
    again = fit_map(wanted, raw, outcome)  # of all events, not of the half
    assert (found.slope, found.mapped.tolist()) == (again.slope, again.mapped.tolist())


def test_auto_leaves_all_as_it_is_where_a_map_would_not_have_held() -> None:
    early, late = outcomes(0.5, -1.0, 800, 4), outcomes(1.0, 0.0, 800, 5)
    raw, outcome = (np.concatenate(pair) for pair in zip(early, late, strict=True))
    found = best_map(raw, outcome)
    assert found.method == "identity"
    np.testing.assert_allclose(found.of_arrays(GRID), GRID)


def test_auto_takes_a_curve_where_a_line_does_not_do() -> None:
    rng = np.random.default_rng(7)
    raw = rng.random(8_000)
    outcome = rng.random(8_000) < np.where(raw < 0.5, 0.3, 0.7)
    assert best_map(raw, outcome).method == "isotonic"


def test_slopes_stay_bounded_where_outcomes_are_separated() -> None:
    raw = np.linspace(0.1, 0.9, 50)
    assert fit_map("temperature", raw, raw > 0.5).slope == pytest.approx(10.0)
    assert fit_map("temperature", raw, raw < 0.5).slope == pytest.approx(0.1)
