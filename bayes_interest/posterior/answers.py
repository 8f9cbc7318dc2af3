"""Questions by external ids, answered as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayes_interest.errors import InputError, ItemError
from bayes_interest.events.history import History
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.events.split import moment_seconds
from bayes_interest.model.candidates import extra_table
from bayes_interest.model.filtering import Belief
from bayes_interest.model.prepare import embed_items, item_texts, log_history
from bayes_interest.posterior.exposure import ExposedEvents, item_places
from bayes_interest.posterior.online import absorb, filter_history, moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    advanced_belief,
    check_draws,
    check_prob,
    circumstances,
    clock,
    draw_predictors,
    draws_interval,
    expected_rating,
    interest_interval,
    interest_probabilities,
    level_cut,
    novelty,
    predictors,
)
from bayes_interest.posterior.score import score_history
from bayes_interest.posterior.trajectory import smoothed_beliefs
from bayes_interest.schema import (
    EXPECTED_HITS,
    ITEM_ID,
    LOG_PROB,
    LOWER,
    MEAN,
    RANK,
    SD,
    SECONDS_PER_DAY,
    SLATE,
    SLATE_CERTAINTY,
    TIMESTAMP,
    UPPER,
    USER_ID,
)
from bayes_interest.text.encoder import Encoder
from bayes_interest.text.precomputed import PrecomputedVectors

EXPECTED_RATING = "expected_rating"


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


def _interval_columns(interval: Interval) -> dict[str, np.ndarray]:
    names = {MEAN: interval.mean, SD: interval.sd, LOWER: interval.lower, UPPER: interval.upper}
    return {name: value.double().cpu().numpy().reshape(-1) for name, value in names.items()}


def interest(
    posterior: Posterior,
    users: Iterable[Any] | None,
    items: Iterable[Any] | None,
    at: object,
    prob: float,
    n_draws: int,
) -> pd.DataFrame:
    """See `InterestModel.interest`."""
    check_prob(prob)
    check_draws(n_draws)
    posterior, who = find_users(posterior, users)
    what = find_items(posterior, items, "items")
    seconds = moment(posterior, at, who)
    belief = advanced_belief(posterior, who, seconds)
    tables = []
    for row in range(len(who)):
        part = slice(row, row + 1)
        one = belief.take(part)
        extra = circumstances(posterior, who[part], seconds[part])
        tables.append(_pairs(posterior, one, extra, (who[row], what), prob, n_draws))
    if not tables:
        return pd.DataFrame({name: [] for name in (USER_ID, ITEM_ID, MEAN, SD, LOWER, UPPER)})
    return pd.concat(tables, ignore_index=True)


def _pairs(
    posterior: Posterior,
    one: Belief,
    extra: torch.Tensor,
    pair: tuple[int, np.ndarray],
    prob: float,
    n_draws: int,
) -> pd.DataFrame:
    """Interest of one user in some items."""
    user, what = pair
    index = torch.as_tensor(what, device=one.mean.device)
    more: dict[str, np.ndarray] = {}
    if one.diagonal:
        drawn = draw_predictors(posterior, one, extra, n_draws)[0]
        interval = draws_interval(interest_probabilities(posterior, drawn)[:, index], prob)
    else:
        found = predictors(posterior, one, extra)
        mine = found.of(0, index)
        interval = interest_interval(mine, prob, level_cut(posterior), posterior.recalibration)
        if posterior.layout.emission == "rating":
            more[EXPECTED_RATING] = expected_rating(posterior, mine).double().cpu().numpy()
    ids = posterior.vocabulary
    return pd.DataFrame(
        {
            USER_ID: np.repeat(ids.users.ids[user : user + 1], len(what)),
            ITEM_ID: ids.items.ids[what],
            **_interval_columns(interval),
            **more,
        }
    )


def trajectory(
    posterior: Posterior,
    users: Iterable[Any],
    items: Iterable[Any],
    every_days: float | None,
    prob: float,
    n_draws: int = 400,
) -> pd.DataFrame:
    """See `InterestModel.trajectory`."""
    check_prob(prob)
    if every_days is not None and not every_days > 0:
        raise InputError(f"every_days={every_days!r}: expected days > 0, or None for the events")
    wanted = listed(users, "users") or []
    what = find_items(posterior, items, "items")
    found = posterior.vocabulary.users.index_of(wanted)
    tables = []
    for user_id, user in zip(wanted, found, strict=True):
        if user < 0:
            raise InputError(f"user {user_id!r} has no event: there is no trajectory to show")
        seconds = _grid(posterior, int(user), every_days)
        belief = smoothed_beliefs(posterior, int(user), seconds)
        for row, second in enumerate(seconds):
            one = belief.take(slice(row, row + 1))
            extra = _past_circumstances(posterior, int(user), second)
            table = _pairs(posterior, one, extra, (int(user), what), prob, n_draws)
            table.insert(2, TIMESTAMP, pd.to_datetime(second, unit="s", utc=True))
            tables.append(table)
    if not tables:
        names = (USER_ID, ITEM_ID, TIMESTAMP, MEAN, SD, LOWER, UPPER)
        return pd.DataFrame({name: [] for name in names})
    out = pd.concat(tables, ignore_index=True)
    return out.sort_values([USER_ID, ITEM_ID, TIMESTAMP], kind="stable", ignore_index=True)


def _grid(posterior: Posterior, user: int, every_days: float | None) -> np.ndarray:
    history = posterior.history
    times = np.unique(history.seconds[history.user_index == user])
    if every_days is None:
        return times
    step = every_days * SECONDS_PER_DAY
    return np.append(np.arange(times[0], times[-1], step), times[-1])


def _past_circumstances(posterior: Posterior, user: int, second: float) -> torch.Tensor:
    """Extra predictor of every item at a moment of the past.

    For choice the covariates of the user's own past are left out of the picture: it is the state's,
    not an echo of the last items, and an item that is not taken twice would fall to nothing.
    """
    choice = posterior.layout.emission == "choice"
    who = np.array([posterior.history.n_users if choice else user])
    rows = moments_of(posterior, who, np.array([second]))
    extra = extra_table(rows.surroundings, rows.moment, posterior.values)
    return extra + novelty(posterior, np.array([second]))


def widened(
    posterior: Posterior, log: EventLog, table: ItemTable | None, encoder: Encoder
) -> Posterior:
    """The posterior with the users and items of a log and an item table added."""
    posterior = posterior.with_users(log.frame[USER_ID].to_numpy())
    wanted = log.frame[ITEM_ID].to_numpy()
    if table is not None:
        wanted = np.concatenate((table.frame[ITEM_ID].to_numpy(), wanted))
    known = posterior.vocabulary.items
    new = known.extend(wanted).ids[len(known) :]
    if not len(new):
        return posterior
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
    posterior: Posterior, log: EventLog, table: ItemTable | None, encoder: Encoder
) -> Posterior:
    """See `InterestModel.update`."""
    posterior = widened(posterior, log, table, encoder)
    if not len(log):
        return posterior
    config = posterior.config
    return absorb(posterior, log_history(log, posterior.vocabulary, config.emission, config))


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
    columns = {**_interval_columns(scores.interval), LOG_PROB: scores.log_prob, RANK: scores.rank}
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
