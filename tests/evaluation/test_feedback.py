"""The closed loop: its truth, its regret, its policies, and what it says about mistakes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.feedback import run_policy, simulate_feedback, summarize_feedback
from bayes_interest.evaluation.policies import (
    MODEL_POLICIES,
    ROUND_SEEDS,
    FeedbackStart,
    ModelPolicy,
    ModelRanking,
    OraclePolicy,
)
from bayes_interest.evaluation.world import World, world_after
from bayes_interest.events.read import EventLog
from bayes_interest.model.simulate import Simulation, simulate
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.batch import slates_at_once
from tests.fitted import encoder, model, simulation

SMALL: dict[str, Any] = {"n_users": 7, "n_items": 11, "n_rounds": 5, "progress": False}
QUICK = FitConfig(max_epochs=3, n_members=1, progress=False)
DAYS = 40.0


@cache
def log(emission: EmissionName = "bernoulli") -> Simulation:
    return simulate(n_users=7, n_items=11, events_per_user=5, emission=emission, days=DAYS, seed=3)


def world(emission: EmissionName = "bernoulli", k: int = 2, **more: Any) -> World:
    return world_after(
        log(emission), DAYS, **{"n_rounds": 5, "days_per_round": 2.0} | more, k=k, seed=3
    )


def start_of(emission: EmissionName, k: int, n_rounds: int) -> FeedbackStart:
    """A loop that follows the log of a fitted model."""
    drawn = simulation(emission)
    posterior = model(emission).posterior
    end = float(np.nanmax(posterior.last_seconds))
    return FeedbackStart(
        drawn.events,
        drawn.vectors,
        posterior.vocabulary.users.ids,
        posterior.vocabulary.items.ids,
        end + 86_400.0 * np.arange(1, n_rounds + 1),
        k,
        seed=2,
    )


RANKINGS = [
    *(ModelRanking(by, learn_items=False) for by in MODEL_POLICIES),
    ModelRanking("mean"),
    ModelRanking("thompson", exploration=0.4),
]


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
@pytest.mark.parametrize("ranking", RANKINGS, ids=str)
def test_a_model_policy_is_rank_and_update(emission: EmissionName, ranking: ModelRanking) -> None:
    start, door = start_of(emission, k=3, n_rounds=3), model(emission)
    policy = ModelPolicy(door.posterior, encoder(emission), start, ranking)
    by, exploration = ranking.by, ranking.exploration
    rng = np.random.default_rng(0)
    for number, seconds in enumerate(start.seconds):
        shown = policy.choose(start.users, number)
        seed = start.seed * ROUND_SEEDS + number
        at = pd.Timestamp(seconds, unit="s", tz="UTC")
        slates = door.rank(
            k=3, by=by, at=at, exclude_seen=False, seed=seed, exploration=exploration
        )
        np.testing.assert_array_equal(shown.reshape(-1), slates["item_id"].to_numpy())
        events = slates[["user_id", "item_id"]].assign(timestamp=seconds)
        events["value"] = rng.integers(0, 2 if emission == "bernoulli" else 5, len(events)) * 1.0
        policy.observe(events)
        door.update(events, learn_items=ranking.learn_items)
    belief = policy.posterior.belief
    assert torch.equal(belief.mean, door.posterior.belief.mean)
    assert torch.equal(belief.cov, door.posterior.belief.cov)


def test_a_refit_is_of_everything_so_far() -> None:
    start, door = start_of("bernoulli", k=2, n_rounds=4), model("bernoulli")
    logs = []

    def refit(log: EventLog) -> Posterior:
        logs.append(log)
        return door.posterior

    ranking = ModelRanking("mean", refit_every=2)
    policy = ModelPolicy(door.posterior, encoder("bernoulli"), start, ranking, refit=refit)
    for number, seconds in enumerate(start.seconds):
        shown = policy.choose(start.users, number)
        pairs = {"user_id": np.repeat(start.users, 2), "item_id": shown.reshape(-1)}
        policy.observe(pd.DataFrame(pairs).assign(timestamp=seconds, value=1.0))
        assert (policy.posterior is door.posterior) == (number % 2 == 1)
    with pytest.raises(ConfigError, match="refit_every=2: needs refit"):
        ModelPolicy(door.posterior, encoder("bernoulli"), start, ranking)
    sizes = [len(log) for log in logs]
    assert sizes == [len(start.events) + rounds * 2 * len(start.users) for rounds in (2, 4)]
    columns = ["user_id", "item_id", "timestamp", "value"]
    kept = logs[0].frame[columns].merge(start.events.frame[columns])
    assert len(kept) == len(start.events)


def test_how_the_model_ranks_and_learns_in_a_loop_makes_a_difference() -> None:
    policies = {
        "thompson": "thompson",
        "less": ModelRanking("thompson", exploration=0.2),
        "users": ModelRanking("thompson", learn_items=False),
        "refitted": ModelRanking("thompson", refit_every=2),
    }
    sizes = SMALL | {"n_users": 25, "n_rounds": 8}
    table = simulate_feedback(policies, seeds=[0], fit_config=QUICK, **sizes)
    last = table[table["round"] == 8].set_index("policy")["cumulative_regret"]
    assert last.nunique() == len(policies)
    named = {"named": ModelRanking("thompson")}
    again = simulate_feedback(named, seeds=[0], fit_config=QUICK, **sizes)
    assert again["cumulative_regret"].iloc[-1] == last["thompson"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"by": "best"}, "by='best': expected one of"),
        ({"exploration": 0.5}, 'exploration=0.5: needs by="thompson"'),
        ({"by": "thompson", "exploration": -1.0}, "exploration=-1.0: expected a finite number"),
        ({"refit_every": 0}, "refit_every=0: expected a number of rounds"),
        ({"refit_every": "often"}, "refit_every='often': expected a number of rounds"),
        ({"refit_every": 2.5}, "refit_every=2.5: expected a number of rounds"),
    ],
)
def test_an_impossible_ranking_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelRanking(**wrong)


def test_slates_at_once_are_of_scalar_families() -> None:
    with pytest.raises(ConfigError, match='emission="choice": expected bernoulli or rating'):
        slates_at_once(model("choice").posterior, np.arange(2), np.zeros(2), 1, "mean", 0.9, 10, 0)


def test_the_truth_goes_on_from_where_the_log_ended() -> None:
    soon = world(days_per_round=1e-9, n_rounds=1)
    drawn = log()
    users = drawn.final_truth["user_id"].unique()
    last = drawn.event_truth.groupby("user_id")["timestamp"].max().loc[users]
    left = DAYS - (last.astype("int64").to_numpy() / 1e9 - 1.7e9) / 86_400  # days of walk
    final = drawn.truth.states[:, -1] @ drawn.truth.items.vectors.T + drawn.truth.items.offsets
    moved = (soon.predictor[0] - final).numpy()
    scales, vectors = drawn.truth.drift_scales, drawn.truth.items.vectors.numpy()
    spread = np.sqrt(np.outer(left, (vectors**2) @ scales**2))
    assert (np.abs(moved) < 4.0 * spread + 1e-9).all()
    np.testing.assert_array_equal(soon.users, users)


def test_the_truth_drifts_with_the_time_between_rounds() -> None:
    many = simulate(n_users=400, n_items=5, events_per_user=2, days=DAYS, seed=1)
    for days in (1.0, 9.0):
        found = world_after(many, DAYS, 2, days, 1, seed=0)
        step = (found.predictor[1] - found.predictor[0]).numpy()
        scales, vectors = many.truth.drift_scales, many.truth.items.vectors.numpy()
        wanted = np.sqrt(days * ((vectors**2) @ scales**2))
        np.testing.assert_allclose(step.std(0), wanted, rtol=0.15)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_what_is_taken_has_the_true_probability(emission: EmissionName) -> None:
    found = world(emission, k=1)
    shown = np.arange(7)[:, None]
    grid, total = (np.arange(1000) + 0.5) / 1000, np.zeros(7)
    for noise in grid:
        even = replace(found, noise=np.full_like(found.noise, noise))
        total += even.taken(even.outcomes(4, shown))[:, 0]
    np.testing.assert_allclose(
        total / 1000, found.engagement[4][np.arange(7), np.arange(7)], atol=2e-3
    )


def test_ratings_have_every_level_of_the_truth() -> None:
    found = world("rating", k=1, n_rounds=200)
    values = {value for t in range(200) for value in found.outcomes(t, np.zeros((7, 1), int)).flat}
    assert values == {0.0, 1.0, 2.0, 3.0, 4.0}


class Fixed:
    """Shows the same items always and remembers what it saw."""

    def __init__(self, start: FeedbackStart, items: Any) -> None:
        self.start, self.items = start, items
        self.seen: list[pd.DataFrame] = []

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        return np.array([self.items] * len(users))

    def observe(self, events: pd.DataFrame) -> None:
        self.seen.append(events)


def test_regret_is_what_the_best_slate_would_have_had_more() -> None:
    made: list[Fixed] = []

    def factory(start: FeedbackStart) -> Fixed:
        made.append(Fixed(start, ["i00004", "i00001"]))
        return made[-1]

    table = simulate_feedback({"fixed": factory}, k=2, seeds=[3], warmup_days=DAYS, **SMALL)
    assert table.columns.tolist() == [
        *("policy", "seed", "round", "regret", "cumulative_regret", "taken")
    ]
    drawn = simulate(7, 11, 10, "bernoulli", (0.05, 0.1, 0.15), 8, DAYS, seed=3)
    truth = world_after(drawn, DAYS, 5, 1.0, 2, seed=3).engagement
    for row, chance in zip(table.itertuples(), truth, strict=True):
        best = np.sort(chance, axis=1)[:, -2:].sum(1)
        assert row.regret == pytest.approx((best - chance[:, 4] - chance[:, 1]).mean())
    np.testing.assert_allclose(table["cumulative_regret"], table["regret"].cumsum())
    assert table["round"].tolist() == [1, 2, 3, 4, 5]
    (policy,) = made
    assert [len(events) for events in policy.seen] == [14] * 5
    taken = [events["value"].sum() / 7 for events in policy.seen]
    np.testing.assert_allclose(table["taken"], taken)
    first = policy.seen[0]
    assert first.columns.tolist() == ["user_id", "item_id", "timestamp", "value"]
    assert first["item_id"].tolist() == ["i00004", "i00001"] * 7
    assert (first["timestamp"] == policy.start.seconds[0]).all()


def test_nobody_beats_the_oracle_and_the_model_beats_chance() -> None:
    table = simulate_feedback(
        ["oracle", "mean", "random"],
        n_users=20,
        n_items=12,
        n_rounds=8,
        seeds=[0, 1],
        warmup_events=20,
        fit_config=QUICK,
        progress=False,
    )
    assert (table["regret"] >= 0.0).all()
    assert (table.loc[table["policy"] == "oracle", "regret"] == 0.0).all()
    summary = summarize_feedback(table, reference="random").set_index("policy")
    assert summary.index.tolist() == ["oracle", "mean", "random"]
    assert summary.loc["mean", "ratio"] < 0.7
    assert summary["taken"].is_monotonic_decreasing


def test_a_stale_choice_loses_where_interest_drifts() -> None:
    regret = {}
    for drift in (1e-6, 0.3):
        drawn = simulate(60, 11, 5, "bernoulli", (drift, drift), 8, DAYS, seed=0)
        truth = world_after(drawn, DAYS, 30, 1.0, 1, seed=0)
        start = FeedbackStart(
            drawn.events, drawn.vectors, truth.users, truth.items, truth.seconds, 1, 0
        )
        stale = OraclePolicy(start, truth)
        stale.engagement = np.repeat(truth.engagement[:1], 30, axis=0)
        regret[drift] = run_policy("stale", stale, truth, start)["regret"].to_numpy()
    assert regret[1e-6].max() < 1e-4
    assert regret[0.3][0] == 0.0
    assert regret[0.3][-5:].mean() > 0.05


def test_policies_share_truth_and_chance_and_seeds_repeat() -> None:
    same = {"a": "random", "b": "random"}
    table = simulate_feedback(same, seeds=[0, 4], **SMALL)
    a, b = (table[table["policy"] == name].drop(columns="policy") for name in same)
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))
    pd.testing.assert_frame_equal(table, simulate_feedback(same, seeds=[0, 4], **SMALL))
    first, second = (a.loc[a["seed"] == seed, "regret"].to_numpy() for seed in (0, 4))
    assert (first != second).all()


def test_ratings_and_the_models_config_reach_the_loop() -> None:
    tables = [
        simulate_feedback(
            ["mean"],
            emission="rating",
            seeds=[1],
            config=ModelConfig("rating", state_dim=dim),
            fit_config=QUICK,
            **SMALL,
        )
        for dim in (1, 3)
    ]
    assert (tables[0]["regret"] != tables[1]["regret"]).any()
    assert (tables[0]["regret"] >= 0.0).all()


def test_items_without_a_warmup_event_can_be_shown() -> None:
    table = simulate_feedback(
        ["thompson"],
        n_users=4,
        n_items=40,
        n_rounds=2,
        warmup_events=6,
        seeds=[0],
        fit_config=QUICK,
        progress=False,
    )
    assert len(table) == 2


def finished(regrets: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"policy": name, "seed": seed, "round": 1, "regret": value, "taken": 1.0 - value}
        for name, values in regrets.items()
        for seed, value in enumerate(values)
    ]
    table = pd.DataFrame(rows)
    return table.assign(cumulative_regret=table["regret"])


def test_the_summary_is_a_mean_with_paired_bounds() -> None:
    base = [0.2, 0.4, 0.1, 0.3, 0.5, 0.6]
    table = finished({"good": [0.5 * value for value in base], "bad": base})
    found = summarize_feedback(table, reference="bad").set_index("policy")
    assert found.index.tolist() == ["good", "bad"]
    assert found.loc["bad", "cumulative_regret"] == pytest.approx(0.35)
    assert found.loc["bad", "taken"] == pytest.approx(0.65)
    assert found.loc["bad", "lower"] < 0.35 < found.loc["bad", "upper"]
    # Half in every seed: so paired the ratio is certain, however the seeds differ.
    np.testing.assert_allclose(found.loc["good", ["ratio", "ratio_lower", "ratio_upper"]], 0.5)
    assert (found["n"] == 6).all()
    narrow = summarize_feedback(table, prob=0.5).set_index("policy")
    assert narrow.loc["bad", "upper"] < found.loc["bad", "upper"]


def test_few_seeds_give_no_bounds() -> None:
    found = summarize_feedback(finished({"a": [0.1, 0.2], "b": [0.3, 0.1]}), reference="a")
    assert found[["lower", "upper", "ratio_lower", "ratio_upper"]].isna().all(axis=None)
    assert found["ratio"].notna().all()


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="policy 'best': expected one of mean, lower"):
        simulate_feedback(["best"], **SMALL)
    with pytest.raises(ConfigError, match=r"expected a list, as \['mean'\]"):
        simulate_feedback("mean", **SMALL)
    with pytest.raises(ConfigError, match="nothing to learn from an item shown and ignored"):
        simulate_feedback(["random"], emission="choice", **SMALL)
    with pytest.raises(ConfigError, match="k=12: expected a slate of 1 to n_items=11"):
        simulate_feedback(["random"], k=12, **SMALL)
    with pytest.raises(ConfigError, match="n_rounds=0: expected at least 1"):
        simulate_feedback(["random"], **SMALL | {"n_rounds": 0})
    with pytest.raises(ConfigError, match=r"days_per_round=0\.0: expected days > 0"):
        simulate_feedback(["random"], days_per_round=0.0, **SMALL)
    with pytest.raises(InputError, match=r"reference='x': expected one of \['a'\]"):
        summarize_feedback(finished({"a": [0.1]}), reference="x")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["i00001"], r"shape \(7, 1\): expected \(user, k\) = \(7, 2\)"),
        (["i00001", "i99999"], "chose 'i99999', which is no item"),
        (["i00001", "i00001"], r"shows an item twice in the slate \['i00001', 'i00001'\]"),
    ],
)
def test_a_policy_that_breaks_the_protocol_is_told(items: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"policy 'mine'.*{message}"):
        simulate_feedback({"mine": lambda start: Fixed(start, items)}, k=2, seeds=[0], **SMALL)
