"""The demo on the bundled data, with one epoch, hashed texts and few sweeps."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from bayes_interest.cli import app
from bayes_interest.demo import (
    counting_intervals,
    find_data,
    interval_quality,
    load_data,
    slate_quality,
)
from bayes_interest.interest_model import InterestModel
from bayes_interest.model import members


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("demo") / "out"
    words = ["demo", "--out", str(out), "--epochs", "1", "--encoder", "hashing"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "EVERY", (1, 1))
        return CliRunner().invoke(app, words), out


def test_the_demo_runs_and_tells_every_section(told: tuple[Result, Path]) -> None:
    result, _ = told
    assert result.exit_code == 0, result.output
    assert [f"{number}. " in result.stdout for number in range(1, 9)] == [True] * 8
    assert "15,903 events" in result.stdout
    assert "hold the truth" in result.stdout
    assert "gives the same answers" in " ".join(result.stdout.split())


def test_the_files_are_written(told: tuple[Result, Path]) -> None:
    _, out = told
    assert (out / "interest_over_time.png").read_bytes().startswith(b"\x89PNG")
    ranking, interest = pd.read_csv(out / "ranking.csv"), pd.read_csv(out / "interest.csv")
    assert len(ranking) == 300 * 10
    assert {"user_id", "rank", "item_id", "p_top_k", "title"} <= set(ranking)
    assert len(interest) == 6_000
    assert {"mean", "lower", "upper", "truth"} <= set(interest)
    assert len(InterestModel.load(out / "model").posterior.vocabulary.users) == 300
    page = (out / "report.html").read_text("utf-8")
    assert "machine learning" in page  # a theme of the catalogue
    assert any(escape(title) in page for title in ranking["title"])
    assert (out / "report_files" / "tables" / "population.csv").is_file()


def test_true_interest_of_all_pairs_agrees_with_the_bundled_truth() -> None:
    data = load_data(find_data(None))
    pairs = data.truth
    found = [data.final.loc[u, i] for u, i in zip(pairs.user_id, pairs.item_id, strict=True)]
    # the states and the loadings are stored with six and four decimals
    np.testing.assert_allclose(found, pairs["probability"], atol=1e-4)


def test_counting_intervals_are_those_of_a_beta_posterior() -> None:
    data = load_data(find_data(None))
    pair = data.truth.head(1)
    row = counting_intervals(data, pair).iloc[0]
    frame = data.items.frame.set_index("item_id")
    same = frame.index[frame["category"] == frame["category"][pair["item_id"].iloc[0]]]
    log = data.log.frame.query("user_id == @pair.user_id.iloc[0]")
    values = log[log["item_id"].isin(same)]["value"]
    draws = np.random.default_rng(0).beta(1 + values.sum(), 1 + (1 - values).sum(), 200_000)
    wanted = [draws.mean(), *np.quantile(draws, [0.05, 0.95])]
    np.testing.assert_allclose(row[["mean", "lower", "upper"]].astype(float), wanted, atol=5e-3)


def test_quality_of_known_tables() -> None:
    pairs = pd.DataFrame(
        {
            "probability": [0.5, 0.9],
            "mean": [0.5, 0.5],
            "lower": [0.4, 0.4],
            "upper": [0.6, 0.8],
        }
    )
    assert interval_quality(pairs) == pytest.approx((0.5, 0.3, np.sqrt(0.08)))
    final = pd.DataFrame(
        [np.linspace(0, 1, 21)], index=["u"], columns=list("abcdefghijklmnopqrstu")
    )
    hits, interest = slate_quality(final, pd.Series([["u", "t", "a"]], index=["u"]))
    assert (hits, interest) == (2.0, pytest.approx((1.0 + 0.95 + 0.0) / 3))


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert "pass --data FOLDER" in result.stderr
