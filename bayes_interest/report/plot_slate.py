"""One user's slate: what is put first, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bayes_interest.report.dress import (
    BLUE,
    GREY,
    INK,
    WIDTH_INCHES,
    AxesType,
    caption,
    check_columns,
    dress,
    legible,
    one_panel,
    only_user,
)
from bayes_interest.report.plot_themes import percent
from bayes_interest.schema import (
    BASIS,
    ITEM_ID,
    LOWER,
    MEAN,
    P_TOP_K,
    RANK,
    SLATE_CERTAINTY,
    UPPER,
    USER_ID,
)

ROW_INCHES = 0.34
OWN = "own interest"


def plot_slate(
    frame: pd.DataFrame, ax: AxesType | None = None, labels: Mapping[Any, str] | None = None
) -> AxesType:
    """A forest plot of one user's slate: rank from top to bottom, mean interest with its interval.

    At the right stands the probability that the item truly is among the best as many.

    Args:
        frame: as `InterestModel.rank` returns it, of one user.
        ax: axes to draw into; by default those of a new figure.
        labels: item_id to title.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, a column is missing, or not exactly one user.
    """
    check_columns(frame, (USER_ID, RANK, ITEM_ID, MEAN, LOWER, UPPER, P_TOP_K), "rank")
    user = only_user(frame, USER_ID, "the slate")
    own = frame.sort_values(RANK)
    count = len(own)
    panel = one_panel(ROW_INCHES * count + 1.0, WIDTH_INCHES + 1.0) if ax is None else ax
    forest(panel, own[MEAN], own[LOWER], own[UPPER])
    names = [caption(item, labels) for item in own[ITEM_ID]]
    ranked = [f"{rank}. {name}" for name, rank in zip(names, own[RANK], strict=True)]
    panel.set_yticks(range(count), ranked)
    at_right(panel, [percent(chance) for chance in own[P_TOP_K]], f"P(in the top {count})")
    panel.set_xlim(0.0, 1.0 if own[UPPER].max() > 0.5 else None)
    percent_axis(panel)
    panel.set_xlabel("interest probability", fontsize=9, color=INK)
    title = caption(f"slate of {user}{_note(own)}", width=70)
    panel.set_title(title, loc="left", fontsize=9, color=INK)
    legible(panel)
    return panel


def _note(own: pd.DataFrame) -> str:
    parts = []
    if SLATE_CERTAINTY in own:
        parts.append(f"certainty {percent(own[SLATE_CERTAINTY].iloc[0])}")
    if BASIS in own and (basis := own[BASIS].iloc[0]) != OWN:
        parts.append(f"too little is known: {basis}")
    return f" ({'; '.join(parts)})" if parts else ""


def forest(
    panel: AxesType, middle: pd.Series[Any], lower: pd.Series[Any], upper: pd.Series[Any]
) -> None:
    """A point and a bar per row, from top to bottom at 0, 1, 2 ..."""
    at = range(len(middle))
    panel.hlines(at, lower, upper, color=BLUE, lw=1.6)
    panel.plot(middle, at, color=INK, marker="o", ms=4.5, ls="none")
    panel.set_ylim(len(middle) - 0.5, -0.5)
    dress(panel, "x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def at_right(panel: AxesType, texts: list[str], head: str) -> None:
    """A column of text beside the rows of a forest, under its head."""
    more: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "annotation_clip": False}
    for place, text in enumerate(texts):
        panel.annotate(
            text, (1.0, place), xycoords=("axes fraction", "data"), xytext=(8, 0), va="center",
            color=INK, **more,
        )  # fmt: skip
    panel.annotate(
        head, (1.0, 1.0), xycoords="axes fraction", xytext=(8, 3), va="bottom", color=GREY, **more
    )


def percent_axis(panel: AxesType) -> None:
    """Shares along the x axis as percentages, with as many digits as they need."""
    from matplotlib.ticker import PercentFormatter

    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
