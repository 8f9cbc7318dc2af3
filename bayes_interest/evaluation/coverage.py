"""Known truth inside intervals: how often, at several masses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.bootstrap import MIN_USERS, resamples
from bayes_interest.schema import ITEM_ID, LOWER, PROBABILITY, TIMESTAMP, UPPER, USER_ID

PROBS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BAND = 0.9


class Believer(Protocol):
    """What is asked of a model."""

    def interest(
        self, users: Iterable[Any] | None, items: Iterable[Any] | None, at: object, prob: float
    ) -> pd.DataFrame:
        """See `InterestModel.interest`."""
        ...


def coverage(
    model: Believer,
    truth: pd.DataFrame,
    probs: Sequence[float] = PROBS,
    at: object = None,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """How often intervals of interest hold a known truth, at several masses.

    Only where the truth is known: of `simulate`, or of the data of the demo. On a real log
    `calibration(...).groups` says how often the count of a group lies in its interval.

    Args:
        model: a fitted `InterestModel`.
        truth: user_id, item_id, probability; a row per pair. With a column timestamp, as
            `simulate(...).final_truth` has it, each row is of that moment.
        probs: masses of the intervals.
        at: the moment that all the truth is of, where there is no timestamp; by default the latest
            that the model has absorbed.
        n_boot, seed: resamples of users for the 90 % interval of the share (0: none).

    Returns:
        A row per mass: prob, coverage (share of truths inside), lower, upper, mean_width, n
        (pairs); lower and upper are missing with fewer than 5 users.

    Raises:
        InputError: a column is missing, a pair is there twice, `at` beside moments, or an
            impossible mass.
    """
    for name in (USER_ID, ITEM_ID, PROBABILITY):
        if name not in truth:
            raise InputError(
                f"truth has no column {name!r}: expected user_id, item_id, probability"
            )
    if truth.empty or truth.duplicated([USER_ID, ITEM_ID]).any():
        raise InputError("truth: expected one or more rows, one for each pair of user and item")
    truth = truth.reset_index(drop=True)
    if at is not None and TIMESTAMP in truth:
        raise InputError(f"at={at!r}, and truth has moments of its own: drop its timestamp")
    place, users = pd.factorize(truth[USER_ID])
    rows = []
    for prob in probs:
        found = _asked(model, truth, at, prob)
        inside = truth[PROBABILITY].between(found[LOWER], found[UPPER]).to_numpy(float)
        edges = _edges(inside, place, len(users), n_boot, seed)
        width = float((found[UPPER] - found[LOWER]).mean())
        rows.append((prob, float(inside.mean()), *edges, width, len(found)))
    return pd.DataFrame(rows, columns=["prob", "coverage", LOWER, UPPER, "mean_width", "n"])


def _asked(model: Believer, truth: pd.DataFrame, at: object, prob: float) -> pd.DataFrame:
    """Bounds for every row of the truth, under its index."""
    keys, parts = [USER_ID, ITEM_ID], []
    groups = truth.groupby(TIMESTAMP, sort=False) if TIMESTAMP in truth else [(at, truth)]
    for second, part in groups:
        users, items = (part[name].unique().tolist() for name in keys)
        asked = model.interest(users, items, second, prob).set_index(keys)[[LOWER, UPPER]]
        own = asked.reindex(pd.MultiIndex.from_frame(part[keys]))
        parts.append(own.set_index(part.index))
    return pd.concat(parts).reindex(truth.index)


def _edges(
    inside: np.ndarray, place: np.ndarray, n_users: int, n_boot: int, seed: int
) -> tuple[float, float]:
    """Of the share, by resampling users."""
    if n_users < MIN_USERS or not n_boot:
        return np.nan, np.nan
    hits, count = np.bincount(place, inside, n_users), np.bincount(place, minlength=n_users)
    drawn = [(w @ hits) / (w @ count) for w in resamples(n_users, n_boot, len(inside), seed)]
    lower, upper = np.quantile(np.concatenate(drawn), [0.5 - BAND / 2, 0.5 + BAND / 2])
    return float(lower), float(upper)
