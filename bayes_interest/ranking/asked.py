"""One user at one moment with the items that may be shown: what every ranking starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.exposure import ExposedUsers
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    advanced_belief,
    circumstances,
    draw_predictors,
    draws_interval,
    interest_interval,
    interest_probabilities,
    level_cut,
    predictors,
)
from bayes_interest.progress import bar

USERS_AT_ONCE = 64


@dataclass(frozen=True)
class Asked:
    """A user, what is believed of them, and the allowed items."""

    row: int  # place among the users asked about
    user: int  # position in the posterior
    belief: Belief  # of one user, at the moment
    extra: Tensor  # what the moment adds to the predictor, (setting, 1, item)
    allowed: Tensor  # (item,) bool


@dataclass(frozen=True)
class Drawn:
    """Joint draws of one user's items."""

    order: Tensor  # numbers whose order is the order of the items, (draw, item)
    probs: Tensor  # probabilities, (draw, item)
    interval: Interval  # of the probabilities, (item,) each


def each_user(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    exclude_seen: bool,
) -> Iterator[Asked]:
    """Users (positions) at moments (user,) with their allowed items, of which there may be none."""
    belief = advanced_belief(posterior, users, seconds)
    for row, user in enumerate(bar(users, desc="users", unit="user")):
        if row % USERS_AT_ONCE == 0:  # the log is read once for all of them
            block = slice(row, row + USERS_AT_ONCE)
            extras = circumstances(posterior, users[block], seconds[block])
        part, place = slice(row, row + 1), row % USERS_AT_ONCE
        one = belief.take(part)
        extra = extras[:, place : place + 1]
        allowed = np.zeros(posterior.layout.n_items, dtype=bool)
        allowed[candidates] = True
        if exclude_seen:
            allowed[posterior.seen_by(user)] = False
        yield Asked(row, int(user), one, extra, torch.as_tensor(allowed, device=one.mean.device))


def draw_user(
    posterior: Posterior,
    asked: Asked,
    prob: float,
    n_draws: int,
    seed: int,
    exposure: ExposedUsers | None = None,
) -> Drawn:
    """Joint draws of a user's items and the interval of every probability.

    A choice is among the allowed candidates, so the probabilities of the others are zero. With
    `exposure` probabilities are those of meeting the item next, and of interest.
    """
    one, extra, allowed = asked.belief, asked.extra, asked.allowed
    order = draw_predictors(posterior, one, extra, n_draws, seed)[0]
    if posterior.choice:
        masked = torch.where(allowed, order, order.new_tensor(-torch.inf))
        probs = interest_probabilities(posterior, masked)
        return Drawn(order, probs, draws_interval(probs, prob))
    probs = interest_probabilities(posterior, order)
    if exposure is not None:
        probs = probs * exposure.draws(asked.row, allowed)
        return Drawn(probs, probs, draws_interval(probs, prob))
    found = predictors(posterior, one, extra)
    mine, cut = found.of(0, slice(None)), level_cut(posterior)
    interval = interest_interval(mine, prob, cut, posterior.recalibration)
    return Drawn(order, probs, interval)


def with_stranger(posterior: Posterior) -> tuple[Posterior, int]:
    """The posterior with a nameless user at the prior added, and that user's position."""
    n_users = len(posterior.last_seconds)
    wider = replace(
        posterior,
        belief=posterior.belief.extended(1, posterior.values),
        last_seconds=np.append(posterior.last_seconds, np.nan),
        history=replace(posterior.history, n_users=n_users + 1),
    )
    return wider, n_users
