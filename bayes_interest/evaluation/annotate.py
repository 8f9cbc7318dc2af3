"""What is known of each test event and each item without any model: for strata and slates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.windows import Window
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.schema import ITEM_ID, SECONDS_PER_DAY, TEXT, TIMESTAMP, USER_ID, VALUE

WINDOW, POSITIVE = "window", "positive"
N_BEFORE, GAP_DAYS = "n_before", "gap_days"
USER_N_TRAIN, ITEM_N_TRAIN = "user_n_train", "item_n_train"
N_TRAIN, USER_SHARE, BAND = "n_train", "user_share", "popularity"
TRUE_PROB = "true_prob"
BANDS = ("head", "mid", "tail")


def positive_events(
    log: EventLog, threshold: float | None, emission: str | None = None
) -> np.ndarray:
    """Which events are positive, (event,) bool.

    With a threshold those with value >= threshold; without one the ones where values are 0 and 1,
    and all of them where there is no value, where all values are equal, or for choices.

    Raises:
        InputError: values of several levels and no threshold.
    """
    if VALUE not in log.frame:
        return np.ones(len(log), dtype=bool)
    value = log.frame[VALUE].to_numpy(dtype=float)
    if threshold is not None:
        positive: np.ndarray = value >= threshold
        return positive
    levels = np.unique(value)
    if emission == "choice" or len(levels) < 2:
        return np.ones(len(log), dtype=bool)
    if set(levels) <= {0.0, 1.0}:
        ones: np.ndarray = value == 1.0
        return ones
    raise InputError(
        f"ratings need threshold=: from which value on is an item liked? The values have "
        f"{len(levels)} levels, from {levels[0]:g} to {levels[-1]:g}"
    )


def describe_items(train: EventLog, test: EventLog, items: ItemTable | None) -> pd.DataFrame:
    """Every item that is known at some time in the window, with its popularity in training.

    Columns item_id, n_train (training events), user_share (of the training users, those who met
    it; one user added to both counts, so that it is never 0) and popularity: with the items in
    order of n_train, "head" are those that begin within the first third of all training events,
    "mid" within the second, "tail" the rest; items with equal counts stay together.
    """
    known = [train.frame[ITEM_ID], test.frame[ITEM_ID]]
    if items is not None:
        known.append(items.frame[ITEM_ID])
    ids = pd.Index(pd.concat(known, ignore_index=True).unique(), name=ITEM_ID)
    counts = train.frame[ITEM_ID].value_counts().reindex(ids, fill_value=0).to_numpy()
    pairs = train.frame[[USER_ID, ITEM_ID]].drop_duplicates()
    users = pairs[ITEM_ID].value_counts().reindex(ids, fill_value=0).to_numpy()
    share = (users + 1) / (train.frame[USER_ID].nunique() + 1)
    return pd.DataFrame(
        {ITEM_ID: ids, N_TRAIN: counts, USER_SHARE: share, BAND: popularity_bands(counts)}
    )


def popularity_bands(counts: np.ndarray) -> np.ndarray:
    """Band (head, mid, tail) of each item from its number of training events, (item,)."""
    levels, place = np.unique(counts, return_inverse=True)
    held = np.bincount(place, weights=counts, minlength=len(levels))
    more_popular = held[::-1].cumsum()[::-1] - held
    third = np.floor(3.0 * more_popular / max(1.0, float(counts.sum())))
    band = np.minimum(third, 2).astype(int)
    band[levels == 0] = 2
    named: np.ndarray = np.asarray(BANDS, dtype=object)[band][place]
    return named


def describe_events(window: Window, items: pd.DataFrame, positive: np.ndarray) -> pd.DataFrame:
    """The test events of a window with the log's columns (texts left out) and what precedes them.

    Adds positive; n_before and gap_days (events of the user before this one in the log, and the
    days since the last of them, NaN where there is none); user_n_train, item_n_train (training
    events of the user and of the item) and popularity (band of the item in training).
    """
    train, test = window.train.frame, window.test.frame
    both = pd.concat((train[[USER_ID, TIMESTAMP]], test[[USER_ID, TIMESTAMP]]), ignore_index=True)
    order = np.argsort(both[TIMESTAMP].to_numpy(), kind="stable")
    grouped = both.iloc[order].groupby(USER_ID, sort=False)
    before = grouped.cumcount().sort_index().to_numpy()[len(train) :]
    gap = grouped[TIMESTAMP].diff().sort_index().dt.total_seconds().to_numpy()[len(train) :]
    found = pd.Index(items[ITEM_ID]).get_indexer(pd.Index(test[ITEM_ID]))
    trained = train[USER_ID].value_counts().reindex(test[USER_ID], fill_value=0)
    return test.drop(columns=TEXT, errors="ignore").assign(
        **{
            POSITIVE: positive,
            N_BEFORE: before,
            GAP_DAYS: gap / SECONDS_PER_DAY,
            USER_N_TRAIN: trained.to_numpy(),
            ITEM_N_TRAIN: items[N_TRAIN].to_numpy()[found],
            BAND: items[BAND].to_numpy()[found],
        }
    )
