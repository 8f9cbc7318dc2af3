"""The section on sequences: its logs, its rows, its goal, and one fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.speed import sequence, sequence_fit
from benchmarks.speed.rows import Row


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A data folder in the form of the real one: 13 people in cycles through 7 items."""
    folder = tmp_path / "data" / "ml-1m-order"
    folder.mkdir(parents=True)
    n_events = np.random.default_rng(0).integers(5, 12, 13)
    user = np.repeat(np.arange(13), n_events)
    step = np.concatenate([np.arange(n) for n in n_events])
    log = pd.DataFrame({"user_id": user, "item_id": (user + step) % 7, "timestamp": step})
    log.astype({"user_id": str, "item_id": str}).sample(frac=1.0, random_state=0).to_parquet(
        folder / "interactions.parquet"
    )
    texts = {"text_basic": [f"film {i}" for i in range(9)], "plot": [None, *"abcdefgh"]}
    pd.DataFrame({"item_id": [str(i) for i in range(9)]} | texts).to_parquet(
        folder / "items.parquet"
    )
    work = tmp_path / "work"
    work.mkdir()
    sequence.write_logs(tmp_path / "data", work, quick=False)
    return work


def test_the_last_event_is_set_aside_and_the_one_before_held_out(logs: Path) -> None:
    train, held_out = (pd.read_csv(logs / f"{name}.csv") for name in ("train", "held_out"))
    last = train.groupby("user_id")["timestamp"].max()
    both = held_out.set_index("user_id")["timestamp"] - last
    assert len(both) == 13
    assert (both == 1).all()
    items = pd.read_csv(logs / "items.csv", dtype=str)
    assert set(items["item_id"]) == {str(i) for i in range(7)}  # nobody met the last two
    assert items["text"].str.startswith("film ").all()


def test_a_fit_reports_what_the_rows_need(logs: Path) -> None:
    model = {"emission": "choice", "state_dim": 2, "popularity_days": None}
    found = sequence_fit.run(logs, 2, model, {"learning_rate": 0.05})
    rows = sequence.rows_of("bayes_interest", [found])
    assert json.loads(json.dumps(found)) == found
    (point,) = [one for one in rows if one.case.startswith(sequence.EPOCH)]
    assert point.seconds == found["wall_s"] > found["epochs_s"] > 0.0
    assert 0.0 < point.figures["ndcg_10"] <= 1.0  # type: ignore[operator]
    assert {"cpu_seconds", "peak_mib", "log_loss"} <= set(point.figures)
    assert sequence.floor(logs / "train.csv", 2) > sequence.floor(logs / "train.csv", 1) > 0.0


def curve(*ndcg: float, pace: float = 1.0) -> list[dict[str, float]]:
    """Points of a fit, an epoch in `pace` seconds."""
    return [
        {"epoch": n, "wall_s": n * pace, "cpu_s": n, "ndcg": reached, "peak_mib": 7.0}
        for n, reached in enumerate(ndcg, 1)
    ]


def rows_of(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> list[Row]:
    return sequence.rows_of("bayes_interest", ours) + sequence.rows_of("SASRec", theirs)


def test_the_first_point_that_is_there_counts() -> None:
    rows = rows_of(curve(0.11, 0.13, 0.14), [])
    (there,) = [one for one in rows if one.case == sequence.CASE]
    assert (there.seconds, there.figures["epochs"]) == (2.0, 2)
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("theirs", "reached", "met"),
    [
        (curve(0.02, 0.13, pace=10.0), "0.10 (2 s against 20 s)", True),
        (curve(0.02, 0.13, pace=2.0), "0.50 (2 s against 4 s)", False),
        (
            curve(0.01, 0.02, pace=10.0),
            "0.10 (2 s against 20 s), or less: SASRec is not there after 2 epochs",
            True,
        ),
        ([], "not measured: RECTOOLS_PYTHON is not set", False),
    ],
)
def test_the_goal_is_a_share_of_the_rivals_time(
    theirs: list[dict[str, float]], reached: str, met: bool
) -> None:
    (goal,) = sequence.goals(rows_of(curve(0.11, 0.13), theirs))
    assert (goal.reached, goal.met) == (reached, met)


def test_without_our_own_arrival_nothing_is_claimed() -> None:
    (goal,) = sequence.goals(rows_of(curve(0.11), curve(0.2)))
    assert goal.reached == "not measured: ours did not reach it"
    assert not goal.met


def test_rows_of_the_rival_are_kept_without_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "KEPT", tmp_path / "sequence.json")
    assert sequence.kept_rivals() == []
    rows = rows_of(curve(0.13), curve(0.02, 0.2))
    kept = {"rows": [vars(one) for one in rows]}
    (tmp_path / "sequence.json").write_text(json.dumps(kept), encoding="utf-8")
    assert sequence.kept_rivals() == [one for one in rows if one.who == "SASRec"]
