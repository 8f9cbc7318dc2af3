"""All users at once: whose interests are known well, and whose move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.dress import (
    GREY,
    INK,
    RAMP,
    WIDTH_INCHES,
    AxesType,
    caption,
    check_columns,
    dress,
    legible,
    one_panel,
)
from bayes_interest.schema import SLATE_CERTAINTY, USER_ID

MEAN_SD, DRIFTED, N_EVENTS = "mean_sd", "drifted", "n_events"
AXES = {
    SLATE_CERTAINTY: "share of the own slate that is truly best, as expected",
    MEAN_SD: "mean sd of the interest in an item (logits; less is surer)",
}


def plot_population(
    frame: pd.DataFrame,
    by: Literal["slate_certainty", "mean_sd"] = "slate_certainty",
    n_named: int = 3,
    ax: AxesType | None = None,
    labels: Mapping[Any, str] | None = None,
) -> AxesType:
    """A point per user: how sure the model is of them, against how far their interest moved.

    The darker the point, the fewer events; grey lines are the medians.

    Args:
        frame: as `InterestModel.population` returns it.
        by: which certainty goes along the x axis.
        n_named: name as many of those who moved most, and of the least certain.
        ax: axes to draw into; by default those of a new figure.
        labels: user_id to what is written.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, a column is missing, or an impossible option.
    """
    if by not in AXES:
        raise InputError(f"by={by!r}: expected one of {', '.join(AXES)}")
    if isinstance(n_named, bool) or not isinstance(n_named, int) or n_named < 0:
        raise InputError(f"n_named={n_named!r}: expected a whole number >= 0")
    check_columns(frame, (USER_ID, N_EVENTS, by, DRIFTED), "population")
    panel = one_panel(3.6, WIDTH_INCHES + 0.6) if ax is None else ax
    _scatter(panel, frame, by)
    for name, line in ((by, panel.axvline), (DRIFTED, panel.axhline)):
        line(frame[name].median(), color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
    _name(panel, frame, by, n_named, labels)
    panel.set_xlabel(AXES[by], fontsize=9, color=INK)
    panel.set_ylabel("how far interest moved (logits)", fontsize=9, color=INK)
    if by == SLATE_CERTAINTY:
        from matplotlib.ticker import PercentFormatter

        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    dress(panel, "both")
    legible(panel)
    return panel


def _scatter(panel: AxesType, frame: pd.DataFrame, by: str) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    events = frame[N_EVENTS].clip(lower=1)
    fewest = int(events.min())
    norm = LogNorm(fewest, max(fewest + 1, int(events.max())))
    points = panel.scatter(
        frame[by], frame[DRIFTED], c=events, norm=norm, cmap=RAMP, s=18, edgecolors=INK,
        linewidths=0.3,
    )  # fmt: skip
    bar = panel.figure.colorbar(points, ax=panel, pad=0.02)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label("events of the user", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)


def _name(
    panel: AxesType, frame: pd.DataFrame, by: str, n_named: int, labels: Mapping[Any, str] | None
) -> None:
    unsure = frame[by] if by == MEAN_SD else -frame[by]
    places = np.concatenate(
        [
            np.argsort(-values.to_numpy(float), kind="stable")[:n_named]
            for values in (frame[DRIFTED], unsure)
        ]
    )
    for place in dict.fromkeys(places.tolist()):
        row = frame.iloc[place]
        panel.annotate(
            caption(row[USER_ID], labels, width=18), (row[by], row[DRIFTED]), xytext=(4, 3),
            textcoords="offset points", fontsize=6.5, color=INK,
        )  # fmt: skip
