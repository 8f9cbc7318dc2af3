"""All users at a glance: how much is known of each, how sure that is, how far interest moved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from bayes_interest.posterior.answers import find_users, moment
from bayes_interest.posterior.blocks import in_blocks
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import advanced_belief, circumstances, predictors
from bayes_interest.posterior.products import PAIR_BY_PAIR
from bayes_interest.posterior.trajectory import looks_at, smoothed_paths
from bayes_interest.ranking.recommend import recommend
from bayes_interest.schema import SLATE_CERTAINTY, USER_ID

N_EVENTS, FIRST_EVENT, LAST_EVENT = "n_events", "first_event", "last_event"
MEAN_SD, DRIFTED = "mean_sd", "drifted"


def population(
    posterior: Posterior, users: Iterable[Any] | None, at: object, k: int, n_draws: int, seed: int
) -> pd.DataFrame:
    """See `InterestModel.population`."""
    posterior, who = find_users(posterior, users)
    ids = posterior.vocabulary.users.ids[who]
    slates = recommend(
        posterior, ids.tolist(), k, "mean", at, None, False, 0.9, n_draws, seed, abstain=0.0
    )
    certain = slates.drop_duplicates(USER_ID).set_index(USER_ID)[SLATE_CERTAINTY]
    return pd.DataFrame(
        {
            USER_ID: ids,
            **_events(posterior, who),
            SLATE_CERTAINTY: certain.reindex(ids).to_numpy(),
            MEAN_SD: _mean_sd(posterior, who, moment(posterior, at, who)),
            DRIFTED: _drifted(posterior, who),
        }
    )


def _events(posterior: Posterior, who: np.ndarray) -> dict[str, Any]:
    count = np.bincount(posterior.history.user_index, minlength=len(posterior.vocabulary.users))
    times = {
        name: pd.to_datetime(np.where(np.isfinite(edge), edge, np.nan)[who], unit="s", utc=True)
        for name, edge in zip((FIRST_EVENT, LAST_EVENT), _edges(posterior), strict=True)
    }
    return {N_EVENTS: count[who], **times}


def _edges(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Times of the first and the last event, inf and -inf without one, (user,) each."""
    history, n_users = posterior.history, len(posterior.vocabulary.users)
    first, last = np.full(n_users, np.inf), np.full(n_users, -np.inf)
    np.minimum.at(first, history.user_index, history.seconds)
    np.maximum.at(last, history.user_index, history.seconds)
    return first, last


def _mean_sd(posterior: Posterior, who: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Mean over all items of the sd of the predictor, (user,)."""
    out = np.zeros(len(who))

    def extras(rows: slice) -> Tensor:
        return circumstances(posterior, who[rows], seconds[rows])

    for part, extra in in_blocks(len(who), extras):
        belief = advanced_belief(posterior, who[part], seconds[part])
        found = predictors(posterior, belief, extra, PAIR_BY_PAIR)
        out[part] = found.var.double().sqrt().mean(1).cpu().numpy()
    return out


def _drifted(posterior: Posterior, who: np.ndarray) -> np.ndarray:
    """Root mean square over items of the change of the mean predictor, first to last event.

    Smoothed at both. For choice an equal change of all items is none, and is left out.
    """
    settings = posterior.each or (posterior,)
    moved = np.mean([_moved(one, who) for one in settings], axis=0)
    if posterior.layout.emission == "choice":
        moved = moved - moved.mean(1, keepdims=True)
    out: np.ndarray = np.sqrt((moved**2).mean(1))
    return out


def _moved(posterior: Posterior, who: np.ndarray) -> np.ndarray:
    """At one setting of the globals, zero without two events, (user, item)."""
    history, vectors = posterior.history, posterior.items.vectors.double()
    first, last = _edges(posterior)
    some = np.unique(who[last[who] > first[who]])
    times = np.stack((first[some], last[some]), 1).ravel()
    looks = looks_at(posterior, np.repeat(some, 2), times)
    out = np.zeros((history.n_users, len(vectors)))
    for user, path in smoothed_paths(posterior, some, looks):
        begin, end = (path.mean + path.context)[path.looks].double()
        out[user] = (vectors @ (end - begin)).cpu().numpy()
    mine: np.ndarray = out[who]
    return mine
