"""Questions by external ids, answered as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError, ItemError
from bayes_interest.events.history import History
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.events.split import moment_seconds
from bayes_interest.model.prepare import embed_items, item_texts, log_history
from bayes_interest.posterior.exposure import ExposedEvents, item_places
from bayes_interest.posterior.item_learning import absorb_together, check_learns_items
from bayes_interest.posterior.online import absorb, filter_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    check_draws,
    check_prob,
    clock,
)
from bayes_interest.posterior.score import score_history
from bayes_interest.progress import logger
from bayes_interest.schema import (
    EXPECTED_HITS,
    ITEM_ID,
    LOG_PROB,
    LOWER,
    MEAN,
    RANK,
    SD,
    SLATE,
    SLATE_CERTAINTY,
    TIMESTAMP,
    UPPER,
    USER_ID,
)
from bayes_interest.text.encoder import Encoder
from bayes_interest.text.precomputed import PrecomputedVectors


def listed(ids: Iterable[Any] | None, name: str) -> list[Any] | None:
    """Ids as a list; a single string is most likely a mistake."""
    if ids is None:
        return None
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise InputError(f"{name}={ids!r}: expected a list of ids, for example {name}=[{ids!r}]")
    return list(ids)


def find_users(posterior: Posterior, users: Iterable[Any] | None) -> tuple[Posterior, np.ndarray]:
    """Positions of users; unknown ones are added to a copy, at the prior."""
    wanted = listed(users, "users")
    if wanted is None:
        return posterior, np.arange(len(posterior.vocabulary.users))
    wider = posterior.with_users(np.array(wanted, dtype=object))
    return wider, wider.vocabulary.users.index_of(wanted)


def find_items(posterior: Posterior, items: Iterable[Any] | None, name: str) -> np.ndarray:
    """Positions of items. Raises ItemError for an unknown one."""
    wanted = listed(items, name)
    if wanted is None:
        return np.arange(posterior.layout.n_items)
    found = posterior.vocabulary.items.index_of(wanted)
    if (found < 0).any():
        at = int(np.flatnonzero(found < 0)[0])
        raise ItemError(
            f"item {wanted[at]!r} is unknown to the model ({int((found < 0).sum())} such in "
            f"{name}). Give its text with update(events, items=...), or leave it out"
        )
    return found


def moment(posterior: Posterior, at: object, users: np.ndarray) -> np.ndarray:
    """`at` as seconds per user; by default the latest time that the model has absorbed."""
    seconds = clock(posterior) if at is None else moment_seconds(at)
    return np.full(len(users), seconds)


def fit_report(posterior: Posterior) -> pd.DataFrame:
    """One row per epoch of the search for the number of epochs."""
    summary = posterior.summary
    names = ["epoch", "loss", "held_back_loss", "seconds"]
    frame = pd.DataFrame(list(summary.epochs), columns=names)
    frame.attrs = {
        "emission": posterior.config.emission,
        "reason": summary.family_reason,
        "best_epoch": summary.best_epoch,
        "stopped_early": summary.stopped_early,
        "seconds": summary.seconds,
        "notes": list(summary.notes),
    }
    return frame


def interval_columns(interval: Interval) -> dict[str, np.ndarray]:
    """mean, sd, lower and upper as columns, one row per number."""
    names = {MEAN: interval.mean, SD: interval.sd, LOWER: interval.lower, UPPER: interval.upper}
    return {name: value.double().cpu().numpy().reshape(-1) for name, value in names.items()}


def widened(
    posterior: Posterior, log: EventLog, table: ItemTable | None, encoder: Encoder
) -> Posterior:
    """The posterior with the users and items of a log and an item table added."""
    posterior = posterior.with_users(log.columns.user.ids)
    wanted = log.columns.item.ids
    if table is not None:
        wanted = np.concatenate((table.frame[ITEM_ID].to_numpy(), wanted))
    known = posterior.vocabulary.items
    new = known.extend(wanted).ids[len(known) :]
    if not len(new):
        return posterior
    logger.debug("encoding %d items that the model did not know", len(new))
    embedded = embed_items(new, item_texts(new, log, table), encoder, progress=False)
    if not embedded.known.all():
        missing = new[~embedded.known]
        what = "vector" if isinstance(encoder, PrecomputedVectors) else "text"
        raise ItemError(
            f"item {missing[0]!r} is unknown to the model and has no {what} "
            f"({len(missing)} such). Give it in items=, or leave its events out"
        )
    width, given = posterior.features.shape[1], embedded.vectors.shape[1]
    if given != width:
        raise ItemError(
            f"item {new[0]!r} is unknown to the model and has a vector of {given} numbers, but the "
            f"model was fitted with {width} per item (1: without any text). Refit with texts, or "
            "leave the events of new items out"
        )
    return posterior.with_items(new, embedded)


def update(
    posterior: Posterior,
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder,
    learn_items: bool = False,
) -> Posterior:
    """See `InterestModel.update`."""
    absorbing = absorb_together if learn_items else absorb
    if learn_items:
        check_learns_items(posterior)
    posterior = widened(posterior, log, table, encoder)
    if not len(log):
        return posterior
    config = posterior.config
    logger.info("absorbing %d events into a model of %d", len(log), len(posterior.history))
    return absorbing(posterior, log_history(log, posterior.vocabulary, config.emission, config))


def later_history(
    posterior: Posterior, log: EventLog, table: ItemTable | None, encoder: Encoder
) -> tuple[Posterior, History]:
    """The posterior that knows the users and items of a log, and the log by their positions."""
    posterior = widened(posterior, log, table, encoder)
    config = posterior.config
    return posterior, log_history(log, posterior.vocabulary, config.emission, config)


def _exposed(
    choice: Posterior, other: Posterior, log: EventLog, history: History, n_draws: int
) -> ExposedEvents:
    """What the choice model foresees before each event of the log, lined up with `history`."""
    places = item_places(choice, other)
    mine = log_history(log, choice.vocabulary, choice.config.emission, choice.config)
    found, _, _ = filter_history(choice, mine, keep_cov=True)
    where = np.empty(len(mine), dtype=np.int64)
    where[mine.order] = np.arange(len(mine))
    return ExposedEvents(choice, found, where[history.order], places, n_draws)


def score_events(
    posterior: Posterior,
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder,
    exclude_seen: bool,
    prob: float,
    n_draws: int,
    k: int | None = None,
    exposure: Posterior | None = None,
    certainty: bool = False,
    detail: bool = False,
) -> pd.DataFrame:
    """See `InterestModel.score_events`; with the posterior of a choice model, `ExposedInterest`."""
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise InputError(f"k={k!r}: expected a whole number >= 1, or None")
    if certainty and k is None:
        raise InputError("certainty=True is of a slate: give its length k= too")
    check_prob(prob)
    check_draws(n_draws)
    posterior = widened(posterior, log, table, encoder)
    config = posterior.config
    history = log_history(log, posterior.vocabulary, config.emission, config)
    chances = None
    if exposure is not None:
        known = widened(exposure, log, table, encoder)
        chances = _exposed(known, posterior, log, history, n_draws)
    scores, history = score_history(
        posterior, history, prob, exclude_seen, n_draws, k, chances, certainty, detail
    )
    columns = {**interval_columns(scores.interval), LOG_PROB: scores.log_prob, RANK: scores.rank}
    frame = pd.DataFrame(columns | scores.detail)
    if scores.slate is not None:
        ids = posterior.vocabulary.items.ids
        frame[SLATE] = [ids[row[row >= 0]].tolist() for row in scores.slate]
    if scores.certainty is not None:
        frame[SLATE_CERTAINTY] = scores.certainty
        frame[EXPECTED_HITS] = scores.hits
    back = np.empty(len(history), dtype=np.int64)
    back[history.order] = np.arange(len(history))
    frame = frame.iloc[back].reset_index(drop=True)  # now in the order of log.frame
    identity = log.frame[[USER_ID, ITEM_ID, TIMESTAMP]].reset_index(drop=True)
    both = pd.concat((identity, frame), axis=1)
    both.index = pd.Index(log.row)
    return both.sort_index()
