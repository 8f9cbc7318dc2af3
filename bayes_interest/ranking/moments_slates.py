"""Slates by a point or an edge of the interval, from the moments of all items: the plain way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    Predictors,
    interest_interval,
    level_cut,
)
from bayes_interest.ranking.asked import each_user
from bayes_interest.ranking.scores import RankOptions
from bayes_interest.statespace.kalman import as_array


@dataclass(frozen=True)
class Slates:
    """Entries of slates, users in the order asked, best item first; arrays are (entry,)."""

    row: np.ndarray  # place of the user among those asked about
    item: np.ndarray  # position
    score: np.ndarray
    interval: np.ndarray  # mean, sd, lower, upper, (4, entry)
    chance: np.ndarray | None = None  # of being among the k best


def all_slates(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    options: RankOptions,
) -> Iterator[Slates]:
    """The k best candidates (positions) of users (positions) at moments (user,), user by user.

    By mean, lower or upper; bernoulli and rating.
    """
    for one in each_user(posterior, users, seconds, candidates, options.exclude_seen):
        yield best_of_all(posterior, one.found, one.allowed.cpu().numpy(), one.row, options)


def best_of_all(
    posterior: Posterior, found: Predictors, allowed: np.ndarray, row: int, options: RankOptions
) -> Slates:
    """The slate of one user from the predictors of all items, (item,)."""
    item = np.flatnonzero(allowed)
    mine = found.some(torch.as_tensor(item, device=found.mean.device))
    interval = interest_interval(mine, options.prob, level_cut(posterior), posterior.recalibration)
    # Stable, so equal scores keep the order in which the model met the items.
    score = getattr(interval, options.by)
    order = torch.sort(score, descending=True, stable=True).indices[: options.k].cpu().numpy()
    return slates_of(np.full(len(order), row), item[order], interval, order, options)


def slates_of(
    row: np.ndarray, item: np.ndarray, interval: Interval, order: np.ndarray, options: RankOptions
) -> Slates:
    """Entries from the places `order` of an interval."""
    parts = (interval.mean, interval.sd, interval.lower, interval.upper)
    columns = np.stack([as_array(part.cpu())[order] for part in parts]).astype(np.float64)
    score = as_array(getattr(interval, options.by).cpu())[order].astype(np.float64)
    return Slates(row, item, score, columns)
