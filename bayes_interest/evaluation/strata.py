"""Groups of test events: cold and warm, short and long histories, gaps, popularity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import (
    BAND,
    BANDS,
    GAP_DAYS,
    ITEM_N_TRAIN,
    N_BEFORE,
    USER_N_TRAIN,
)
from bayes_interest.schema import TIMESTAMP, USER_ID

ALL = "all"
STRATA = ("user", "item", "history", "gap", "popularity")
HISTORY = ("0", "1-2", "3-9", "10-29", "30+")
GAP = ("none", "<1h", "<1d", "<7d", "<30d", "30d+")
_HISTORY_FROM = (1, 3, 10, 30)
_GAP_DAYS_BELOW = (1 / 24, 1.0, 7.0, 30.0)


def wanted_strata(strata: bool | str | Sequence[str], events: pd.DataFrame) -> tuple[str, ...]:
    """The names asked for: True is all of `STRATA`; a column of the log is a stratum too.

    Raises:
        InputError: a name that is neither.
    """
    if isinstance(strata, bool):
        return STRATA if strata else ()
    names = (strata,) if isinstance(strata, str) else tuple(strata)
    own = [c for c in events.columns if c not in (USER_ID, TIMESTAMP)]
    for name in names:
        if name not in STRATA and name not in own:
            raise InputError(
                f"strata: {name!r} is neither one of {', '.join(STRATA)} nor a column of the "
                f"events ({', '.join(map(str, own))})"
            )
    return names


def stratum_masks(
    events: pd.DataFrame, strata: bool | str | Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Which events are in which stratum: "all" and then "item=cold" and the like, (event,) bool.

    - user, item: "cold" has no event in training, "warm" has.
    - history: number of events of the user before this one, in training and test.
    - gap: time since the user's previous event; "none" where there is none.
    - popularity: "head", "mid", "tail" of the items, see `describe_items`.
    - any column of the log: one stratum per value.

    Strata without an event are left out.
    """
    masks = {ALL: np.ones(len(events), dtype=bool)}
    for name in wanted_strata(strata, events):
        label, order = _labels(events, name)
        present = {value: label == value for value in order}
        masks |= {f"{name}={value}": mask for value, mask in present.items() if mask.any()}
    return masks


def _labels(events: pd.DataFrame, name: str) -> tuple[np.ndarray, Sequence[object]]:
    if name in ("user", "item"):
        cold = events[USER_N_TRAIN if name == "user" else ITEM_N_TRAIN].to_numpy() == 0
        return np.where(cold, "cold", "warm"), ("cold", "warm")
    if name == "history":
        band = np.searchsorted(_HISTORY_FROM, events[N_BEFORE].to_numpy(), side="right")
        return np.asarray(HISTORY)[band], HISTORY
    if name == "gap":
        days = events[GAP_DAYS].to_numpy(dtype=float)
        band = 1 + np.searchsorted(_GAP_DAYS_BELOW, days, side="right")
        return np.asarray(GAP)[np.where(np.isnan(days), 0, band)], GAP
    if name == "popularity":
        return events[BAND].to_numpy(dtype=object), BANDS
    own = events[name].to_numpy(dtype=object)
    return own, sorted(pd.unique(own[~pd.isna(own)]), key=str)
