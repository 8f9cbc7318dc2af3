"""What a ranking sorts by: a point, an edge of the interval, a draw, or a probability."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, get_args

import torch
from torch import Tensor

from bayes_interest.errors import ConfigError
from bayes_interest.posterior.predict import Interval

RankBy = Literal["mean", "lower", "upper", "thompson", "p_top_k"]


def check_rank_arguments(by: str, k: int, seed: int) -> None:
    """Known score, at least one place, a seed for the draws."""
    if by not in get_args(RankBy):
        raise ConfigError(f"by={by!r}: expected one of {', '.join(get_args(RankBy))}")
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ConfigError(f"k={k!r}: expected a whole number of places, at least 1")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"seed={seed!r}: expected a whole number >= 0")


def top_k_probability(draws: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Share of joint draws (draw, item) in which an allowed item is among the k best, (item,)."""
    masked = torch.where(allowed, draws, draws.new_tensor(-torch.inf))
    best = masked.topk(min(k, int(allowed.sum())), dim=1).indices
    hits = torch.zeros(draws.shape[1], dtype=draws.dtype, device=draws.device)
    hits.index_add_(0, best.reshape(-1), torch.ones_like(best.reshape(-1), dtype=draws.dtype))
    return hits / len(draws)


def score(by: str, interval: Interval, draws: Tensor, p_top_k: Tensor, pick: int) -> Tensor:
    """The number to sort by, (item,); `thompson` is joint draw number `pick`."""
    if by == "thompson":
        return draws[pick]
    if by == "p_top_k":
        return p_top_k
    chosen: Tensor = getattr(interval, by)
    return chosen
