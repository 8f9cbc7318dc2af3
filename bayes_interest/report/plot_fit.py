"""How the fit went, and what it says of how fast interests move."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.dress import (
    BLUE,
    GREY,
    INK,
    SERIES,
    AxesType,
    caption,
    check_columns,
    dress,
    legible,
    one_panel,
)
from bayes_interest.schema import LOWER, MEAN, UPPER

LOSSES = {"loss": "training events", "held_back_loss": "held-back events"}
DRIFT = "drift_scale"


def plot_loss(frame: pd.DataFrame, ax: AxesType | None = None) -> AxesType:
    """Losses by epoch, on training events and on those held back; a line marks the epoch kept.

    Args:
        frame: as `InterestModel.fit_report` returns it.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, or a column is missing.
    """
    from matplotlib.ticker import MaxNLocator

    check_columns(frame, ("epoch", *LOSSES), "fit_report")
    panel = one_panel(2.8) if ax is None else ax
    for (name, label), (color, mark, dashes) in zip(LOSSES.items(), SERIES, strict=False):
        own = frame.dropna(subset=[name])
        if len(own):
            style: dict[str, Any] = {"color": color, "marker": mark, "ls": dashes, "ms": 4}
            panel.plot(own["epoch"], own[name], lw=1.5, label=label, **style)
    best = frame.attrs.get("best_epoch")
    if best is not None:
        panel.axvline(best, color=GREY, lw=1.0, ls=(0, (2, 2)), zorder=0, label="epoch kept")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("epoch", fontsize=9, color=INK)
    panel.set_ylabel("loss per event (nats)", fontsize=9, color=INK)
    dress(panel, "y")
    panel.legend(frameon=False, fontsize=8)
    return panel


def plot_drift(
    summary: pd.DataFrame, ax: AxesType | None = None, labels: Mapping[Any, str] | None = None
) -> AxesType:
    """How fast interest moves along each dimension of the state, the fastest on top.

    Args:
        summary: as `InterestModel.summary` returns it: its rows of "drift_scale".
        ax: axes to draw into; by default those of a new figure.
        labels: dimension to what is written.

    Returns:
        The axes; `ax.figure.savefig(...)` writes. Without an interval a dimension has a point.

    Raises:
        InputError: no row of "drift_scale", or a column is missing.
    """
    check_columns(summary, ("parameter", "dimension", MEAN), "summary")
    own = summary[summary["parameter"] == DRIFT]
    if own.empty:
        raise InputError('the table has no rows of "drift_scale": expected what summary returns')
    own = own.sort_values(MEAN, ascending=False, kind="stable").reset_index(drop=True)
    panel = one_panel(0.26 * len(own) + 0.9) if ax is None else ax
    if {LOWER, UPPER} <= set(own):
        known = own.dropna(subset=[LOWER, UPPER])
        panel.hlines(known.index, known[LOWER], known[UPPER], color=BLUE, lw=1.8)
    panel.plot(own[MEAN], own.index, color=INK, marker="o", ms=4.5, ls="none")
    panel.set_yticks(range(len(own)), [_dimension(one, labels) for one in own["dimension"]])
    panel.set_ylim(len(own) - 0.5, -0.5)
    panel.set_xlim(left=0.0)
    unit = str(own["unit"].iloc[0]) if "unit" in own else "per sqrt day"
    panel.set_xlabel(f"drift scale ({caption(unit, width=60)})", fontsize=9, color=INK)
    dress(panel, "x")
    legible(panel)
    return panel


def _dimension(value: object, labels: Mapping[Any, str] | None) -> str:
    if labels is not None and value in labels:
        return caption(value, labels)
    if isinstance(value, Real):
        return f"dimension {value:g}"
    return caption(value)
