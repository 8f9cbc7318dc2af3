"""Calibration of a backtest: exact sums, slow oracles, and logs whose calibration is known."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import bayes_interest as bi
from bayes_interest.errors import InputError
from bayes_interest.evaluation.group_counts import (
    NODES,
    WEIGHTS,
    count_distribution,
    inside,
    poisson_binomial,
    rate_width,
    shared_probabilities,
)
from bayes_interest.evaluation.metrics import calibration_bins, calibration_error
from bayes_interest.evaluation.pit import pit_edges, rating_crps, transforms, uniformity
from bayes_interest.evaluation.reliability import brier_decomposition, errors_by_chance
from bayes_interest.evaluation.scores import BacktestScores

N_USERS, N_ITEMS, DAY = 53, 29, 86_400


def log_of(outcome: np.ndarray, user: np.ndarray | None = None) -> pd.DataFrame:
    n = len(outcome)
    rng = np.random.default_rng(8)
    drawn = rng.integers(0, N_USERS, n) if user is None else user
    return pd.DataFrame(
        {
            "user_id": [f"u{u:02d}" for u in drawn],
            "item_id": [f"i{i:02d}" for i in rng.integers(0, N_ITEMS, n)],
            "timestamp": 1_600_000_000 + np.arange(n) * 1_800,
            "value": outcome.astype(float),
        }
    )


TRAIN = log_of(np.arange(200) % 2).assign(timestamp=lambda t: t["timestamp"] - 300 * DAY)


def scores_of(
    tables: dict[str, pd.DataFrame], events: pd.DataFrame, emission: str = "bernoulli"
) -> BacktestScores:
    full = {
        name: table.assign(rank=1, **{c: events[c] for c in ("user_id", "item_id")})
        for name, table in tables.items()
    }
    return BacktestScores.from_tables(full, events, TRAIN, emission=emission)


def known_log(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Events, and the true probabilities that made their outcomes."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(2.0, 2.0, n)
    return log_of(rng.random(n) < truth), truth


def figures(found: bi.Calibration, model: str, stratum: str = "all") -> dict[str, pd.Series]:
    own = found.summary[(found.summary["model"] == model) & (found.summary["stratum"] == stratum)]
    return {row["metric"]: row for _, row in own.iterrows()}


# ------------------------------------------------------------ parts that must add up


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(1, 400))
@settings(max_examples=50, deadline=None)
def test_the_parts_of_the_brier_score_add_up(seed: int, n_bins: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    prob, outcome = rng.random(n), (rng.random(n) < 0.4).astype(float)
    parts = brier_decomposition(outcome, prob, calibration_bins(prob, n_bins))
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    assert whole + parts["within_bins"] == pytest.approx(parts["brier"], abs=1e-12)
    assert parts["brier"] == pytest.approx(float(((prob - outcome) ** 2).mean()))
    assert parts["uncertainty"] == pytest.approx(outcome.mean() * (1.0 - outcome.mean()))


def test_murphys_three_terms_where_a_bin_has_one_probability() -> None:
    prob = np.repeat([0.1, 0.5, 0.7], [10, 20, 30])
    outcome = np.concatenate([np.arange(n) < hits for n, hits in ((10, 2), (20, 9), (30, 24))])
    parts = brier_decomposition(outcome.astype(float), prob, np.repeat([0, 1, 2], [10, 20, 30]))
    shares, base = np.array([0.2, 0.45, 0.8]), 35 / 60
    weight = np.array([10, 20, 30]) / 60
    assert parts["within_bins"] == pytest.approx(0.0, abs=1e-12)
    assert parts["reliability"] == pytest.approx(weight @ (np.array([0.1, 0.5, 0.7]) - shares) ** 2)
    assert parts["resolution"] == pytest.approx(weight @ (shares - base) ** 2)


def test_the_error_by_chance_is_that_of_normal_noise() -> None:
    """E|sum (o - p)| is about sqrt(2 / pi) times its sd."""
    prob = np.random.default_rng(1).beta(2.0, 3.0, 3_000)
    masks = {"all": np.ones(3_000, dtype=bool), "part": np.arange(3_000) < 800}
    found = errors_by_chance(prob, masks, 15, 400, seed=2)
    for name, mask in masks.items():
        bins = calibration_bins(prob[mask], 15)
        var = np.bincount(bins, weights=(prob * (1.0 - prob))[mask])
        expected = np.sqrt(2.0 / np.pi) * np.sqrt(var).sum() / mask.sum()
        assert found[name].mean() == pytest.approx(expected, rel=0.03)
        drawn = np.random.default_rng(3).random((50, mask.sum())) < prob[mask]
        slow = [calibration_error(one.astype(float), prob[mask]) for one in drawn]
        assert found[name].mean() == pytest.approx(np.mean(slow), rel=0.08)


# ------------------------------------------------------------ counts of groups


def brute_force(probs: np.ndarray) -> np.ndarray:
    out = np.zeros(len(probs) + 1)
    for outcome in product((0, 1), repeat=len(probs)):
        out[sum(outcome)] += np.where(outcome, probs, 1.0 - probs).prod()
    return out


def test_poisson_binomial_is_the_sum_over_all_outcomes() -> None:
    probs = np.random.default_rng(4).random((3, 7))
    np.testing.assert_allclose(poisson_binomial(probs), [brute_force(row) for row in probs])
    equal = poisson_binomial(np.full((1, 60), 0.3))[0]
    np.testing.assert_allclose(equal, binom.pmf(np.arange(61), 60, 0.3), atol=1e-14)


def test_shared_errors_keep_means_and_spread_and_widen_counts() -> None:
    mean, sd = np.array([0.2, 0.5, 0.8]), np.array([0.05, 0.1, 0.08])
    probs = shared_probabilities(mean, sd)
    np.testing.assert_allclose(WEIGHTS @ probs, mean, atol=0.005)
    spread = np.sqrt(WEIGHTS @ probs**2 - (WEIGHTS @ probs) ** 2)
    np.testing.assert_allclose(spread, sd, rtol=0.1)
    assert (np.diff(probs, axis=0) > 0).all()  # one error for all
    assert len(NODES) == len(probs)
    mean, sd = np.full(40, 0.4), np.full(40, 0.1)
    alone, shared = count_distribution(mean, None), count_distribution(mean, sd)
    k = np.arange(41)
    for chances, var in ((alone, 40 * 0.24), (shared, 40 * (0.24 - 0.01) + (40 * 0.1) ** 2)):
        assert chances.sum() == pytest.approx(1.0)
        assert chances @ (k - chances @ k) ** 2 == pytest.approx(var, rel=0.05)
    assert rate_width(shared, 0.9) > 1.5 * rate_width(alone, 0.9)


@pytest.mark.parametrize("prob", [0.5, 0.9])
def test_counts_are_inside_as_often_as_they_should(prob: float) -> None:
    """Over all counts and a fine grid of draws, with the counts' own probabilities."""
    chances = poisson_binomial(np.array([[0.1, 0.7, 0.4, 0.4, 0.9]]))[0]
    draws = (np.arange(1_000) + 0.5) / 1_000
    hits = [np.mean([inside(chances, k, prob, d) for d in draws]) for k in range(6)]
    assert chances @ np.array(hits) == pytest.approx(prob, abs=2e-3)


