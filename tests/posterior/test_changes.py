"""Change alarms: against a dense joint Gaussian, against known truth, and what is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from torch import Tensor

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import EventError, InputError, ItemError
from bayes_interest.interest_model import InterestModel
from bayes_interest.model import choice_paths
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.simulate import Simulation
from bayes_interest.posterior import trajectory
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.trajectory import looks_at, smoothed_beliefs, smoothed_path
from bayes_interest.posterior.two_moments import Moments, cross_covariance, in_double
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.kalman import ScalarSites
from bayes_interest.text.hashing import HashingEncoder
from tests.drawn import known
from tests.fitted import FAMILIES, N_ITEMS, STATE_DIM, loud, model, parts, same, simulation
from tests.oracles import (
    choice_mode,
    dense_precision_posterior,
    matched_choices,
    walk_covariance,
)

COLUMNS = [
    "user_id", "item_id", "since", "at", "change", "lower", "upper", "probability_change",
    "p_risen", "p_fallen",
]  # fmt: skip
SINCE, AT = "2023-12-10", "2024-02-01"


def busiest(emission: EmissionName) -> str:
    return str(parts(emission)[0]["user_id"].value_counts().sort_index().idxmax())


def steep(posterior: Posterior) -> Posterior:
    """A drift that matters, in float64."""
    values = posterior.values | {"log_drift": torch.full_like(posterior.values["log_drift"], -2.0)}
    return in_double(replace(posterior, values=values))


def place_of(posterior: Posterior, user: str) -> int:
    return int(posterior.vocabulary.users.index_of([user])[0])


@pytest.fixture
def kept_sites(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """The sites and event vectors that the last smoother ran with."""
    kept: list[tuple[object, object]] = []
    fit = trajectory.fit_sites

    def fit_sites(layout, values, items, batch, **more):  # type: ignore[no-untyped-def]
        found = fit(layout, values, items, batch, **more)
        kept.append((found.sites, items.vectors[batch.item[0]]))
        return found

    monkeypatch.setattr(trajectory, "fit_sites", fit_sites)
    return kept


def dense_choice_cov(
    posterior: Posterior, user: int, seconds: np.ndarray, prior: Tensor, matched: bool
) -> Tensor:
    """Of all states of a user given all choices, (step, D, step, D), by dense algebra: with matched
    sites, or Laplace's.
    """
    looks = looks_at(posterior, np.full(len(seconds), user), seconds)
    log, items = looks.surroundings.log, posterior.items
    own = np.flatnonzero(log.user_index == user)
    real = torch.as_tensor(~np.isin(own, looks.moment))
    extra = CandidateRows(looks.surroundings, own).dense(np.arange(len(own)), posterior.values)
    chosen = torch.as_tensor(log.item_index[own]).long()
    cov = prior.reshape(len(own) * STATE_DIM, -1)
    told = items.offsets + extra, real.double(), items.vectors, chosen, cov
    if matched:
        return matched_choices(*told)[1].reshape(prior.shape)
    eye, curve = torch.eye(len(cov), dtype=cov.dtype), choice_mode(*told)[3]
    return torch.linalg.solve(eye + cov @ curve, cov).reshape(prior.shape)


@pytest.mark.parametrize(
    ("emission", "matched"), [*((one, False) for one in FAMILIES), ("choice", True)]
)
def test_the_joint_covariance_is_that_of_the_dense_gaussian(
    emission: EmissionName,
    matched: bool,
    kept_sites: list[tuple[object, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if emission == "choice" and not matched:
        monkeypatch.setattr(choice_paths, "MATCH_WORK", 0)
    posterior = steep(model(emission, event_drift=False).posterior)
    user = place_of(posterior, busiest(emission))
    own = posterior.history.take(posterior.history.user_index == user).seconds
    # Between events, beyond the last one, and at one.
    seconds = np.array([own[2] + 3e5, own[5], own[-1] + 2e6])
    path = smoothed_path(posterior, user, looks_at(posterior, np.full(3, user), seconds))
    decay, variance = path.walk.decay[0, :, 0], path.walk.variance[0]
    looks = path.looks.tolist()
    if emission != "choice":
        sites, x = kept_sites[-1]
        assert isinstance(sites, ScalarSites)
        assert isinstance(x, Tensor)
        # Steps of one moment have no walk between them, and the dense precision no inverse.
        apart = replace(path.walk, variance=path.walk.variance.clamp_min(1e-9)).variance[0]
        dense = dense_precision_posterior(x, sites.linear[0], sites.precision[0], decay, apart)[1]
    else:
        prior = walk_covariance(decay, variance)
        dense = dense_choice_cov(posterior, user, seconds, prior, matched)
    pick = [dense[s, :, t, :] for s in looks for t in looks if s <= t]
    found = [cross_covariance(path, s, t) for s in looks for t in looks if s <= t]
    assert len(found) == 6
    rtol, atol = (1e-2, 1e-3) if matched else (1e-4, 1e-6)  # those sites are by cubature
    for mine, wanted in zip(found, pick, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=rtol, atol=atol)
        assert wanted.abs().max() > 0.01


@pytest.mark.parametrize("emission", FAMILIES)
def test_moments_are_those_of_the_trajectory(emission: EmissionName) -> None:
    for door in (loud(emission), *([model(emission)] if emission == "choice" else [])):
        posterior = in_double(door.posterior)
        user = place_of(posterior, busiest(emission))
        own = posterior.history.take(posterior.history.user_index == user).seconds
        since, at = own[1] + 5e4, own[-1] + 5e5
        both = Moments(posterior, np.array([user]), since, at).of(user)
        path = smoothed_beliefs(posterior, user, np.array([since, at]))
        for row, belief in enumerate((both.before, both.after)):
            torch.testing.assert_close(belief.mean[0], path.mean[row], rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(belief.cov[0], path.cov[row], rtol=1e-6, atol=1e-8)


def test_before_the_first_event_the_walk_runs_back() -> None:
    posterior = steep(model("bernoulli").posterior)
    user = place_of(posterior, busiest("bernoulli"))
    first = posterior.history.seconds[posterior.history.user_index == user].min()
    days, drift = 20.0, (2.0 * posterior.values["log_drift"]).exp()
    later = first + 30 * SECONDS_PER_DAY
    here, early = (
        Moments(posterior, np.array([user]), since, later).of(user)
        for since in (first, first - days * SECONDS_PER_DAY)
    )
    torch.testing.assert_close(early.after.mean, here.after.mean)  # a look changes nothing
    torch.testing.assert_close(early.after.cov, here.after.cov)
    torch.testing.assert_close(early.before.mean, here.before.mean)
    torch.testing.assert_close(early.cross, here.cross)
    torch.testing.assert_close(early.before.cov[0], here.before.cov[0] + torch.diag(days * drift))
    # Both before it: nothing is known but the walk between them.
    ends = first - np.array([50.0, 20.0]) * SECONDS_PER_DAY
    both = Moments(posterior, np.array([user]), *ends).of(user)
    torch.testing.assert_close(both.change_mean, torch.zeros(3).double())
    torch.testing.assert_close(both.change_cov, torch.diag(30.0 * drift))


def test_somebody_unknown_may_have_changed_either_way() -> None:
    for emission in FAMILIES:
        table = model(emission).changes(["nobody"], since=SINCE, at=AT, n_draws=4000)
        # Softmax is no linear function, so the odds of a choice are not quite even.
        np.testing.assert_allclose(table["p_risen"], 0.5, atol=0.2 if emission == "choice" else 0)
        assert (table["lower"] < 0).all()
        assert (table["upper"] > 0).all()


def test_a_scalar_change_by_joint_draws() -> None:
    door = model("bernoulli", rates=False)
    user = busiest("bernoulli")
    table = door.changes([user], since=SINCE, at=AT).set_index("item_id")
    posterior = in_double(door.posterior)
    begin, end = (pd.Timestamp(day, tz="UTC").timestamp() for day in (SINCE, AT))
    place = place_of(posterior, user)
    both = Moments(posterior, np.array([place]), begin, end).of(place)
    joint = torch.cat(
        (
            torch.cat((both.before.cov[0], both.cross), 1),
            torch.cat((both.cross.T, both.after.cov[0]), 1),
        )
    )
    rng = np.random.default_rng(0)
    mean = torch.cat((both.before.mean[0], both.after.mean[0])).numpy()
    draws = rng.multivariate_normal(mean, joint.numpy(), 60_000)
    item = posterior.vocabulary.items.index_of(["i00004"])[0]
    block = rng.multivariate_normal(np.zeros(4), posterior.item_cov[item].numpy(), 60_000)
    vectors = posterior.items.vectors[item].numpy() + block[:, :3]
    m = posterior.values["mean"].numpy()
    offset = float(posterior.items.offsets[item]) + block[:, 3] + block[:, :3] @ m
    logits = [offset + (vectors * part).sum(1) for part in (draws[:, :3], draws[:, 3:])]
    apart = logits[1] - logits[0]
    row = table.loc["i00004"]
    assert row["change"] == pytest.approx(apart.mean(), abs=4 * apart.std() / 245)
    assert row["p_risen"] == pytest.approx((apart > 0).mean(), abs=0.02)
    assert row["upper"] - row["lower"] == pytest.approx(2 * 1.645 * apart.std(), rel=0.03)
    moved = (expit(logits[1]) - expit(logits[0])).mean()
    assert row["probability_change"] == pytest.approx(moved, abs=0.005)
    # Two independent marginals would give a far wider interval.
    alone = np.sqrt(logits[0].var() + logits[1].var())
    assert row["upper"] - row["lower"] < 0.7 * 2 * 1.645 * alone


def truly_risen(log: Simulation, seconds: tuple[float, float]) -> pd.DataFrame:
    """Whether each user's probability of each item rose, at the last events before two times."""
    truth, tables = log.truth, []
    for row, (user, own) in enumerate(log.events.frame.groupby("user_id", sort=True)):
        times = own["timestamp"].astype("int64").to_numpy() / 1e9
        steps = [max(0, int(np.searchsorted(times, at)) - 1) for at in seconds]
        logits = truth.states[row, steps] @ truth.items.vectors.T + truth.items.offsets
        logits = torch.log_softmax(logits, 1) if truth.layout.emission == "choice" else logits
        names = [f"i{index:05d}" for index in range(len(truth.items.offsets))]
        risen = (logits[1] > logits[0]).numpy()
        tables.append(pd.DataFrame({"user_id": user, "item_id": names, "risen": risen}))
    return pd.concat(tables)


