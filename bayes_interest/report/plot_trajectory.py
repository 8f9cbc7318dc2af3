"""Interest over time, a panel per item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.dress import (
    BAND,
    BLUE,
    GREY,
    INK,
    AxesType,
    caption,
    check_columns,
    dress,
    dress_dates,
    legible,
    only_user,
)
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, TIMESTAMP, UPPER, USER_ID, VALUE

PANEL_INCHES = (3.7, 2.0)
TITLE = 44
MAX_COLUMNS = 3
TICK_HEIGHT = 0.045


def plot_trajectory(
    frame: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    ax: AxesType | None = None,
    labels: Mapping[Any, str] | None = None,
) -> list[AxesType]:
    """One user's interest probability over time, a panel per item: mean, and its interval as band.

    Args:
        frame: as `InterestModel.trajectory` returns it, of one user.
        truth: item_id, timestamp and probability, drawn as dashed lines where it is known.
        events: item_id (of the panel), timestamp and value: a tick at the top edge where value
            is above 0, else at the bottom edge.
        ax: draw a single item into these axes; by default a new figure gets a panel per item.
        labels: item_id to panel title.

    Returns:
        The axes, in the order in which the items appear; `axes[0].figure.savefig(...)` writes.

    Raises:
        InputError: not exactly one user, or more than one item for one `ax`.
    """
    check_columns(frame, (USER_ID, ITEM_ID, TIMESTAMP, MEAN, LOWER, UPPER), "trajectory(items=)")
    only_user(frame, USER_ID, "the trajectory")
    items = list(dict.fromkeys(frame[ITEM_ID]))
    if ax is not None and len(items) != 1:
        raise InputError(f"ax= has room for one item, the trajectory has {len(items)}")
    axes = _panels(len(items)) if ax is None else [ax]
    for item, panel in zip(items, axes, strict=True):
        _draw_interest(panel, _of(frame, item))
        if truth is not None:
            known = _of(truth, item)
            panel.plot(known[TIMESTAMP], known["probability"], color=INK, lw=1.0, ls=(0, (4, 2.5)))
        if events is not None:
            _draw_events(panel, _of(events, item))
        _dress(panel, frame[TIMESTAMP], caption(item, labels, TITLE))
    if ax is None:
        _add_key(axes, truth is not None, events is not None)
    legible(axes[0])
    return axes


def _of(frame: pd.DataFrame, item: object) -> pd.DataFrame:
    own = frame[frame[ITEM_ID] == item]
    return own.assign(**{TIMESTAMP: own[TIMESTAMP].dt.tz_convert(None)}).sort_values(TIMESTAMP)


def _panels(count: int) -> list[AxesType]:
    """A grid of panels in a figure of their own, outside pyplot's global list."""
    from matplotlib.figure import Figure

    columns = next(c for c in (MAX_COLUMNS, 2, 1) if count % c == 0 or c < count)
    columns = min(columns, count)
    rows = -(-count // columns)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained", dpi=200)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for spare in panels[count:]:
        spare.remove()
    for column in range(columns):
        panels[column + columns * ((count - 1 - column) // columns)].tick_params(labelbottom=True)
    return panels[:count]


def _draw_interest(panel: AxesType, own: pd.DataFrame) -> None:
    times, alone = own[TIMESTAMP], len(own) == 1  # a line of one moment cannot be seen
    panel.fill_between(times, own[LOWER], own[UPPER], color=BAND, lw=6 if alone else 0, zorder=1)
    panel.plot(times, own[MEAN], color=BLUE, lw=1.8, marker="o" if alone else "", zorder=2)


def _draw_events(panel: AxesType, own: pd.DataFrame) -> None:
    liked = own[VALUE] > 0
    panel.vlines(own[TIMESTAMP][liked], 1.0 - TICK_HEIGHT, 1.0, color=INK, lw=0.9)
    panel.vlines(own[TIMESTAMP][~liked], 0.0, TICK_HEIGHT, color=GREY, lw=0.9)


def _dress(panel: AxesType, times: pd.Series[Any], title: str) -> None:
    from matplotlib.ticker import PercentFormatter

    dress(panel, "y")
    dress_dates(panel, times)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_yticks([0.0, 0.5, 1.0])
    panel.set_ylim(0.0, 1.0)
    panel.set_title(title, loc="left", fontsize=9, color=INK)


def _add_key(axes: list[AxesType], truth: bool, events: bool) -> None:
    """What the marks mean, in one line under the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tick: dict[str, Any] = {"marker": "|", "ls": "none", "ms": 7, "mew": 1.1}
    marks: list[tuple[Any, str]] = [
        (Line2D([], [], color=BLUE, lw=1.8), "mean interest"),
        (Patch(color=BAND, lw=0), "interval"),
    ]
    if truth:
        marks.append((Line2D([], [], color=INK, lw=1.0, ls=(0, (4, 2.5))), "truth"))
    if events:
        marks.append((Line2D([], [], color=INK, **tick), "engaged (top edge)"))
        marks.append((Line2D([], [], color=GREY, **tick), "not engaged (bottom edge)"))
    handles, names = zip(*marks, strict=True)
    axes[0].figure.legend(
        handles, names, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=8
    )
