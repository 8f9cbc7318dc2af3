"""Every picture, readable in print and without colour, and the colours that they share."""

from __future__ import annotations

from bayes_interest.report.dress import BAND, BLUE, GREY, INK, SERIES, AxesType
from bayes_interest.report.plot_backtest import plot_backtest, plot_history_curve
from bayes_interest.report.plot_catalogue import plot_catalogue
from bayes_interest.report.plot_changes import plot_changes
from bayes_interest.report.plot_coverage import plot_coverage
from bayes_interest.report.plot_explanation import plot_explanation
from bayes_interest.report.plot_fit import plot_drift, plot_loss
from bayes_interest.report.plot_population import plot_population
from bayes_interest.report.plot_sbc import plot_sbc
from bayes_interest.report.plot_slate import plot_slate
from bayes_interest.report.plot_themes import plot_themes
from bayes_interest.report.plot_trajectory import plot_trajectory
from bayes_interest.report.reliability import plot_reliability

__all__ = [
    "BAND",
    "BLUE",
    "GREY",
    "INK",
    "SERIES",
    "AxesType",
    "plot_backtest",
    "plot_catalogue",
    "plot_changes",
    "plot_coverage",
    "plot_drift",
    "plot_explanation",
    "plot_history_curve",
    "plot_loss",
    "plot_population",
    "plot_reliability",
    "plot_sbc",
    "plot_slate",
    "plot_themes",
    "plot_trajectory",
]
