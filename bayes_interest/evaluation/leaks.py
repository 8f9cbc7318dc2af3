"""Does a model look at the future? Change the future and see whether its predictions change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import BayesInterestError, InputError
from bayes_interest.evaluation.protocol import Recommender, gives_slates, named_models
from bayes_interest.evaluation.windows import in_own_order
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.schema import (
    ITEM_ID,
    LOG_PROB,
    LOWER,
    MEAN,
    RANK,
    SLATE,
    TIMESTAMP,
    UPPER,
    USER_ID,
    VALUE,
)

CHANGES = ("altered", "removed")
_NUMBERS = (MEAN, LOWER, UPPER, LOG_PROB, RANK)
_COLUMNS = ("cut", "change", USER_ID, ITEM_ID, TIMESTAMP, "column", "before", "after")


class PeekingError(BayesInterestError, AssertionError):
    """A prediction depends on what happened at or after the moment it is made for."""


def check_no_peeking(
    model: Recommender,
    events: object,
    items: object | None = None,
    *,
    n_cuts: int = 5,
    k: int | None = 5,
    exclude_seen: bool = True,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Raise PeekingError if `find_peeking` finds anything; the message names the first event."""
    found = find_peeking(
        model,
        events,
        items,
        n_cuts=n_cuts,
        k=k,
        exclude_seen=exclude_seen,
        tolerance=tolerance,
        seed=seed,
    )
    if len(found):
        first = found.iloc[0]
        raise PeekingError(
            f"the prediction for user {first[USER_ID]!r} and item {first[ITEM_ID]!r} at "
            f"{first[TIMESTAMP].isoformat()} depends on what came later: {first['column']} is "
            f"{first['before']} with the log as it is and {first['after']} with the events from "
            f"position {first['cut']} on {first['change']}"
        )


def find_peeking(
    model: Recommender,
    events: object,
    items: object | None = None,
    *,
    n_cuts: int = 5,
    k: int | None = 5,
    exclude_seen: bool = True,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a log and copies with another future; a row per cut and change that shows.

    At each of `n_cuts` random positions in the log, twice:

    - "altered": every outcome from the cut on becomes another one of the log's values, and the
      later events exchange their items;
    - "removed": the later events are left out, but for those of items that are not in the log
      before (so that the same items are known).

    Predictions of the events up to the cut must stay as they were. The event at the cut keeps its
    user, item and time, so its probability, rank and slate must not move with its own outcome;
    its `log_prob`, which is of the outcome, may.

    Args:
        model: a fitted model; it is left as it is.
        events: events that the model has not absorbed.
        items: item table for `score_events`.
        n_cuts: how many cuts; the log is scored `2 n_cuts + 1` times.
        k: length of the slates to compare; None compares none.
        exclude_seen: as for `score_events`.
        tolerance: largest difference of a number that counts as none.
        seed: of the cuts and of the exchange.

    Returns:
        cut (position in the log), change, and of the first event whose prediction differs
        user_id, item_id, timestamp, column, before, after; empty for an honest model.

    Raises:
        InputError: fewer than two events, or an option that is no positive number.
    """
    (model,) = named_models(model).values()
    log = in_own_order(read_events(events))
    if len(log) < 2:
        raise InputError(f"find_peeking needs two events or more, got {len(log)}")
    if not isinstance(n_cuts, int) or n_cuts < 1:
        raise InputError(f"n_cuts={n_cuts!r}: expected a whole number >= 1")
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(len(log) - 1, min(n_cuts, len(log) - 1), replace=False))
    length = k if gives_slates(model) else None
    before = _scores(model, log, items, exclude_seen, length)
    rows = []
    for cut in cuts.tolist():
        for change in CHANGES:
            other = _altered(log, cut, rng) if change == "altered" else _removed(log, cut)
            after = _scores(model, other, items, exclude_seen, length).iloc[: cut + 1]
            found = _first_difference(before.iloc[: cut + 1], after, change == "altered", tolerance)
            if found is not None:
                event = log.frame.loc[found[0], [USER_ID, ITEM_ID, TIMESTAMP]]
                rows.append((cut, change, *event, *found[1:]))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scores(
    model: Recommender, log: EventLog, items: object, exclude_seen: bool, k: int | None
) -> pd.DataFrame:
    more = {} if k is None else {"k": k}
    found = model.score_events(log, items, exclude_seen=exclude_seen, **more)
    return found.loc[log.frame.index]


def _altered(log: EventLog, cut: int, rng: np.random.Generator) -> EventLog:
    """Other outcomes from the cut on, and items exchanged after it."""
    frame = log.frame.copy()
    if VALUE in frame:
        levels, place = np.unique(frame[VALUE].to_numpy(), return_inverse=True)
        place[cut:] = (place[cut:] + 1) % len(levels)
        frame[VALUE] = levels[place]
    later = np.arange(cut + 1, len(frame))
    items = frame[ITEM_ID].to_numpy(copy=True)
    items[later] = items[rng.permutation(later)]
    frame[ITEM_ID] = pd.Series(items, index=frame.index, dtype=frame[ITEM_ID].dtype)
    return replace(log, frame=frame)


def _removed(log: EventLog, cut: int) -> EventLog:
    """Without what follows the cut, but for the first events of further items."""
    first = ~log.frame[ITEM_ID].duplicated().to_numpy()
    keep = first | (np.arange(len(log)) <= cut)
    return in_own_order(replace(log, frame=log.frame[keep]))


def _first_difference(
    before: pd.DataFrame, after: pd.DataFrame, own_outcome: bool, tolerance: float
) -> tuple[int, str, object, object] | None:
    """Position, column and both entries of the first event that differs."""
    found = []
    for column in (*_NUMBERS, SLATE):
        if column not in before or column not in after:
            continue
        differs = _differs(before[column], after[column], tolerance)
        if column == LOG_PROB and own_outcome:
            differs[-1] = False
        if differs.any():
            at = int(np.argmax(differs))
            found.append((at, column, before[column].iloc[at], after[column].iloc[at]))
    return min(found, key=lambda entry: entry[0], default=None)


def _differs(before: pd.Series[Any], after: pd.Series[Any], tolerance: float) -> np.ndarray:
    if before.name == SLATE:
        pairs = zip(before, after, strict=True)
        return np.array([list(one) != list(other) for one, other in pairs], dtype=bool)
    one, other = before.to_numpy(dtype=float), after.to_numpy(dtype=float)
    differs: np.ndarray = ~np.isclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
    return differs
