"""One scored log as a tidy table: which events count for which metric."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import InputError
from bayes_interest.evaluation.table import evaluate

N = 11


def make_log(values: list[float] | None) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "user_id": [f"u{i % 3}" for i in range(N)],
            "item_id": [f"i{i % 5}" for i in range(N)],
            "timestamp": 1_600_000_000 + 1_000 * np.arange(N)[::-1],  # newest first
        }
    )
    return frame if values is None else frame.assign(value=values)


def make_scores(log_prob: np.ndarray | None = None) -> pd.DataFrame:
    mean = np.linspace(0.1, 0.9, N)
    return pd.DataFrame(
        {
            "mean": mean,
            "log_prob": np.log(mean) if log_prob is None else log_prob,
            "rank": np.arange(1, N + 1),
        }
    )


def by_metric(table: pd.DataFrame, column: str = "value") -> dict[str, float]:
    return dict(zip(table["metric"], table[column], strict=True))


STARS = [5.0, 1.0, 4.0, 2.0, 3.0, 5.0, 4.0, 1.0, 2.0, 5.0, 3.0]


def test_columns_are_tidy() -> None:
    table = evaluate(make_scores(), make_log(None), name="ours", k=3)
    assert table.columns.tolist() == ["model", "metric", "k", "value", "n"]
    assert set(table["model"]) == {"ours"}
    assert table["metric"].tolist() == ["log_loss", "ndcg", "hit_rate"]
    assert table["k"].isna().tolist() == [True, False, False]
    assert table["k"].dropna().tolist() == [3, 3]


def test_a_log_without_values_is_choices_all_positive() -> None:
    table = evaluate(make_scores(), make_log(None))
    assert by_metric(table)["hit_rate"] == pytest.approx(10 / 11)
    assert by_metric(table)["log_loss"] == pytest.approx(-make_scores()["log_prob"].mean())
    assert set(table["n"]) == {N}
    assert "auc" not in by_metric(table)


def test_choices_below_the_threshold_count_nowhere() -> None:
    chosen = np.array(STARS) >= 4.0
    scores = make_scores(np.where(chosen, -2.0, np.nan))
    table = evaluate(scores, make_log(STARS), threshold=4.0, k=1)
    assert by_metric(table) == pytest.approx({"log_loss": 2.0, "ndcg": 0.2, "hit_rate": 0.2})
    assert set(table["n"]) == {5}


def test_bernoulli_takes_the_log_loss_from_log_prob_and_the_rest_from_mean() -> None:
    outcome = np.array(STARS) >= 4.0
    mean = make_scores()["mean"].to_numpy()
    table = evaluate(make_scores(np.full(N, -0.3)), make_log(STARS), threshold=4.0)
    found = by_metric(table)
    assert found["log_loss"] == pytest.approx(0.3)
    assert found["brier"] == pytest.approx(((mean - outcome) ** 2).mean())
    pairs = [m > o for m in mean[outcome] for o in mean[~outcome]]
    assert found["auc"] == pytest.approx(np.mean(pairs))
    assert by_metric(table, "n")["ndcg"] == 5
    assert by_metric(table, "n")["auc"] == N


def test_zeros_and_ones_need_no_threshold() -> None:
    values = [1.0, 0.0] * 5 + [1.0]
    assert by_metric(evaluate(make_scores(), make_log(values)), "n")["ndcg"] == 6


def test_ratings_have_an_ordinal_and_a_binary_log_loss() -> None:
    table = evaluate(
        make_scores(np.full(N, -1.5)), make_log(STARS), threshold=4.0, emission="rating"
    )
    found = by_metric(table)
    assert found["ordinal_log_loss"] == pytest.approx(1.5)
    p = make_scores()["mean"].to_numpy()
    liked = np.array(STARS) >= 4.0
    assert found["log_loss"] == pytest.approx(-np.log(np.where(liked, p, 1 - p)).mean())
    silent = evaluate(
        make_scores(np.full(N, np.nan)), make_log(STARS), threshold=4.0, emission="rating"
    )
    assert "ordinal_log_loss" not in by_metric(silent)


def test_rows_are_matched_by_the_position_in_the_source() -> None:
    """The log is read in time order, the scores stand in the caller's: newest first here."""
    values = [1.0] + [0.0] * (N - 1)  # only the caller's first row, of rank 1, is positive
    assert by_metric(evaluate(make_scores(), make_log(values), k=1))["hit_rate"] == 1.0


def test_intervals_are_added_on_request() -> None:
    log = make_log(STARS).assign(user_id=[f"u{i % 7}" for i in range(N)])
    plain = evaluate(make_scores(), log, threshold=4.0)
    table = evaluate(make_scores(), log, threshold=4.0, n_boot=300, seed=1)
    assert table.columns.tolist() == ["model", "metric", "k", "value", "lower", "upper", "n"]
    pd.testing.assert_frame_equal(table.drop(columns=["lower", "upper"]), plain)
    inside = table[
        table["lower"].notna()
    ]  # fewer than 5 users have a positive event: those have no interval
    assert inside["metric"].tolist() == ["log_loss", "auc", "brier", "calibration_error"]
    assert (inside["lower"] <= inside["value"]).all()
    assert (inside["value"] <= inside["upper"]).all()
    narrow = evaluate(make_scores(), log, threshold=4.0, n_boot=300, seed=1, prob=0.5)
    narrower = narrow["upper"] - narrow["lower"] <= table["upper"] - table["lower"]
    assert narrower[inside.index].all()
    other = evaluate(make_scores(), log, threshold=4.0, n_boot=300, seed=2)
    assert (other["lower"] != table["lower"]).any()
    with pytest.raises(InputError, match="prob=2"):
        evaluate(make_scores(), log, threshold=4.0, prob=2)


def test_ratings_without_a_threshold_are_refused() -> None:
    with pytest.raises(InputError, match="threshold="):
        evaluate(make_scores(), make_log(STARS))


def test_scores_of_other_events_are_refused() -> None:
    with pytest.raises(InputError, match="scores has 7 rows and events 11"):
        evaluate(make_scores().iloc[:7], make_log(None))
    with pytest.raises(InputError, match="no column 'rank'"):
        evaluate(make_scores().drop(columns="rank"), make_log(None))
    with pytest.raises(InputError, match="k=0"):
        evaluate(make_scores(), make_log(None), k=0)
