"""Pictures of interest over time and of backtests, readable in print and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.strata import ALL, HISTORY
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, TIMESTAMP, UPPER, USER_ID, VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    AxesType = Axes
else:
    AxesType = Any

BLUE, BAND, INK, GREY = "#0072b2", "#a6cbe3", "#1a1a1a", "#8a8a8a"
"""Blue and black differ in lightness too: for every kind of colour vision, and in grey print."""

SERIES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", (0, (5, 2))),
    ("#1a1a1a", "^", (0, (1, 1.5))),
    ("#009e73", "D", (0, (5, 2, 1, 2))),
    ("#cc79a7", "v", (0, (3, 1, 1, 1, 1, 1))),
    ("#e69f00", "P", (0, (8, 3))),
    ("#56b4e9", "X", (0, (2, 2))),
)
"""Colour (Okabe and Ito), mark and dashes of the n-th series: each tells them apart alone."""

PANEL_INCHES = (3.7, 2.0)
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
    items = list(dict.fromkeys(frame[ITEM_ID]))
    if frame[USER_ID].nunique() != 1:
        raise InputError(f"expected the trajectory of one user, got {frame[USER_ID].nunique()}")
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
        _dress(panel, str((labels or {}).get(item, item)))
    if ax is None:
        _add_key(axes, truth is not None, events is not None)
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
    times = own[TIMESTAMP]
    panel.fill_between(times, own[LOWER], own[UPPER], color=BAND, lw=0, zorder=1)
    panel.plot(times, own[MEAN], color=BLUE, lw=1.8, zorder=2)


def _draw_events(panel: AxesType, own: pd.DataFrame) -> None:
    liked = own[VALUE] > 0
    panel.vlines(own[TIMESTAMP][liked], 1.0 - TICK_HEIGHT, 1.0, color=INK, lw=0.9)
    panel.vlines(own[TIMESTAMP][~liked], 0.0, TICK_HEIGHT, color=GREY, lw=0.9)


def _dress(panel: AxesType, title: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import PercentFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_yticks([0.0, 0.5, 1.0])
    panel.set_ylim(0.0, 1.0)
    panel.margins(x=0.0)
    panel.set_title(title, loc="left", fontsize=9, color=INK)
    panel.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    panel.grid(axis="y", color="#e4e4e4", lw=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(GREY)


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


def plot_backtest(
    table: pd.DataFrame,
    metric: str = "ndcg",
    k: int | None = 10,
    stratum: str | Sequence[str] = ALL,
    ax: AxesType | None = None,
) -> AxesType:
    """One metric of a backtest: a line per model from top to bottom, a point with its interval.

    Args:
        table: as `backtest` or `summarize` returns it.
        metric, k: which figures; k does not count for a metric that has none.
        stratum: one, or several, which get a colour and a mark each.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: the table has no such figure.
    """
    strata = [stratum] if isinstance(stratum, str) else list(stratum)
    found, k = _figures_of(table, metric, k)
    missing = [name for name in strata if name not in set(found["stratum"])]
    if missing:
        raise InputError(f"the table has no stratum {missing[0]!r} for {metric!r}")
    found = found[found["stratum"].isin(strata)]
    models = list(dict.fromkeys(found["model"]))
    panel = _one_panel(0.32 * len(models) * (1 + 0.3 * len(strata)) + 0.9) if ax is None else ax
    for place, name in enumerate(strata):
        shift = 0.5 * ((place + 0.5) / len(strata) - 0.5)
        _draw_points(panel, found[found["stratum"] == name], models, shift, place, name)
    panel.set_yticks(range(len(models)), models)
    panel.set_ylim(len(models) - 0.5, -0.5)
    _dress_figures(panel, metric, k, "x")
    if all(" - " in model for model in models):  # paired differences
        panel.axvline(0.0, color=GREY, lw=0.8, zorder=0)
    if len(strata) > 1:
        panel.legend(frameon=False, fontsize=8)
    return panel


def plot_history_curve(
    table: pd.DataFrame,
    metric: str = "ndcg",
    k: int | None = 10,
    ax: AxesType | None = None,
) -> AxesType:
    """A metric against the number of earlier events of the user: a line and a band per model.

    Args:
        table: as `backtest(..., strata="history")` returns it.
        metric, k: which figures; k does not count for a metric that has none.
        ax: axes to draw into; by default those of a new figure.

    Raises:
        InputError: the table has no such figure, or no strata of history.
    """
    found, k = _figures_of(table, metric, k)
    place = {f"history={band}": at for at, band in enumerate(HISTORY)}
    found = found[found["stratum"].isin(place)]
    if found.empty:
        raise InputError('the table has no strata of history: backtest(..., strata="history")')
    panel = _one_panel(2.8) if ax is None else ax
    for number, (name, own) in enumerate(found.groupby("model", sort=False)):
        color, mark, dashes = SERIES[number % len(SERIES)]
        own = own.assign(at=own["stratum"].map(place)).sort_values("at")
        style: dict[str, Any] = {"color": color, "marker": mark, "ls": dashes, "ms": 5}
        panel.plot(own["at"], own[VALUE], lw=1.6, label=str(name), **style)
        panel.fill_between(own["at"], own[LOWER], own[UPPER], color=color, alpha=0.18, lw=0)
    panel.set_xticks(range(len(HISTORY)), HISTORY)
    panel.set_xlabel("earlier events of the user", fontsize=9, color=INK)
    _dress_figures(panel, metric, k, "y")
    panel.legend(frameon=False, fontsize=8)
    return panel


def _figures_of(table: pd.DataFrame, metric: str, k: int | None) -> tuple[pd.DataFrame, int | None]:
    """Rows of one metric, at `k` where the metric has that."""
    own = table[table["metric"] == metric]
    if own.empty:
        known = ", ".join(dict.fromkeys(table["metric"]))
        raise InputError(f"the table has no metric {metric!r}, only {known}")
    if k is not None and own["k"].notna().any():
        lengths = sorted({int(length) for length in own["k"].dropna()})
        own = own[(own["k"] == k).fillna(False)]
        if own.empty:
            raise InputError(f"the table has {metric!r} at k = {lengths}, not at {k}")
        return own, k
    own = own[own["k"].isna()]
    if own.empty:
        raise InputError(f"{metric!r} needs k=")
    return own, None


def _one_panel(height: float) -> AxesType:
    """Axes in a figure of their own, outside pyplot's global list."""
    from matplotlib.figure import Figure

    return Figure(figsize=(5.2, height), layout="constrained", dpi=200).subplots()


def _draw_points(
    panel: AxesType, own: pd.DataFrame, models: list[str], shift: float, place: int, name: str
) -> None:
    color, mark, _ = SERIES[place % len(SERIES)]
    at = [models.index(model) + shift for model in own["model"]]
    panel.hlines(at, own[LOWER], own[UPPER], color=color, lw=1.6)
    panel.plot(own[VALUE], at, color=color, marker=mark, ms=5, ls="none", label=name)


def _dress_figures(panel: AxesType, metric: str, k: int | None, axis: Literal["x", "y"]) -> None:
    label = metric.replace("_", " ") + ("" if k is None else f" at {k}")
    (panel.set_xlabel if axis == "x" else panel.set_ylabel)(label, fontsize=9, color=INK)
    panel.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    panel.grid(axis=axis, color="#e4e4e4", lw=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(GREY)