@pytest.mark.slow
@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_four_of_five_that_are_said_to_have_risen_with_0_8_did(emission: EmissionName) -> None:
    log, door = known(emission, 45 if emission == "choice" else 90)
    seconds = tuple(1_700_000_000.0 + day * SECONDS_PER_DAY for day in (70.0, 170.0))
    table = door.changes(since=seconds[0], at=seconds[1], n_draws=200)
    both = table.merge(truly_risen(log, (seconds[0], seconds[1])), on=["user_id", "item_id"])
    # The width: pairs of a user move together, so a band of them counts as few users.
    for chance in (0.2, 0.5, 0.8):
        inside = both[(both["p_risen"] - chance).abs() < 0.1]
        users = inside["user_id"].nunique()
        assert users > 30
        width = 3.0 * (chance * (1.0 - chance) / users) ** 0.5
        assert inside["risen"].mean() == pytest.approx(inside["p_risen"].mean(), abs=width)
    np.testing.assert_allclose(table["p_risen"] + table["p_fallen"], 1.0)


@pytest.mark.parametrize("emission", FAMILIES)
def test_rows_and_columns(emission: EmissionName) -> None:
    door, users = model(emission), [busiest(emission), "nobody"]
    table = door.changes(users, ["i00004", "i00001"], since=SINCE, at=AT)
    assert table.columns.tolist() == COLUMNS
    assert table["user_id"].tolist() == [users[0]] * 2 + [users[1]] * 2
    assert table["item_id"].tolist() == ["i00004", "i00001"] * 2
    assert (table["since"] == pd.Timestamp(SINCE, tz="UTC")).all()
    assert (table["at"] == pd.Timestamp(AT, tz="UTC")).all()
    assert (table["lower"] < table["change"]).all()
    assert (table["change"] < table["upper"]).all()
    wide = door.changes(users, ["i00004", "i00001"], since=SINCE, at=AT, prob=0.99)
    assert (wide["lower"] < table["lower"]).all()
    assert wide["change"].tolist() == table["change"].tolist()
    latest = door.changes(users, ["i00004"], since=SINCE)
    assert latest["at"].iloc[0] == parts(emission)[0]["timestamp"].max()
    alone = door.changes(users[:1], ["i00001"], since=SINCE, at=AT)
    if emission != "choice":
        same(alone, table.iloc[[1]].reset_index(drop=True))
    np.testing.assert_allclose(alone["change"], table["change"].iloc[1])
    for empty in (door.changes([], since=SINCE), door.changes(users, [], since=SINCE)):
        assert len(empty) == 0
        assert empty.columns.tolist() == COLUMNS


