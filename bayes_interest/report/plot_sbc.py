"""Picture of simulation-based calibration: how far ranks are from uniform, with the band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from bayes_interest.evaluation.sbc import N_DRAWS, QUANTITY, RANK, band_level
from bayes_interest.report.dress import BAND, BLUE, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    AxesType = Axes
else:
    AxesType = Any

COLUMNS, PANEL_INCHES = 4, (2.6, 1.9)


def plot_sbc(ranks: pd.DataFrame, prob: float = 0.99) -> list[AxesType]:
    """A panel per quantity: distribution function of the ranks minus the uniform one.

    `ranks` is what `sbc` returns. The band holds the whole curve of a right posterior with chance
    `prob`; a curve that leaves it is drawn in black with a mark in the title. A curve above zero
    means that the truth ranks low: the posterior lies too high; an S that the posterior is too
    sure (first above, then below) or too unsure.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(ranks[QUANTITY]))
    n_rows = -(-len(names) // COLUMNS)
    size = (PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_rows, COLUMNS, sharex=True, squeeze=False)
    panels = axes.ravel().tolist()
    for axis in panels[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(panels, names, strict=False):
        part = ranks[ranks[QUANTITY] == name]
        _panel(axis, str(name), part[RANK].to_numpy(), int(part[N_DRAWS].iloc[0]), prob)
    figure.supxlabel("place of the truth among the draws", fontsize=9)
    figure.supylabel("share below, minus uniform", fontsize=9)
    return panels[: len(names)]


def _panel(axis: AxesType, name: str, rank: np.ndarray, n_draws: int, prob: float) -> None:
    n, chance = len(rank), np.arange(1, n_draws + 1) / (n_draws + 1)
    level = band_level(n, n_draws, prob)
    lower, upper = (binom.ppf((level / 2.0, 1.0 - level / 2.0)[side], n, chance) for side in (0, 1))
    below = np.searchsorted(np.sort(rank), np.arange(n_draws), side="right")
    outside = bool(((below < lower) | (below > upper)).any())
    axis.fill_between(chance, lower / n - chance, upper / n - chance, color=BAND, linewidth=0)
    axis.axhline(0.0, color=GREY, linewidth=0.8)
    axis.plot(chance, below / n - chance, color=INK if outside else BLUE, linewidth=1.4)
    axis.set_title(f"{name}{' (outside)' if outside else ''}", fontsize=9)
    axis.tick_params(labelsize=7)
