"""Scores of events are what one would have said just before each: a slow loop is the oracle."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, ModelConfig
from bayes_interest.errors import ConfigError, InputError, TimeOrderError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior import score as score_module
from bayes_interest.posterior.draws import DRAW_SEED
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import (
    FAMILIES,
    LEVELS,
    N_ITEMS,
    QUICK,
    fit,
    loud,
    model,
    numbers,
    parts,
    same,
    simulation,
)

N_DRAWS = 60
N_SLOW = 19
TIE = 1e-4  # scores are ranked by a coarser quadrature than interest() uses


@cache
def with_kinds(emission: EmissionName) -> tuple[InterestModel, pd.DataFrame]:
    """A model of a log with two kinds of events, and the later events."""
    train, test = (
        part.assign(kind=np.where(np.arange(len(part)) % 3 == 1, "rare", "usual"))
        for part in parts(emission)
    )
    return fit(train, emission), test


def slow_scores(
    door: InterestModel, events: pd.DataFrame, exclude_seen: bool = True
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """mean, sd, lower, upper of each event, and the bounds of its rank, one event at a time."""
    found, ranks = [], []
    for row in range(len(events)):
        event = events[row : row + 1]
        user, item = event["user_id"].iloc[0], event["item_id"].iloc[0]
        table = door.interest([user], at=event["timestamp"].iloc[0], n_draws=N_DRAWS)
        own = table["item_id"] == item
        found.append(numbers(table[own])[0])
        ranks.append(rank_bounds(door.posterior, table, own, user, exclude_seen))
        door.update(event)
    return np.array(found), ranks


def rank_bounds(
    posterior: Posterior, table: pd.DataFrame, own: pd.Series, user: object, exclude_seen: bool
) -> tuple[int, int]:
    """Ranks of the own item if scores that nearly tie count for it, and if they count against."""
    position = posterior.vocabulary.users.index_of([user])[0]
    history = posterior.history
    seen = posterior.vocabulary.items.ids[history.item_index[history.user_index == position]]
    others = ~own & ~(table["item_id"].isin(seen) & exclude_seen)
    mine = float(table.loc[own, "mean"].iloc[0])
    means = table.loc[others, "mean"]
    return 1 + int((means > mine + TIE).sum()), 1 + int((means >= mine - TIE).sum())


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_scores_equal_a_slow_loop_of_interest_and_update(
    emission: EmissionName, exclude_seen: bool
) -> None:
    _, test = parts(emission)
    door = model(emission)
    scores = door.score_events(test, exclude_seen=exclude_seen, n_draws=N_DRAWS)
    slow = model(emission).update(test[:-N_SLOW])
    expected, ranks = slow_scores(slow, test[-N_SLOW:], exclude_seen)
    np.testing.assert_allclose(numbers(scores)[-N_SLOW:], expected, rtol=0, atol=1e-5)
    for rank, (best, worst) in zip(scores["rank"][-N_SLOW:], ranks, strict=True):
        assert best <= rank <= worst


@pytest.mark.parametrize("emission", FAMILIES)
def test_scores_with_a_context_equal_the_slow_loop(emission: EmissionName) -> None:
    _, test = parts(emission)
    scores = loud(emission).score_events(test, n_draws=N_DRAWS)
    slow = loud(emission).update(test[:-N_SLOW])
    expected, ranks = slow_scores(slow, test[-N_SLOW:])
    np.testing.assert_allclose(numbers(scores)[-N_SLOW:], expected, rtol=0, atol=1e-5)
    for rank, (best, worst) in zip(scores["rank"][-N_SLOW:], ranks, strict=True):
        assert best <= rank <= worst


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 4, N_ITEMS, N_ITEMS + 5])
def test_slates_agree_with_the_ranks(emission: EmissionName, exclude_seen: bool, k: int) -> None:
    train, test = parts(emission)
    door = model(emission)
    scores = door.score_events(test, exclude_seen=exclude_seen, k=k)
    same(scores.drop(columns="slate"), door.score_events(test, exclude_seen=exclude_seen))
    met = train.groupby("user_id")["item_id"].agg(set).to_dict()
    hits = 0
    for row in scores.itertuples():
        seen = met.setdefault(row.user_id, set())
        allowed = N_ITEMS - len(seen) * exclude_seen
        assert len(row.slate) == len(set(row.slate)) == min(k, allowed)
        assert not exclude_seen or not seen & set(row.slate)
        if not exclude_seen or row.item_id not in seen:
            assert (row.item_id in row.slate) == (row.rank <= k)
            if row.rank <= k:
                assert row.slate[row.rank - 1] == row.item_id
                hits += 1
        seen.add(row.item_id)
    assert hits > 0


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_slate_before_a_users_first_event_is_what_rank_says(emission: EmissionName) -> None:
    _, test = parts(emission)
    options = {"k": 3, "n_draws": 200}
    # rank() shares a choice among the allowed items, score_events among all.
    options["exclude_seen"] = emission != "choice"
    scores = model(emission).score_events(test, **options)
    for row in np.flatnonzero(~test["user_id"].duplicated().to_numpy())[:6]:
        event = test[row : row + 1]
        later = model(emission).update(test[:row])
        at = event["timestamp"].iloc[0]
        slate = later.rank(event["user_id"], at=at, seed=DRAW_SEED, **options)
        table = later.interest(event["user_id"], at=at, n_draws=options["n_draws"])
        mean = table.set_index("item_id")["mean"]
        found = scores["slate"].iloc[row]
        np.testing.assert_allclose(mean[found], mean[slate["item_id"]], rtol=0, atol=TIE)
        clear = np.abs(mean[found].to_numpy()[:, None] - mean.to_numpy()) > TIE
        for place, item in enumerate(found):  # barring ties
            if clear[place, (mean.index != item).tolist()].all():
                assert slate["item_id"].iloc[place] == item


def test_slates_come_back_in_the_callers_order_and_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, test = parts("choice")
    door = model("choice")
    straight = door.score_events(test, k=4)["slate"]
    order = np.random.default_rng(0).permutation(len(test))
    shuffled = door.score_events(test.iloc[order], k=4)["slate"]
    assert straight.iloc[order].tolist() == shuffled.tolist()
    monkeypatch.setattr(score_module, "TABLE_SIZE", 2000)
    assert door.score_events(test, k=4)["slate"].tolist() == straight.tolist()


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3"])
def test_an_impossible_k_is_named(k: object) -> None:
    _, test = parts("choice")
    with pytest.raises(InputError, match=r"k=.*: expected a whole number >= 1, or None"):
        model("choice").score_events(test, k=k)  # type: ignore[arg-type]


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_interest_is_that_of_the_reference_kind_and_log_prob_of_the_events_own(
    emission: EmissionName,
) -> None:
    fitted, test = with_kinds(emission)
    scores = fitted.score_events(test, n_draws=N_DRAWS)
    slow = InterestModel(fitted.config, fitted.encoder)
    slow._posterior = fitted.posterior
    expected, _ = slow_scores(slow.update(test[:-7]), test[-7:])
    np.testing.assert_allclose(numbers(scores)[-7:], expected, rtol=0, atol=1e-5)
    said = np.log(scores["mean"])
    if emission == "bernoulli":
        said = said.where(test["value"].to_numpy() == 1.0, np.log1p(-scores["mean"]))
    rare = (test["kind"] == "rare").to_numpy()
    np.testing.assert_allclose(scores["log_prob"][~rare], said[~rare], atol=1e-5)
    assert (scores["log_prob"] - said)[rare].abs().max() > 1e-4


@pytest.mark.parametrize(
    "config",
    [
        {"repeats": True}, {"popularity_days": 20.0}, {"popularity_days": (1.0, 20.0)},
        {"succession": True}, {"likeness": True},
    ],
)  # fmt: skip
def test_circumstances_of_a_scalar_family_reach_the_ranks(config: dict[str, object]) -> None:
    _, test = parts("bernoulli")
    door = model("bernoulli", **config)
    scores = door.score_events(test, exclude_seen=False)
    slow = model("bernoulli", **config).update(test[:-N_SLOW])
    expected, ranks = slow_scores(slow, test[-N_SLOW:], exclude_seen=False)
    np.testing.assert_allclose(numbers(scores)[-N_SLOW:], expected, rtol=0, atol=1e-5)
    for rank, (best, worst) in zip(scores["rank"][-N_SLOW:], ranks, strict=True):
        assert best <= rank <= worst


def test_log_prob_is_the_log_of_the_mean_where_the_outcome_is_positive() -> None:
    _, test = parts("bernoulli")
    scores = model("bernoulli").score_events(test)
    engaged = test["value"].to_numpy() == 1.0
    np.testing.assert_allclose(
        scores["log_prob"],
        np.log(np.where(engaged, scores["mean"], 1.0 - scores["mean"])),
        atol=1e-5,
    )


def test_log_prob_of_a_rating_at_the_top_level() -> None:
    _, test = parts("rating")
    top = float(LEVELS - 1)
    scores = model("rating", positive_threshold=top).score_events(test)
    best = test["value"].to_numpy() == top
    np.testing.assert_allclose(scores["log_prob"][best], np.log(scores["mean"][best]), atol=1e-5)


def test_log_probs_of_all_levels_of_a_rating_sum_to_one() -> None:
    _, test = parts("rating")
    door, event = model("rating"), test[:1]
    chances = [
        np.exp(door.score_events(event.assign(value=float(level)))["log_prob"].iloc[0])
        for level in range(LEVELS)
    ]
    assert sum(chances) == pytest.approx(1.0, abs=1e-5)


def test_log_prob_of_a_choice_is_the_log_of_its_mean() -> None:
    scores = model("choice").score_events(parts("choice")[1])
    np.testing.assert_allclose(scores["log_prob"], np.log(scores["mean"]), atol=1e-5)


@pytest.mark.parametrize("emission", FAMILIES)
def test_rows_come_back_in_the_callers_order(emission: EmissionName) -> None:
    _, test = parts(emission)
    door = model(emission)
    straight = door.score_events(test)
    order = np.random.default_rng(0).permutation(len(test))
    shuffled = door.score_events(test.iloc[order])
    assert shuffled.index.tolist() == list(range(len(test)))
    same(straight.iloc[order].reset_index(drop=True), shuffled)
    assert straight["timestamp"].is_monotonic_increasing
    assert straight["item_id"].tolist() == test["item_id"].tolist()


def test_rows_dropped_in_reading_leave_a_gap_in_the_index() -> None:
    _, test = parts("bernoulli")
    broken = test.reset_index(drop=True)
    broken.loc[4, "value"] = np.nan
    scores = model("bernoulli").score_events(broken)
    assert scores.index.tolist() == [row for row in range(len(test)) if row != 4]


@pytest.mark.parametrize("emission", FAMILIES)
def test_scoring_changes_nothing(emission: EmissionName) -> None:
    door = model(emission)
    before, posterior = door.interest(), door.posterior
    first = door.score_events(parts(emission)[1])
    assert door.posterior is posterior
    same(before, door.interest())
    same(first, door.score_events(parts(emission)[1]))


def test_ties_count_against_the_item() -> None:
    # Three items that no event tells apart: equal vectors, residuals at their prior.
    train, test = parts("bernoulli")
    vectors = simulation("bernoulli").vectors
    twins = pd.DataFrame({"item_id": ["a", "b", "c"], "vector": [vectors["vector"][0]] * 3})
    table = pd.concat((vectors, twins), ignore_index=True)
    door = InterestModel(ModelConfig("bernoulli", state_dim=2), PrecomputedVectors(table))
    door.fit(train, table[["item_id"]], QUICK)
    event = test[-1:]
    everything = door.interest(event["user_id"], at=event["timestamp"].iloc[0])
    user = everything.set_index("item_id")["mean"]
    # The last bit of a matrix product depends on an item's place.
    assert user[["a", "b", "c"]].tolist() == pytest.approx([user["b"]] * 3, rel=3e-7, abs=0.0)
    seen = set(train.loc[train["user_id"] == event["user_id"].iloc[0], "item_id"])
    others = [item for item in user.index if item not in seen | {"a", "b", "c"}]
    better = [item for item in others if user[item] > user["b"]]
    for item in "abc":
        rank = int(door.score_events(event.assign(item_id=item))["rank"].iloc[0])
        assert rank == 1 + len(better) + 2


def test_seen_items_compete_only_where_asked() -> None:
    _, test = parts("choice")
    door = model("choice")
    fewer, all_items = (
        door.score_events(test, exclude_seen=flag)["rank"] for flag in (True, False)
    )
    assert (fewer <= all_items).all()
    assert (fewer < all_items).any()


def test_a_choice_below_the_threshold_has_a_rank_but_no_log_prob_and_teaches_nothing() -> None:
    train, test = parts("choice")
    train = train.assign(value=np.where(np.arange(len(train)) % 4 == 0, 1.0, 5.0))
    test = test.assign(value=5.0)
    door = fit(train, "choice", positive_threshold=3.0, event_drift=False)
    test.iloc[2, test.columns.get_loc("value")] = 1.0
    scores = door.score_events(test)
    assert scores["log_prob"].isna().tolist() == (test["value"] == 1.0).tolist()
    assert scores["rank"].between(1, len(door.posterior.items.offsets)).all()
    assert np.isfinite(numbers(scores)).all()
    # Without the event nothing else changes (seen items compete here).
    others = test["value"].to_numpy() == 5.0
    lean = door.score_events(test[others], exclude_seen=False)
    full = door.score_events(test, exclude_seen=False)
    np.testing.assert_allclose(numbers(full)[others], numbers(lean), rtol=0, atol=1e-6)


def test_probabilities_of_a_choice_sum_to_one() -> None:
    for config in ({}, {"popularity_days": None, "repeats": False, "dtype": "float64"}):
        table = model("choice", **config).interest()
        total = table.groupby("user_id")["mean"].sum()
        np.testing.assert_allclose(total, 1.0, atol=1e-5)


def test_pieces_of_the_table_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    for emission in FAMILIES:
        _, test = parts(emission)
        door = model(emission)
        whole = door.score_events(test)
        monkeypatch.setattr(score_module, "TABLE_SIZE", 2000)
        pieces = door.score_events(test)
        monkeypatch.undo()
        np.testing.assert_allclose(numbers(whole), numbers(pieces), rtol=0, atol=1e-6)
        assert whole["rank"].tolist() == pieces["rank"].tolist()


def test_prob_and_n_draws_have_an_effect() -> None:
    _, test = parts("choice")
    door = model("choice")
    narrow, wide = (door.score_events(test, prob=prob) for prob in (0.5, 0.95))
    assert (wide["upper"] - wide["lower"] > narrow["upper"] - narrow["lower"]).all()
    coarse = door.score_events(test, n_draws=8)
    assert not np.allclose(coarse["mean"], narrow["mean"])
    away = np.abs(coarse["mean"] - narrow["mean"]) * np.sqrt(8.0)  # 8 draws of that sd
    assert (away < 4.0 * narrow["sd"]).all()


def test_impossible_arguments_are_named() -> None:
    _, test = parts("choice")
    door = model("choice")
    with pytest.raises(ConfigError, match="n_draws=1: expected a whole number, at least 2"):
        door.score_events(test, n_draws=1)
    with pytest.raises(TimeOrderError, match="before the last one"):
        door.score_events(parts("choice")[0][:3])


def test_mean_score_orders_as_the_exact_mean_does() -> None:
    mean, var = torch.linspace(-3, 3, 13), torch.full((13,), 2.0)
    found = score_module.mean_score(mean, var)
    assert (found.diff() > 0).all()
    assert found[6].item() == pytest.approx(0.5, abs=1e-6)