# ------------------------------------------------------------ transforms and scores


def test_the_mass_of_each_outcome() -> None:
    """Hand-computed, for two outcomes, levels and items."""
    table = pd.DataFrame({"mean": [0.7, 0.2, np.nan]})
    positive = np.array([True, False, True])
    kind, low, high = pit_edges("bernoulli", table, positive, None)
    assert kind == "binary"
    np.testing.assert_allclose(low, [0.3, 0.0, np.nan])
    np.testing.assert_allclose(high, [1.0, 0.8, np.nan])
    table = table.assign(**{"p_level=3.0": [0.5] * 3, "p_level=1.0": [0.3] * 3, "p_level=2.0": 0.2})
    kind, low, high = pit_edges("rating", table, positive, np.array([1.0, 3.0, 2.5]))
    assert kind == "rating"
    np.testing.assert_allclose(low, [0.0, 0.5, np.nan])
    np.testing.assert_allclose(high, [0.3, 1.0, np.nan])
    chosen = pd.DataFrame({"p_above": [0.0, 0.6], "p_tied": [0.4, 0.3]})
    kind, low, high = pit_edges("choice", chosen, positive[:2], None)
    assert kind == "choice"
    np.testing.assert_allclose([low, high], [[0.0, 0.6], [0.4, 0.9]])
    drawn = transforms(np.repeat(low, 5_000), np.repeat(high, 5_000), 0).reshape(2, -1)
    assert (drawn.min(1) >= low).all()
    assert (drawn.max(1) <= high).all()
    np.testing.assert_allclose(drawn.mean(1), (low + high) / 2.0, atol=0.01)
    assert pit_edges("choice", table[["mean"]], positive, None)[1].tolist() != low.tolist()