@pytest.mark.parametrize("emission", FAMILIES)
def test_top_keeps_the_largest_credible_changes(emission: EmissionName) -> None:
    door = model(emission)
    users = sorted(parts(emission)[0]["user_id"].unique())[:6]
    ask = {"users": users, "since": SINCE, "at": AT, "prob": 0.2, "n_draws": 200}
    everything = door.changes(**ask)  # type: ignore[arg-type]
    inner = np.maximum(everything["lower"], -everything["upper"])
    assert (inner > 0).sum() > 5
    top = door.changes(**ask, top=5)  # type: ignore[arg-type]
    order = inner.sort_values(ascending=False, kind="stable").index[:5]
    same(top, everything.loc[order].reset_index(drop=True))
    assert len(door.changes(**ask, top=10_000)) == (inner > 0).sum()  # type: ignore[arg-type]
    assert len(door.changes(["nobody"], since=SINCE, at=AT, top=3)) == 0


def test_draws_of_choices_follow_their_number_and_seed() -> None:
    door, user = model("choice"), busiest("choice")
    ask = {"users": [user], "since": SINCE, "at": AT}
    coarse = door.changes(**ask, n_draws=8)["p_risen"] * 8  # type: ignore[arg-type]
    np.testing.assert_allclose(coarse, coarse.round())
    first, again, other = (door.changes(**ask, seed=seed) for seed in (1, 1, 2))  # type: ignore[arg-type]
    same(first, again)
    assert first["change"].tolist() != other["change"].tolist()


