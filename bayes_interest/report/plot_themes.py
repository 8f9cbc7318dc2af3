"""One user's interests over time: a ribbon per theme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.report.dress import (
    BAND,
    BLUE,
    GREY,
    INK,
    WIDTH_INCHES,
    AxesType,
    caption,
    check_columns,
    dress,
    dress_dates,
    legible,
    one_panel,
    only_user,
)
from bayes_interest.schema import LOWER, MEAN, TIMESTAMP, UPPER, USER_ID

THEME = "theme"
LANE_INCHES, GAP = 0.5, 0.15
WIDE = WIDTH_INCHES + 1.4


def plot_themes(
    frame: pd.DataFrame, ax: AxesType | None = None, labels: Mapping[Any, str] | None = None
) -> AxesType:
    """A lane per theme with the interest of one user over time: mean, and its interval as ribbon.

    All lanes have the same scale, which is written at the first; a dotted line runs on from where
    the mean began. The theme of the highest interest at the end is on top; that mean, with its
    interval, stands at the right.

    Args:
        frame: as `InterestModel.trajectory(users, themes=...)` returns it, of one user.
        ax: axes to draw into; by default those of a new figure.
        labels: theme to what is written.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, no column `theme`, or not exactly one user.
    """
    wanted = (USER_ID, THEME, TIMESTAMP, MEAN, LOWER, UPPER)
    check_columns(frame, wanted, "trajectory(themes=)")
    user = only_user(frame, USER_ID, "the themes")
    frame = frame.sort_values(TIMESTAMP, kind="stable")
    last = frame.groupby(THEME, sort=False)[MEAN].last()
    names = last.sort_values(ascending=False, kind="stable").index.tolist()
    panel = one_panel(LANE_INCHES * len(names) + 0.8, WIDE) if ax is None else ax
    scale = _scale(float(frame[LOWER].min()), float(frame[UPPER].max()))
    for place, name in enumerate(names):
        floor = (len(names) - 1 - place) * (1.0 + GAP)
        _draw_lane(panel, frame[frame[THEME] == name], floor, scale)
    _dress(panel, frame[TIMESTAMP], [caption(name, labels) for name in names], scale)
    panel.set_title(caption(f"interests of {user}", width=60), loc="left", fontsize=9, color=INK)
    legible(panel)
    return panel


def _scale(low: float, high: float) -> tuple[float, float]:
    """Round limits of the lanes around all intervals, from zero where that is near."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(5).tick_values(0.0 if low < 0.2 * high else low, max(high, 1e-12))
    return max(0.0, float(ticks[0])), min(1.0, float(ticks[-1]))


def _draw_lane(
    panel: AxesType, own: pd.DataFrame, floor: float, scale: tuple[float, float]
) -> None:
    times = own[TIMESTAMP].dt.tz_convert(None)
    low, high = scale
    mean, lower, upper = (floor + (own[x] - low) / (high - low) for x in (MEAN, LOWER, UPPER))
    alone = len(own) == 1  # a line of one moment cannot be seen
    panel.axhline(floor, color=GREY, lw=0.5, zorder=0)
    panel.axhline(mean.iloc[0], color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=1.5)
    panel.fill_between(times, lower, upper, color=BAND, lw=6 if alone else 0, zorder=1)
    panel.plot(times, mean, color=BLUE, lw=1.5, marker="o" if alone else "", zorder=2)
    end = own.iloc[-1]
    text = f"{percent(end[MEAN])}  ({percent(end[LOWER])} to {percent(end[UPPER])})"
    at = (1.01, floor + 0.5)
    panel.annotate(
        text, at, xycoords=("axes fraction", "data"), va="center", fontsize=7, color=INK,
        annotation_clip=False,
    )  # fmt: skip


def percent(value: float) -> str:
    """A probability as people read it: 43 %, 1.2 %, 0.03 %."""
    value = 100.0 * float(value)
    if value >= 9.95 or value == 0.0:
        return f"{value:.0f} %"
    if value < 1e-4:
        return "< 0.0001 %"
    return f"{value:.{1 - int(np.floor(np.log10(value)))}f} %"


def _dress(
    panel: AxesType, times: pd.Series[Any], names: list[str], scale: tuple[float, float]
) -> None:
    dress(panel)
    dress_dates(panel, times)
    floors = np.arange(len(names))[::-1] * (1.0 + GAP)
    panel.set_yticks(floors + 0.5, names)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.set_ylim(-0.05, floors[0] + 1.05)
    for level, place in zip(scale, (0.0, 1.0), strict=True):
        panel.annotate(
            percent(level), (0.0, floors[0] + place), xycoords=("axes fraction", "data"),
            xytext=(2, 0), textcoords="offset points", va="center", fontsize=6, color=GREY,
        )  # fmt: skip