def test_transforms_are_uniform_under_the_truth_and_not_under_another() -> None:
    rng = np.random.default_rng(5)
    probs = rng.dirichlet(np.ones(4), 3_000)
    value = (rng.random((3_000, 1)) > probs.cumsum(1)).sum(1).astype(float)
    names = [f"p_level={level!r}" for level in (0.0, 1.0, 2.0, 3.0)]
    good = pd.DataFrame(probs, columns=names).assign(mean=0.5)
    bad = pd.DataFrame(np.roll(probs, 1, 1), columns=names).assign(mean=0.5)
    for table, even in ((good, True), (bad, False)):
        _, low, high = pit_edges("rating", table, value > 1, value)
        distance, p_value = uniformity(transforms(low, high, 6))
        assert (p_value > 0.01) == even
        assert (distance < 0.03) == even


def test_crps_is_the_integral_of_the_squared_distance() -> None:
    scale = np.array([0.5, 1.0, 3.0, 5.0])
    rng = np.random.default_rng(6)
    probs, value = rng.dirichlet(np.ones(4), 9), scale[rng.integers(0, 4, 9)]
    table = pd.DataFrame(probs, columns=[f"p_level={level!r}" for level in scale.tolist()])
    grid = np.linspace(0.0, 6.0, 60_001)[:-1] + 5e-5
    for row in range(9):
        predicted = (probs[row][:, None] * (scale[:, None] <= grid)).sum(0)
        slow = ((predicted - (value[row] <= grid)) ** 2).mean() * 6.0
        assert rating_crps(table, value)[row] == pytest.approx(slow, abs=1e-3)
    assert np.isnan(rating_crps(table, np.full(9, 2.0))).all()  # no such level
    two = pd.DataFrame({"p_level=0.0": [0.3, 0.6], "p_level=1.0": [0.7, 0.4]})
    np.testing.assert_allclose(rating_crps(two, np.array([1.0, 1.0])), [0.3**2, 0.6**2])


# ------------------------------------------------------------ a whole backtest


@pytest.fixture(scope="module")
def judged() -> bi.Calibration:
    """The truth, and a model that is too sure of itself."""
    events, truth = known_log(3_000)
    odds = (truth / (1.0 - truth)) ** 2
    sd = np.full(len(truth), 1e-6)
    tables = {
        "truth": pd.DataFrame({"mean": truth, "sd": sd}),
        "too sure": pd.DataFrame({"mean": odds / (1.0 + odds), "sd": sd}),
    }
    return bi.calibration(scores_of(tables, events), strata=["item", "history"], n_boot=200)


def test_the_truth_cannot_be_told_from_perfect(judged: bi.Calibration) -> None:
    own = figures(judged, "truth")
    chance = own["calibration_error_by_chance"]
    assert chance["lower"] < own["calibration_error"]["value"] < chance["upper"]
    assert own["pit_p_value"]["value"] > 0.01
    groups = judged.groups.query("model == 'truth' and stratum == 'all' and groups == 'user'")
    assert groups["dependence"].tolist() == ["none", "full"]
    assert (groups["lower"] <= 0.9).all()
    assert (groups["upper"] >= 0.9).all()
    assert groups["n"].tolist() == [N_USERS, N_USERS]
    curve = judged.curve.query("model == 'truth' and stratum == 'all'")
    held = (curve["lower"] <= curve["mean_predicted"]) & (curve["mean_predicted"] <= curve["upper"])
    assert held.mean() > 0.7
    assert curve["n"].sum() == 3_000