@pytest.mark.parametrize("emission", FAMILIES)
def test_themes_are_groups_and_vectors(emission: EmissionName) -> None:
    door, user = model(emission), busiest(emission)
    ask = {"users": [user], "since": SINCE, "at": AT, "seed": 1, "n_draws": 8000}
    items = door.changes(**ask)  # type: ignore[arg-type]
    group = ["i00004", "i00001", "i00009"]
    themes = {"one": ["i00004"], "three": group, "all": items["item_id"].tolist()}
    vector = simulation(emission).vectors.set_index("item_id")["vector"]
    themes["new"] = np.asarray(vector["i00004"])
    table = door.changes(**ask, themes=themes)  # type: ignore[arg-type]
    assert table.columns.tolist() == ["user_id", "theme", *COLUMNS[2:]]
    assert table["theme"].tolist() == list(themes)
    table, own = table.set_index("theme"), items.set_index("item_id")
    loose = 0.1 if emission == "choice" else 1e-9  # draws of one more item are other draws
    for name in ("change", "lower", "upper", "p_risen"):
        assert table.loc["one", name] == pytest.approx(own.loc["i00004", name], abs=loose)
    if emission == "choice":  # the share of everything is one
        assert table.loc["all", "change"] == pytest.approx(0.0, abs=1e-9)
    else:
        mean = own.loc[group, "change"].mean()
        assert table.loc["three", "change"] == pytest.approx(mean)
        moved = own.loc[group, "probability_change"].mean()
        assert table.loc["three", "probability_change"] == pytest.approx(moved)
        # An item with that text that nobody has met: the same direction, without the residual.
        assert table.loc["new", "change"] != table.loc["one", "change"]
    assert np.isfinite(table.drop(columns=["user_id", "since", "at"]).to_numpy(dtype=float)).all()


