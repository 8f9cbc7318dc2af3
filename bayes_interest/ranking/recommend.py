"""Slates by external ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.posterior.answers import find_items, find_users, moment
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_draws, check_prob
from bayes_interest.ranking.scores import check_rank_arguments
from bayes_interest.ranking.slate import rank_users


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
) -> pd.DataFrame:
    """See `InterestModel.rank`."""
    check_prob(prob)
    check_rank_arguments(by, k, seed)
    check_draws(n_draws)
    posterior, who = find_users(posterior, users)
    allowed = np.unique(find_items(posterior, candidates, "candidates"))
    seconds = moment(posterior, at, who)
    return rank_users(posterior, who, seconds, allowed, k, by, exclude_seen, prob, n_draws, seed)
