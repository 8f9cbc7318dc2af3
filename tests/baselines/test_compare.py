"""The comparison table on small logs drawn from the model itself."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from bayes_interest.baselines import all_rivals
from bayes_interest.baselines.compare import compare, fit_rivals, raw_vectors, score_rivals
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.evaluation.table import evaluate
from bayes_interest.events.read import EventLog
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.simulate import simulate
from bayes_interest.text.precomputed import PrecomputedVectors

FAMILIES = ["bernoulli", "rating", "choice"]
RIVALS = {
    "bernoulli": ["item_mean", "popular_7_days", "text_cosine"],
    "rating": ["item_mean", "popular_7_days", "text_cosine"],
    "choice": ["popular_all_time", "popular_7_days", "text_cosine"],
}
METRICS = {
    "bernoulli": {"log_loss", "auc", "brier", "calibration_error", "ndcg", "hit_rate"},
    "rating": {"log_loss", "auc", "brier", "calibration_error", "ndcg", "hit_rate"},
    "choice": {"log_loss", "ndcg", "hit_rate"},
}


@cache
def case(family: str) -> tuple[InterestModel, EventLog, EventLog]:
    drawn = simulate(n_users=29, n_items=17, events_per_user=23, emission=family, seed=1)
    train, test = split_by_time(drawn.events, fraction=0.2)
    config = ModelConfig(emission=family, state_dim=2)
    fit = FitConfig(max_epochs=2, holdout=0, progress=False, device="cpu")
    return (
        InterestModel(config, PrecomputedVectors(drawn.vectors)).fit(train, config=fit),
        train,
        test,
    )


@cache
def table_of(family: str, exclude_seen: bool = False) -> pd.DataFrame:
    return compare(*case(family), exclude_seen=exclude_seen)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_has_every_metric_on_the_same_events(family: str) -> None:
    table = table_of(family)
    assert table["model"].drop_duplicates().tolist() == ["bayes_interest", *RIVALS[family]]
    for name, rows in table.groupby("model"):
        extra = {"ordinal_log_loss"} if family == "rating" and name == "bayes_interest" else set()
        assert set(rows["metric"]) == METRICS[family] | extra
    assert table["value"].notna().all()
    assert (table.groupby("metric")["n"].nunique() == 1).all()
    assert set(table.loc[table["metric"] == "log_loss", "n"]) == {len(case(family)[2])}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_rows_are_its_own_evaluation(family: str) -> None:
    model, _, test = case(family)
    scores = model.score_events(test, exclude_seen=False)
    threshold = None
    if family == "rating":
        threshold = model.posterior.vocabulary.levels[model.posterior.level]
    own = evaluate(scores, test, threshold, emission=family)
    table = table_of(family)
    pd.testing.assert_frame_equal(table[table["model"] == "bayes_interest"], own)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_candidates_raise_the_hit_rate(family: str) -> None:
    with_all, unseen = table_of(family), table_of(family, exclude_seen=True)
    hits = with_all["metric"] == "hit_rate"
    assert (unseen["value"][hits] >= with_all["value"][hits]).all()
    pd.testing.assert_frame_equal(
        with_all[~hits & (with_all["metric"] != "ndcg")],
        unseen[~hits & (unseen["metric"] != "ndcg")],
    )


def test_the_model_is_left_as_it_was() -> None:
    model, train, test = case("choice")
    before = model.posterior
    compare(model, train, test)
    assert model.posterior is before


def test_items_first_seen_in_test_are_candidates_for_everybody() -> None:
    model, train, test = case("choice")
    frame = test.frame.copy()
    frame.loc[frame.index[-3:], "item_id"] = "fresh"
    vectors = pd.DataFrame({"item_id": ["fresh"], "vector": [[0.5] * 8]})
    known = model.encoder
    try:
        model.encoder = PrecomputedVectors(vectors)
        table = compare(model, train, frame, exclude_seen=False)
    finally:
        model.encoder = known
    assert table["value"].notna().all()
    assert set(table["n"]) == {len(frame)}


def test_raw_vectors_are_the_encoders() -> None:
    model = case("bernoulli")[0]
    ids = model.posterior.vocabulary.items.ids
    expected, _ = model.encoder.lookup(ids.tolist())  # type: ignore[attr-defined]
    np.testing.assert_allclose(raw_vectors(model.posterior), expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rivals_know_the_models_items_in_its_order(family: str) -> None:
    model, train, test = case(family)
    for rival in fit_rivals(model, train, test).values():
        known = rival.fitted.known
        assert known.vocabulary.items == model.posterior.vocabulary.items
        assert known.config == model.posterior.config


def test_other_rivals_can_be_asked_for() -> None:
    wanted = {"biased": all_rivals("bernoulli")["user_item_bias"]}
    table = compare(*case("bernoulli"), rivals=wanted)
    assert table["model"].drop_duplicates().tolist() == ["bayes_interest", "biased"]


def test_another_train_log_is_refused() -> None:
    model, train, test = case("choice")
    with pytest.raises(InputError, match="but the model has absorbed"):
        score_rivals(model, train.frame.iloc[:-2], test)