def test_a_theme_may_be_a_text() -> None:
    rng, words = np.random.default_rng(1), ["jazz", "chess"]
    frame = pd.DataFrame(
        {
            "user_id": np.repeat([f"u{n}" for n in range(12)], 40),
            "item_id": [f"i{n}" for n in rng.integers(0, 8, 480)],
            "timestamp": 1.6e9 + np.tile(np.arange(40), 12) * 2 * SECONDS_PER_DAY,
        }
    )
    item = frame["item_id"].str[1:].astype(int)
    late = frame["timestamp"] > 1.6e9 + 40 * SECONDS_PER_DAY
    frame["value"] = ((item % 2 == 0) ^ late).astype(float)  # all turn from jazz to chess
    texts = [{"item_id": f"i{n}", "text": f"{words[n % 2]} piece"} for n in range(8)]
    config = ModelConfig(emission="bernoulli", state_dim=1, rates=False)
    door = InterestModel(config, HashingEncoder(16))
    door.fit(
        frame,
        pd.DataFrame(texts),
        FitConfig(
            max_epochs=15,
            n_members=1,
            progress=False,
            holdout=0.0,
            batch_events=160,
            learning_rate=0.1,
        ),
    )
    table = door.changes(["u3"], since=1.6e9 + 10 * SECONDS_PER_DAY,
                         themes={"jazz": "jazz piece", "chess": "chess piece"})  # fmt: skip
    risen = table.set_index("theme")["p_risen"]
    assert risen["chess"] > 0.7
    assert risen["jazz"] < 0.3


def test_moments_of_a_grid_may_lie_far_from_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a long log covariates are kept only around the moments that will be asked about.
    door, user = model("choice"), busiest("choice")
    plain = door.trajectory([user], ["i00001"], every_days=40.0)
    monkeypatch.setattr("bayes_interest.events.popularity.MIN_STRIDE", 3)
    same(door.trajectory([user], ["i00001"], every_days=40.0), plain)


def test_impossible_questions_are_named() -> None:
    door = model("bernoulli")
    user = busiest("bernoulli")
    with pytest.raises(InputError, match="changes needs since=: the date from which"):
        door.changes([user])
    with pytest.raises(InputError, match=r"since='2024-02-01' is not before at='2023-12-10'"):
        door.changes([user], since=AT, at=SINCE)
    with pytest.raises(InputError, match=r"since='2031-01-01' is not before the latest event"):
        door.changes([user], since="2031-01-01")
    with pytest.raises(EventError, match="no time"):
        door.changes([user], since="yesterday")
    for top in (0, 1.5, True):
        with pytest.raises(InputError, match=r"top=.*: expected a whole number >= 1"):
            door.changes([user], since=SINCE, top=top)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"seed=None: expected a whole number >= 0"):
        door.changes([user], since=SINCE, seed=None)  # type: ignore[arg-type]
    with pytest.raises(ItemError, match="item 'ghost' is unknown"):
        door.changes([user], ["ghost"], since=SINCE)


def test_impossible_themes_are_named() -> None:
    door = model("bernoulli")
    ask = {"users": ["nobody"], "since": SINCE}
    with pytest.raises(InputError, match="either items= or themes=, not both"):
        door.changes(**ask, items=["i00001"], themes={"a": ["i00001"]})  # type: ignore[arg-type]
    for themes, said in (
        ({"a": []}, r"themes\['a'\] is empty"),
        ({"a": ["ghost"]}, r"item 'ghost' is unknown to the model .*themes\['a'\]"),
        ({"a": "jazz"}, r"themes\['a'\] is a text, and this model has no text encoder"),
        ({"a": np.zeros(2)}, r"themes\['a'\] has a vector of shape \(2,\): expected 7 finite"),
        (["i00001"], r"themes=\['i00001'\]: expected a dict"),
    ):
        with pytest.raises(InputError, match=said):
            door.changes(**ask, themes=themes)  # type: ignore[arg-type]
    assert N_ITEMS == 11
