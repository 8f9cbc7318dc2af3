"""Every recipe runs, is short, uses the public API only, and shows what its domain needs."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "recipes"
Names = dict[str, Any]


def shop(found: Names) -> None:
    assert {"view", "cart", "purchase"} == set(found["hits"].mean().index)
    bought = found["log"].query("user_id == 0 and kind == 'purchase'")["item_id"].mode()[0]
    assert found["slate"]["item_id"].iloc[0] == bought  # what runs out is there again


def social_feed(found: Names) -> None:
    assert found["after"][0] < found["before"][0]
    assert found["before"][0] - found["after"][0] > 2 * abs(found["before"][1] - found["after"][1])
    basis = found["feed"].groupby("user_id")["basis"].first()
    assert basis.to_dict() == {"u02": "own interest", "arrived-today": "popular"}


def news(found: Names) -> None:
    assert found["slate"]["item_id"].head(4).str.contains("football").all()
    assert found["loss"] < found["by_rate"] - 0.05


def video_and_music(found: Names) -> None:
    risen = found["found"].set_index(["user_id", "theme"])["p_risen"]
    assert risen["u01", "documentary"] > 0.9
    assert risen["u01", "metal"] < 0.1
    assert found["right"] >= 12
    assert found["right"] >= 0.9 * len(found["changed"])


def courses(found: Names) -> None:
    assert found["levels"].sum(axis=1).item() == pytest.approx(1.0, abs=1e-4)
    assert found["pair"]["probability"].item() > 0.7
    assert found["asked"]["expected_rating"].between(1.0, 5.0).all()


def health_information(found: Names) -> None:
    pages = found["pages"].set_index("user_id")
    assert pages.loc["pseudonym-00", "basis"].eq("list").all()
    assert pages.loc["pseudonym-00", "item_id"].tolist() == found["edited"]
    assert set(pages["item_id"]) <= set(found["approved"])
    empty = found["sure"].users.query("n_items == 0")
    assert len(empty)
    assert empty["why"].str.len().gt(0).all()


SHOWS: dict[str, Callable[[Names], None]] = {
    "shop": shop,
    "social_feed": social_feed,
    "news": news,
    "video_and_music": video_and_music,
    "courses": courses,
    "health_information": health_information,
}


@pytest.mark.parametrize("name", SHOWS)
def test_a_recipe_runs_and_shows_its_point(name, capsys):
    found = runpy.run_path(str(FOLDER / f"{name}.py"))
    SHOWS[name](found)
    assert capsys.readouterr().out


def test_every_recipe_is_run_short_and_on_the_page():
    page = (FOLDER.parent / "docs/recipes.md").read_text("utf-8")
    files = sorted(FOLDER.glob("*.py"))
    assert {file.stem for file in files} == set(SHOWS)
    for file in files:
        source = file.read_text("utf-8")
        assert len(source.splitlines()) < 60, file.name
        assert not re.search(r"bayes_interest\.|from bayes_interest", source), file.name
        assert f"recipes/{file.name}\n" in page
