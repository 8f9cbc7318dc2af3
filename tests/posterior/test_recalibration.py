"""A recalibrated model answers with mapped probabilities, and with the raw ones when asked."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bayes_interest as bi
from bayes_interest.config import EmissionName
from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.errors import ConfigError, EventError, TimeOrderError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior import storage
from bayes_interest.posterior.draws import DRAW_SEED, draw_predictors
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Predictors,
    advanced_belief,
    circumstances,
    clock,
    expected_rating,
    interest_interval,
    level_cut,
)
from bayes_interest.posterior.probability_map import EDGE, binary_log_loss, line_map
from tests.fitted import FAMILIES, QUICK, encoder, fit, model, parts, same

SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")
SLOPE, BIAS = 0.5, -0.7


def halves(emission: EmissionName) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = parts(emission)[1]
    return test.iloc[: len(test) // 2], test.iloc[len(test) // 2 :]


@cache
def _recalibrated(emission: EmissionName) -> Posterior:
    return model(emission).recalibrate(halves(emission)[0], method="temperature").posterior


def door(emission: EmissionName) -> InterestModel:
    """Recalibrated on the first half of the later events, nothing absorbed."""
    out = model(emission)
    out._posterior = _recalibrated(emission)
    return out


def mapped(emission: EmissionName) -> InterestModel:
    """With a map that moves every probability a lot."""
    out = model(emission)
    found = line_map("platt", SLOPE, 0.0 if emission == "choice" else BIAS)
    out._posterior = replace(out.posterior, recalibration=found)
    return out


def g(probability: Any) -> np.ndarray:
    x = np.clip(np.asarray(probability, dtype=float), EDGE, 1.0 - EDGE)
    odds = (x / (1.0 - x)) ** SLOPE * np.exp(BIAS)
    return odds / (1.0 + odds)


# ------------------------------------------------------------ what is answered


@pytest.mark.parametrize("emission", SCALAR)
def test_interest_and_trajectory_are_mapped(emission: EmissionName) -> None:
    it = mapped(emission)
    for ask in (it.interest, lambda **kw: it.trajectory(users=["u00001", "u00003"], **kw)):
        table, raw = ask(items=["i00001", "i00004"]), ask(items=["i00001", "i00004"], raw=True)
        for column in ("mean", "lower", "upper"):
            np.testing.assert_allclose(table[column], g(raw[column]), rtol=1e-5)
        assert (table["lower"] < table["mean"]).all()
        assert (table["mean"] < table["upper"]).all()


@pytest.mark.parametrize("emission", SCALAR)
def test_sd_is_that_of_mapped_draws(emission: EmissionName) -> None:
    posterior = mapped(emission).posterior
    mean, var = torch.tensor([-1.0, 0.3, 2.0]), torch.tensor([0.5, 1.5, 0.2])
    noise = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1))
    draws = torch.sigmoid(mean - level_cut(posterior) + noise * var.sqrt())
    found = interest_interval(
        Predictors(mean, var, 0.0 * var), 0.9, level_cut(posterior), posterior.recalibration
    )
    np.testing.assert_allclose(found.sd, g(draws).std(0), rtol=0.02)


@pytest.mark.parametrize("emission", FAMILIES)
def test_raw_is_what_was_said_before(emission: EmissionName) -> None:
    before, it = model(emission), door(emission)
    late = halves(emission)[1]
    asks = [
        lambda m, **kw: m.interest(users=["u00002"], n_draws=40, **kw),
        lambda m, **kw: m.rank(users=["u00002"], k=4, n_draws=40, **kw),
        lambda m, **kw: m.trajectory(users=["u00002"], items=["i00003"], **kw),
        lambda m, **kw: m.score_events(late, n_draws=20, **kw),
    ]
    for ask in asks:
        said = ask(before)
        same(ask(it, raw=True), said)
        assert not np.allclose(ask(it)["mean"], said["mean"])
    same(asks[0](it.recalibrate(None)), asks[0](before))


@pytest.mark.parametrize("emission", SCALAR)
@pytest.mark.parametrize("by", ["mean", "lower", "upper", "thompson", "p_top_k"])
def test_rankings_keep_their_order(emission: EmissionName, by: str) -> None:
    it = mapped(emission)
    users = ["u00001", "u00004", "someone new"]
    table = it.rank(users, by=by, k=5, n_draws=50)
    raw = it.rank(users, by=by, k=5, n_draws=50, raw=True)
    assert table["item_id"].tolist() == raw["item_id"].tolist()
    np.testing.assert_allclose(table["p_top_k"], raw["p_top_k"])
    np.testing.assert_allclose(table["mean"], g(raw["mean"]), rtol=1e-5)
    expected = raw["score"] if by == "p_top_k" else g(raw["score"])
    np.testing.assert_allclose(table["score"], expected, rtol=1e-5)


@pytest.mark.parametrize("emission", SCALAR)
def test_items_above_are_those_whose_mapped_probability_is(emission: EmissionName) -> None:
    it, plain = mapped(emission), model(emission)
    for p in (0.1, 0.3):
        found = it.above(users=["u00001", "u00002"], p=float(g(p)), c=0.6)
        raw = plain.above(users=["u00001", "u00002"], p=p, c=0.6)
        assert found.items["item_id"].tolist() == raw.items["item_id"].tolist()
        np.testing.assert_allclose(found.items["probability"], raw.items["probability"], rtol=1e-5)
        np.testing.assert_allclose(found.items["mean"], g(raw.items["mean"]), rtol=1e-5)
        assert len(found.items)


@pytest.mark.parametrize("emission", FAMILIES)
def test_changes_of_probabilities_are_mapped(emission: EmissionName) -> None:
    since = parts(emission)[0]["timestamp"].median()
    table, raw = (
        m.changes(users=["u00001"], since=since) for m in (mapped(emission), model(emission))
    )
    if emission == "choice":
        assert table["change"].std() < 0.9 * raw["change"].std()
    else:  # the change is that of the raw predictor
        np.testing.assert_array_equal(table["change"], raw["change"])
    assert not np.allclose(table["probability_change"], raw["probability_change"], rtol=0.05)


@pytest.mark.parametrize("emission", SCALAR)
def test_expected_hits_are_sums_of_mapped_probabilities(emission: EmissionName) -> None:
    it, test = mapped(emission), parts(emission)[1].head(12)
    options = {"k": 1, "certainty": True, "exclude_seen": False}
    table, raw = it.score_events(test, **options), it.score_events(test, raw=True, **options)
    np.testing.assert_allclose(table["expected_hits"], g(raw["expected_hits"]), rtol=1e-5)
    np.testing.assert_allclose(table["slate_certainty"], raw["slate_certainty"])


@pytest.mark.parametrize("emission", SCALAR)
def test_scores_of_events_are_mapped(emission: EmissionName) -> None:
    it, test = mapped(emission), parts(emission)[1]
    table, raw = it.score_events(test, detail=True), it.score_events(test, detail=True, raw=True)
    np.testing.assert_allclose(table["mean"], g(raw["mean"]), rtol=1e-5)
    np.testing.assert_array_equal(table["rank"], raw["rank"])
    level = it.posterior.level if emission == "rating" else 1
    above = test["value"].to_numpy() >= level
    if emission == "bernoulli":
        chance = np.where(above, np.exp(raw["log_prob"]), 1.0 - np.exp(raw["log_prob"]))
    else:
        chance = raw.filter(like="p_level=").to_numpy()[:, level:].sum(1)
    side = np.where(above, g(chance) / chance, (1.0 - g(chance)) / (1.0 - chance))
    np.testing.assert_allclose(table["log_prob"], raw["log_prob"] + np.log(side), atol=1e-4)


def test_ratings_keep_what_is_known_given_the_side() -> None:
    it, test = mapped("rating"), parts("rating")[1]
    table, raw = it.score_events(test, detail=True), it.score_events(test, detail=True, raw=True)
    names = [c for c in table if c.startswith("p_level=")]
    new, old = table[names].to_numpy(), raw[names].to_numpy()
    level = it.posterior.level
    np.testing.assert_allclose(new.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(old.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(new[:, level:].sum(1), g(old[:, level:].sum(1)), atol=1e-5)
    for part in (slice(None, level), slice(level, None)):
        given_side = [p[:, part] / p[:, part].sum(1, keepdims=True) for p in (new, old)]
        np.testing.assert_allclose(*given_side, atol=1e-4)
    own = new[np.arange(len(test)), test["value"].astype(int)]
    np.testing.assert_allclose(np.log(own), table["log_prob"], atol=1e-3)


def test_expected_rating_is_that_of_the_mapped_levels() -> None:
    posterior = mapped("rating").posterior
    mean, var = torch.tensor([-0.5, 1.0]), torch.tensor([0.5, 1.2])
    x = np.linspace(-8.0, 8.0, 4_001)[:, None]  # a fine grid of the normal
    weight = np.exp(-0.5 * x**2) / np.exp(-0.5 * x**2).sum()
    a = mean.numpy() + x * np.sqrt(var.numpy())
    cuts = increasing_cuts(posterior.values["raw_cuts"]).numpy()
    above = [(weight / (1.0 + np.exp(cut - a))).sum(0) for cut in cuts]
    probs = -np.diff(np.array([np.ones(2), *above, np.zeros(2)]), axis=0)
    chance = above[posterior.level - 1]
    low, high = (1.0 - g(chance)) / (1.0 - chance), g(chance) / chance
    side = np.where(np.arange(len(probs))[:, None] >= posterior.level, high, low)
    expected = np.array(posterior.vocabulary.levels) @ (probs * side)
    found = expected_rating(posterior, Predictors(mean, var, 0.0 * var))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_choices_are_a_softmax_at_another_temperature() -> None:
    it = mapped("choice")
    table = it.interest(users=["u00004"], n_draws=40)
    assert table["mean"].sum() == pytest.approx(1.0, abs=1e-5)
    posterior, at = it.posterior, np.array([clock(it.posterior)])
    user = posterior.vocabulary.users.index_of(["u00004"])
    belief = advanced_belief(posterior, user, at)
    extra = circumstances(posterior, user, at)
    drawn = draw_predictors(posterior, belief, extra, 40, DRAW_SEED)[0]
    slow = torch.exp(SLOPE * drawn) / torch.exp(SLOPE * drawn).sum(1, keepdim=True)
    np.testing.assert_allclose(table["mean"], slow.mean(0), rtol=1e-5)
    ranked = it.rank(users=["u00004"], k=11, n_draws=40, exclude_seen=False)
    assert ranked["mean"].sum() == pytest.approx(1.0, abs=1e-5)


# ------------------------------------------------------------ what is learned


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_log_loss_of_its_events_is_the_lowest_of_all_slopes(emission: EmissionName) -> None:
    early = halves(emission)[0]
    it = door(emission)

    def loss(slope: float) -> float:
        other = model(emission)
        other._posterior = replace(it.posterior, recalibration=line_map("temperature", slope))
        table = other.score_events(early)
        if emission == "choice":
            return -float(table["log_prob"].mean())
        level = it.posterior.level if emission == "rating" else 1
        return binary_log_loss(table["mean"].to_numpy(), early["value"].to_numpy() >= level)

    best = it.posterior.recalibration
    assert best is not None
    assert loss(best.slope) < min(loss(best.slope * 1.15), loss(best.slope / 1.15))


@pytest.mark.parametrize("emission", FAMILIES)
def test_nothing_is_absorbed_and_update_keeps_the_map(emission: EmissionName) -> None:
    it, (early, late) = door(emission), halves(emission)
    before = model(emission).posterior
    assert it.posterior.history is before.history
    assert it.posterior.belief is before.belief
    same(
        it.update(early).score_events(late, raw=True),
        model(emission).update(early).score_events(late),
    )
    assert it.posterior.recalibration is _recalibrated(emission).recalibration


def test_a_refit_forgets_the_map() -> None:
    it = door("bernoulli")
    it.fit(parts("bernoulli")[0], config=QUICK)
    assert it.posterior.recalibration is None


@pytest.mark.parametrize("method", ["identity", "temperature", "platt", "isotonic", "auto"])
def test_methods(method: Any) -> None:
    early, late = halves("bernoulli")
    it = model("bernoulli").recalibrate(early, method=method)
    found = it.posterior.recalibration
    assert found is not None
    assert found.method == method or method == "auto"
    assert len(found.evidence) == len(early)
    table, raw = it.score_events(late), it.score_events(late, raw=True)
    assert np.isfinite(table["log_prob"]).all()
    if method == "identity":
        np.testing.assert_allclose(table["mean"], raw["mean"], rtol=1e-5)
    elif method != "auto":
        assert not np.allclose(table["mean"], raw["mean"])


def test_memory_adds_events_as_they_were_predicted() -> None:
    early, late = halves("bernoulli")
    it = model("bernoulli").recalibrate(early, method="platt").update(early)
    alone = it.recalibrate(late, method="platt").posterior.recalibration
    both = door("bernoulli").update(early).recalibrate(late, method="platt", memory=30)
    found = both.posterior.recalibration
    assert alone is not None
    assert found is not None
    assert (len(alone.evidence), len(found.evidence)) == (len(late), len(late) + 30)
    kept = _recalibrated("bernoulli").recalibration
    assert kept is not None
    np.testing.assert_array_equal(found.evidence[:30], kept.evidence[-30:])
    assert found.slope != alone.slope


# ------------------------------------------------------------ storage


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_map_is_saved(emission: EmissionName, tmp_path: Path) -> None:
    it = door(emission)
    if emission == "bernoulli":
        it.recalibrate(halves(emission)[0], method="isotonic")
    it.save(tmp_path)
    again = InterestModel.load(tmp_path, encoder=encoder(emission))
    same(again.interest(users=["u00001"], n_draws=30), it.interest(users=["u00001"], n_draws=30))
    late = halves(emission)[1]
    same(again.score_events(late, n_draws=20), it.score_events(late, n_draws=20))
    kept, found = it.posterior.recalibration, again.posterior.recalibration
    assert kept is not None
    assert found is not None
    np.testing.assert_array_equal(found.evidence, kept.evidence)
    assert found.method == kept.method


def test_folders_of_before_there_were_maps_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = storage._settings
    monkeypatch.setattr(
        storage, "_settings", lambda p: {k: v for k, v in now(p).items() if k != "recalibration"}
    )
    it = model("bernoulli")
    it.save(tmp_path)
    again = InterestModel.load(tmp_path, encoder=encoder("bernoulli"))
    assert again.posterior.recalibration is None
    same(again.interest(users=["u00001"]), it.interest(users=["u00001"]))


# ------------------------------------------------------------ what is refused


def test_refusals_say_what_to_do_and_change_nothing() -> None:
    it, (early, _) = door("bernoulli"), halves("bernoulli")
    before = it.posterior
    trained = parts("bernoulli")[0]
    ones = early.assign(value=1.0)
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (trained.tail(40), {}, TimeOrderError, "events after the latest one .* 40 of 40 are not"),
        (early.head(7), {}, EventError, "at least 20 events with an outcome, got 7"),
        (ones, {}, EventError, "all 38 outcomes are above the threshold"),
        (early.assign(value=0.0), {}, EventError, "outcomes are below"),
        (early, {"method": "beta"}, ConfigError, "method='beta': expected one of auto, identity"),
        (early, {"memory": -1}, ConfigError, "memory=-1: expected a whole number"),
    ]
    for events, options, error, message in cases:
        with pytest.raises(error, match=message):
            it.recalibrate(events, **options)
        assert it.posterior is before


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_choices_have_one_temperature_for_all(method: Any) -> None:
    with pytest.raises(ConfigError, match=r"must sum to one: expected method=.temperature"):
        model("choice").recalibrate(halves("choice")[0], method=method)


def test_kinds_count_in_the_evidence() -> None:
    """The outcome of an event is predicted for its own kind."""
    train, test = (
        part.assign(kind=np.where(np.arange(len(part)) % 3 == 1, "rare", "usual"))
        for part in parts("bernoulli")
    )
    it = fit(train, "bernoulli")
    raw = it.score_events(test)
    it.recalibrate(test, method="platt")
    found = it.posterior.recalibration
    assert found is not None
    chance, hit = found.evidence.T
    np.testing.assert_array_equal(hit, test["value"])
    expected = np.where(hit > 0, np.exp(raw["log_prob"]), 1.0 - np.exp(raw["log_prob"]))
    np.testing.assert_allclose(chance, expected, atol=1e-5)
    assert not np.allclose(chance, raw["mean"], atol=1e-3)


# ------------------------------------------------------------ details of scored events


def test_details_of_choices_agree_with_all_probabilities() -> None:
    it, test = model("choice"), parts("choice")[1].head(9)
    table = it.score_events(test, n_draws=40, detail=True)
    for row in range(len(test)):
        event = test.iloc[[row]]
        probs = it.interest(event["user_id"], at=event["timestamp"].iloc[0], n_draws=40)
        own = probs["mean"][probs["item_id"] == event["item_id"].iloc[0]].iloc[0]
        said = table.iloc[row]
        assert said["p_top"] == pytest.approx(probs["mean"].max(), rel=1e-4)
        assert said["top_hit"] == (own == probs["mean"].max())
        assert said["p_above"] == pytest.approx(probs["mean"][probs["mean"] > own].sum(), abs=1e-5)
        assert said["p_tied"] == pytest.approx(own, rel=1e-4)
        it.update(event)


def test_details_only_where_asked() -> None:
    for emission in FAMILIES:
        test = parts(emission)[1].head(5)
        plain, more = (
            model(emission).score_events(test),
            model(emission).score_events(test, detail=True),
        )
        same(more[plain.columns], plain)
        assert (len(more.columns) > len(plain.columns)) == (emission != "bernoulli")


# ------------------------------------------------------------ with a choice model beside it


def test_both_maps_count_in_the_product() -> None:
    """The bernoulli and the choice simulation have the same users and items."""
    found = {}
    for name, outcome_bias, slope in (("raw", 0.0, 1.0), ("dim", -6.0, 1.0), ("even", 0.0, 1e-3)):
        outcome, exposure = model("bernoulli"), model("choice")
        outcome._posterior = replace(
            outcome.posterior, recalibration=line_map("platt", 1.0, outcome_bias)
        )
        exposure._posterior = replace(
            exposure.posterior, recalibration=line_map("temperature", slope)
        )
        both = bi.ExposedInterest(outcome, exposure)
        table = both.rank(users=["u00001"], k=11, exclude_seen=False, n_draws=4_000)
        found[name] = table.set_index("item_id")["mean"]
    interest = model("bernoulli").interest(users=["u00001"]).set_index("item_id")["mean"]
    np.testing.assert_allclose(found["even"], interest[found["even"].index] / 11, rtol=0.05)
    assert (found["dim"] < found["raw"][found["dim"].index]).all()
    assert found["dim"].sum() < 0.5 * found["raw"].sum()
