"""Text in pictures can be read in any script, and fits."""

from __future__ import annotations

import io

import pytest

from bayes_interest.report import dress, plots
from bayes_interest.report.dress import caption, columns, legible, one_panel
from tests.report.test_plot_slate_changes import slate

CHINESE = "机器学习入门:从零开始的神经网络与深度学习实践指南与案例分析全集"


def test_captions_are_two_lines_at_most() -> None:
    assert caption("i1", {"i1": "Jazz"}) == "Jazz"
    assert caption(7, {}) == "7"
    assert caption("  a \n b ") == "a b"
    long = caption("one two three four five six seven", width=10)
    assert long == "one two\nthree fou…"
    assert caption("incomprehensibilities", width=10) == "incompreh…"
    assert caption("one two three", width=10, lines=1) == "one two t…"
    assert caption("Costs $5, or $6") == r"Costs \$5, or \$6"


def test_wide_characters_count_two() -> None:
    lines = caption(CHINESE).split("\n")
    assert len(lines) == 2
    assert all(columns(line) <= 30 for line in lines)
    assert lines[0].startswith("机器学习入门")
    assert lines[1].endswith("…")


@pytest.mark.parametrize("title", [CHINESE, "ไทย हिन्दी 😀", "$5 and \\frac{x}", "_^{"])
def test_any_title_can_be_written_without_a_warning(title: str) -> None:
    ax = plots.plot_slate(slate(), labels={"i1": title})
    ax.figure.savefig(io.BytesIO(), format="png", dpi=40)
    ax.figure.savefig(io.BytesIO(), format="svg")


def test_a_font_with_the_glyphs_is_taken_only_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[frozenset[str]] = []

    def having(missing: frozenset[str]) -> list[str]:
        asked.append(missing)
        return ["STIXGeneral"]

    monkeypatch.setattr(dress, "_having", having)
    plain, chinese = one_panel(1.0), one_panel(1.0)
    plain.set_title("Größe, café, мир")
    chinese.set_title("爵士 jazz")
    usual = plain.title.get_fontfamily()
    legible(plain, chinese)
    assert plain.title.get_fontfamily() == usual
    assert asked == [frozenset("爵士")]
    assert chinese.title.get_fontfamily() == [*usual, "STIXGeneral"]


def test_the_first_installed_font_that_has_a_glyph_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {"Left": "left.ttf", "Right": "right.ttf", "Never": "never.ttf"}
    has = {"left.ttf": "爵", "right.ttf": "爵士", "never.ttf": "爵士"}
    monkeypatch.setattr(dress, "_installed", lambda: files)
    monkeypatch.setattr(dress, "_glyphs", lambda path, wanted: wanted & frozenset(has[path]))
    assert dress._having(frozenset("爵士")) == ["Left", "Right"]
    assert dress._having(frozenset("士")) == ["Right"]


def test_every_public_picture_is_in_plots() -> None:
    assert {name for name in plots.__all__ if name.startswith("plot_")} >= {
        "plot_backtest", "plot_catalogue", "plot_changes", "plot_coverage", "plot_drift",
        "plot_history_curve", "plot_loss", "plot_population", "plot_reliability", "plot_sbc",
        "plot_slate", "plot_themes", "plot_trajectory",
    }  # fmt: skip
