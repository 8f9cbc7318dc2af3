"""Slates by external ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.posterior.answers import find_items, find_users, moment
from bayes_interest.posterior.exposure import ExposedUsers, item_places
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_draws, check_prob
from bayes_interest.ranking.scores import check_rank_arguments
from bayes_interest.ranking.slate import rank_users

FAR = 1_000_003  # between seeds of draws that must not share their noise


def recommend(
    posterior: Posterior,
    users: Iterable[Any] | None,
    k: int,
    by: str,
    at: object,
    candidates: Iterable[Any] | None,
    exclude_seen: bool,
    prob: float,
    n_draws: int,
    seed: int,
    exposure: Posterior | None = None,
) -> pd.DataFrame:
    """See `InterestModel.rank`; with the posterior of a choice model, `ExposedInterest.rank`."""
    check_prob(prob)
    check_rank_arguments(by, k, seed)
    check_draws(n_draws)
    posterior, who = find_users(posterior, users)
    allowed = np.unique(find_items(posterior, candidates, "candidates"))
    seconds = moment(posterior, at, who)
    chances = None
    if exposure is not None:
        exposure, them = find_users(exposure, posterior.vocabulary.users.ids[who])
        places = item_places(exposure, posterior)
        chances = ExposedUsers(exposure, them, seconds, places, n_draws, seed + FAR)
    return rank_users(
        posterior, who, seconds, allowed, k, by, exclude_seen, prob, n_draws, seed, chances
    )