def test_an_overconfident_model_is_found_out(judged: bi.Calibration) -> None:
    own, good = figures(judged, "too sure"), figures(judged, "truth")
    assert own["calibration_error"]["lower"] > own["calibration_error_by_chance"]["upper"]
    assert own["reliability"]["value"] > 5.0 * good["reliability"]["value"]
    assert own["brier"]["value"] > good["brier"]["value"]
    curve = judged.curve.query("model == 'too sure' and stratum == 'all'")
    assert curve["observed"].iloc[0] > curve["mean_predicted"].iloc[0] + 0.03
    assert curve["observed"].iloc[-1] < curve["mean_predicted"].iloc[-1] - 0.03


def test_every_stratum_has_its_rows(judged: bi.Calibration) -> None:
    assert {"all", "item=warm", "history=30+"} <= set(judged.summary["stratum"])
    for part in (judged.curve, judged.pit, judged.groups):
        assert set(part["model"]) == {"truth", "too sure"}
    for _, own in judged.summary.groupby(["model", "stratum"]):
        value = own.set_index("metric")["value"]
        parts = value["reliability"] - value["resolution"] + value["uncertainty"]
        assert parts + value["within_bins"] == pytest.approx(value["brier"])
    shares = judged.pit.groupby(["model", "stratum"])["share"].sum()
    np.testing.assert_allclose(shares, 1.0)
    assert "2 strata" not in repr(judged)
    assert "truth, too sure" in repr(judged)


def test_figures_are_those_of_the_metrics(judged: bi.Calibration) -> None:
    events, truth = known_log(3_000)
    own = figures(judged, "truth")
    outcome = events["value"].to_numpy()
    assert own["calibration_error"]["value"] == pytest.approx(calibration_error(outcome, truth))
    curve = judged.curve.query("model == 'truth' and stratum == 'all'").set_index("bin")
    first = calibration_bins(truth) == 0
    assert curve.loc[0, "mean_predicted"] == pytest.approx(truth[first].mean())
    assert curve.loc[0, "observed"] == pytest.approx(outcome[first].mean())


def test_errors_that_a_group_shares_need_their_sd() -> None:
    """Every user has an error of their own: independent outcomes cannot explain the rates."""
    rng = np.random.default_rng(9)
    user = np.repeat(np.arange(N_USERS * 3), 40)
    error = rng.normal(0.0, 0.15, N_USERS * 3)[user]
    outcome = rng.random(len(user)) < np.clip(0.5 + error, 0.0, 1.0)
    table = pd.DataFrame({"mean": np.full(len(user), 0.5), "sd": np.full(len(user), 0.15)})
    found = bi.calibration(scores_of({"m": table}, log_of(outcome, user)), n_boot=0).groups
    rows = found[found["groups"] == "user"].set_index("dependence")
    assert rows.loc["none", "upper"] < 0.8
    assert rows.loc["full", "lower"] < 0.9 < rows.loc["full", "upper"]
    assert rows.loc["full", "mean_width"] > rows.loc["none", "mean_width"]
    bare = bi.calibration(
        scores_of({"m": table.drop(columns="sd")}, log_of(outcome, user)), n_boot=0
    ).groups
    assert set(bare["dependence"]) == {"none"}


def test_groups_are_users_and_items_in_months() -> None:
    events, truth = known_log(4_000)
    table = pd.DataFrame({"mean": truth})
    found = bi.calibration(scores_of({"m": table}, events), n_boot=0).groups.set_index("groups")
    month = pd.to_datetime(events["timestamp"], unit="s").dt.strftime("%Y-%m")
    sizes = events.groupby(["item_id", month]).size()
    assert found.loc["item_month", "n"] == (sizes >= 5).sum()
    assert found.loc["user", "n"] == N_USERS


def test_options_have_an_effect_and_seeds_hold() -> None:
    events, truth = known_log(1_500)
    scores = scores_of({"m": pd.DataFrame({"mean": truth})}, events)
    base, again = (bi.calibration(scores, n_boot=50) for _ in range(2))
    for part in ("curve", "summary", "pit", "groups"):
        pd.testing.assert_frame_equal(getattr(base, part), getattr(again, part))
    assert len(bi.calibration(scores, n_boot=50, n_bins=7).curve) == 7
    assert bi.calibration(scores, n_boot=0).curve["lower"].isna().all()
    wide, narrow = base.curve, bi.calibration(scores, n_boot=50, prob=0.5).curve
    assert (wide["upper"] - wide["lower"]).sum() > (narrow["upper"] - narrow["lower"]).sum()
    other = bi.calibration(scores, n_boot=50, seed=1)
    assert not other.pit["share"].equals(base.pit["share"])
    assert not other.curve["lower"].equals(base.curve["lower"])


