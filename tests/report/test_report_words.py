"""Words, cells and the graph of the model, apart from a whole report."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from bayes_interest.report.document.blocks import Column, Table
from bayes_interest.report.document.model_graph import covariate_names, graph, words
from bayes_interest.report.document.words import (
    change,
    for_csv,
    for_markdown,
    number,
    percent,
    plain,
    short,
    span,
)
from tests.fitted import FAMILIES, model


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0%"), (1.0, "100%"), (0.5, "50%"), (0.0999, "10%"), (0.0123, "1.2%"),
        (0.00123, "0.12%"), (0.0001234, "0.012%"), (1e-7, "<0.001%"), (0.9999, ">99%"),
        (-0.25, "\u221225%"),
    ],
)  # fmt: skip
def test_percent(value: float, told: str) -> None:
    assert percent(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"), (0.01, "0.01"), (3.14159, "3.14"), (-2.5, "\u22122.5"), (1234.5, "1,234"),
        (0.000012, "<0.0001"),
        (-1e-9, ">\u22120.0001"), (120.0, "120"), (float("nan"), "nan"), (0.9999, "1"),
    ],
)  # fmt: skip
def test_number(value: float, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0.00"), (0.004, "0.00"), (1.5, "+1.50"), (-12.34, "\u221212.3")]
)
def test_change(value: float, told: str) -> None:
    assert change(value) == told


def test_texts_on_one_line_without_control_characters() -> None:
    assert plain("a\x00b\n  c\u202ed") == "a b c d"
    assert short("x" * 100, 10) == "x" * 9 + "…"
    assert short(17) == "17"


def test_markdown_and_csv_keep_a_text_a_text() -> None:
    assert for_markdown("<b>|[x](y)`*_") == r"&lt;b&gt;\|\[x\]\(y\)\`\*\_"
    frame = pd.DataFrame({"=a": ["+1", " @x", "fine", None], "n": [-1.0, 2.0, 3.0, 4.0]})
    safe = for_csv(frame)
    assert list(safe) == ["'=a", "n"]
    assert safe["'=a"].tolist()[:3] == ["'+1", "' @x", "fine"]
    assert safe["n"].tolist() == [-1.0, 2.0, 3.0, 4.0]
    assert frame["=a"].iloc[0] == "+1"


def test_intervals_are_drawn_to_scale_and_missing_bounds_are_left_out() -> None:
    frame = pd.DataFrame(
        {"mean": [0.5, 1.0, 0.25, None], "lower": [0.0, 0.5, None, None], "upper": [1.0] * 4}
    )
    cells = [row[0] for row in Table("t", "", frame, (Column("mean", "m", "interval"),)).rows()]
    assert cells[0].bar == (2.0, 50.0, 98.0, None)
    assert cells[1].note == "50% to 100%"
    assert cells[2].bar is None
    assert (cells[3].text, cells[3].sort) == ("–", "")
    both = Column("mean", "m", "interval", as_percent=False)
    signed = pd.DataFrame({"mean": [0.0, 1.0], "lower": [-2.0, 0.5], "upper": [1.0, 2.0]})
    row = Table("t", "", signed, (both,)).rows()[0][0]
    assert row.bar == (2.0, 50.0, 74.0, 50.0)


def test_a_long_table_says_where_the_rest_is() -> None:
    table = Table("t", "", pd.DataFrame({"a": range(7)}), (Column("a", "a", "count"),), 3, "all_t")
    assert len(table.rows()) == 3
    assert table.rest == "The first 3 of 7 rows; all of them in all_t.csv."


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_graph_has_a_box_for_what_the_model_has(emission: str) -> None:
    layout = model(emission).posterior.layout
    bare = replace(
        layout, residuals=False, popularity_days=(), repeats=False, succession=False,
        likeness=False, rates=False, context_layers=0, n_kinds=1,
    )  # fmt: skip
    full = replace(
        bare, residuals=True, popularity_days=(1.0, 10.0), repeats=True, succession=True,
        likeness=True, rates=True, context_layers=1, context_events=9, n_kinds=3,
    )  # fmt: skip
    for name in ("residual", "circumstances", "context", "of 3 kinds"):
        assert f">{name}<" in graph(full)
        assert f">{name}<" not in graph(bare)
    assert "half-lives of 1, 10 days" in covariate_names(full)[0]
    assert covariate_names(bare) == []
    for one in (layout, bare, full):
        drawn = graph(one)
        assert words(one) in drawn
        _, _, width, height = map(float, re.findall(r'viewBox="([^"]+)"', drawn)[0].split())
        for x, y in re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"', drawn):
            assert 0 < float(x) < width
            assert 0 < float(y) < height


def test_a_span_within_a_day_shows_the_time() -> None:
    assert span("2024-01-02T10:00", "2024-02-03T11:00") == "2024-01-02 to 2024-02-03"
    assert span("2024-01-02T10:00", "2024-01-02T11:30:05") == "2024-01-02, 10:00:00 to 11:30:05"
