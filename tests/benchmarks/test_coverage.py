"""The coverage table: worlds made as stated, shares counted and judged right, runs kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayes_interest import ModelConfig
from benchmarks import coverage
from benchmarks.coverage_worlds import HISTORIES, SIZES, draw


def pairs_of(inside: list[bool], user_events: int = 2) -> pd.DataFrame:
    n = len(inside)
    return pd.DataFrame(
        {
            "probability": np.where(inside, 0.5, 0.9),
            "lower": 0.4,
            "upper": 0.6,
            "mean": 0.5,
            "user_events": user_events,
            "item_events": 0,
            "cold": [i % 2 == 0 for i in range(n)],
            "later": False,
        }
    )


def test_a_world_has_every_kind_of_history_and_cold_items() -> None:
    size = SIZES["small"]
    frame = draw("choice", size, 3).events.frame
    lengths = frame["user_id"].value_counts().to_numpy()
    for low, high in list(HISTORIES.values())[1:]:
        assert ((lengths >= low) & (lengths <= high)).sum() == size.users
    assert frame["item_id"].max() < f"i{size.items - size.cold:05d}"


def test_worlds_from_the_prior_have_every_outcome_and_scales_of_their_own() -> None:
    size = SIZES["prior"]
    drawn = [draw("rating", size, seed) for seed in range(3)]
    assert [one.events.frame["value"].nunique() for one in drawn] == [5, 5, 5]
    scales = np.stack([one.truth.drift_scales for one in drawn])
    assert len(np.unique(scales)) == scales.size
    assert draw("rating", size, 1).events.frame.equals(drawn[1].events.frame)


def test_deep_worlds_have_the_dimensions_that_a_model_has_by_default(tmp_path: Path) -> None:
    size = SIZES["deep"]
    drawn = draw("bernoulli", size, 0)
    assert drawn.truth.layout.state_dim == len(size.drift_scales) == ModelConfig().state_dim
    assert 1_000 < len(drawn.events.frame) < 2_000  # as the README says, without a held-back slice
    head = coverage.text(tmp_path, ["deep", "small"])
    assert "deep (16 from 0.0097 to 0.097), small (0.02, 0.1)." in head


def test_shares_are_counted_by_stratum_and_judged() -> None:
    good, bad = pairs_of([True] * 18 + [False] * 2), pairs_of([True] * 10 + [False] * 10, 5)
    table = coverage.summary([coverage.counts(good), coverage.counts(bad)]).set_index("stratum")
    assert table.loc["all", ["share", "n", "goal"]].tolist() == [0.7, 40, False]
    assert (table.loc["all", "lower"], table.loc["all", "upper"]) == (0.5, 0.9)
    assert table.loc["2 events", ["share", "n", "goal"]].tolist() == [0.9, 20, True]
    assert table.loc["cold items, 2 events", "n"] == 10
    assert table.loc["all", "error"] == pytest.approx(np.sqrt(12 * 0.4**2 / 40))
    assert "never seen" not in table.index


def test_it_runs_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "COVERAGE.md", tmp_path / "work"
    cases = ["rating", "choice"]
    paths = ["--work", str(work), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["coverage", "--quick", *paths, "--cases", *cases])
    coverage.main()
    assert capsys.readouterr().out.count("quick-") == 4
    text = out.read_text()
    for case in cases:
        assert f"## {case}, quick: 2 worlds" in text
    coverage.main()
    assert capsys.readouterr().out == ""
    assert out.read_text() == text
