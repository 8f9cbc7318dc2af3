"""The bundled catalogue, log and truth: complete, consistent and reproducible."""

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest

DATA = Path(__file__).parents[2] / "data"
ONE_SENTENCE = r"[^.!?]+[.!?]"


@pytest.fixture(scope="module")
def catalogue() -> pd.DataFrame:
    return pd.read_csv(DATA / "catalogue.csv")


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return pd.read_csv(DATA / "events.csv", parse_dates=["timestamp"])


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return pd.read_csv(DATA / "truth.csv")


@pytest.fixture(scope="module")
def states() -> pd.DataFrame:
    return pd.read_csv(DATA / "truth_states.csv", index_col="user_id")


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return pd.read_csv(DATA / "truth_items.csv", index_col="item_id")


@pytest.fixture(scope="module")
def constants() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))
    return read


def probability(
    pairs: pd.DataFrame, states: pd.DataFrame, items: pd.DataFrame, intercept: float
) -> np.ndarray:
    """The formula of data/README.md, one row at a time."""
    result = []
    for user_id, item_id in zip(pairs["user_id"], pairs["item_id"], strict=True):
        item, interest = items.loc[item_id], states.loc[user_id]
        related = item["related_loading"] * interest[item["related_theme"]]
        predictor = intercept + interest[item["theme"]] + related + item["quality"]
        result.append(1 / (1 + np.exp(-predictor)))
    return np.array(result)


def test_catalogue_is_large_and_its_ids_are_unique(catalogue: pd.DataFrame) -> None:
    assert list(catalogue.columns) == ["item_id", "title", "category", "theme", "text"]
    assert len(catalogue) >= 320
    assert catalogue["item_id"].is_unique
    assert catalogue["title"].is_unique
    assert not catalogue.isna().any(axis=None)


def test_every_theme_occurs_in_every_category(catalogue: pd.DataFrame) -> None:
    counts = pd.crosstab(catalogue["category"], catalogue["theme"])
    assert counts.shape[0] >= 6
    assert counts.shape[1] >= 8
    assert (counts > 0).all(axis=None)


def test_every_text_is_two_sentences_of_its_own(catalogue: pd.DataFrame) -> None:
    two = catalogue["text"].str.fullmatch(f"{ONE_SENTENCE} {ONE_SENTENCE}")
    assert catalogue.loc[~two, "text"].tolist() == []
    assert catalogue["text"].is_unique


def test_no_opening_and_no_sentence_is_worn_out(catalogue: pd.DataFrame) -> None:
    openings = Counter(" ".join(text.split()[:5]) for text in catalogue["text"])
    assert max(openings.values()) <= 3
    sentences = [s for text in catalogue["text"] for s in re.split(r"(?<=[.!?]) ", text)]
    assert len(set(sentences)) == len(sentences)


def test_log_equals_a_fresh_draw() -> None:
    command = [sys.executable, str(DATA / "make_log.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_events_are_sorted_inside_2025_and_know_their_items(
    events: pd.DataFrame, catalogue: pd.DataFrame
) -> None:
    assert list(events.columns) == ["user_id", "item_id", "timestamp", "kind", "value"]
    assert events["timestamp"].is_monotonic_increasing
    assert events["timestamp"].min() >= pd.Timestamp("2025-01-01", tz="UTC")
    assert events["timestamp"].max() < pd.Timestamp("2026-01-01", tz="UTC")
    assert not events.duplicated(["user_id", "timestamp"]).any()
    assert set(events["item_id"]) <= set(catalogue["item_id"])
    assert set(events["kind"]) == {"impression"}
    assert set(events["value"]) == {0, 1}


def test_activity_and_positives_are_as_the_readme_says(events: pd.DataFrame) -> None:
    per_user = events.groupby("user_id").size()
    assert len(per_user) == 300
    assert per_user.min() >= 15
    assert per_user.max() <= 120
    assert 0.35 < events["value"].mean() < 0.5
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for name in ["catalogue", "events", "truth", "truth_trajectory", "truth_states"]:
        assert f"| `{name}.csv` | {len(pd.read_csv(DATA / f'{name}.csv')):,} |" in readme


def test_truth_follows_the_formula(
    truth: pd.DataFrame, states: pd.DataFrame, items: pd.DataFrame, constants: dict[str, Any]
) -> None:
    expected = probability(truth, states, items, constants["intercept"])
    np.testing.assert_allclose(truth["probability"], expected, atol=3e-6)
    assert set(truth["at"]) == {constants["at"]}
    assert not truth.duplicated(["user_id", "item_id"]).any()


def test_trajectories_follow_the_formula_and_end_in_the_truth(
    states: pd.DataFrame, items: pd.DataFrame, constants: dict[str, Any]
) -> None:
    table = pd.read_csv(DATA / "truth_trajectory.csv")
    assert list(table["user_id"].unique()) == constants["trajectory_users"]
    assert set(zip(table["theme"], table["item_id"], strict=True)) == set(
        constants["typical_items"].items()
    )
    moments = table["user_id"] + " " + table["at"]
    interest = table.assign(user_id=moments).pivot(
        index="user_id", columns="theme", values="interest"
    )
    expected = probability(table.assign(user_id=moments), interest, items, constants["intercept"])
    np.testing.assert_allclose(table["probability"], expected, atol=3e-6)
    for user_id in constants["trajectory_users"]:
        end = interest[states.columns].loc[f"{user_id} {constants['at']}"]
        np.testing.assert_array_equal(end, states.loc[user_id])


def test_items_agree_with_the_catalogue(catalogue: pd.DataFrame, items: pd.DataFrame) -> None:
    assert items["theme"].tolist() == catalogue["theme"].tolist()
    assert items.index.tolist() == catalogue["item_id"].tolist()
    assert (items["theme"] != items["related_theme"]).all()


def test_final_states_have_the_spread_of_the_walk(
    events: pd.DataFrame, states: pd.DataFrame, constants: dict[str, Any]
) -> None:
    end = pd.Timestamp(constants["at"])
    days = (end - events.groupby("user_id")["timestamp"].min()).dt.total_seconds() / 86_400
    for theme, drift in constants["drift_per_sqrt_day"].items():
        sd = np.sqrt(constants["initial_sd"] ** 2 + drift**2 * days.loc[states.index])
        standardised = (states[theme] - constants["initial_mean"][theme]) / sd
        assert abs(standardised.mean()) < 4 / np.sqrt(len(states))
        assert abs(standardised.std() - 1) < 4 / np.sqrt(2 * len(states))


def test_the_last_days_of_the_log_agree_with_the_final_truth(
    events: pd.DataFrame, states: pd.DataFrame, items: pd.DataFrame, constants: dict[str, Any]
) -> None:
    last = events[events["timestamp"] >= pd.Timestamp("2025-12-20", tz="UTC")]
    chance = probability(last, states, items, constants["intercept"])
    outcome = last["value"].to_numpy()
    excess = (outcome - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
    assert abs(excess) < 4
    assert chance[outcome == 1].mean() - chance[outcome == 0].mean() > 0.15


def test_reading_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    for path in DATA.glob("*.csv"):
        assert len(pd.read_csv(path)) > 0


def test_data_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in DATA.iterdir() if path.is_file()}
    assert max(sizes.values()) < 1_000_000, sizes
    assert sum(sizes.values()) < 2_000_000, sizes
