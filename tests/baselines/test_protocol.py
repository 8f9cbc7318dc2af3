"""What every rival keeps: honesty about time, the shape of tables, seeds, named errors."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest import baselines
from bayes_interest.baselines import base
from bayes_interest.baselines.base import Baseline, best, moment_after
from bayes_interest.baselines.known import Known
from bayes_interest.baselines.links import Link, NoChance
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import (
    ConfigError,
    EventError,
    InputError,
    ItemError,
    NotFittedError,
    TimeOrderError,
)
from bayes_interest.events.read import read_events
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.ready import prepare
from tests.baselines.logs import (
    FAMILIES,
    ITEMS,
    N_ITEMS,
    N_USERS,
    RIVALS,
    RUN,
    config_of,
    cut,
    encoder,
    fit,
    make,
    make_frame,
)

COLUMNS = ["user_id", "item_id", "timestamp", "mean", "log_prob", "rank"]


@cache
def fitted(family: str, name: str) -> Baseline[Any]:
    return fit(family, name)


@cache
def scored(family: str, name: str) -> pd.DataFrame:
    return fitted(family, name).score_events(cut(make_frame(family))[1], k=3)


@pytest.mark.parametrize(("family", "name"), RIVALS)
def test_an_event_is_predicted_from_its_strict_past(family: str, name: str) -> None:
    """Other items, users and values from some moment on leave earlier scores as they are."""
    _, test = cut(make_frame(family))
    at = test["timestamp"].iloc[len(test) // 2]
    late = (test["timestamp"] >= at).to_numpy()
    other = test.copy()
    other.loc[late, "value"] = 1.0 - other.loc[late, "value"].clip(0, 1)
    other.loc[late, "item_id"] = ITEMS[0]
    other.loc[late, "user_id"] = [f"u{i % N_USERS}" for i in range(late.sum())]
    other["timestamp"] += np.where(late, np.arange(len(test)), 0)  # no duplicates
    assert late.any()
    assert not late.all()
    second = fitted(family, name).score_events(other, k=3)
    pd.testing.assert_frame_equal(scored(family, name)[~late], second[~late], rtol=1e-5)


@pytest.mark.parametrize(("family", "name"), RIVALS)
def test_tied_events_do_not_see_one_another(family: str, name: str) -> None:
    """With all test events at one moment, each is scored as if it were alone."""
    _, test = cut(make_frame(family))
    tied = test.drop_duplicates(["user_id", "item_id"]).head(7).reset_index(drop=True)
    tied["timestamp"] = test["timestamp"].max()
    rival = fitted(family, name)
    together = rival.score_events(tied, exclude_seen=False)
    for row in range(len(tied)):
        alone = rival.score_events(tied.iloc[[row]], exclude_seen=False).iloc[0]
        pd.testing.assert_series_equal(
            alone, together.iloc[row], check_names=False, rtol=1e-5, check_dtype=False
        )


@pytest.mark.parametrize(("family", "name"), RIVALS)
def test_the_table_has_its_columns_and_sane_entries(family: str, name: str) -> None:
    table = scored(family, name)
    test = cut(make_frame(family))[1]
    assert list(table) == [*COLUMNS, "slate"]
    assert table["item_id"].tolist() == test["item_id"].tolist()
    assert table["mean"].between(0.0, 1.0).all()
    assert table["rank"].between(1, N_ITEMS).all()
    chosen = test["value"] >= 3.0
    if family == "rating":
        assert table["log_prob"].isna().all()
    elif family == "choice":
        assert (table["log_prob"].isna() == ~chosen).all()
        np.testing.assert_allclose(table["log_prob"][chosen], np.log(table["mean"][chosen]))
    else:
        hit = np.where(test["value"] == 1.0, table["mean"], 1.0 - table["mean"])
        np.testing.assert_allclose(table["log_prob"], np.log(hit), rtol=1e-6)


@pytest.mark.parametrize(("family", "name"), RIVALS)
def test_rank_agrees_with_scores_of_events(family: str, name: str) -> None:
    """Just behind train, the slate before an event is the ranking of its user at that time."""
    rival = fitted(family, name)
    _, test = cut(make_frame(family))
    first = test.drop_duplicates("user_id").head(4).reset_index(drop=True)
    first["timestamp"] = test["timestamp"].max()
    scores = rival.score_events(first, exclude_seen=False, k=N_ITEMS)
    at = pd.Timestamp(int(first["timestamp"].iloc[0]), unit="s", tz="UTC")
    slates = rival.rank(first["user_id"], k=N_ITEMS, at=at, exclude_seen=False)
    assert list(slates) == ["user_id", "rank", "item_id", "score", "mean"]
    for row, event in first.iterrows():
        mine = slates[slates["user_id"] == event["user_id"]].set_index("item_id")
        assert mine.index.tolist() == scores["slate"][row]
        assert mine["rank"].tolist() == list(range(1, N_ITEMS + 1))
        assert (np.diff(mine["score"]) <= 0).all()
        own = mine.loc[event["item_id"]]
        assert own["mean"] == pytest.approx(scores["mean"][row], rel=1e-5)
        assert scores["rank"][row] == (mine["score"] >= own["score"]).sum()
        if family == "choice":
            assert mine["mean"].sum() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(("family", "name"), RIVALS)
def test_scoring_and_ranking_leave_the_rival_as_it_was(family: str, name: str) -> None:
    rival = fitted(family, name)
    before = rival.fitted
    history = copy.deepcopy(before.known.history)
    rival.rank(k=2)
    again = rival.score_events(cut(make_frame(family))[1], k=3)
    assert rival.fitted is before
    np.testing.assert_array_equal(rival.fitted.known.history.item_index, history.item_index)
    pd.testing.assert_frame_equal(again, scored(family, name), check_exact=True)


@pytest.mark.parametrize(
    "name", ["matrix_factorization", "interest_strength_net", "gru", "lstm", "sasrec"]
)
def test_a_seed_names_a_fit_and_leaves_the_global_ones(name: str) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    test = cut(make_frame("choice"))[1]
    first = scored("choice", name)
    again = fit("choice", name).score_events(test, k=3)
    other = fit("choice", name, FitConfig(max_epochs=2, progress=False, seed=1, device="cpu"))
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    assert not np.allclose(other.score_events(test)["mean"], first["mean"], rtol=1e-6)
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_family_and_ids_are_the_models(family: str) -> None:
    log = read_events(cut(make_frame(family))[0])
    ready = prepare(log, None, encoder(), config_of(family), progress=False)
    known = fitted(family, "text_cosine").fitted.known
    assert known.config == ready.config
    assert known.vocabulary.items == ready.vocabulary.items
    assert known.vocabulary.users == ready.vocabulary.users
    np.testing.assert_array_equal(known.catalogue.vectors, ready.embedded.vectors)


@pytest.mark.parametrize("threshold", [None, 0.0, 2.0, 2.5, 9.0])
def test_the_level_of_a_rating_is_the_models(threshold: float | None) -> None:
    config = ModelConfig(emission="rating", positive_threshold=threshold)
    log = read_events(cut(make_frame("rating"))[0])
    known = Known.of(log, None, None, config, progress=False)
    asked = SimpleNamespace(vocabulary=known.vocabulary, config=config)
    assert known.level == Posterior.level.fget(asked)  # type: ignore[attr-defined]


def test_the_order_of_rows_is_the_callers() -> None:
    _, test = cut(make_frame("choice"))
    test = test.drop_duplicates(["user_id", "timestamp"], ignore_index=True)
    order = np.random.default_rng(5).permutation(len(test))
    rival = fitted("choice", "popular_7_days")
    expected = rival.score_events(test).iloc[order].reset_index(drop=True)
    shuffled = rival.score_events(test.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(shuffled, expected)
    assert shuffled["item_id"].tolist() == test["item_id"].iloc[order].tolist()


@pytest.mark.parametrize("name", ["popular_7_days", "own_most_frequent", "text_cosine", "gru"])
def test_small_blocks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, test = cut(make_frame("choice"))
    monkeypatch.setattr(base, "CELLS", 3 * N_ITEMS)
    found = fitted("choice", name).score_events(test, k=3)
    pd.testing.assert_frame_equal(found, scored("choice", name), rtol=1e-5)


def test_slates_leave_out_what_was_seen_before() -> None:
    train, test = cut(make_frame("choice"))
    log = pd.concat((train, test), ignore_index=True)
    for row, slate in enumerate(scored("choice", "popular_all_time")["slate"]):
        label = len(train) + row
        mine = (log["user_id"] == log["user_id"][label]) & (log.index < label)
        allowed = set(ITEMS) - set(log["item_id"][mine])
        assert len(slate) == min(3, len(allowed))
        assert set(slate) <= allowed


def test_the_best_are_sorted_and_ties_keep_their_order() -> None:
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 4, (13, 7)).astype(np.float32)
    scores[0] = -np.inf
    allowed = rng.random((13, 7)) < 0.7
    allowed[1] = False
    for k in (1, 3, 7, 20):
        for row, found in enumerate(best(scores, allowed, k)):
            order = sorted(np.flatnonzero(allowed[row]), key=lambda i: (-scores[row, i], i))
            if np.isfinite(scores[row]).all():
                assert found.tolist() == [int(item) for item in order[:k]]


def test_new_items_and_users_of_a_test_log_are_candidates() -> None:
    _, test = cut(make_frame("choice"))
    test.loc[test.index[-1], "item_id"] = "fresh"
    test.loc[test.index[-2], "user_id"] = "nobody"
    for family, name in RIVALS:
        if family == "choice":
            table = fitted(family, name).score_events(test, exclude_seen=False)
            assert table["rank"].iloc[-1] <= N_ITEMS + 1
            assert table["mean"].notna().all(), name
    asked = fitted("choice", "gru").rank(["nobody", "u1", "nobody"], 2, exclude_seen=False)
    assert asked["user_id"].tolist() == ["nobody"] * 2 + ["u1"] * 2 + ["nobody"] * 2


def test_rank_keeps_to_its_candidates() -> None:
    rival = fitted("choice", "popular_all_time")
    found = rival.rank(["u1"], k=5, candidates=ITEMS[:3], exclude_seen=False)
    assert sorted(found["item_id"]) == ITEMS[:3]
    everything = rival.rank(["u1"], k=N_ITEMS, exclude_seen=False)
    assert everything["score"].iloc[0] == everything["score"].max()
    assert rival.rank(k=1, exclude_seen=False)["user_id"].nunique() == N_USERS
    assert rival.rank([], k=1).empty


class Silent(Baseline[None]):
    """Knows nothing about item 0, and gives no probability."""

    def _learn(self, past: Timeline, run: FitConfig) -> None:
        return None

    def _scores(self, learned: None, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        scores = np.tile(np.arange(timeline.n_items, dtype=np.float32), (len(part), 1))
        scores[:, 0] = np.nan
        return scores


class Mute(Silent):
    """Has no probability."""

    def _link(self, learned: None, past: Timeline, part: np.ndarray) -> Link:
        return NoChance()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_score_is_below_everything(family: str) -> None:
    train, test = cut(make_frame(family))
    rival = Silent(config_of(family), encoder()).fit(train, config=RUN)
    table = rival.score_events(test, exclude_seen=False)
    first = rival.fitted.known.catalogue.ids[0]
    assert (table["rank"][table["item_id"] == first] == N_ITEMS).all()
    assert table["mean"].notna().all()
    mute = Mute(config_of(family), encoder()).fit(train, config=RUN).score_events(test)
    assert mute[["mean", "log_prob"]].isna().all(axis=None)


def test_bad_input_gives_named_errors() -> None:
    train, test = cut(make_frame("choice"))
    rival = fitted("choice", "popular_all_time")
    with pytest.raises(NotFittedError, match="this Popularity is not fitted yet"):
        make("choice", "popular_all_time").score_events(test)
    with pytest.raises(NotFittedError):
        make("choice", "popular_all_time").rank()
    with pytest.raises(InputError, match="k=0"):
        rival.rank(k=0)
    with pytest.raises(InputError, match="k=True"):
        rival.score_events(test, k=True)
    with pytest.raises(InputError, match="expected a list of ids"):
        rival.rank("u1")
    with pytest.raises(ItemError, match="'nothing' of candidates is unknown"):
        rival.rank(candidates=["nothing"])
    with pytest.raises(TimeOrderError, match="before the last event"):
        rival.rank(at="2001-01-01")
    with pytest.raises(EventError, match="user_id"):
        rival.fit(pd.DataFrame({"item_id": ["a"], "timestamp": [1.0]}))
    with pytest.raises(ConfigError, match='taken as emission="bernoulli"'):
        make("choice", "own_most_frequent").fit(train, config=RUN).__class__(
            config_of("bernoulli")
        ).fit(cut(make_frame("bernoulli"))[0], config=RUN)
    with pytest.raises(ConfigError, match="emission='count'"):
        baselines.all_rivals("count")
    assert len(rival.score_events(test)) == len(test)  # the failed fit left the earlier one


BAD = [
    ("choice", "popular_all_time", {"window_days": 0.0}),
    ("choice", "popular_decayed", {"half_life_days": -1.0}),
    ("choice", "own_most_frequent", {"prior_events": 0.0}),
    ("bernoulli", "item_mean", {"strength": 0.0}),
    ("bernoulli", "running_rate", {"decay": 1.5}),
    ("bernoulli", "user_item_bias", {"user_ridge": -1.0}),
    ("choice", "text_recency", {"half_life_days": 0.0}),
    ("choice", "text_softmax", {"scale": 0.0}),
    ("choice", "feature_bayes", {"n_clusters": 1}),
    ("choice", "matrix_factorization", {"alpha": 0.0}),
    ("choice", "interest_strength_net", {"dropout": 1.0}),
    ("choice", "gru", {"max_len": 1}),
    ("choice", "sasrec", {"n_heads": 4}),
]


@pytest.mark.parametrize(("family", "name", "options"), BAD)
def test_impossible_options_are_named(family: str, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        make(family, name, **options)


EFFECTS = [
    ("choice", "popular_all_time", {"window_days": 3.0}),
    ("choice", "popular_decayed", {"half_life_days": 40.0}),
    ("choice", "own_most_frequent", {"prior_events": 0.7}),
    ("bernoulli", "item_mean", {"strength": 0.3}),
    ("bernoulli", "running_rate", {"decay": 0.5}),
    ("bernoulli", "running_rate", {"strength": 100.0}),
    ("bernoulli", "user_item_bias", {"user_ridge": 0.1}),
    ("bernoulli", "user_item_bias", {"item_ridge": 0.1}),
    ("choice", "text_recency", {"half_life_days": 0.5}),
    ("choice", "text_softmax", {"scale": 3.0}),
    ("choice", "feature_bayes", {"strength": 50.0}),
    ("choice", "feature_bayes", {"n_clusters": 5}),
    ("choice", "matrix_factorization", {"factors": 2}),
    ("choice", "matrix_factorization", {"ridge": 9.0}),
    ("choice", "matrix_factorization", {"alpha": 1.0}),
    ("choice", "matrix_factorization", {"iterations": 1}),
    ("choice", "interest_strength_net", {"hidden_dim": 7}),
    ("choice", "interest_strength_net", {"dropout": 0.5}),
    ("choice", "interest_strength_net", {"n_negatives": 1}),
    ("choice", "interest_strength_net", {"learning_rate": 0.05}),
    ("choice", "interest_strength_net", {"batch_events": 13}),
    ("choice", "gru", {"hidden_dim": 4}),
    ("choice", "gru", {"max_len": 2}),
    ("choice", "gru", {"dropout": 0.6}),
    ("choice", "lstm", {"learning_rate": 0.05}),
    ("choice", "lstm", {"batch_events": 13}),
    ("choice", "sasrec", {"n_heads": 3}),
    ("choice", "sasrec", {"n_layers": 2}),
]


@pytest.mark.parametrize(("family", "name", "options"), EFFECTS)
def test_every_option_has_an_effect(family: str, name: str, options: dict[str, Any]) -> None:
    test = cut(make_frame(family))[1]
    found = fit(family, name, **options).score_events(test)
    assert not np.allclose(found["mean"], scored(family, name)["mean"], rtol=1e-6)


def test_the_package_lists_every_name_and_loads_it_late() -> None:
    assert set(baselines._HOME) == set(baselines.__all__)
    for name in baselines.__all__:
        assert getattr(baselines, name).__name__ == name
        assert getattr(baselines, name).__doc__
    assert set(baselines.__all__) <= set(dir(baselines))
    with pytest.raises(AttributeError, match="'no_such_name'"):
        baselines.no_such_name  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, bayes_interest.baselines; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "bayes_interest.baselines" in loaded
    assert not loaded & {"torch", "implicit", "sklearn", "numpy", "pandas", "scipy"}


def test_a_moment_lies_behind_train() -> None:
    log = read_events(cut(make_frame("choice"))[0])
    known = Known.of(log, None, encoder(), config_of("choice"), progress=False)
    last = log.seconds().max()
    assert moment_after(known, None) > last
    assert moment_after(known, last) > last
    assert moment_after(known, last + 5.0) == last + 5.0


def test_every_rival_says_what_it_is() -> None:
    assert repr(make("choice", "gru")) == "GRUInterest(not fitted)"
    assert repr(fitted("choice", "gru")).startswith("GRUInterest(choice, 5 users, 11 items")
