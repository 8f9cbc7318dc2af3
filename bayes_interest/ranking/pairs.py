"""Which of two items a user is more interested in, by the joint posterior of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.errors import InputError
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.answers import find_items, find_users, listed, moment
from bayes_interest.posterior.draws import draws_interval
from bayes_interest.posterior.exposure import ExposedUsers
from bayes_interest.posterior.mixture import mixture_bounds
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import Predictors, check_draws, check_prob, settings
from bayes_interest.ranking.asked import Asked, draw_user, each_user
from bayes_interest.ranking.recommend import exposed_users
from bayes_interest.ranking.scores import check_seed
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, PROBABILITY, SD, UPPER, USER_ID

OTHER_ITEM_ID = "other_item_id"
COLUMNS = [USER_ID, ITEM_ID, OTHER_ITEM_ID, PROBABILITY, MEAN, SD, LOWER, UPPER]


def compare_items(
    posterior: Posterior,
    users: Iterable[Any] | None,
    items: Iterable[Any] | None,
    pairs: Iterable[Sequence[Any]] | None,
    at: object,
    prob: float,
    exposure: Posterior | None = None,
    n_draws: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """See `InterestModel.compare_items` and, with a choice model, that of `ExposedInterest`."""
    check_prob(prob)
    check_draws(n_draws)
    check_seed(seed)
    posterior, who = find_users(posterior, users)
    first, second = _positions(posterior, items, pairs)
    seconds = moment(posterior, at, who)
    chances = exposed_users(posterior, who, seconds, n_draws, seed, exposure)
    everything = np.arange(posterior.layout.n_items)
    ids, tables = posterior.vocabulary, []
    for asked in each_user(posterior, who, seconds, everything, False):
        if chances is None:
            columns = _exact(posterior, asked, first, second, prob)
        else:
            columns = _drawn(posterior, asked, chances, (first, second), prob, (n_draws, seed))
        identity = {
            USER_ID: np.repeat(ids.users.ids[asked.user : asked.user + 1], len(first)),
            ITEM_ID: ids.items.ids[first],
            OTHER_ITEM_ID: ids.items.ids[second],
        }
        tables.append(pd.DataFrame({**identity, **columns}))
    if not tables:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(tables, ignore_index=True)


def _positions(
    posterior: Posterior, items: Iterable[Any] | None, pairs: Iterable[Sequence[Any]] | None
) -> tuple[np.ndarray, np.ndarray]:
    """First and second item of every pair, (pair,) each."""
    if (items is None) == (pairs is None):
        raise InputError("compare_items needs either items= or pairs=, not both")
    if pairs is None:
        wanted = list(dict.fromkeys(listed(items, "items") or []))
        if len(wanted) < 2:
            raise InputError(f"items={wanted!r}: expected at least two different items to compare")
        couples: list[Sequence[Any]] = list(combinations(wanted, 2))
    else:
        couples = [_couple(pair) for pair in listed(pairs, "pairs") or []]
    flat = [item for pair in couples for item in pair]
    found = find_items(posterior, flat, "items" if pairs is None else "pairs").reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _couple(pair: Any) -> Sequence[Any]:
    if isinstance(pair, (str, bytes)) or not isinstance(pair, Iterable):
        raise InputError(f"pairs holds {pair!r}: expected pairs of item ids")
    couple = list(pair)
    if len(couple) != 2 or couple[0] == couple[1]:
        raise InputError(f"pairs holds {couple!r}: expected two different item ids")
    return couple


def _exact(
    posterior: Posterior, asked: Asked, first: np.ndarray, second: np.ndarray, prob: float
) -> dict[str, np.ndarray]:
    """`a_i - a_j ~ N(m, (x_i - x_j) . P (x_i - x_j) + v_i + v_j)`, so `P(a_i > a_j) = Phi(m / s)`.

    P is the state's covariance; v, from residual and offset, is independent between items.
    """
    i, j = (torch.as_tensor(part, device=asked.extra.device) for part in (first, second))
    pairs = zip(settings(posterior, asked.belief), asked.found.each, strict=True)
    parts = [_difference(*setting, found, i, j) for setting, found in pairs]
    mean, var = (torch.stack([part[place] for part in parts]) for place in (0, 1))
    sd = var.clamp_min(torch.finfo(var.dtype).tiny).sqrt()
    total = var.mean(0) + mean.var(0, correction=0)
    lower, upper = mixture_bounds(mean, var, prob)
    columns = {
        PROBABILITY: torch.special.ndtr(mean / sd).mean(0),
        MEAN: mean.mean(0),
        SD: total.clamp_min(0.0).sqrt(),
        LOWER: lower,
        UPPER: upper,
    }
    return {name: values.cpu().numpy() for name, values in columns.items()}


def _difference(
    posterior: Posterior, one: Belief, found: Predictors, i: Tensor, j: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of `a_i - a_j` at one setting of the globals, (pair,) each."""
    apart = (posterior.items.vectors[i] - posterior.items.vectors[j]).double()
    cov = one.cov[0].double()
    state_var = apart**2 @ cov if one.diagonal else ((apart @ cov) * apart).sum(1)
    item_var = (found.item_var[i] + found.item_var[j]).double()
    return found.mean[i].double() - found.mean[j].double(), state_var + item_var


def _drawn(
    posterior: Posterior,
    asked: Asked,
    exposure: ExposedUsers,
    pair: tuple[np.ndarray, np.ndarray],
    prob: float,
    draws: tuple[int, int],
) -> dict[str, np.ndarray]:
    """The same from joint draws of the logarithm of the product of both models."""
    order = draw_user(posterior, asked, prob, *draws, exposure).order
    logs = order.double().clamp_min(torch.finfo(order.dtype).tiny).log()
    i, j = (torch.as_tensor(part, device=logs.device) for part in pair)
    apart = logs[:, i] - logs[:, j]
    chance = (apart > 0).double().mean(0) + 0.5 * (apart == 0).double().mean(0)
    found = draws_interval(apart, prob)

    def column(values: Tensor) -> np.ndarray:
        out: np.ndarray = values.double().cpu().numpy()
        return out

    parts = {PROBABILITY: chance, MEAN: found.mean, SD: found.sd}
    parts |= {LOWER: found.lower, UPPER: found.upper}
    return {name: column(values) for name, values in parts.items()}
