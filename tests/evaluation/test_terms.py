"""Figures that are ratios over events, against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from bayes_interest.evaluation.slates import make_catalogue
from bayes_interest.evaluation.terms import Predictions, event_terms

N, N_ITEMS = 53, 13


def predictions(seed: int = 0, emission: str = "bernoulli", **other: Any) -> Predictions:
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.02, 0.98, N)
    positive = rng.uniform(size=N) < mean
    fields: dict[str, Any] = {
        "emission": emission,
        "positive": positive,
        "mean": mean,
        "lower": mean - 0.02,
        "upper": mean + 0.02,
        "log_prob": np.log(np.where(positive, mean, 1 - mean)),
        "rank": rng.integers(1, N_ITEMS + 1, N).astype(float),
        "true_prob": np.full(N, np.nan),
        "slates": np.empty((N, 0), dtype=np.int64),
        "item": rng.integers(0, N_ITEMS, N),
        "window": np.zeros(N, dtype=np.int64),
    }
    return Predictions(**fields | other)


def values(
    found: Predictions, ks: tuple[int, ...] = (3,), catalogue: Any = None
) -> dict[Any, float]:
    terms = event_terms(found, ks, catalogue)
    return {key: above.sum() / below.sum() for key, (above, below) in terms.items()}


@pytest.mark.parametrize("seed", range(3))
def test_decisions_and_probabilities_are_those_of_scikit_learn(seed: int) -> None:
    found = predictions(seed)
    said = found.mean >= 0.5
    expected = {
        "log_loss": sk.log_loss(found.positive, found.mean),
        "brier": sk.brier_score_loss(found.positive, found.mean),
        "accuracy": sk.accuracy_score(found.positive, said),
        "precision": sk.precision_score(found.positive, said),
        "recall": sk.recall_score(found.positive, said),
        "f1": sk.f1_score(found.positive, said),
    }
    ours = values(found)
    assert {name: ours[name, None] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    found = predictions(1)
    rank = found.rank[found.positive].astype(int)
    relevant = (np.arange(1, N_ITEMS + 1) == rank[:, None]).astype(float)
    scores = np.tile(-np.arange(1.0, N_ITEMS + 1), (len(rank), 1))
    assert values(found, (k,))["ndcg", k] == pytest.approx(sk.ndcg_score(relevant, scores, k=k))
    mrr = sk.label_ranking_average_precision_score(relevant, scores)
    assert values(found, (k,))["mrr", None] == pytest.approx(mrr)


def test_rank_figures_by_hand() -> None:
    rank = np.full(N, 1.0)
    rank[:4] = [1, 2, 5, 4]
    positive = np.arange(N) < 4
    ours = values(predictions(rank=rank, positive=positive), (1, 3))
    assert ours["hit_rate", 1] == ours["recall", 1] == ours["precision", 1] == 0.25
    assert ours["f1", 1] == 0.25
    assert ours["hit_rate", 3] == ours["recall", 3] == 0.5
    assert ours["precision", 3] == pytest.approx(0.5 / 3)
    assert ours["f1", 3] == pytest.approx(2 * 0.5 * (0.5 / 3) / (0.5 + 0.5 / 3))
    assert ours["ndcg", 3] == pytest.approx((1 + 1 / np.log2(3)) / 4)
    assert ours["mrr", None] == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 4) / 4)
    assert ours["mean_rank", None] == 3.0


def test_log_loss_of_each_family() -> None:
    lp = np.full(N, -0.4)
    mean = predictions().mean
    from_mean = values(predictions(log_prob=np.full(N, np.nan)))["log_loss", None]
    assert from_mean == pytest.approx(sk.log_loss(predictions().positive, mean))
    assert values(predictions(log_prob=lp))["log_loss", None] == pytest.approx(0.4)
    rating = values(predictions(log_prob=lp, emission="rating"))
    assert rating["log_loss", None] == pytest.approx(from_mean)
    assert rating["ordinal_log_loss", None] == pytest.approx(0.4)
    choice = values(predictions(log_prob=lp, emission="choice"))
    assert choice["log_loss", None] == pytest.approx(0.4)
    assert not {"brier", "accuracy", "precision"} & {m for m, k in choice if k is None}


def test_certain_and_wrong_is_a_large_but_finite_loss() -> None:
    never = predictions(mean=np.zeros(N), log_prob=np.full(N, np.nan))
    assert 1.0 < values(never)["log_loss", None] < 40.0


def test_intervals_are_judged_only_where_the_truth_is_known() -> None:
    assert ("interval_coverage", None) not in values(predictions())
    truth = predictions().mean + np.where(np.arange(N) < 20, 0.01, 0.03)
    truth[-3:] = np.nan
    ours = values(predictions(true_prob=truth))
    assert ours["interval_coverage", None] == pytest.approx(20 / (N - 3))
    assert ours["interval_width", None] == pytest.approx(0.04)


def test_the_width_in_logits_needs_no_truth() -> None:
    lower, upper = np.full(N, 0.2), np.full(N, 0.5)
    lower[:5], upper[:5] = 0.0, 1.0
    lower[5] = np.nan
    found = values(predictions(lower=lower, upper=upper))["interval_logit_width", None]
    edge = 2.0 * np.log(1.0 / np.finfo(float).eps)
    assert found == pytest.approx((5 * edge + (N - 6) * np.log(4.0)) / (N - 1), rel=1e-9)


def test_serendipity_and_slates_by_hand() -> None:
    items = pd.DataFrame(
        {
            "item_id": range(N_ITEMS),
            "n_train": np.arange(N_ITEMS)[::-1],
            "user_share": 0.5 ** np.arange(N_ITEMS),
            "popularity": ["head"] * 2 + ["mid"] * 2 + ["tail"] * 9,
            "window": 0,
        }
    )
    rank, item = np.ones(N), np.zeros(N, dtype=int)
    rank[:3], item[:3] = [2, 2, 4], [0, 5, 5]  # a popular hit, a rare hit, a rare miss
    found = predictions(
        rank=rank, item=item, positive=np.arange(N) < 3, slates=np.tile([0, 1, 4], (N, 1))
    )
    ours = values(found, (2, 3), make_catalogue(items, None))
    assert ours["serendipity", 2] == pytest.approx(1 / 3)
    assert ours["novelty", 2] == pytest.approx(0.5)
    assert ours["novelty", 3] == pytest.approx(5 / 3)
    assert ours["popularity", 2] == pytest.approx(1 - 0.5 / 12)
    assert ours["tail_share", 3] == pytest.approx(1 / 3)
    assert ("diversity", 2) not in ours


def test_what_a_model_does_not_say_counts_nowhere() -> None:
    silent = np.arange(N) % 2 == 0
    found = predictions()
    less = replace(found, mean=np.where(silent, np.nan, found.mean))
    terms = event_terms(less, (3,), None)
    assert terms["brier", None][1].sum() == (~silent).sum()
    assert terms["accuracy", None][1].sum() == (~silent).sum()
    said = ~silent & (found.mean >= 0.5)
    assert terms["precision", None][1].sum() == said.sum()
    assert terms["recall", None][1].sum() == (~silent & found.positive).sum()
    names = ("mean", "log_prob", "lower", "upper")
    nothing = replace(found, **dict.fromkeys(names, np.full(N, np.nan)))
    assert {m for m, k in event_terms(nothing, (3,), None) if k is None} == {"mrr", "mean_rank"}


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), k=st.integers(1, N_ITEMS))
def test_figures_are_bounded_and_do_not_depend_on_the_order_of_events(seed: int, k: int) -> None:
    found = predictions(seed)
    order = np.random.default_rng(seed).permutation(N)
    mixed = replace(
        found,
        **{
            name: getattr(found, name)[order]
            for name in ("positive", "mean", "log_prob", "rank", "lower", "upper", "item")
        },
    )
    first, second = values(found, (k,)), values(mixed, (k,))
    assert first == pytest.approx(second)
    for (metric, _), value in first.items():
        if metric not in ("log_loss", "mean_rank"):
            assert 0.0 <= value <= 1.0
    assert first["precision", k] <= first["ndcg", k] <= first["hit_rate", k] + 1e-12
    assert values(found, (N_ITEMS,))["hit_rate", N_ITEMS] == 1.0
