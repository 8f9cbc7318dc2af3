"""Figures of a backtest, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.strata import ALL, HISTORY
from bayes_interest.report.dress import GREY, INK, SERIES, AxesType, dress, one_panel
from bayes_interest.schema import LOWER, UPPER, VALUE


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
    panel = one_panel(0.32 * len(models) * (1 + 0.3 * len(strata)) + 0.9) if ax is None else ax
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
    panel = one_panel(2.8) if ax is None else ax
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
    dress(panel, axis)
