"""Interest probabilities against integration, joint sampling and the calendar."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError, InputError, ItemError, TimeOrderError
from bayes_interest.events.history import join_histories, make_history
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.model.prepare import Embedded
from bayes_interest.posterior import predict
from bayes_interest.posterior.answers import find_items, find_users
from bayes_interest.posterior.draws import draw_predictors, draws_interval
from bayes_interest.posterior.online import filter_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    clock,
    level_cut,
    predictors,
    sigmoid_interval,
)
from tests.fitted import FAMILIES, LEVELS, N_USERS, fit, model, numbers, parts, same, simulation
from tests.oracles import slow_covariates

END = "2024-06-01"
N_DRAWS = 40_000


@pytest.mark.parametrize(("mean", "var"), [(0.0, 1.0), (-2.0, 0.3), (3.0, 7.0), (1.0, 0.0)])
def test_moments_and_quantiles_of_a_sigmoid_against_integration(mean: float, var: float) -> None:
    found = sigmoid_interval(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(var, dtype=torch.float64), 0.9
    )
    if var == 0.0:
        at = 1.0 / (1.0 + math.exp(-mean))
        for value in (found.mean, found.lower, found.upper):
            assert value.item() == pytest.approx(at)
        assert found.sd.item() == pytest.approx(0.0, abs=1e-7)
        return
    law = stats.norm(mean, math.sqrt(var))
    moments = [
        integrate.quad(lambda a, p=power: law.pdf(a) / (1 + math.exp(-a)) ** p, -30, 30)[0]
        for power in (1, 2)
    ]
    assert found.mean.item() == pytest.approx(moments[0], abs=1e-4)
    assert found.sd.item() == pytest.approx(math.sqrt(moments[1] - moments[0] ** 2), abs=1e-3)
    for tail, bound in ((0.05, found.lower), (0.95, found.upper)):
        assert bound.item() == pytest.approx(1.0 / (1.0 + math.exp(-law.ppf(tail))), abs=1e-9)


def test_summaries_of_draws_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.rand(31, 5, 7, generator=torch.Generator().manual_seed(1))
    whole = draws_interval(draws, 0.8)
    np.testing.assert_allclose(
        whole.lower, np.quantile(draws, 0.1, axis=0, method="weibull"), atol=1e-6
    )
    np.testing.assert_allclose(
        whole.upper, np.quantile(draws, 0.9, axis=0, method="weibull"), atol=1e-6
    )
    monkeypatch.setattr("bayes_interest.posterior.draws.QUANTILE_NUMBERS", 100)
    pieces = draws_interval(draws, 0.8)
    assert torch.equal(whole.lower, pieces.lower)
    assert torch.equal(whole.upper, pieces.upper)


def joint_predictors(posterior: Posterior, belief: Belief) -> np.ndarray:
    """Draws of state, residuals and offsets with their full covariances, (draw, item)."""
    rng = np.random.default_rng(0)
    mean, cov = belief.mean[0].double().numpy(), belief.cov[0].double().numpy()
    shift = posterior.values["mean"].double().numpy()
    state = rng.multivariate_normal(mean, cov, N_DRAWS) + shift
    drawn = np.empty((N_DRAWS, posterior.layout.n_items))
    for item in range(posterior.layout.n_items):
        cov = posterior.item_cov[item].double().numpy()
        effect = rng.multivariate_normal(np.zeros(len(cov)), cov, N_DRAWS)
        vector = posterior.items.vectors[item].double().numpy()
        fixed = float(posterior.items.offsets[item]) - vector @ shift
        drawn[:, item] = ((vector + effect[:, :-1]) * state).sum(1) + effect[:, -1] + fixed
    return drawn


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_intervals_agree_with_joint_draws_of_states_and_items(emission: EmissionName) -> None:
    door = model(emission, dtype="float64", rates=False)
    posterior, user = door.posterior, parts(emission)[0]["user_id"].iloc[-1]
    at = np.array([pd.Timestamp(END, tz="UTC").timestamp()])
    belief = advanced_belief(posterior, posterior.vocabulary.users.index_of([user]), at)
    drawn = joint_predictors(posterior, belief)
    found = predictors(posterior, belief, posterior.features.new_zeros(1, 1, drawn.shape[1]))
    np.testing.assert_allclose(found.mean[0], drawn.mean(0), atol=0.05)
    np.testing.assert_allclose(found.var[0], drawn.var(0), rtol=0.05)
    # Vector times state is Gaussian only nearly, hence the wider tolerance from here on.
    chance = 1.0 / (1.0 + np.exp(-(drawn - float(level_cut(posterior)))))
    table = door.interest([user], at=END)
    np.testing.assert_allclose(table["mean"], chance.mean(0), atol=0.03)
    np.testing.assert_allclose(table["sd"], chance.std(0), atol=0.03)
    np.testing.assert_allclose(table["lower"], np.quantile(chance, 0.05, axis=0), atol=0.05)
    np.testing.assert_allclose(table["upper"], np.quantile(chance, 0.95, axis=0), atol=0.05)


def test_choices_agree_with_joint_draws_of_another_seed() -> None:
    posterior = model("choice").posterior
    belief = Belief(posterior.belief.mean[:2], posterior.belief.cov[:2])
    extra = posterior.features.new_zeros(1, 2, posterior.layout.n_items)
    first, second = (
        torch.softmax(draw_predictors(posterior, belief, extra, 4000, seed), -1) for seed in (1, 2)
    )
    assert first.shape == (2, 4000, posterior.layout.n_items)
    np.testing.assert_allclose(first.mean(1), second.mean(1), atol=0.02)
    np.testing.assert_allclose(first.std(1), second.std(1), atol=0.02)


def test_draws_have_the_moments_of_the_predictors() -> None:
    for emission in FAMILIES:
        posterior = model(emission).posterior
        belief = Belief(posterior.belief.mean[:1], posterior.belief.cov[:1])
        noise = torch.Generator().manual_seed(3)
        extra = torch.randn(1, 1, posterior.layout.n_items, generator=noise)
        found = predictors(posterior, belief, extra)
        drawn = draw_predictors(posterior, belief, extra, 20_000)[0]
        np.testing.assert_allclose(drawn.mean(0), found.mean[0], atol=0.04)
        np.testing.assert_allclose(drawn.var(0), found.var[0], rtol=0.05)


@pytest.mark.parametrize("emission", FAMILIES)
def test_bounds_enclose_the_mean(emission: EmissionName) -> None:
    table = model(emission).interest(at=END)
    assert (table["lower"] <= table["mean"]).all()
    assert (table["mean"] <= table["upper"]).all()
    assert (table["lower"] > 0).all()
    assert (table["upper"] < 1).all()
    assert (table["sd"] > 0).all()


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_larger_prob_widens_the_intervals_and_leaves_the_rest(emission: EmissionName) -> None:
    door = model(emission)
    narrow, wide = door.interest(prob=0.5), door.interest(prob=0.95)
    assert (wide["lower"] < narrow["lower"]).all()
    assert (wide["upper"] > narrow["upper"]).all()
    same(narrow[["mean", "sd"]], wide[["mean", "sd"]])


def width(door_table: pd.DataFrame) -> np.ndarray:
    """Width of the intervals on the scale of the predictor."""
    logit = np.log(door_table[["lower", "upper"]]) - np.log1p(-door_table[["lower", "upper"]])
    out: np.ndarray = (logit["upper"] - logit["lower"]).to_numpy()
    return out


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_later_moments_are_less_certain(emission: EmissionName) -> None:
    door = model(emission)
    soon, late, very_late = (
        door.interest(at=at) for at in ("2024-03-01", "2024-09-01", "2026-01-01")
    )
    assert (width(late) > width(soon)).all()
    assert (width(very_late) > width(late)).all()


def test_later_choices_are_less_certain() -> None:
    door = model("choice")
    soon, late = (door.interest(at=at, n_draws=2000)["sd"] for at in ("2024-03-01", "2025-06-01"))
    assert late.mean() > soon.mean()


def test_the_default_moment_is_the_latest_absorbed() -> None:
    door = model("rating")
    same(door.interest(), door.interest(at=parts("rating")[0]["timestamp"].max()))


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_moment_before_the_users_last_event_is_refused(emission: EmissionName) -> None:
    train, _ = parts(emission)
    door = model(emission)
    user = train["user_id"].iloc[-1]
    last = train["timestamp"].iloc[-1].timestamp()
    message = rf"at=1600000000 s lies before .* user '{user}' at {last:.0f} s.*trajectory\(\)"
    for ask in (door.interest, door.rank):
        with pytest.raises(TimeOrderError, match=message):
            ask([user], at=1_600_000_000)


@pytest.mark.parametrize("emission", FAMILIES)
def test_unknown_users_are_at_the_prior(emission: EmissionName) -> None:
    door = model(emission, rates=False)
    table = door.interest(["nobody", "nobody else"], n_draws=2000)
    first, second = (numbers(part) for _, part in table.groupby("user_id"))
    np.testing.assert_array_equal(first, second)
    posterior = door.posterior
    assert "nobody" not in posterior.vocabulary.users
    prior = Belief.prior(1, posterior.values, posterior.belief.diagonal)
    found, _ = find_users(posterior, ["nobody"])
    assert torch.equal(found.belief.mean[-1], prior.mean[0])
    assert torch.equal(found.belief.cov[-1], prior.cov[0])
    if emission != "choice":
        extra = posterior.features.new_zeros(1, 1, posterior.layout.n_items)
        expected = predictors(posterior, prior, extra)
        interval = sigmoid_interval(expected.mean[0] - level_cut(posterior), expected.var[0], 0.9)
        np.testing.assert_allclose(first[:, 0], interval.mean, atol=1e-6)
        np.testing.assert_allclose(first[:, 2], interval.lower, atol=1e-6)


@pytest.mark.parametrize("ask", ["interest", "rank", "trajectory"])
def test_unknown_items_are_named(ask: str) -> None:
    door = model("bernoulli")
    name = "candidates" if ask == "rank" else "items"
    user = parts("bernoulli")[0]["user_id"].iloc[0]
    with pytest.raises(ItemError, match=rf"item 'ghost' is unknown .*\(2 such in {name}\)"):
        getattr(door, ask)(users=[user], **{name: ["i00001", "ghost", 7]})


def test_a_single_id_is_no_list() -> None:
    door = model("bernoulli")
    for wrong in ("u00001", 7, 2.5, np.int64(3)):
        with pytest.raises(
            InputError, match=r"users=.*: expected a list of ids, for example users="
        ):
            door.interest(users=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"items='i00001': expected a list .* items=\['i00001'\]"):
        door.interest(items="i00001")


def test_impossible_arguments_are_named() -> None:
    door = model("choice")
    for prob in (0.0, 1.0, -1.0, 90.0):
        with pytest.raises(InputError, match=r"prob=.*: expected the mass of the interval"):
            door.interest(prob=prob)
    for n_draws in (0, 1, 2.5):
        with pytest.raises(ConfigError, match=r"n_draws=.*: expected a whole number, at least 2"):
            door.interest(n_draws=n_draws)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at='soon' is no time"):
        door.interest(at="soon")


@pytest.mark.parametrize("emission", FAMILIES)
def test_nothing_asked_nothing_answered(emission: EmissionName) -> None:
    door = model(emission)
    for table in (door.interest(users=[]), door.interest(items=[])):
        assert len(table) == 0
        assert {"user_id", "item_id", "mean", "sd", "lower", "upper"} <= set(table.columns)


@pytest.mark.parametrize("emission", FAMILIES)
def test_rows_follow_the_question(emission: EmissionName) -> None:
    door = model(emission)
    users, items = ["u00003", "nobody", "u00001"], ["i00004", "i00001"]
    table = door.interest(users, items)
    assert table["user_id"].tolist() == [user for user in users for _ in items]
    assert table["item_id"].tolist() == items * 3
    whole = door.interest(users[:1]).set_index("item_id").loc[items]
    np.testing.assert_array_equal(numbers(table)[:2], numbers(whole))


def test_expected_rating_lies_between_the_levels_and_agrees_with_draws() -> None:
    door = model("rating", rates=False)
    table = door.interest()
    assert table["expected_rating"].between(0, LEVELS - 1, inclusive="neither").all()
    for emission in ("bernoulli", "choice"):
        assert "expected_rating" not in model(emission).interest().columns  # type: ignore[arg-type]
    # E[rating] over levels 0..4 is the sum of P(rating >= level).
    train, _ = parts("rating")
    one = train["user_id"].iloc[-1]
    total = np.zeros(len(find_items(door.posterior, None, "items")))
    for level in range(1, LEVELS):
        posterior = door.posterior
        belief = advanced_belief(
            posterior,
            posterior.vocabulary.users.index_of([one]),
            np.array([train["timestamp"].max().timestamp()]),
        )
        found = predictors(posterior, belief, posterior.features.new_zeros(1, 1, len(total)))
        cuts = np.cumsum(
            np.r_[posterior.values["raw_cuts"][0], posterior.values["raw_cuts"][1:].exp()]
        )
        cut = torch.as_tensor(cuts[level - 1])
        total += sigmoid_interval(found.mean[0] - cut, found.var[0], 0.9).mean.numpy()
    own = table[table["user_id"] == one]["expected_rating"]
    np.testing.assert_allclose(own, total, atol=1e-4)


def test_levels_that_are_not_consecutive() -> None:
    train, _ = parts("rating")
    steep = train.assign(value=train["value"].map({0: 1.0, 1: 2.0, 2: 3.0, 3: 10.0, 4: 20.0}))
    table = fit(steep, "rating").interest()
    assert table["expected_rating"].between(1, 20, inclusive="neither").all()
    assert table["expected_rating"].max() > 5


def test_covariates_and_novelty_move_the_predictors() -> None:
    posterior = model("choice").posterior
    users, now = np.array([0, 1]), np.full(2, predict.clock(posterior))
    extra = predict.circumstances(posterior, users, now)
    kinds = posterior.layout.kinds
    assert kinds.names == (
        "popularity_0.1_days", "popularity_1_days", "popularity_10_days", "popularity_100_days",
        "recency", "age",
        "repeats", "repeats_30_days", "repeats_1_days", "succession",
        "likeness_last", "likeness_recent",
    )  # fmt: skip
    weight = posterior.values[COVARIATES].double().numpy()
    assert (weight != 0.0).all()
    zeros = np.zeros(2, dtype=np.int64)
    looks = make_history(users, zeros, now, zeros, zeros, N_USERS, zeros.astype(bool))
    log = join_histories(posterior.history, looks, N_USERS)
    for user in users:
        moment = np.flatnonzero((log.user_index == user) & ~log.absorb)[0]
        values = slow_covariates(log, posterior.layout.n_items, kinds, moment, posterior.texts)
        fresh = posterior.first_seconds >= now[user]
        wanted = values @ weight + posterior.cold_shift * fresh
        np.testing.assert_allclose(extra[0, user], wanted, rtol=1e-5, atol=1e-5)


def test_the_text_of_a_new_item_is_compared_like_that_of_a_known_one() -> None:
    posterior = model("choice").posterior
    assert posterior.texts is not None
    np.testing.assert_allclose(np.linalg.norm(posterior.texts, axis=1), 1.0, rtol=1e-5)
    ids = posterior.vocabulary.items.ids.tolist()
    raw = simulation("choice").vectors.set_index("item_id")["vector"]
    twin = np.stack([raw[ids[4]], np.zeros_like(raw[ids[4]])]).astype(np.float32)
    added = Embedded(twin, np.array([True, False]))
    more = posterior.with_items(np.array(["twin", "mute"], dtype=object), added)
    assert more.texts is not None
    np.testing.assert_allclose(more.texts[:-2], posterior.texts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(more.texts[-2], posterior.texts[4], rtol=1e-5, atol=1e-6)
    assert (more.texts[-1] == 0.0).all()
    users, now = np.array([0, 1]), np.full(2, predict.clock(posterior))
    weight = posterior.values[COVARIATES]
    only = torch.zeros_like(weight)
    alike = posterior.layout.kinds.columns("likeness")
    only[alike] = weight[alike]
    there = replace(more, values=more.values | {COVARIATES: only}, cold_shift=0.0)
    extra = predict.circumstances(there, users, now)[0]
    torch.testing.assert_close(extra[:, -2], extra[:, 4], rtol=1e-5, atol=1e-5)
    assert (extra[:, -1] == 0.0).all()
    assert extra[:, 4].abs().min() > 1e-3


def test_an_item_is_new_until_its_first_event() -> None:
    posterior = replace(model("choice").posterior, cold_shift=1.7)
    history = posterior.history
    item = int(history.item_index[np.argmax(history.seconds)])
    first = history.seconds[history.item_index == item].min()
    shifted = predict.novelty(posterior, np.array([first - 1.0, first, first + 1.0]))
    np.testing.assert_allclose(shifted[:, item], [1.7, 1.7, 0.0], atol=1e-6)
    # In a filtered log an item is new to the first event and to those at its second, not later.
    door = model("choice").posterior
    never = replace(
        door, history=door.history.take(door.history.item_index != item), cold_shift=1.7
    )
    times = clock(door) + np.array([10.0, 10.0, 11.0])
    zeros = np.zeros(3, dtype=np.int64)
    more = make_history(np.array([0, 1, 2]), zeros + item, times, zeros, zeros, N_USERS)
    found, _, _ = filter_history(never, more)
    part = np.arange(3)
    plain = predict.circumstances_of_events(replace(never, cold_shift=0.0), part, found.rows)
    extra = predict.circumstances_of_events(never, part, found.rows)
    np.testing.assert_allclose((extra - plain)[0, :, item], [1.7, 1.7, 0.0], atol=1e-6)


def test_popularity_fades_with_time() -> None:
    door = model("bernoulli", popularity_days=20.0, rates=False)
    posterior = door.posterior
    users = np.array([0])
    now = predict.circumstances(posterior, users, np.array([predict.clock(posterior)]))
    later = predict.circumstances(posterior, users, np.array([predict.clock(posterior) + 86_400e3]))
    assert now.abs().max() > 0
    assert later.abs().max() == 0


@pytest.mark.parametrize("n_draws", [19, 64])
def test_an_interval_of_draws_holds_the_next_one(n_draws: int) -> None:
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(n_draws + 1, 40_000, generator=generator)
    found = draws_interval(draws[1:], 0.9)
    share = ((found.lower <= draws[0]) & (draws[0] <= found.upper)).double().mean()
    assert float(share) == pytest.approx(0.9, abs=0.006)  # four standard errors
