"""`bayes-interest report`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from bayes_interest.cli import app
from tests.fitted import model, parts, simulation


def test_the_command_writes_what_the_function_writes(tmp_path: Path) -> None:
    model("bernoulli").save(tmp_path / "model")
    parts("bernoulli")[1].to_csv(tmp_path / "later.csv", index=False)
    ids = simulation("bernoulli").vectors["item_id"]
    items = pd.DataFrame({"item_id": ids, "title": [f"Film {item}" for item in ids]})
    items.to_csv(tmp_path / "items.csv", index=False)
    words = ["report", "--model", "model", "--out", "page/r.html", "--user", "u00002", "--k", "2"]
    words += ["--events", "later.csv", "--items", "items.csv", "--title", "Films & people"]
    places = {"model", "page/r.html", "later.csv", "items.csv"}
    full = [str(tmp_path / word) if word in places else word for word in words]
    result = CliRunner().invoke(app, full)
    assert result.exit_code == 0, result.output
    assert "written: " in result.stderr
    assert "r_files/" in result.stderr
    page = (tmp_path / "page" / "r.html").read_text("utf-8")
    assert "<h1>Films &amp; people</h1>" in page
    assert "Film i000" in page
    slates = pd.read_csv(tmp_path / "page" / "r_files" / "tables" / "user_slates.csv")
    assert slates["user_id"].tolist() == ["u00002", "u00002"]
    assert (tmp_path / "page" / "r_files" / "tables" / "calibration.csv").is_file()


def test_an_unknown_user_is_an_error_in_one_line(tmp_path: Path) -> None:
    model("bernoulli").save(tmp_path / "model")
    words = ["report", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "r.html")]
    result = CliRunner().invoke(app, [*words, "--user", "nobody"])
    assert result.exit_code == 2
    assert "error: users: 'nobody' is unknown" in result.stderr
    assert not (tmp_path / "r.html").exists()
