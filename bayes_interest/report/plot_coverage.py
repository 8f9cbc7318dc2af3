"""Do intervals hold the truth as often as they say?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from bayes_interest.evaluation.strata import ALL
from bayes_interest.report.dress import (
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
from bayes_interest.schema import LOWER, UPPER

PROB, COVERAGE = "prob", "coverage"
SERIES_OF = ("model", "stratum", "groups", "dependence")
SIDE_INCHES = 4.2
SHIFT = 0.006  # between the bars of series of the same mass


def plot_coverage(table: pd.DataFrame, ax: AxesType | None = None) -> AxesType:
    """The share of truths inside intervals against the mass that the intervals claim.

    Points on the diagonal are right; below it intervals are too narrow, above it too wide. A bar
    is the interval of the share. A line per model, stratum, kind of group and dependence, where
    the table has them.

    Args:
        table: prob, coverage, lower, upper: as `coverage` returns it where the truth is known, or
            `pd.concat([calibration(scores, prob=p).groups for p in (0.5, 0.8, 0.9)])`.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, or a column is missing.
    """
    check_columns(table, (PROB, COVERAGE, LOWER, UPPER), "coverage or calibration(...).groups")
    panel = one_panel(SIDE_INCHES, SIDE_INCHES) if ax is None else ax
    panel.plot([0.0, 1.0], [0.0, 1.0], color=GREY, lw=0.9, label="as claimed")
    table = table.dropna(subset=[COVERAGE])
    kinds = [name for name in SERIES_OF if name in table and _tells(table, name)]
    parts = table.groupby(kinds, sort=False) if kinds else [((), table)]
    for place, (key, own) in enumerate(parts):
        color, mark, dashes = SERIES[place % len(SERIES)]
        own = own.sort_values(PROB)
        at = own[PROB] + SHIFT * place
        panel.vlines(at, own[LOWER], own[UPPER], color=color, lw=1.3, alpha=0.7)
        label = caption(", ".join(map(str, key)) or "intervals", width=40)
        style: dict[str, Any] = {"color": color, "marker": mark, "ls": dashes}
        panel.plot(at, own[COVERAGE], ms=4.5, lw=1.3, label=label, **style)
    _dress(panel)
    return panel


def _tells(table: pd.DataFrame, name: str) -> bool:
    """Whether a column says more than that it is there."""
    return table[name].nunique() > 1 or (name in SERIES_OF[:2] and table[name].iloc[0] != ALL)


def _dress(panel: AxesType) -> None:
    from matplotlib.ticker import PercentFormatter

    panel.set_xlim(0.0, 1.0)
    panel.set_ylim(0.0, 1.0)
    panel.set_aspect("equal")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    panel.set_xlabel("mass that the interval claims", fontsize=9, color=INK)
    panel.set_ylabel("share of intervals that hold the truth", fontsize=9, color=INK)
    dress(panel, "both")
    panel.legend(frameon=False, fontsize=8, loc="upper left")
    legible(panel)
