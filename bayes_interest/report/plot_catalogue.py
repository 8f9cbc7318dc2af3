"""A map of the catalogue, with one user's interest in it and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.dress import (
    BAND,
    GREY,
    INK,
    RAMP,
    WIDTH_INCHES,
    AxesType,
    caption,
    check_columns,
    legible,
    one_panel,
)
from bayes_interest.report.plot_themes import percent
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, UPPER

N_EVENTS = "n_events"
SMALLEST, LARGEST = 24.0, 150.0  # areas of marks, points squared
ROOMY = 400.0  # items of this number have marks of full size
HOLE = 0.7  # of the diameter, where an item is least sure of all
APART = 0.045  # between labels, of the height of the map


def plot_catalogue(
    frame: pd.DataFrame,
    n_named: int = 8,
    ax: AxesType | None = None,
    labels: Mapping[Any, str] | None = None,
) -> AxesType:
    """A point per item, like items near each other; the larger, the more events.

    With a user the colour is the mean interest, brighter for more, and a hole shows how unsure
    that is: a full disc is certain, a thin ring could be anything. Directions and distances along
    the axes mean nothing by themselves.

    Args:
        frame: as `InterestModel.catalogue_map` returns it.
        n_named: name at most as many items, those of most interest, without a user those with
            most events; labels that would cover each other are left out.
        ax: axes to draw into; by default those of a new figure.
        labels: item_id to title.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: an empty table, a column is missing, or an impossible option.
    """
    if isinstance(n_named, bool) or not isinstance(n_named, int) or n_named < 0:
        raise InputError(f"n_named={n_named!r}: expected a whole number >= 0")
    check_columns(frame, (ITEM_ID, "x", "y", N_EVENTS), "catalogue_map")
    of_user = MEAN in frame
    if of_user:
        check_columns(frame, (LOWER, UPPER), "catalogue_map(user)")
        frame = frame.sort_values(MEAN, kind="stable")  # what is of interest is drawn last
    panel = one_panel(4.4, WIDTH_INCHES + 1.2) if ax is None else ax
    area = _areas(frame[N_EVENTS].to_numpy(float), len(frame))
    if of_user:
        _draw_interest(panel, frame, area)
    else:
        panel.scatter(frame["x"], frame["y"], s=area, c=BAND, edgecolors=INK, linewidths=0.3)
    _name(panel, frame, MEAN if of_user else N_EVENTS, n_named, labels)
    _dress(panel)
    _key(panel, frame, of_user)
    legible(panel)
    return panel


def _areas(events: np.ndarray, n_items: int) -> np.ndarray:
    """Of marks, by the events of some items; smaller in a map of many."""
    share = np.sqrt(events / max(1.0, events.max()))
    room = float(np.clip(ROOMY / n_items, 0.1, 1.0))
    out: np.ndarray = room * (SMALLEST + (LARGEST - SMALLEST) * share)
    return out


def _draw_interest(panel: AxesType, frame: pd.DataFrame, area: np.ndarray) -> None:
    """Rings whose hole is as wide as the interval: edges around a white middle."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import PercentFormatter

    width = (frame[UPPER] - frame[LOWER]).to_numpy(float) / _scale(frame)
    across = np.sqrt(area)
    edge = across * (1.0 - HOLE * width) / 2.0
    color = ScalarMappable(Normalize(frame[MEAN].min(), frame[MEAN].max()), colormaps[RAMP])
    rings: Any = color.to_rgba(frame[MEAN].to_numpy(float))
    panel.scatter(
        frame["x"], frame["y"], s=(across - edge) ** 2, c="white", edgecolors=rings, linewidths=edge
    )
    bar = panel.figure.colorbar(color, ax=panel, pad=0.02, format=PercentFormatter(1.0))
    bar.set_label("mean interest", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)


def _scale(frame: pd.DataFrame) -> float:
    """The width of an interval that is drawn as the thinnest ring."""
    widest = float((frame[UPPER] - frame[LOWER]).max())
    return 1.0 if widest > 0.5 else max(widest, 1e-12)


def _name(
    panel: AxesType, frame: pd.DataFrame, by: str, n_named: int, labels: Mapping[Any, str] | None
) -> None:
    """The first of them by a column, passing over those too near to one that is named."""
    spot = frame[["x", "y"]].to_numpy(float)
    span = np.maximum(np.ptp(spot, axis=0), 1e-12)
    kept: list[np.ndarray] = []
    for place in np.argsort(-frame[by].to_numpy(float), kind="stable"):
        if len(kept) == n_named:
            break
        at = (spot[place] - spot.min(0)) / span
        near = (abs(at[0] - other[0]) < 0.35 and abs(at[1] - other[1]) < APART for other in kept)
        if any(near):
            continue
        kept.append(at)
        left = at[0] > 0.6
        panel.annotate(
            caption(frame[ITEM_ID].iloc[place], labels, lines=1),
            spot[place], xytext=(-6 if left else 6, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=6.5, color=INK,
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6},
        )  # fmt: skip


def _dress(panel: AxesType) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.margins(0.06)
    for spine in panel.spines.values():
        spine.set_color("#d0d0d0")
    panel.set_xlabel("like items are near each other", fontsize=8, color=GREY)


def _key(panel: AxesType, frame: pd.DataFrame, of_user: bool) -> None:
    """What sizes and holes mean."""
    from matplotlib.lines import Line2D

    most = int(frame[N_EVENTS].max())
    counts = sorted({0, most // 4, most})
    marks: dict[str, Any] = {"marker": "o", "ls": "none", "mew": 0.4}
    handles = [
        Line2D(
            [], [], ms=float(np.sqrt(area)), mfc=BAND, mec=INK, label=f"{count:,} events", **marks
        )
        for count, area in zip(counts, _areas(np.array(counts, float), len(frame)), strict=True)
    ]
    if of_user and (frame[UPPER] > frame[LOWER]).any():
        wide = percent(_scale(frame))
        ring = Line2D([], [], ms=7, mfc="white", mec=GREY, marker="o", ls="none", mew=1.8)
        ring.set_label(f"full disc: sure; this ring: interval {wide} wide")
        handles.append(ring)
    panel.figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=7
    )
