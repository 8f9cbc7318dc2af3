"""Explanations add up, and say what happens when events are left out or come."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError, InputError, ItemError, TimeOrderError
from bayes_interest.events.history import History, join_histories
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.attribution import shared_out
from bayes_interest.posterior.online import absorb, filter_history, restarted
from bayes_interest.posterior.posterior import Member, Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    level_cut,
    level_survival,
    predictors,
)
from bayes_interest.posterior.variance_parts import item_cov_parts
from bayes_interest.ranking.explain import explain
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import FAMILIES, encoder, loud, model, parts, simulation

USER, ITEM, LATER = "u00003", "i00004", "2024-03-01"
SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")


def door(posterior: Posterior) -> InterestModel:
    made = InterestModel(posterior.config, encoder("bernoulli"))
    made._posterior = posterior
    return made


@cache
def drawn(emission: EmissionName) -> Posterior:
    """A model with three draws of the globals, which a fit would take longer to make."""
    posterior = model(emission).posterior
    generator = torch.Generator().manual_seed(3)
    members = []
    for _ in range(3):
        values = {
            name: value + 0.2 * torch.randn(value.shape, generator=generator).to(value)
            for name, value in posterior.values.items()
            if name != "covariate_weight"
        }
        members.append(Member(posterior.values | values, 0.5 * posterior.item_cov))
    belief = replace(posterior.belief, members=(posterior.belief,) * 3)
    wide = replace(posterior, members=tuple(members), belief=belief)
    return absorb(restarted(wide), posterior.history)


@cache
def weighed(emission: EmissionName) -> Posterior:
    """A model whose covariates all count."""
    posterior = model(emission).posterior
    weight = posterior.values["covariate_weight"]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)).to(weight)
    told = replace(posterior, values=posterior.values | {"covariate_weight": noise})
    return absorb(restarted(told), posterior.history)


@cache
def posterior_of(case: str) -> Posterior:
    emission, _, more = case.partition(" ")
    kinds: dict[str, Any] = {"context": loud, "draws": drawn, "covariates": weighed, "": model}
    found = kinds[more](emission)
    return found.posterior if isinstance(found, InterestModel) else found


CASES = [f"{emission} {more}" for emission in FAMILIES for more in ("context", "covariates")]
CASES += [*FAMILIES, *(f"{emission} draws" for emission in SCALAR)]


def score_and_variance(posterior: Posterior, user: str, item: str, at: object) -> tuple[float, ...]:
    """Straight from the predictors."""
    wide = posterior.with_users(np.array([user], dtype=object))
    who, what = wide.vocabulary.users.index_of([user]), wide.vocabulary.items.index_of([item])[0]
    seconds = np.array([pd.Timestamp(at, tz="UTC").timestamp()])
    belief = advanced_belief(wide, who, seconds)
    found = predictors(wide, belief, circumstances(wide, who, seconds))
    return float(found.mean[0, what] - level_cut(wide)), float(found.var[0, what])


@pytest.mark.parametrize("user", [USER, "nobody"])
@pytest.mark.parametrize("case", CASES)
def test_parts_sum_to_the_score_and_to_the_variance(case: str, user: str) -> None:
    posterior = posterior_of(case)
    told = explain(posterior, user, ITEM, LATER, 0.9, 3, 0)
    score, variance = score_and_variance(posterior, user, ITEM, LATER)
    assert told.score == pytest.approx(score, abs=1e-6)
    assert told.contributions["contribution"].sum() == pytest.approx(score, abs=1e-5)
    assert told.uncertainty["variance"].sum() == pytest.approx(variance, rel=1e-5)
    assert "rest" not in set(told.contributions["source"])  # nothing was left to be swept up
    assert (told.uncertainty["variance"] >= 0.0).all()
    for shares in (told.contributions["share"], told.uncertainty["share"]):
        assert shares.sum() == pytest.approx(1.0)
    size = told.contributions["contribution"].abs()
    assert size.is_monotonic_decreasing


@pytest.mark.parametrize("case", CASES)
def test_the_probability_is_that_of_interest(case: str) -> None:
    posterior = posterior_of(case)
    told = explain(posterior, USER, ITEM, LATER, 0.8, 0, 0)
    wanted = door(posterior).interest([USER], [ITEM], at=LATER, prob=0.8).iloc[0]
    for name in ("mean", "lower", "upper"):
        assert getattr(told, name) == pytest.approx(wanted[name], abs=1e-6)
    assert told.user_id == USER
    assert told.item_id == ITEM
    assert told.at == pd.Timestamp(LATER, tz="UTC")
    assert not len(told.next_observations)


def own_forecasts(posterior: Posterior, user: int) -> tuple[History, Any, np.ndarray, np.ndarray]:
    """One user filtered among all, and mean and covariance of the state after the last event."""
    own = posterior.history.take(posterior.history.user_index == user)
    others = posterior.history.take(posterior.history.user_index != user)
    start = replace(restarted(posterior), history=others)
    found, after, _ = filter_history(start, own, keep_cov=True)
    mean, cov = (part[user].double().numpy() for part in (after.mean, after.cov))
    return own, found, mean, cov


def choice_sites(posterior: Posterior, found: Any) -> tuple[np.ndarray, np.ndarray]:
    """Linear (event, D) and precision (event, D, D) of the filter whose states have variances only,
    as the model's formula has them."""
    n, vectors, state = len(found.history), posterior.items.vectors.double(), found.state_mean
    logits = found.rows.dense(np.arange(n), posterior.values) + posterior.items.offsets
    chance = torch.softmax((state + found.context).double() @ vectors.T + logits.double(), 1)
    mean = chance @ vectors
    precision = chance @ vectors**2 - mean**2
    linear = vectors[torch.as_tensor(found.history.item_index)] - mean + precision * state.double()
    return linear.numpy(), torch.diag_embed(precision).numpy()


