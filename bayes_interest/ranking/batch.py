"""The slates of `rank` for many users at once, as item positions: what a closed loop needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import ConfigError
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    interest_interval,
    interest_mean,
    interest_probabilities,
    level_cut,
    predictors,
)
from bayes_interest.ranking.diverse import default_looks, diverse_slate
from bayes_interest.ranking.scores import EDGES, score, top_k_probability


def slates_at_once(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    k: int,
    by: str,
    prob: float,
    n_draws: int,
    seed: int,
    exploration: float = 1.0,
) -> np.ndarray:
    """The k best of all items for users (positions) at moments (user,): item positions (user, k).

    The same as `InterestModel.rank(..., exclude_seen=False)` with these arguments, without its
    table. For bernoulli and rating; raises ConfigError for choice, whose probabilities are those
    among candidates.
    """
    if posterior.choice:
        raise ConfigError(f'emission="{posterior.layout.emission}": expected bernoulli or rating')
    belief = advanced_belief(posterior, users, seconds)
    extra = circumstances(posterior, users, seconds)
    if by == "diverse":
        return _diverse(draw_predictors(posterior, belief, extra, n_draws, seed), posterior, k)
    if by in ("thompson", "p_top_k"):
        drawn = draw_predictors(posterior, belief, extra, n_draws, seed)
        if exploration != 1.0:  # what is averaged in `rank`
            drawn = interest_probabilities(posterior, drawn)
        scores = _of_draws(drawn, k, by, seed, exploration)
    else:
        found = predictors(posterior, belief, extra)
        cut, mapped = level_cut(posterior), posterior.recalibration
        if by in EDGES:
            scores = getattr(interest_interval(found, prob, cut, mapped), by)
        else:
            scores = interest_mean(found, cut, mapped)
    # Stable, so equal scores keep the order in which the model met the items.
    best = torch.sort(scores, dim=1, descending=True, stable=True).indices
    slates: np.ndarray = best[:, :k].cpu().numpy()
    return slates


def _diverse(drawn: Tensor, posterior: Posterior, k: int) -> np.ndarray:
    """Greedy slates from joint draws (user, draw, item), (user, k)."""
    everything = torch.ones(drawn.shape[2], dtype=torch.bool, device=drawn.device)
    looks, rows = default_looks(False), []
    for draws in drawn:
        probs = interest_probabilities(posterior, draws)
        rows.append(diverse_slate(probs, everything, k, looks, False)[0])
    slates: np.ndarray = torch.stack(rows).cpu().numpy()
    return slates


def _of_draws(drawn: Tensor, k: int, by: str, seed: int, exploration: float) -> Tensor:
    """Scores (user, item) from joint draws (user, draw, item)."""
    pick = int(np.random.default_rng(seed).integers(drawn.shape[1]))
    everything = torch.ones(drawn.shape[2], dtype=torch.bool, device=drawn.device)
    nothing = drawn.new_zeros(0)
    rows = []
    for draws in drawn:
        chance = top_k_probability(draws, everything, k) if by == "p_top_k" else nothing
        rows.append(score(by, nothing, draws, chance, pick, exploration))
    return torch.stack(rows)
