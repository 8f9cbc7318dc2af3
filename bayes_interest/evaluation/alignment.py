"""Scored tables checked and put in the order of their events."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import POSITIVE, WINDOW
from bayes_interest.events.read import EventLog
from bayes_interest.schema import (
    ITEM_ID,
    LOG_PROB,
    LOWER,
    MEAN,
    P_ABOVE,
    P_LEVEL,
    P_TIED,
    P_TOP,
    RANK,
    SD,
    SLATE,
    TIMESTAMP,
    TOP_HIT,
    UPPER,
    USER_ID,
)

NUMBERS = (MEAN, SD, LOWER, UPPER, LOG_PROB, RANK)
DETAILS = (P_TOP, TOP_HIT, P_ABOVE, P_TIED)
REQUIRED = (MEAN, RANK)
ROUNDING = 1e-6  # what float32 may add to a probability


def placed(name: str, table: pd.DataFrame, log: EventLog) -> pd.DataFrame:
    """Rows labelled by position in the source -> by position in `log.frame`."""
    rows = pd.Index(log.row)
    if len(rows) != len(table) or not rows.isin(table.index).all():
        raise InputError(
            f"model {name!r} has {len(table)} scored rows for {len(log)} events, and they must be "
            "the same ones: pass the events that were scored"
        )
    return table.loc[rows].reset_index(drop=True)


def aligned(name: str, table: pd.DataFrame, test: EventLog) -> pd.DataFrame:
    """Rows in the order of `test.frame`, checked; missing optional columns are NaN."""
    if not isinstance(table, pd.DataFrame):
        raise InputError(
            f"model {name!r}: score_events must return a DataFrame, got {type(table).__name__}"
        )
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise InputError(f"model {name!r}: its scores have no column {missing[0]!r}")
    if len(table) != len(test) or not test.frame.index.isin(table.index).all():
        raise InputError(
            f"model {name!r} returned {len(table)} rows for {len(test)} events; there must be "
            "one per event, in the order of the events"
        )
    own = table.loc[test.frame.index]
    for column in (USER_ID, ITEM_ID, TIMESTAMP):
        if column in own and not own[column].astype(object).equals(
            test.frame[column].astype(object)
        ):
            raise InputError(f"model {name!r}: column {column!r} is not that of the events")
    kept = {column: own.get(column, np.nan) for column in NUMBERS}
    out = pd.DataFrame(kept, index=own.index).astype(float)
    _check_values(name, out)
    more = [column for column in own if is_detail(column)] + [SLATE] * (SLATE in own)
    return out.join(own[more])


def is_detail(column: object) -> bool:
    """Whether it is one of the columns that `score_events` adds with `detail`."""
    return column in DETAILS or (isinstance(column, str) and column.startswith(P_LEVEL))


def _check_values(name: str, table: pd.DataFrame) -> None:
    mean = table[MEAN].to_numpy()
    outside = (mean < -ROUNDING) | (mean > 1.0 + ROUNDING)
    if outside.any():
        worst = float(mean[outside][0])
        raise InputError(
            f"model {name!r}: mean={worst:g} is no probability; a model that only orders items "
            "leaves mean NaN"
        )
    if (table[RANK] < 1).any():
        raise InputError(f"model {name!r}: rank={table[RANK].min():g}, but ranks start at 1")
    if (table[LOG_PROB] > ROUNDING).any():
        raise InputError(f"model {name!r}: log_prob={table[LOG_PROB].max():g} is above 0")


def check_same_events(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Raise InputError where two runs were not judged on the same events."""
    columns = [USER_ID, ITEM_ID, TIMESTAMP, WINDOW, POSITIVE]
    if len(first) != len(second):
        raise InputError(
            f"merged: one run has {len(first)} test events and the other {len(second)}"
        )
    for column in columns:
        differs = first[column].astype(object) != second[column].astype(object)
        if differs.any():
            row = int(np.argmax(differs.to_numpy()))
            raise InputError(
                f"merged: test event {row} differs in {column!r}: {first[column].iloc[row]!r} "
                f"and {second[column].iloc[row]!r}"
            )
