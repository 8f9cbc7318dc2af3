"""Picture of calibration: predicted against observed, where the diagonal is perfect."""

from __future__ import annotations

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.strata import ALL
from bayes_interest.report.dress import GREY, INK, SERIES, AxesType, dress, one_panel
from bayes_interest.schema import LOWER, UPPER

SIDE_INCHES = 4.2


def plot_reliability(
    curve: pd.DataFrame, stratum: str = ALL, ax: AxesType | None = None
) -> AxesType:
    """Reliability curves of one stratum: a line per model, a bar for the interval of each bin.

    Args:
        curve: `calibration(...).curve`.
        stratum: which of its strata.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: the curve has no such stratum.
    """
    found = curve[curve["stratum"] == stratum]
    if found.empty:
        known = ", ".join(dict.fromkeys(curve["stratum"]))
        raise InputError(f"the curve has no stratum {stratum!r}, only {known}")
    panel = one_panel(SIDE_INCHES, SIDE_INCHES) if ax is None else ax
    panel.plot([0.0, 1.0], [0.0, 1.0], color=GREY, lw=0.9, label="perfect")
    for place, (name, own) in enumerate(found.groupby("model", sort=False)):
        color, mark, dashes = SERIES[place % len(SERIES)]
        own = own.sort_values("mean_predicted")
        at = own["mean_predicted"]
        panel.vlines(at, own[LOWER], own[UPPER], color=color, lw=1.1, alpha=0.6)
        panel.plot(
            at, own["observed"], color=color, marker=mark, ms=4, ls=dashes, lw=1.3, label=str(name)
        )
    _dress(panel)
    return panel


def _dress(panel: AxesType) -> None:
    panel.set_xlim(0.0, 1.0)
    panel.set_ylim(0.0, 1.0)
    panel.set_aspect("equal")
    panel.set_xlabel("predicted probability", fontsize=9, color=INK)
    panel.set_ylabel("share that came true", fontsize=9, color=INK)
    dress(panel, "both")
    panel.legend(frameon=False, fontsize=8, loc="upper left")
