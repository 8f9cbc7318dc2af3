"""Risen or fallen interests, and how surely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.dress import (
    BLUE,
    GREY,
    INK,
    WIDTH_INCHES,
    AxesType,
    caption,
    check_columns,
    dress,
    legible,
    one_panel,
)
from bayes_interest.report.plot_slate import ROW_INCHES, at_right
from bayes_interest.report.plot_themes import THEME, percent
from bayes_interest.schema import ITEM_ID, LOWER, UPPER, USER_ID

CHANGE, P_RISEN = "change", "p_risen"
ORANGE = "#d55e00"


def plot_changes(
    frame: pd.DataFrame,
    top: int = 30,
    ax: AxesType | None = None,
    labels: Mapping[Any, str] | None = None,
) -> AxesType:
    """A forest plot of changes of interest: the risen on top, the fallen below.

    A change whose interval leaves out zero is drawn with a full mark that points where it went,
    blue up or orange down; the others are hollow and grey. At the right stands P(risen).

    Args:
        frame: as `InterestModel.changes` returns it, of items or themes, of any number of users.
        top: draw at most so many, those that are surest not to be zero, by the inner end of their
            interval; the title says how many are left out.
        ax: axes to draw into; by default those of a new figure.
        labels: item_id (or theme) to title.

    Returns:
        The axes; `ax.figure.savefig(...)` writes.

    Raises:
        InputError: a column is missing. An empty table is drawn as such: nobody surely changed.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise InputError(f"top={top!r}: expected a whole number >= 1")
    key = THEME if THEME in frame else ITEM_ID
    wanted = (USER_ID, key, CHANGE, LOWER, UPPER, P_RISEN)
    check_columns(frame, wanted, "changes", may_be_empty=True)
    if frame.empty:
        return _nothing(one_panel(1.0) if ax is None else ax)
    inner = np.maximum(frame[LOWER].to_numpy(), -frame[UPPER].to_numpy())
    own = frame.iloc[np.argsort(-inner, kind="stable")[:top]]
    own = own.sort_values(CHANGE, ascending=False, kind="stable")
    height = ROW_INCHES * len(own) + 1.0
    panel = one_panel(height, WIDTH_INCHES + 1.0) if ax is None else ax
    _draw(panel, own)
    several = frame[USER_ID].nunique() > 1
    panel.set_yticks(
        range(len(own)), [_name(row, key, labels, several) for _, row in own.iterrows()]
    )
    at_right(panel, [percent(chance) for chance in own[P_RISEN]], "P(risen)")
    panel.set_xlabel("change of interest (logits)", fontsize=9, color=INK)
    panel.set_title(_title(frame, len(own), several), loc="left", fontsize=9, color=INK)
    legible(panel)
    return panel


def _nothing(panel: AxesType) -> AxesType:
    said = "no change whose interval leaves out zero"
    panel.text(0.5, 0.5, said, ha="center", va="center", fontsize=9, color=INK)
    panel.set_axis_off()
    return panel


def _name(row: pd.Series[Any], key: str, labels: Mapping[Any, str] | None, several: bool) -> str:
    name = caption(row[key], labels)
    return f"{name}  [{caption(row[USER_ID], width=12)}]" if several else name


def _draw(panel: AxesType, own: pd.DataFrame) -> None:
    at = np.arange(len(own))
    risen, fallen = (own[LOWER] > 0).to_numpy(), (own[UPPER] < 0).to_numpy()
    unsure = ~risen & ~fallen
    for which, color, mark, face in (
        (risen, BLUE, ">", BLUE), (fallen, ORANGE, "<", ORANGE), (unsure, GREY, "o", "white"),
    ):  # fmt: skip
        part = own[which]
        panel.hlines(at[which], part[LOWER], part[UPPER], color=color, lw=1.6, zorder=1)
        panel.plot(
            part[CHANGE], at[which], color=color, marker=mark, mfc=face, ms=6, ls="none", zorder=2
        )
    panel.axvline(0.0, color=INK, lw=0.8, zorder=0)
    panel.set_ylim(len(own) - 0.5, -0.5)
    dress(panel, "x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _title(frame: pd.DataFrame, shown: int, several: bool) -> str:
    who = "several users" if several else str(frame[USER_ID].iloc[0])
    parts = [f"changes of {who}"]
    if "since" in frame and "at" in frame:
        begin, end = (pd.Timestamp(frame[name].iloc[0]).date() for name in ("since", "at"))
        parts.append(f"{begin} to {end}")
    if shown < len(frame):
        parts.append(f"{shown} of {len(frame)}")
    return caption(", ".join(parts), width=70)
