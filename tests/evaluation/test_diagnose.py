"""Every verdict on a model made bad in exactly that way; good models are called good."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import ConfigError
from bayes_interest.evaluation import guide_sample
from bayes_interest.evaluation.fit_checks import (
    drift_shares,
    fit_checks,
    known_share,
    settled_checks,
)
from bayes_interest.evaluation.guide_sample import draw_guide, scalar_guide
from bayes_interest.evaluation.pareto import effective_share, pareto_k
from bayes_interest.evaluation.predictive_checks import (
    autocorrelation,
    head_share,
    rate_spread,
    tail_probability,
)
from bayes_interest.evaluation.reliability import calibration_limit
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.filtering import Belief
from bayes_interest.model.simulate import Simulation, simulate
from bayes_interest.posterior.posterior import FitSummary, Member, Posterior
from bayes_interest.statespace.diagonal import DiagonalSites
from bayes_interest.statespace.kalman import ScalarSites
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import FAMILIES

GOOD, LOOK, DISTRUST = "good", "look", "do not trust"
ENOUGH = FitConfig(max_epochs=14, holdout=0.0, learning_rate=0.05, n_members=1, progress=False)
DRAWS: dict[str, Any] = {"n_users": 40, "n_draws": 200}


@cache
def log(emission: EmissionName) -> Simulation:
    return simulate(60, 14, 22, emission, (0.03, 0.08), embed_dim=5, days=100.0, seed=7)


def fitted(
    events: object, emission: EmissionName, run: FitConfig = ENOUGH, **config: Any
) -> InterestModel:
    chosen = ModelConfig(**{"emission": emission, "state_dim": 2} | config)
    return InterestModel(chosen, PrecomputedVectors(log(emission).vectors)).fit(events, config=run)


@cache
def trained(emission: EmissionName) -> InterestModel:
    return fitted(split_by_time(log(emission).events, fraction=0.2)[0].frame, emission)


def door(emission: EmissionName, **changed: Any) -> InterestModel:
    """The good model, or one with parts of its posterior or of its globals replaced."""
    good = trained(emission).posterior
    names = {name: changed.pop(name) for name in list(changed) if name in good.values}
    values = good.values | {name: as_like(good, name, value) for name, value in names.items()}
    out = InterestModel(good.config, trained(emission).encoder)
    out._posterior = replace(good, values=values, **changed)
    return out


def as_like(good: Posterior, name: str, value: Any) -> torch.Tensor:
    return torch.as_tensor(value).to(good.values[name]).expand_as(good.values[name]).clone()


def verdicts(model: InterestModel, *args: Any, **more: Any) -> pd.DataFrame:
    return model.diagnose(*args, **DRAWS | more).set_index("check")


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_good_model_is_called_good(emission: EmissionName) -> None:
    test = split_by_time(log(emission).events, fraction=0.2)[1]
    table = trained(emission).diagnose(test)
    assert table.columns.tolist() == ["check", "value", "threshold", "verdict", "meaning"]
    assert (table["verdict"] == GOOD).all(), table[table["verdict"] != GOOD].to_string()
    assert table["check"].is_unique
    assert np.isfinite(table[["value", "threshold"]]).all(axis=None)
    assert table["meaning"].str.endswith(".").all()
    absent = table.attrs["absent"]
    assert not set(absent) & set(table["check"])
    assert "drawn logs: repeats" in (table["check"].tolist() if emission == "choice" else absent)
    assert ("calibration of later events" in absent) == (emission == "choice")


def test_seed_and_sizes_have_an_effect_and_repeat() -> None:
    model, name = door("bernoulli"), "drawn logs: spread of users' rates"
    first = model.diagnose(n_users=9, n_draws=100, seed=0)
    pd.testing.assert_frame_equal(first, model.diagnose(n_users=9, n_draws=100, seed=0))
    values = [
        verdicts(model, n_users=users, n_draws=draws, seed=seed).loc[name, "value"]
        for users, draws, seed in ((9, 100, 0), (9, 100, 1), (9, 301, 0), (33, 100, 0))
    ]
    assert len(set(values)) == 4
    assert "9 users" in first["meaning"][first["check"].str.startswith("guide")].item()


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="n_draws=10: expected a whole number, at least 100"):
        door("bernoulli").diagnose(n_draws=10)
    with pytest.raises(ConfigError, match="n_users=0: expected a whole number, at least 1"):
        door("bernoulli").diagnose(n_users=0)


# ---------------------------------------------------------------- the fit


def summary(loss: list[float], held: list[float] | None = None, best: int = 1) -> FitSummary:
    held = held or [float("nan")] * len(loss)
    epochs = tuple(
        {"epoch": i + 1.0, "loss": one, "held_back_loss": other, "seconds": 0.0}
        for i, (one, other) in enumerate(zip(loss, held, strict=True))
    )
    return FitSummary("", epochs, best, False, 0.0, ())


def of_fit(*args: Any, **more: Any) -> dict[str, tuple[float, str]]:
    return {one.check: (one.value, one.verdict) for one in fit_checks(summary(*args, **more))}


def test_one_epoch_is_no_fit() -> None:
    events = log("bernoulli").events.frame
    model = fitted(events, "bernoulli", replace(ENOUGH, max_epochs=1))
    row = verdicts(model).loc["still falling"]
    assert row["verdict"] == DISTRUST
    assert "max_epochs" in row["meaning"]
    few = fitted(events, "bernoulli", replace(ENOUGH, max_epochs=2, learning_rate=0.01))
    assert verdicts(few).loc["still falling", "verdict"] != GOOD


def test_an_ascent_that_runs_away_is_found() -> None:
    wild = replace(ENOUGH, max_epochs=2, learning_rate=3.0)
    model = fitted(log("bernoulli").events.frame, "bernoulli", wild)
    row = verdicts(model).loc["loss rose"]
    assert row["verdict"] == DISTRUST
    assert "learning_rate" in row["meaning"]


def test_losses_are_read_as_they_should() -> None:
    assert of_fit([1.0, 0.7, 0.68])["still falling"] == (pytest.approx(0.02), LOOK)
    assert of_fit([1.0, 0.7, 0.699])["still falling"][1] == GOOD
    assert of_fit([1.0, 0.5, 0.6])["loss rose"] == (pytest.approx(0.1), LOOK)
    assert "best epoch" not in of_fit([1.0, 0.5, 0.5])
    # Where a slice is held back, it decides: the loss itself may go on falling.
    found = of_fit([1.0, 0.8, 0.6], [0.9, 0.8, 0.85], best=2)
    assert found["still falling"] == (0.0, GOOD)
    assert found["best epoch"] == (2, GOOD)
    assert of_fit([1.0, 0.8, 0.6], [0.8, 0.9, 0.95], best=1)["best epoch"] == (1, LOOK)


# ---------------------------------------------------------------- the guide


@pytest.mark.parametrize(("factor", "wanted"), [(2.0, (LOOK, DISTRUST)), (4.0, (DISTRUST,))])
@pytest.mark.parametrize("emission", FAMILIES)
def test_sites_too_precise_are_found(
    emission: EmissionName,
    factor: float,
    wanted: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sharp(sites: Any) -> Any:
        kind = ScalarSites if isinstance(sites, ScalarSites) else DiagonalSites
        return kind(factor * sites.linear, factor * sites.precision)

    scalar, choice = guide_sample.scalar_guide, guide_sample.choice_sites

    def sharp_guide(*args: Any) -> Any:
        found = scalar(*args)
        return replace(found, sites=sharp(found.sites))

    monkeypatch.setattr(guide_sample, "scalar_guide", sharp_guide)
    monkeypatch.setattr(guide_sample, "choice_sites", lambda *args: sharp(choice(*args)))
    assert verdicts(door(emission)).loc["guide against the exact posterior", "verdict"] in wanted


def test_pareto_k_is_that_of_arviz() -> None:
    from arviz import psislw

    rng = np.random.default_rng(0)
    log_weights = rng.standard_normal((400, 7)) * np.linspace(0.1, 5.0, 7)
    wanted = np.array([float(psislw(column)[1]) for column in log_weights.T])
    np.testing.assert_allclose(pareto_k(log_weights), wanted, atol=0.02)


def test_pareto_k_recovers_known_tails() -> None:
    rng = np.random.default_rng(1)
    for k in (0.2, 0.7, 1.2):
        found = pareto_k(k * rng.standard_exponential((4000, 20)))  # Pareto of shape k
        assert abs(found.mean() - k) < 0.1
    assert (pareto_k(np.zeros((400, 2))) == -np.inf).all()
    assert (pareto_k(np.zeros((10, 2))) == -np.inf).all()


def test_a_heavy_tail_of_weights_that_are_all_but_equal_is_no_alarm() -> None:
    """Of an excellent guide: the log weight is a small cubic, and k-hat knows no size."""
    sample = draw_guide(trained("bernoulli").posterior, 60, 2000, 0)
    assert np.median(pareto_k(sample.log_ratio)) > 0.7
    assert effective_share(sample.log_ratio).min() > 0.9
    row = verdicts(trained("bernoulli"), n_draws=2000).loc["guide against the exact posterior"]
    assert (row["value"], row["verdict"]) == (0.0, GOOD)


def test_effective_share_by_hand() -> None:
    weights = np.array([[1.0, 4.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(effective_share(np.log(weights)), [1.0, 0.25])


def test_weights_lead_to_the_exact_evidence() -> None:
    """One event in one dimension: `E[weight]` is the evidence over that of the site."""
    events = log("bernoulli").events.frame.drop_duplicates("user_id", keep="first")
    good = trained("bernoulli").posterior
    from bayes_interest.posterior.online import absorb, restarted

    rows = np.unique(good.history.user_index, return_index=True)[1]
    one = absorb(restarted(good), good.history.take(rows))
    sample = draw_guide(one, len(events), 4000, 0)
    assert (np.bincount(sample.history.user_index) == 1).all()
    items, values = one.items, one.values
    for user in range(5):
        item, outcome = sample.history.item_index[user], sample.history.outcome[user]
        x = items.vectors[item].double()
        nodes = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64) * x.norm()
        offset = _offset(one, sample, user)
        sign = 2.0 * outcome - 1.0
        density = torch.distributions.Normal(0.0, float(x.norm())).log_prob(nodes).exp()
        exact = float(torch.trapezoid(torch.sigmoid(sign * (nodes + offset)) * density, nodes))
        weight = sample.log_ratio[:, user]
        batch_site = _site_evidence(one, sample, user, float(x.norm() ** 2))
        estimate = np.log(np.exp(weight - weight.max()).mean()) + weight.max() + batch_site
        assert estimate == pytest.approx(np.log(exact), abs=0.01)
    assert values is one.values


def _offset(one: Posterior, sample: Any, user: int) -> float:
    return float(_terms(one, sample).offset[user, 0])


def _terms(one: Posterior, sample: Any) -> Any:
    from bayes_interest.model.elbo import event_terms

    return event_terms(one.values, one.items, _batch(one, sample))


def _batch(one: Posterior, sample: Any) -> Any:
    from bayes_interest.events.surroundings import Surroundings
    from bayes_interest.model.batch import whole_batch
    from bayes_interest.model.candidates import CandidateRows

    layout = one.layout
    surroundings = Surroundings(one.history, layout.n_items, layout.kinds, one.texts)
    rows = CandidateRows(surroundings, np.arange(len(one.history)))
    return whole_batch(sample.history, one.features.dtype, rows.own())


def _site_evidence(one: Posterior, sample: Any, user: int, var: float) -> float:
    from bayes_interest.statespace.kalman import site_log_evidence

    sites = scalar_guide(one, _batch(one, sample)).sites
    h, lam = sites.linear[user, 0].double(), sites.precision[user, 0].double()
    zero = torch.zeros((), dtype=torch.float64)
    return float(site_log_evidence(zero, zero + var, h, lam))


# ---------------------------------------------------------------- left-out events


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_outcomes_of_pure_chance_are_found(emission: EmissionName) -> None:
    frame = log(emission).events.frame
    shuffled = frame.assign(value=np.random.default_rng(0).permutation(frame["value"]))
    row = verdicts(fitted(shuffled, emission)).loc["left-out loss"]
    assert row["verdict"] in (LOOK, DISTRUST)
    assert "counting" in row["meaning"]


def test_leaving_out_is_dividing_out_the_site() -> None:
    """A user with one event: left out, what remains is the prior predictive."""
    from bayes_interest.posterior.online import absorb, filter_history, restarted

    good = trained("bernoulli").posterior
    rows = np.unique(good.history.user_index, return_index=True)[1]
    early = good.history.take(rows)
    empty = replace(restarted(good), item_cov=torch.zeros_like(good.item_cov))
    prior = filter_history(empty, early)[0]
    sample = draw_guide(absorb(empty, early), 999, 100, 0)
    assert sample.loo is not None
    assert prior.mean is not None
    assert prior.var is not None
    from bayes_interest.posterior.predict import sigmoid_moments

    wanted = sigmoid_moments(prior.mean, prior.var)[0]
    np.testing.assert_allclose(sample.loo.chance, wanted, atol=2e-3)
    assert (sample.loo.in_sample > sample.loo.log_prob).all()


def test_states_that_follow_single_outcomes_are_found() -> None:
    good = trained("bernoulli").posterior
    names = ("weight", "intercept", "residual")
    wild = door("bernoulli", **{name: 15.0 * good.values[name] for name in names}, log_drift=1.0)
    table = verdicts(wild)
    assert table.loc["optimism", "verdict"] == DISTRUST
    assert table.loc["influence", "verdict"] != GOOD


def test_certainty_and_bias_are_found() -> None:
    good = trained("bernoulli").posterior
    sure = verdicts(door("bernoulli", bias=good.values["bias"] + 30.0, log_drift=-9.0))
    assert sure.loc["saturation", "verdict"] == DISTRUST
    still = dict.fromkeys(("weight", "intercept", "residual"), 0.0)
    wrong = verdicts(door("bernoulli", bias=good.values["bias"] + 2.0, **still))
    assert wrong.loc["calibration", "verdict"] == DISTRUST


def test_later_events_that_turn_out_otherwise_are_found() -> None:
    later = split_by_time(log("bernoulli").events, fraction=0.2)[1].frame
    turned = later.assign(value=1.0 - later["value"])
    name = "calibration of later events"
    assert verdicts(door("bernoulli"), turned).loc[name, "verdict"] == DISTRUST
    assert name not in verdicts(door("bernoulli")).index


def test_the_limit_of_calibration_is_what_chance_gives() -> None:
    chance = np.random.default_rng(0).random(3000)
    limit = calibration_limit(chance, 0)
    from bayes_interest.evaluation.metrics import calibration_error

    drawn = [np.random.default_rng(s).random(3000) < chance for s in range(1, 60)]
    errors = [calibration_error(one.astype(float), chance) for one in drawn]
    assert np.mean(np.array(errors) > limit - 0.02) < 0.15
    assert max(errors) < limit


# ---------------------------------------------------------------- drawn logs


def test_users_who_are_all_alike_to_the_model_are_found() -> None:
    frame = log("bernoulli").events.frame
    split = frame.assign(value=(frame["user_id"].rank(method="dense") % 2 == 0) * 1.0)
    known = fitted(split, "bernoulli", rates=False)
    good = known.posterior
    still = {name: 0.0 * good.values[name] for name in ("weight", "intercept", "residual")}
    known._posterior = replace(good, values=good.values | still)
    assert verdicts(known).loc["drawn logs: spread of users' rates", "verdict"] == DISTRUST


def test_wrong_popularity_of_choices_is_found() -> None:
    n_items = len(trained("choice").posterior.items.offsets)
    table = verdicts(door("choice", offset=9.0 * np.linspace(-1.0, 1.0, n_items) ** 3))
    row = table.loc["drawn logs: share of the head items"]
    assert row["verdict"] == DISTRUST
    assert "item_residuals" in row["meaning"]


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_items_that_are_all_alike_to_the_model_are_found(emission: EmissionName) -> None:
    frame = log(emission).events.frame
    best = frame["item_id"].isin([f"i{index:05d}" for index in range(3)])
    split = frame.assign(value=np.where(best, frame["value"].max(), frame["value"].min()))
    split.loc[split.index[::9], "value"] = frame["value"].iloc[::9]
    known = fitted(split, emission, rates=False)
    good = known.posterior
    names = ("weight", "residual", "offset", "offset_weight")
    known._posterior = replace(
        good, values=good.values | {name: 0.0 * good.values[name] for name in names}
    )
    table = verdicts(known)
    for name in ("share of the head items", "spread of items' rates"):
        assert table.loc[f"drawn logs: {name}", "verdict"] == DISTRUST


def test_outcomes_that_take_turns_are_found() -> None:
    frame = log("bernoulli").events.frame.sort_values(["user_id", "timestamp"])
    turns = frame.assign(value=frame.groupby("user_id").cumcount() % 2 * 1.0)
    row = verdicts(fitted(turns, "bernoulli", rates=False)).loc[
        "drawn logs: autocorrelation of outcomes"
    ]
    assert row["verdict"] == DISTRUST


PLAIN: dict[str, Any] = {
    "popularity_days": None,
    "repeats": False,
    "succession": False,
    "likeness": False,
    "event_drift": False,
}


def choices(item: Any) -> InterestModel:
    """A choice model without covariates, fitted where user u chose `item(u, n)` n-th."""
    frame = log("choice").events.frame.sort_values(["user_id", "timestamp"])
    number = frame.groupby("user_id").cumcount().to_numpy()
    user = frame["user_id"].str[1:].astype(int).to_numpy()
    return fitted(
        frame.assign(item_id=[f"i{one:05d}" for one in item(user, number)]), "choice", **PLAIN
    )


def test_repeats_that_the_model_does_not_know_are_found() -> None:
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(14) for _ in range(60)])  # no repeat before all were met
    row = verdicts(choices(lambda u, n: orders[u, n % 14])).loc["drawn logs: repeats"]
    assert row["verdict"] == DISTRUST
    assert "turn on `repeats`" in row["meaning"]


def test_successive_items_more_alike_than_the_model_knows_are_found() -> None:
    row = verdicts(choices(lambda u, n: (7 * u + n // 2) % 14)).loc[
        "drawn logs: likeness of successive items"
    ]
    assert row["verdict"] in (LOOK, DISTRUST)
    assert "`likeness`" in row["meaning"]


def test_figures_by_hand() -> None:
    user = np.array([0, 0, 1, 1, 1])
    y = np.array([1.0, 0.0, 1.0, 1.0, 1.0])
    assert rate_spread(y, user) == pytest.approx(0.25)
    pairs = np.array([(1 - 0.8) * (0 - 0.8), 0.04, 0.04])
    assert autocorrelation(y, y, user) == pytest.approx(pairs.mean() / 0.16)
    drawn = np.array([0.0, 1.0, 0.0, 0.0, 1.0])  # beside what truly came before
    pairs = np.array([0.04, (1 - 0.8) * (0 - 0.8), 0.04])
    assert autocorrelation(drawn, y, user) == pytest.approx(pairs.mean() / 0.16)
    assert head_share(np.array([0, 0, 0, 4]), 10) == 0.75
    assert tail_probability(5.0, np.arange(10.0)) == 1.0
    assert tail_probability(99.0, np.arange(10.0)) == pytest.approx(2.0 / 11.0)


# ---------------------------------------------------------------- drift and data


def drawn(many: int, step: float) -> InterestModel:
    """The good model with draws of its bias, each `step` beyond the last one."""
    good, noise = trained("bernoulli").posterior, torch.Generator().manual_seed(1)
    draws = torch.randn(many, generator=noise) + step * torch.arange(many)
    members = tuple(
        Member(good.values | {"bias": good.values["bias"] + draw}, good.item_cov) for draw in draws
    )
    belief = replace(good.belief, members=(good.belief,) * many)
    return door("bernoulli", members=members, belief=belief)


def test_draws_that_still_go_one_way_are_found() -> None:
    rows = [settled_checks(drawn(16, step).posterior)[0] for step in (0.0, 0.3, 1.0)]
    assert [row.verdict for row in rows] == [GOOD, LOOK, DISTRUST]
    assert "that of bias" in rows[-1].meaning
    assert not settled_checks(drawn(7, 1.0).posterior)  # too few to say
    assert verdicts(drawn(16, 1.0)).loc["settled draws", "verdict"] == DISTRUST
    assert "settled draws" not in verdicts(door("bernoulli")).index


def test_rotating_dimensions_are_no_alarm() -> None:
    good = drawn(16, 0.0).posterior
    centre = good.values["log_drift"]
    rising = [
        replace(one, values=one.values | {"log_drift": centre + place * torch.tensor([0.1, -0.1])})
        for place, one in enumerate(good.members)
    ]
    assert settled_checks(replace(good, members=tuple(rising)))[0].verdict == GOOD


@pytest.mark.parametrize("emission", FAMILIES)
def test_drift_that_stands_still_or_runs_away_is_found(emission: EmissionName) -> None:
    events = {"log_event_drift": -30.0} if emission == "choice" else {}
    still = verdicts(door(emission, log_drift=-20.0, **events)).loc["drift"]
    assert still["verdict"] == LOOK
    assert "hardly moves" in still["meaning"]
    wild = verdicts(door(emission, log_drift=3.0)).loc["drift"]
    assert wild["verdict"] == DISTRUST
    assert "swamps" in wild["meaning"]


def test_drift_left_at_its_prior_is_found() -> None:
    centre = np.array(trained("bernoulli").posterior.layout.log_drift_centre)
    row = verdicts(door("bernoulli", log_drift=centre)).loc["drift identified"]
    assert (row["value"], row["verdict"]) == (pytest.approx(0.0, abs=1e-6), LOOK)


def test_drift_share_by_hand() -> None:
    model = door("bernoulli", log_drift=np.log(0.1))
    history = model.posterior.history
    days = [
        np.ptp(history.seconds[history.user_index == user]) / 86_400 for user in history.user_index
    ]
    q = 0.01 * np.mean(days)
    np.testing.assert_allclose(drift_shares(model.posterior), q / (1.0 + q), rtol=1e-4)


def test_too_few_events_are_found() -> None:
    frame = log("bernoulli").events.frame
    few = frame.groupby("user_id").head(1)
    table = verdicts(fitted(few, "bernoulli"))
    assert table.loc["events per user", "verdict"] == DISTRUST
    assert table.loc["events per item", "verdict"] == LOOK


def test_states_at_their_prior_are_found() -> None:
    good = trained("bernoulli").posterior
    assert known_share(good) > 0.05
    history = good.history
    users = np.arange(history.n_users)
    start = history.start
    days = (history.seconds[start[users + 1] - 1] - history.seconds[start[users]]) / 86_400
    growth = torch.as_tensor(days).to(good.features)[:, None] * torch.exp(
        2.0 * good.values["log_drift"]
    )
    nothing = Belief(good.belief.mean, torch.diag_embed(1.0 + growth))
    row = verdicts(door("bernoulli", belief=nothing)).loc["users known"]
    assert (row["value"], row["verdict"]) == (pytest.approx(0.0, abs=1e-5), LOOK)


@pytest.mark.parametrize("emission", FAMILIES)
def test_collapsed_residuals_are_found(emission: EmissionName) -> None:
    row = verdicts(door(emission, log_residual_scale=-9.0)).loc["item residuals"]
    assert row["verdict"] == LOOK
    assert "collapsed" in row["meaning"]
    bare = fitted(log(emission).events.frame, emission, replace(ENOUGH, max_epochs=2),
                  item_residuals=False)  # fmt: skip
    assert "item residuals" not in verdicts(bare).index
