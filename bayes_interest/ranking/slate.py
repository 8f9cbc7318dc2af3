"""Ordered lists of items for users, with the uncertainty of every entry."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
from bayes_interest.ranking.scores import score, top_k_probability
from bayes_interest.schema import (
    ITEM_ID,
    LOWER,
    MEAN,
    P_TOP_K,
    RANK,
    SCORE,
    SD,
    UPPER,
    USER_ID,
)

COLUMNS = [USER_ID, RANK, ITEM_ID, SCORE, MEAN, SD, LOWER, UPPER, P_TOP_K]


def rank_users(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    k: int,
    by: str,
    exclude_seen: bool,
    prob: float,
    n_draws: int,
    seed: int,
    exposure: ExposedUsers | None = None,
) -> pd.DataFrame:
    """The k best candidates (item positions) of each user (positions) at moments (user,).

    With `exposure` probabilities are those of meeting the item next, and of interest.
    """
    belief = advanced_belief(posterior, users, seconds)
    pick = int(np.random.default_rng(seed).integers(n_draws))
    tables = []
    for row, user in enumerate(users):
        one = belief.take(slice(row, row + 1))
        extra = circumstances(posterior, users[row : row + 1], seconds[row : row + 1])
        allowed = np.zeros(posterior.layout.n_items, dtype=bool)
        allowed[candidates] = True
        if exclude_seen:
            allowed[posterior.seen[user].indices] = False
        if not allowed.any():
            continue
        mask = torch.as_tensor(allowed, device=one.mean.device)
        drawn = draw_predictors(posterior, one, extra, n_draws, seed)[0]
        interval, probs = _summaries(posterior, one, extra, drawn, mask, prob)
        if exposure is not None:
            drawn = probs = probs * exposure.draws(row, mask)
            interval = draws_interval(probs, prob)
        chance = top_k_probability(drawn, mask, k)
        sort_by = score(by, interval, probs, chance, pick)
        tables.append(_table(posterior, user, k, mask, sort_by, interval, chance))
    if not tables:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(tables, ignore_index=True)


def _summaries(
    posterior: Posterior, one: Belief, extra: Tensor, drawn: Tensor, allowed: Tensor, prob: float
) -> tuple[Interval, Tensor]:
    """Interval of every item's probability, and the joint draws as probabilities.

    A choice is among the allowed candidates, so the probabilities of the others are zero.
    """
    if one.diagonal:
        masked = torch.where(allowed, drawn, drawn.new_tensor(-torch.inf))
        probs = interest_probabilities(posterior, masked)
        return draws_interval(probs, prob), probs
    found = predictors(posterior, one, extra)
    mine, cut = found.of(0, slice(None)), level_cut(posterior)
    interval = interest_interval(mine, prob, cut, posterior.recalibration)
    return interval, interest_probabilities(posterior, drawn)


def _table(
    posterior: Posterior,
    user: int,
    k: int,
    allowed: Tensor,
    sort_by: Tensor,
    interval: Interval,
    chance: Tensor,
) -> pd.DataFrame:
    masked = torch.where(allowed, sort_by, sort_by.new_tensor(-torch.inf))
    # Stable, so equal scores keep the order in which the model met the items.
    best = torch.sort(masked, descending=True, stable=True).indices[: min(k, int(allowed.sum()))]

    def column(values: Tensor) -> np.ndarray:
        out: np.ndarray = values[best].double().cpu().numpy()
        return out

    ids = posterior.vocabulary
    return pd.DataFrame(
        {
            USER_ID: np.repeat(ids.users.ids[user : user + 1], len(best)),
            RANK: np.arange(1, len(best) + 1),
            ITEM_ID: ids.items.ids[best.cpu().numpy()],
            SCORE: column(sort_by),
            MEAN: column(interval.mean),
            SD: column(interval.sd),
            LOWER: column(interval.lower),
            UPPER: column(interval.upper),
            P_TOP_K: column(chance),
        }
    )
