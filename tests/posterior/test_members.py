"""Draws of the globals: predictions integrate over them, and everything keeps them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import ConfigError
from bayes_interest.interest_model import InterestModel
from bayes_interest.model import members
from bayes_interest.model.candidates import extra_table
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.posterior import changes, storage
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.mixture import mixture_bounds, mixture_quantile, unseen_share
from bayes_interest.posterior.online import moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    level_cut,
    novelty,
    predictors,
)
from tests.fitted import CONTEXT, fit, parts

MANY = 5
RUN = FitConfig(max_epochs=3, n_members=MANY, progress=False)
SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")
FAMILIES: tuple[EmissionName, ...] = (*SCALAR, "choice")


@cache
def fitted(emission: EmissionName) -> Posterior:
    return fit(parts(emission)[0], emission, RUN, rates=False).posterior


def door(emission: EmissionName) -> InterestModel:
    model = InterestModel(fitted(emission).config)
    model._posterior = fitted(emission)
    return model


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_small_log_gets_draws_by_itself(emission: EmissionName) -> None:
    auto = fit(parts(emission)[0], emission, FitConfig(max_epochs=1, progress=False), rates=False)
    assert len(auto.posterior.members) == len(auto.posterior.belief.members) == 16
    posterior = fitted(emission)
    assert len(posterior.members) == MANY
    drift = torch.stack([one.values["log_drift"] for one in posterior.members])
    assert (drift.std(0) > 0.05).all()
    warm = posterior.members[0].item_cov[0]
    assert bool((warm == 0).all())  # an item's effects are drawn with the rest


@pytest.mark.parametrize("emission", SCALAR)
def test_intervals_are_the_mixtures(emission: EmissionName) -> None:
    posterior, model = fitted(emission), door(emission)
    user, items = "u00003", ["i00001", "i00007"]
    table = model.interest([user], items, prob=0.8)
    who, what = posterior.vocabulary.users.index_of([user]), posterior.vocabulary.items
    seconds = np.array([np.nanmax(posterior.last_seconds)])
    belief, extra = advanced_belief(posterior, who, seconds), circumstances(posterior, who, seconds)
    for row, item in enumerate(what.index_of(items)):
        parts_ = []
        for one, own in zip(posterior.each, belief.members, strict=True):
            found = predictors(one, own, extra)
            cut = float(level_cut(one))
            parts_.append((float(found.mean[0, item]) - cut, float(found.var[0, item]) ** 0.5))
        more = unseen_share(MANY) * np.var([m for m, _ in parts_])
        for name, level in (("lower", 0.1), ("upper", 0.9)):
            edge = brentq(
                lambda a, level=level, parts_=parts_, more=more: (
                    np.mean([norm.cdf(a, m, np.hypot(s, more**0.5)) for m, s in parts_]) - level
                ),
                -30,
                30,
            )
            assert table[name].iloc[row] == pytest.approx(expit(edge), abs=2e-4)
        grid = np.linspace(-8, 8, 2_001)
        each = [(expit(m + s * grid) * norm.pdf(grid)).sum() * 0.008 for m, s in parts_]
        assert table["mean"].iloc[row] == pytest.approx(np.mean(each), abs=1e-4)


def test_quantiles_of_a_mixture() -> None:
    mean, var = torch.tensor([[-3.0], [3.0]]).double(), torch.tensor([[1.0], [4.0]]).double()
    for level in (0.05, 0.4, 0.9):
        edge = float(mixture_quantile(mean, var, level)[0])
        mass = np.mean([norm.cdf(edge, -3, 1), norm.cdf(edge, 3, 2)])
        assert mass == pytest.approx(level, abs=1e-6)
    alone = mixture_quantile(mean[:1], var[:1], 0.9)
    assert float(alone[0]) == pytest.approx(-3 + norm.ppf(0.9))


@pytest.mark.parametrize("many", [10, 16])
def test_bounds_hold_one_more_draw_as_often_as_they_say(many: int) -> None:
    """Draws of the globals differ by more than users do within one: the worst case."""
    generator = torch.Generator().manual_seed(many)
    mean, more = torch.randn(2, many, 20_000, generator=generator, dtype=torch.float64)
    var = torch.full_like(mean, 0.1)
    next_one = 1.1**0.5 * more[0]

    def held(bounds: list[torch.Tensor]) -> float:
        return float(((next_one > bounds[0]) & (next_one < bounds[1])).double().mean())

    plain = [mixture_quantile(mean, var, level) for level in (0.05, 0.95)]
    assert held(plain) < 0.885
    assert held(mixture_bounds(mean, var, 0.9)) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("emission", FAMILIES)
def test_joint_draws_have_the_moments_of_the_mixture(emission: EmissionName) -> None:
    posterior, who = fitted(emission), np.arange(2)
    seconds = np.full(2, np.nanmax(posterior.last_seconds))
    belief, extra = advanced_belief(posterior, who, seconds), circumstances(posterior, who, seconds)
    drawn = draw_predictors(posterior, belief, extra, 4_000, seed=1).double()
    found = predictors(posterior, belief, extra)
    assert bool(((drawn.mean(1) - found.mean).abs() < 0.1 * found.var.sqrt()).all())
    apart = torch.stack([one.mean for one in found.members]).var(0, correction=0)
    ratio = drawn.var(1).float() / (found.var + unseen_share(MANY) * apart)
    assert bool(((ratio > 0.85) & (ratio < 1.15)).all())


@pytest.mark.parametrize("emission", FAMILIES)
def test_an_update_is_the_filter_from_scratch(emission: EmissionName) -> None:
    later = parts(emission)[1]
    whole, steps = door(emission), door(emission)
    whole.update(later)
    for _, part in later.groupby(np.arange(len(later)) // 7):
        steps.update(part)
    for one, other in zip(
        whole.posterior.belief.members, steps.posterior.belief.members, strict=True
    ):
        torch.testing.assert_close(one.mean, other.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.cov, other.cov, rtol=1e-4, atol=1e-5)
    before = fitted(emission).belief.members[0].mean
    assert not torch.equal(before, whole.posterior.belief.members[0].mean[: len(before)])


@pytest.mark.parametrize("emission", FAMILIES)
def test_saved_and_read_again(emission: EmissionName, tmp_path: Path) -> None:
    model = door(emission)
    model.save(tmp_path / "model")
    again = InterestModel.load(tmp_path / "model")
    assert len(again.posterior.members) == MANY
    pd.testing.assert_frame_equal(again.interest(["u00001"]), model.interest(["u00001"]))
    pd.testing.assert_frame_equal(again.rank(["u00001"], k=3), model.rank(["u00001"], k=3))


@pytest.mark.parametrize("as_before", [False, True], ids=["now", "with all items in the file"])
def test_what_is_uncertain_of_items_is_read_again(
    as_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, model = storage._member_tensors, door("bernoulli")
    posterior, written = model.posterior, []
    assert not posterior.members[0].item_cov.any()  # all were drawn

    def kept(one: Posterior) -> dict[str, torch.Tensor]:
        found = now(one)
        if as_before:
            del found["members/uncertain"]
            found["members/item_cov"] = torch.stack([each.item_cov for each in one.members])
        written.append(found["members/item_cov"].shape[1])
        return found

    monkeypatch.setattr(storage, "_member_tensors", kept)
    some = [replace(one, item_cov=one.item_cov.clone()) for one in posterior.members]
    some[1].item_cov[2] += 0.3  # as of an item added later
    some[0].item_cov[4] += 0.1
    for held in (posterior.members, tuple(some)):
        model._posterior = replace(posterior, members=held)
        model.save(tmp_path / "model")
        again = InterestModel.load(tmp_path / "model").posterior
        for one, other in zip(again.members, held, strict=True):
            assert torch.equal(one.item_cov, other.item_cov)
    n_items = posterior.layout.n_items
    assert written == ([n_items] * 2 if as_before else [0, 2])


@pytest.mark.parametrize("emission", FAMILIES)
def test_every_question_sees_the_draws(emission: EmissionName) -> None:
    """With the draws taken away each answer is another one."""
    model, plain = door(emission), door(emission)
    posterior = fitted(emission)
    plain._posterior = replace(posterior, members=(), belief=replace(posterior.belief, members=()))
    users, since = ["u00002"], "2023-11-25"
    two = ["i00001", "i00002"]
    asks = [
        lambda m: m.interest(users)["lower"],
        lambda m: m.trajectory(users, two[:1])["lower"],
        lambda m: m.score_events(parts(emission)[1])["log_prob"],
        lambda m: m.score_events(parts(emission)[1])["lower"],
        lambda m: m.rank(users, k=2, n_draws=50, exclude_seen=False)["p_top_k"],
        lambda m: m.compare_items(users, items=two)["probability"],
        lambda m: m.above(users, p=0.1, c=0.1).users["nearest_probability"],
        lambda m: m.changes(users, two, since=since)["p_risen"],
        lambda m: m.explain(users[0], two[0]).next_observations["expected_variance"],
    ]
    for ask in asks:
        assert not np.allclose(ask(model), ask(plain), rtol=0.0, atol=1e-6)
    drawn, fixed = (
        one.explain(users[0], two[0]).uncertainty.set_index("source")["variance"]
        for one in (model, plain)
    )
    assert drawn["globals"] > 0.0
    assert fixed.get("globals", 0.0) == 0.0


def test_choice_draws_have_their_own_weights_of_covariates() -> None:
    posterior, who = fitted("choice"), np.arange(2)
    seconds = np.full(2, np.nanmax(posterior.last_seconds))
    extra = circumstances(posterior, who, seconds)
    assert extra.shape == (MANY, 2, posterior.layout.n_items)
    rows = moments_of(posterior, who, seconds)
    for turn, one in enumerate(posterior.members):
        alone = extra_table(rows.surroundings, rows.moment, one.values)
        torch.testing.assert_close(extra[turn], alone + novelty(posterior, seconds))
    plain = circumstances(replace(posterior, members=()), who, seconds)
    torch.testing.assert_close(plain[0], extra.mean(0), rtol=1e-4, atol=1e-4)
    assert float(extra.std(0).max()) > 0.1


@pytest.mark.parametrize("emission", FAMILIES)
def test_an_explanation_adds_up_over_the_draws(emission: EmissionName) -> None:
    found = door(emission).explain("u00002", "i00001")
    assert found.contributions["contribution"].sum() == pytest.approx(found.score, abs=1e-4)


def test_new_users_and_items_have_them_too() -> None:
    model = door("bernoulli")
    table = model.interest(["nobody"], ["i00001"])
    assert table["lower"].iloc[0] < table["mean"].iloc[0] < table["upper"].iloc[0]
    wider = model.posterior.with_users(np.array(["nobody"], dtype=object))
    assert len(wider.belief.members[0].mean) == len(wider.last_seconds)


def test_context_and_choices_among_many_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    three = FitConfig(max_epochs=1, n_members=3, progress=False)
    with pytest.raises(ConfigError, match="n_members=3: a model with context, and"):
        fit(parts("bernoulli")[0], "bernoulli", three, **CONTEXT)
    monkeypatch.setattr(members, "CHOICE_WORK", 1)
    with pytest.raises(ConfigError, match="n_members=3: a model with context, and"):
        fit(parts("choice")[0], "choice", three)
    auto = FitConfig(max_epochs=1, progress=False)
    assert not fit(parts("choice")[0], "choice", auto).posterior.members
    with pytest.raises(ConfigError, match="n_members=0: expected"):
        FitConfig(n_members=0)


@pytest.mark.parametrize("emission", SCALAR)
def test_all_globals_are_drawn_where_sweeps_are_cheap(
    emission: EmissionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "EVERY", (2, 2))
    monkeypatch.setattr(members, "BURN_IN", 10)
    auto = FitConfig(max_epochs=1, progress=False)
    log = parts(emission)[0]
    posterior = fit(log, emission, auto, rates=False).posterior
    assert len(posterior.members) == 16
    for name, value in posterior.values.items():
        drawn = torch.stack([one.values[name] for one in posterior.members])
        assert drawn.dtype == value.dtype
        assert bool((drawn.std(0) > 0).all()) == (name != COVARIATES)
    assert bool((posterior.members[0].item_cov[0] == 0).all())
    assert "points" not in " ".join(posterior.summary.notes)
    monkeypatch.setattr(members, "SWEEP_WORK", 0)
    points = fit(log, emission, auto, rates=False).posterior
    assert not points.members
    assert "global parameters are points" in points.summary.notes[-1]
    asked = FitConfig(max_epochs=1, n_members=3, progress=False)
    drawn = fit(log, emission, asked, rates=False).posterior.members
    assert len(drawn) == 3
    assert not torch.equal(drawn[0].values["weight"], drawn[1].values["weight"])


def test_changes_of_choices_allow_for_draws_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    last = np.nanmax(fitted("choice").last_seconds)
    ask = {"users": ["u00003"], "since": last - 5 * 86_400.0, "n_draws": 2_000}
    wide = door("choice").changes(**ask)  # type: ignore[arg-type]
    monkeypatch.setattr(changes, "unseen_noise", lambda means, n_draws, seed: 0.0)
    plain = door("choice").changes(**ask)  # type: ignore[arg-type]
    widths = [(table["upper"] - table["lower"]).sum() for table in (wide, plain)]
    assert widths[0] > 1.02 * widths[1]
