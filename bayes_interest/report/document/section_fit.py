"""The section on the fit: how it went and what it found for the global parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Block, Column, Section, Table, Text
from bayes_interest.report.document.figures import picture
from bayes_interest.report.document.words import listed, many, number

PARAMETERS_SHOWN = 40
WITHOUT_MEANING = ("mean_state", "intercept")
"""A row per dimension, whose signs mean nothing by themselves: in the CSV only."""


def fit_section(asked: Asked, epochs: pd.DataFrame, summary: pd.DataFrame) -> Section:
    """Losses of the epochs and the table of parameters."""
    about = epochs.attrs
    text = (
        f"Family {about['emission']}: {about['reason']}. {many(len(epochs), 'epoch')} tried, "
        f"{about['best_epoch']} used, {number(round(about['seconds'], 1))} seconds."
    )
    blocks: list[Block] = [Text(text), *(Text(f"{note}.", "note") for note in about["notes"])]
    if len(epochs):
        blocks += _losses(epochs)
    blocks += _drift(summary)
    shown = (
        Column("parameter", "parameter"),
        Column("dimension", "of"),
        Column("mean", "mean", "number"),
        Column("lower", "lower", "number"),
        Column("upper", "upper", "number"),
        Column("unit", "unit"),
        Column("meaning", "meaning"),
    )
    caption = "Global parameters; a dash where a parameter is a point without an interval"
    apart = summary["parameter"].isin(WITHOUT_MEANING)
    ordered = pd.concat([summary[~apart], summary[apart]], ignore_index=True)
    limit = min(PARAMETERS_SHOWN, int((~apart).sum()))
    blocks.append(Table("parameters", caption, ordered, shown, limit))
    return Section("fit", "The fit", tuple(blocks))


def _losses(epochs: pd.DataFrame) -> list[Block]:
    from bayes_interest.report.plots import plot_loss

    first, last = epochs["loss"].iloc[0], epochs["loss"].iloc[-1]
    alt = (
        f"Loss per event over {many(len(epochs), 'epoch')}: from {number(first)} to {number(last)}"
    )
    held = epochs["held_back_loss"]
    if np.isfinite(held).any():
        best = int(np.nanargmin(held.to_numpy()))
        alt += (
            f"; of the held-back slice lowest in epoch {number(epochs['epoch'].iloc[best])} with "
            f"{number(held.iloc[best])}"
        )
    caption = "The held-back slice of time decides how many epochs are used."
    shown = (
        Column("epoch", "epoch", "count"),
        Column("loss", "loss", "number"),
        Column("held_back_loss", "held-back loss", "number"),
        Column("seconds", "seconds", "number"),
    )
    return [
        picture("loss", plot_loss(epochs), f"{alt}.", caption),
        Table("epochs", "The epochs", epochs, shown),
    ]


def _drift(summary: pd.DataFrame) -> list[Block]:
    from bayes_interest.report.plots import plot_drift

    own = summary[summary["parameter"] == "drift_scale"]
    if own.empty:
        return []
    scales = own["mean"].astype(float)
    told = [number(float(value)) for value in (scales.min(), scales.max())]
    alt = (
        f"Drift scales of {many(len(own), 'dimension')} of interest, in units of the spread "
        f"between users per square root of a day: between {listed(told)}."
    )
    caption = (
        "How fast each dimension of interest moves. At a scale of 0.1, a hundred days add as much "
        "variance as there is between users."
    )
    return [picture("drift", plot_drift(summary), alt, caption)]
