"""Picture of an explanation: how a score comes about, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.ranking.explain import Explanation
from bayes_interest.ranking.explain_text import lines_of, titled
from bayes_interest.report.dress import BLUE, GREY, INK, AxesType, caption, legible, one_panel

BAR_HEIGHT = 0.62
WIDTH = 6.4
MAX_TITLE, MAX_LABEL = 24, 50
"""Columns of an item's title beside its date, and of a label; longer ones are cut."""


def plot_explanation(
    explanation: Explanation,
    ax: AxesType | None = None,
    labels: Mapping[Any, str] | None = None,
    top: int = 8,
) -> AxesType:
    """A waterfall: every part moves the score from where the part above it has left it.

    Parts that raise the score are filled, those that lower it are hatched; the last bar is the
    score.

    Args:
        explanation: as `InterestModel.explain` returns it.
        ax: axes to draw into; by default those of a new figure.
        labels: item_id to title; by default those that `explain` was given.
        top: how many parts stand alone, the largest; the others are one bar together.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: `top` is no whole number >= 1.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise InputError(f"top={top!r}: expected a whole number of bars >= 1")
    names = explanation.labels if labels is None else labels
    short = {item: caption(title, width=MAX_TITLE, lines=1) for item, title in names.items()}
    bars = _bars(lines_of(explanation, short), top)
    panel = one_panel(0.3 * len(bars) + 1.2, WIDTH) if ax is None else ax
    _draw(panel, bars, explanation.score)
    chance = f"{100.0 * explanation.mean:.2g} %"
    panel.set_yticks(
        range(len(bars) + 1),
        [_line(words) for words in bars["words"]] + [f"score ({chance})"],
    )
    title = _line(f"{titled(explanation.item_id, short)}, for user {explanation.user_id}")
    panel.set_title(title, fontsize=10, color=INK, loc="right")
    legible(panel)
    return panel


def _line(words: str) -> str:
    return caption(words, width=MAX_LABEL, lines=1)


def _bars(lines: pd.DataFrame, top: int) -> pd.DataFrame:
    """The largest parts, and the sum of all others if there are several."""
    shown = lines[["words", "contribution"]]
    if len(lines) <= top + 1:
        return shown
    left = shown.iloc[top:]
    rest = pd.DataFrame(
        {"words": [f"{len(left)} smaller parts"], "contribution": [left["contribution"].sum()]}
    )
    return pd.concat((shown.iloc[:top], rest), ignore_index=True)


def _draw(panel: AxesType, bars: pd.DataFrame, score: float) -> None:
    parts = bars["contribution"].to_numpy(dtype=float)
    ends = np.cumsum(parts)
    begins = ends - parts
    for place, (begin, part) in enumerate(zip(begins, parts, strict=True)):
        up = part > 0.0
        style: dict[str, Any] = (
            {"color": BLUE} if up else {"color": "white", "edgecolor": INK, "hatch": "/////"}
        )
        panel.barh(place, part, left=begin, height=BAR_HEIGHT, lw=0.8, **style)
    panel.barh(len(parts), score, height=BAR_HEIGHT, color=INK)
    panel.vlines(ends, np.arange(len(parts)), np.arange(len(parts)) + 1.0, color=GREY, lw=0.7)
    for place, (begin, value) in enumerate(zip([*begins, 0.0], [*parts, score], strict=True)):
        panel.annotate(
            f"{value:+.2f}", (max(begin, begin + value), place), (3, 0),
            textcoords="offset points", va="center", fontsize=7.5, color=INK,
        )  # fmt: skip
    panel.axvline(0.0, color=GREY, lw=0.8, zorder=0)
    panel.set_ylim(len(parts) + 0.6, -0.6)
    panel.use_sticky_edges = False  # else the longest bar touches the frame
    panel.margins(x=0.1)
    panel.set_xlabel("log odds (filled: raises, hatched: lowers)", fontsize=9, color=INK)
    panel.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(GREY)
    panel.tick_params(axis="y", length=0)