def test_choices_are_judged_by_their_most_probable_item() -> None:
    rng = np.random.default_rng(10)
    probs = rng.dirichlet(np.full(6, 0.7), 3_000)
    chosen = (rng.random((3_000, 1)) > probs.cumsum(1)).sum(1)
    own = probs[np.arange(3_000), chosen]
    table = pd.DataFrame(
        {
            "mean": own,
            "p_top": probs.max(1),
            "top_hit": (own == probs.max(1)).astype(float),
            "p_above": (probs * (probs > own[:, None])).sum(1),
            "p_tied": own,
        }
    )
    events = log_of(np.ones(3_000)).drop(columns="value")
    found = bi.calibration(scores_of({"m": table}, events, "choice"), n_boot=100)
    row = figures(found, "m")
    assert row["calibration_error"]["value"] < row["calibration_error_by_chance"]["upper"]
    assert row["pit_p_value"]["value"] > 0.01
    assert set(found.pit["distribution"]) == {"choice"}
    sharper = table.assign(p_top=np.sqrt(table["p_top"]))
    worse = figures(bi.calibration(scores_of({"m": sharper}, events, "choice"), n_boot=0), "m")
    assert worse["calibration_error"]["value"] > row["calibration_error_by_chance"]["upper"]


def test_models_without_probabilities_are_left_out_or_refused() -> None:
    events, truth = known_log(300)
    silent = pd.DataFrame({"mean": np.full(300, np.nan)})
    both = scores_of({"m": pd.DataFrame({"mean": truth}), "order": silent}, events)
    assert set(bi.calibration(both, n_boot=0).summary["model"]) == {"m"}
    with pytest.raises(InputError, match="no model has probabilities to judge: order only order"):
        bi.calibration(scores_of({"order": silent}, events))
    choices = pd.DataFrame({"mean": truth})
    with pytest.raises(InputError, match="detail=True"):
        bi.calibration(scores_of({"m": choices}, events.drop(columns="value"), "choice"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bins": 1}, "n_bins=1: expected a whole number >= 2"),
        ({"prob": 1.0}, "prob=1.0: expected a mass"),
        ({"n_boot": -1}, "n_boot=-1: expected a whole number"),
        ({"strata": ["age"]}, "'age' is neither one of"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    events, truth = known_log(100)
    with pytest.raises(InputError, match=message):
        bi.calibration(scores_of({"m": pd.DataFrame({"mean": truth})}, events), **options)


def test_details_are_kept_on_disk_by_model(tmp_path: Path) -> None:
    events, truth = known_log(100)
    rated = pd.DataFrame({"mean": truth, "p_level=0.0": 1.0 - truth, "p_level=1.0": truth})
    tables = {"rated": rated, "plain": pd.DataFrame({"mean": truth, "sd": 0.1})}
    scores = scores_of(tables, events, "auto")
    scores.save(tmp_path)
    again = BacktestScores.load(tmp_path)
    for name, table in scores.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)
    assert "p_level=1.0" not in again.tables["plain"]


def test_a_backtest_asks_for_details() -> None:
    log = bi.simulate(n_users=9, n_items=7, events_per_user=12, emission="rating", seed=3)
    encoder = bi.PrecomputedVectors(log.vectors)
    config = bi.ModelConfig(emission="rating", state_dim=2, positive_threshold=2.0)
    scores = bi.score_backtest(
        bi.InterestModel(config, encoder), log.events, progress=False, fraction=0.4,
        config=bi.FitConfig(max_epochs=2, progress=False),
    )  # fmt: skip
    found = bi.calibration(scores, n_boot=20)
    assert "crps" in set(found.summary["metric"])
    assert set(found.pit["distribution"]) == {"rating"}
    assert {"none", "full"} == set(found.groups["dependence"])
