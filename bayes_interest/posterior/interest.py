"""Interest in items and themes, now and over time, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayes_interest.errors import InputError
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.answers import find_users, interval_columns, listed, moment
from bayes_interest.posterior.blocks import in_blocks
from bayes_interest.posterior.online import moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    check_draws,
    check_prob,
    circumstances,
    extra_tables,
    novelty,
)
from bayes_interest.posterior.target_interest import target_interest
from bayes_interest.posterior.themes import Targets, make_targets
from bayes_interest.posterior.trajectory import smoothed_beliefs
from bayes_interest.progress import bar
from bayes_interest.schema import (
    ITEM_ID,
    LOWER,
    MEAN,
    SD,
    SECONDS_PER_DAY,
    TIMESTAMP,
    UPPER,
    USER_ID,
)
from bayes_interest.text.encoder import Encoder

EXPECTED_RATING = "expected_rating"
SUMMARY = (MEAN, SD, LOWER, UPPER)


def interest(
    posterior: Posterior,
    users: Iterable[Any] | None,
    items: Iterable[Any] | None,
    at: object,
    prob: float,
    n_draws: int,
    themes: Mapping[str, object] | None = None,
    encoder: Encoder | None = None,
) -> pd.DataFrame:
    """See `InterestModel.interest`."""
    check_prob(prob)
    check_draws(n_draws)
    posterior, who = find_users(posterior, users)
    targets = make_targets(posterior, items, themes, encoder)
    posterior = targets.posterior
    seconds = moment(posterior, at, who)
    belief = advanced_belief(posterior, who, seconds)

    def extras(rows: slice) -> torch.Tensor:
        return circumstances(posterior, who[rows], seconds[rows])

    tables = []
    with bar(total=len(who), desc="interest", unit="user") as shown:
        for rows, extra in in_blocks(len(who), extras):
            one = belief.take(rows)
            tables.append(_answer(targets, who[rows], one, extra, prob, n_draws))
            shown.update(len(one.mean))
    if not tables:
        return pd.DataFrame({name: [] for name in (USER_ID, targets.column, *SUMMARY)})
    return pd.concat(tables, ignore_index=True)


def _answer(
    targets: Targets,
    users: np.ndarray,
    belief: Belief,
    extra: torch.Tensor,
    prob: float,
    n_draws: int,
) -> pd.DataFrame:
    """Interest of users with these beliefs in each target."""
    found = list(target_interest(targets, belief, extra, prob, n_draws))
    ids = targets.posterior.vocabulary.users.ids[users]
    names = {
        USER_ID: np.repeat(ids, len(targets.names)),
        targets.column: targets.names * len(users),
    }
    each = [interval_columns(one.interval) for one in found]
    columns = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    ratings = [one.expected_rating for one in found if one.expected_rating is not None]
    if ratings:
        columns[EXPECTED_RATING] = np.concatenate(ratings)
    return pd.DataFrame({**names, **columns})


def trajectory(
    posterior: Posterior,
    users: Iterable[Any],
    items: Iterable[Any] | None,
    every_days: float | None,
    prob: float,
    n_draws: int = 400,
    themes: Mapping[str, object] | None = None,
    encoder: Encoder | None = None,
) -> pd.DataFrame:
    """See `InterestModel.trajectory`."""
    check_prob(prob)
    if every_days is not None and not every_days > 0:
        raise InputError(f"every_days={every_days!r}: expected days > 0, or None for the events")
    wanted = listed(users, "users") or []
    targets = make_targets(posterior, items, themes, encoder)
    posterior = targets.posterior
    found = posterior.vocabulary.users.index_of(wanted)
    tables = []
    pairs, count = list(zip(wanted, found, strict=True)), 0
    for user_id, user in bar(pairs, desc="trajectory", unit="user"):
        if user < 0:
            raise InputError(f"user {user_id!r} has no event: there is no trajectory to show")
        seconds = _grid(posterior, int(user), every_days)
        belief = smoothed_beliefs(posterior, int(user), seconds)
        extras = partial(_past_circumstances, posterior, int(user), seconds)
        for rows, extra in in_blocks(len(seconds), extras):
            who, some = np.full(rows.stop - rows.start, user), belief.take(rows)
            table = _answer(targets, who, some, extra, prob, n_draws)
            when = pd.to_datetime(seconds[rows], unit="s", utc=True)
            table.insert(2, TIMESTAMP, when.repeat(len(targets.names)))
            tables.append(table)
            count += len(who)
    if not tables:
        return pd.DataFrame({name: [] for name in (USER_ID, targets.column, TIMESTAMP, *SUMMARY)})
    out = pd.concat(tables, ignore_index=True)
    if targets.column == ITEM_ID:
        return out.sort_values([USER_ID, ITEM_ID, TIMESTAMP], kind="stable", ignore_index=True)
    place = np.tile(np.arange(len(targets.names)), count)  # themes keep the order given
    order = np.lexsort((out[TIMESTAMP], place, out[USER_ID]))
    return out.iloc[order].reset_index(drop=True)


def _grid(posterior: Posterior, user: int, every_days: float | None) -> np.ndarray:
    history = posterior.history
    times = np.unique(history.seconds[history.user_index == user])
    if every_days is None:
        return times
    step = every_days * SECONDS_PER_DAY
    return np.append(np.arange(times[0], times[-1], step), times[-1])


def _past_circumstances(
    posterior: Posterior, user: int, seconds: np.ndarray, rows: slice
) -> torch.Tensor:
    """Extra predictor of every item at moments of the past, (setting, moment, item).

    For choice the covariates of the user's own past are left out of the picture: it is the state's,
    not an echo of the last items, and an item that is not taken twice would fall to nothing.
    """
    choice, seconds = posterior.layout.emission == "choice", seconds[rows]
    who = np.full(len(seconds), posterior.history.n_users if choice else user)
    found = moments_of(posterior, who, seconds)
    return extra_tables(posterior, found) + novelty(posterior, seconds)
