"""Slates by external ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.posterior.answers import find_items, find_users, moment
from bayes_interest.posterior.exposure import ExposedUsers, item_places
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.fallback import Fallback, Listed, Stranger
from bayes_interest.ranking.scores import POPULAR, RankOptions
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
    *,
    looks: int | None = None,
    rank_intervals: bool = False,
    abstain: float | None = None,
    fallback: str | Iterable[Any] = POPULAR,
    exploration: float = 1.0,
) -> pd.DataFrame:
    """See `InterestModel.rank`; with the posterior of a choice model, `ExposedInterest.rank`."""
    options = RankOptions(
        k, by, exclude_seen, prob, n_draws, seed, looks, rank_intervals, abstain, fallback,
        exploration,
    )  # fmt: skip
    posterior, who = find_users(posterior, users)
    wanted = np.zeros(posterior.layout.n_items, dtype=bool)
    wanted[find_items(posterior, candidates, "candidates")] = True
    allowed = np.flatnonzero(wanted)  # sorted, each once
    seconds = moment(posterior, at, who)
    chances = exposed_users(posterior, who, seconds, n_draws, seed, exposure)
    other: Fallback | None = None
    if abstain is not None:
        if isinstance(fallback, str):
            other = Stranger(posterior, seconds, options, chances)
        else:
            listed = find_items(posterior, fallback, "fallback")
            other = Listed(np.array([*dict.fromkeys(listed.tolist())], dtype=np.int64))
    return rank_users(posterior, who, seconds, allowed, options, other, chances)


def exposed_users(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    n_draws: int,
    seed: int,
    exposure: Posterior | None,
) -> ExposedUsers | None:
    """Chances that users (positions) meet each item of `posterior`, where a choice model is set."""
    if exposure is None:
        return None
    exposure, them = find_users(exposure, posterior.vocabulary.users.ids[users])
    places = item_places(exposure, posterior)
    return ExposedUsers(exposure, them, seconds, places, n_draws, seed + FAR)