def moment_sites(
    found: Any, last: tuple[np.ndarray, np.ndarray], moves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same of any filter: what each event adds to the states' natural parameters.

    `moves` (event, D): variance of the walk that led to each event.
    """
    before, cov = found.state_mean.double().numpy(), found.state_cov.double().numpy()
    after = np.concatenate((before[1:], last[0][None]))
    spread = np.concatenate(
        (cov[1:] - np.stack([np.diag(one) for one in moves[1:]]), last[1][None])
    )
    first, second = np.linalg.inv(cov), np.linalg.inv(spread)
    linear = (second @ after[..., None] - first @ before[..., None])[..., 0]
    return linear, second - first


@pytest.mark.parametrize("case", ["choice", "choice context"])
def test_shares_of_choices_are_the_rows_of_the_joint_gaussian_posterior(case: str) -> None:
    """Of all states at once: `E[z_T] = K (I + W K)^-1 h`, linear in what was seen, `h`."""
    posterior = posterior_of(case)
    own, found, last, cov = own_forecasts(posterior, 3)
    n, dim, values = len(own), posterior.layout.state_dim, posterior.values
    days = (own.seconds - own.seconds[0]) / 86_400.0
    steps = np.arange(n)
    between = np.minimum(days[:, None], days[None, :])
    moved = np.minimum(steps[:, None], steps[None, :])
    drift, jump = (
        torch.exp(2.0 * values[name].double()).numpy() for name in ("log_drift", "log_event_drift")
    )
    walk = np.diff(days, prepend=0.0)[:, None] * drift + (steps > 0)[:, None] * jump
    context = case == "choice context"
    sites = choice_sites(posterior, found) if context else moment_sites(found, (last, cov), walk)
    prior = 1.0 + drift[:, None, None] * between + jump[:, None, None] * moved  # (D, step, step)
    joint = np.einsum("dst,de->sdte", prior, np.eye(dim)).reshape(n * dim, n * dim)
    told = np.einsum("st,sde->sdte", np.eye(n), sites[1]).reshape(n * dim, n * dim)
    target = np.arange(1.0, dim + 1.0)
    rows = target @ joint[-dim:] @ np.linalg.inv(np.eye(n * dim) + told @ joint)
    wanted = (rows.reshape(n, dim) * sites[0]).sum(1)
    shares = shared_out(posterior, found, last, target[None])[:, 0]
    np.testing.assert_allclose(shares, wanted, rtol=1e-3, atol=1e-3)
    assert shares.sum() == pytest.approx(target @ last, abs=1e-6)


@pytest.mark.parametrize("case", ["bernoulli", "rating covariates", "bernoulli context"])
def test_shares_of_outcomes_are_what_they_changed_at_their_time(case: str) -> None:
    """The score on an item before and after each event, the state's part of it."""
    posterior = posterior_of(case)
    _, found, last, _ = own_forecasts(posterior, 3)
    x = posterior.items.vectors[4].double().numpy()
    shares = shared_out(posterior, found, last, x[None])[:, 0]
    path = np.append(found.state_mean.double().numpy() @ x, last @ x)
    np.testing.assert_allclose(shares, np.diff(path), atol=1e-9)
    assert shares.sum() == pytest.approx(last @ x, abs=1e-9)


def removed(posterior: Posterior, user: int, at: pd.Timestamp, item: str) -> Posterior:
    """All states and covariates without one event."""
    history = posterior.history
    place = posterior.vocabulary.items.index_of([item])[0]
    gone = (history.user_index == user) & (history.item_index == place)
    gone &= history.seconds == at.timestamp()
    assert gone.sum() == 1
    return absorb(restarted(posterior), history.take(~gone))


@pytest.mark.parametrize("case", ["bernoulli", "rating covariates", "choice", "bernoulli draws"])
def test_leaving_the_top_event_out_moves_the_score_as_said(case: str) -> None:
    posterior = posterior_of(case)
    rng, agree = np.random.default_rng(0), []
    ids = posterior.vocabulary
    for _ in range(12):
        user, item = rng.integers(len(ids.users)), ids.items.ids[rng.integers(len(ids.items))]
        told = explain(posterior, ids.users.ids[user], item, LATER, 0.9, 0, 0)
        events = told.contributions[told.contributions["source"] == "event"]
        top = events.iloc[0]
        less = removed(posterior, int(user), top["timestamp"], top["item_id"])
        after, _ = score_and_variance(less, ids.users.ids[user], item, LATER)
        agree.append(np.sign(told.score - after) == np.sign(top["contribution"]))
    assert np.mean(agree) >= 0.9


def test_the_state_of_old_events_fades_with_mean_reversion() -> None:
    posterior = model("bernoulli", half_life_days=30.0).posterior
    last = pd.Timestamp(np.nanmax(posterior.last_seconds), unit="s", tz="UTC")
    now, then = (
        explain(posterior, USER, ITEM, at, 0.9, 0, 0).contributions.query("source == 'event'")
        for at in (last, last + pd.Timedelta(days=30))
    )
    both = now.merge(then, on=["item_id", "timestamp"])
    state = [both[f"contribution_{side}"] - both[f"habit_{side}"] for side in "xy"]
    np.testing.assert_allclose(state[1], 0.5 * state[0], rtol=1e-4, atol=1e-7)
    assert state[0].abs().max() > 0.01


def test_time_adds_to_the_walk_alone() -> None:
    posterior = model("bernoulli").posterior
    now, then = (
        explain(posterior, USER, ITEM, at, 0.9, 0, 0).uncertainty.set_index("source")["variance"]
        for at in (None, LATER)
    )
    assert then["state"] == pytest.approx(now["state"])
    x = posterior.items.vectors[posterior.vocabulary.items.index_of([ITEM])[0]].double()
    last = np.nanmax(posterior.last_seconds)
    days = (pd.Timestamp(LATER, tz="UTC").timestamp() - last) / 86_400.0
    grown = days * float(x**2 @ torch.exp(2.0 * posterior.values["log_drift"].double()))
    assert then["walk"] - now["walk"] == pytest.approx(grown, rel=1e-4)
    assert now["globals"] == then["globals"] == 0.0


def test_text_weights_get_the_variance_that_they_added() -> None:
    posterior = model("bernoulli").posterior
    covs = [item_cov_parts(posterior, item) for item in range(posterior.layout.n_items)]
    bare = torch.stack([whole - text for whole, text in covs])
    again = with_text_variance(
        posterior.layout, posterior.values, bare.float(), posterior.features, posterior.text_cov
    )
    torch.testing.assert_close(again, posterior.item_cov, rtol=1e-4, atol=1e-6)
    assert max(float(text.diagonal().max()) for _, text in covs) > 1e-3


def outcomes(posterior: Posterior, user: int, item: int, at: str) -> dict[float, float]:
    """Each outcome's value with its predictive probability."""
    who, seconds = np.array([user]), np.array([pd.Timestamp(at, tz="UTC").timestamp()])
    belief = advanced_belief(posterior, who, seconds)
    found = predictors(posterior, belief, circumstances(posterior, who, seconds)).of(0, item)
    if posterior.layout.emission == "rating":
        above = [1.0, *level_survival(posterior, found).double().tolist(), 0.0]
        chances = -np.diff(above)
        return dict(zip(posterior.vocabulary.levels, chances.tolist(), strict=True))
    table = door(posterior).interest(
        [posterior.vocabulary.users.ids[user]], [posterior.vocabulary.items.ids[item]], at=at
    )
    chance = float(table["mean"].iloc[0])
    return {0.0: 1.0 - chance, 1.0: chance}


@pytest.mark.parametrize("user", [USER, "nobody"])
@pytest.mark.parametrize("case", [*SCALAR, "rating draws", "bernoulli moving", "choice"])
def test_next_observations_do_what_they_say(case: str, user: str) -> None:
    """By absorbing each possible outcome and asking again at the same moment."""
    moving = case == "bernoulli moving"
    posterior = (
        model("bernoulli", event_drift=True).posterior if moving else posterior_of(case)
    ).with_users(np.array([user], dtype=object))
    emission = posterior.layout.emission
    five = [ITEM, "i00000", "i00003", "i00008", "i00009"]
    told = explain(posterior, user, ITEM, LATER, 0.9, 4, 0, five)
    before = told.uncertainty["variance"].sum()
    who = posterior.vocabulary.users.index_of([user])[0]
    for row in told.next_observations.itertuples():
        item = posterior.vocabulary.items.index_of([row.item_id])[0]
        chances = {1.0: 1.0} if emission == "choice" else outcomes(posterior, who, item, LATER)
        expected = 0.0
        for value, chance in chances.items():
            event = {"user_id": user, "item_id": row.item_id, "timestamp": LATER, "value": value}
            after = door(posterior).update(pd.DataFrame([event])).posterior
            expected += chance * score_and_variance(after, user, ITEM, LATER)[1]
        assert row.expected_variance == pytest.approx(expected, rel=2e-4)
        assert row.reduction == pytest.approx(before - expected, abs=5e-4 * before)
        assert row.share == pytest.approx(row.reduction / before)
    assert told.next_observations["reduction"].is_monotonic_decreasing
    assert len(told.next_observations) == 4


def test_nobody_gets_the_answer_for_anybody() -> None:
    told = model("bernoulli").explain("nobody", ITEM)
    assert not (told.contributions["source"] == "event").any()
    assert told.contributions[["item_id", "timestamp", "value", "habit"]].isna().all().all()
    assert "Nothing has been seen of this person yet" in told.text
    assert told.contributions["contribution"].sum() == pytest.approx(told.score, abs=1e-5)


def test_a_cold_item_is_explained_by_its_text() -> None:
    made = model("bernoulli")
    made._posterior = weighed("bernoulli")
    vectors = simulation("bernoulli").vectors.copy()
    vectors["item_id"] = [f"new{place}" for place in range(len(vectors))]
    made.encoder = PrecomputedVectors(vectors)
    made.update(pd.DataFrame([{"user_id": "u00001", "item_id": "new3",
                               "timestamp": "2024-02-01", "value": 1.0}]))  # fmt: skip
    told = made.explain(USER, "new3", at=LATER)
    parts_ = told.contributions.set_index("source")["contribution"]
    assert told.contributions["contribution"].sum() == pytest.approx(told.score, abs=1e-5)
    assert abs(parts_["text"]) > 1e-3
    state = told.contributions.query("source == 'event'").eval("contribution - habit")
    rate = told.contributions.query("name == 'item_rate'")["contribution"].sum()
    assert parts_["item"].sum() == pytest.approx(rate)  # it has no offset of its own yet
    assert state.abs().max() > 1e-3


def test_others_late_events_are_swept_up_in_the_open() -> None:
    """They change what the user's events were set against; the stored state stays."""
    posterior = weighed("bernoulli")
    one = posterior.vocabulary.users.index_of([USER])[0]
    early = posterior.history.seconds.min()
    late = posterior.history.take(posterior.history.user_index != one)
    late = replace(late, seconds=np.full(len(late), early), outcome=1.0 - late.outcome)
    crowd = replace(posterior, history=join_histories(posterior.history, late, late.n_users))
    told = explain(crowd, USER, ITEM, LATER, 0.9, 0, 0)
    rest = told.contributions.query("source == 'rest'")["contribution"]
    assert abs(rest.sum()) > 1e-3
    assert told.contributions["contribution"].sum() == pytest.approx(told.score, abs=1e-5)
    assert told.score == pytest.approx(score_and_variance(crowd, USER, ITEM, LATER)[0], abs=1e-6)


def test_a_recalibrated_answer_says_so() -> None:
    made = model("bernoulli")
    plain = made.explain(USER, ITEM, at=LATER)
    made.recalibrate(parts("bernoulli")[1], method="platt")
    told = made.explain(USER, ITEM, at=LATER)
    wanted = made.interest([USER], [ITEM], at=LATER).iloc[0]
    assert (told.mean, told.lower) == pytest.approx((wanted["mean"], wanted["lower"]))
    assert told.score == plain.score
    assert "corrected" in told.text
    assert "corrected" not in plain.text


def test_the_seed_draws_a_choices_probability() -> None:
    made = model("choice")
    one, other = (made.explain(USER, ITEM, at=LATER, seed=seed) for seed in (0, 1))
    assert one.mean == pytest.approx(made.interest([USER], [ITEM], at=LATER)["mean"].iloc[0])
    assert one.mean != other.mean
    assert one.score == other.score


def test_candidates_are_the_unmet_items_or_those_given() -> None:
    posterior = model("bernoulli").posterior
    met = posterior.seen[posterior.vocabulary.users.index_of([USER])[0]].indices
    ids = posterior.vocabulary.items.ids
    unmet = set(np.delete(ids, met))
    told = explain(posterior, USER, ITEM, LATER, 0.9, 99, 0)
    assert set(told.next_observations["item_id"]) == unmet
    given = explain(posterior, USER, ITEM, LATER, 0.9, 99, 0, ["i00001", "i00002"])
    assert set(given.next_observations["item_id"]) == {"i00001", "i00002"}


def test_the_text_names_events_titles_doubt_and_help() -> None:
    made = model("rating")
    told = made.explain(USER, ITEM, at=LATER, labels={ITEM: "Alien"}, candidates=["i00002"])
    text = str(told)
    assert text == told.text
    top = told.contributions.query("source == 'event'").iloc[0]
    day = top["timestamp"].date().isoformat()
    title = '"Alien"' if top["item_id"] == ITEM else top["item_id"]
    assert f"{title}, {day}, rated {top['value']:g} " in text
    assert 'would give 3 or more to "Alien" is about' in text
    share = told.next_observations["share"].iloc[0]
    assert f"i00002 would tell most: on average it takes away {100 * share:.2g} %" in text
    events = told.contributions.query("source == 'event'")["contribution"]
    word = "raise" if events.sum() > 0 else "lower"
    assert f"The {len(events)} past events together {word} it" in text
    assert f"{100 * told.uncertainty['share'].iloc[0]:.2g} %" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"item_id": "nothing"}, ItemError, "item 'nothing' is unknown"),
        ({"item_id": [ITEM]}, InputError, "expected a single id"),
        ({"user_id": ["u00001", "u00002"]}, InputError, "expected a single id"),
        ({"at": "2000-01-01"}, TimeOrderError, "before the last absorbed event"),
        ({"prob": 1.0}, InputError, "prob=1.0"),
        ({"n_next": -1}, InputError, "n_next=-1"),
        ({"seed": -1}, ConfigError, "seed=-1"),
        ({"candidates": ["nothing"]}, ItemError, "in candidates"),
    ],
)
def test_what_is_wrong_is_said(words: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        model("bernoulli").explain(**{"user_id": USER, "item_id": ITEM} | words)
