"""What a ranking sorts by: a point, an edge of the interval, a draw, or a probability."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import ConfigError
from bayes_interest.posterior.predict import check_draws, check_prob

RankBy = Literal["mean", "lower", "upper", "thompson", "p_top_k", "diverse"]
EDGES = ("lower", "upper")
POINTS = ("mean", *EDGES)
"""Those that need no joint draws."""
POPULAR = "popular"


@dataclass(frozen=True)
class RankOptions:
    """How slates are made. Raises ConfigError or InputError for impossible values."""

    k: int
    """Places of the slate."""
    by: str
    """One of `RankBy`."""
    exclude_seen: bool
    """Leave out what the user has met."""
    prob: float
    """Mass of all intervals."""
    n_draws: int
    """Joint draws; 0 for none, and then no p_top_k."""
    seed: int
    """Of the draws."""
    looks: int | None = None
    """diverse: how often the slate is looked at; None is once, and ten times for choices."""
    rank_intervals: bool = False
    """Add the expected rank of every entry and its interval."""
    abstain: float | None = None
    """Below this certainty a user gets the fallback; None never asks."""
    fallback: str | Iterable[Any] = POPULAR
    """What those users get: the ranking of a stranger, or item ids, best first."""
    exploration: float = 1.0
    """thompson: how far the draw is followed from the mean; 0 not at all."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_prob(self.prob)
        check_rank_arguments(self.by, self.k, self.seed)
        self._check_draws()
        check_exploration(self.exploration, self.by)
        if self.looks is not None and (self.by != "diverse" or not _whole(self.looks, 1)):
            raise ConfigError(
                f"looks={self.looks!r}: expected a whole number >= 1 together with "
                f'by="diverse", got by={self.by!r}'
            )
        if self.abstain is not None and not _share(self.abstain):
            raise ConfigError(
                f"abstain={self.abstain!r}: expected the least certainty of a slate, 0 to 1, or "
                "None"
            )
        if isinstance(self.fallback, (str, bytes)) and self.fallback != POPULAR:
            raise ConfigError(
                f'fallback={self.fallback!r}: expected "{POPULAR}" or a list of item ids'
            )

    @property
    def without_draws(self) -> bool:
        """Whether intervals are all that is wanted."""
        return not self.n_draws

    def _check_draws(self) -> None:
        if not _whole(self.n_draws, 0) or self.n_draws:
            check_draws(self.n_draws)
            return
        wanted = [name for name in ("rank_intervals",) if getattr(self, name)]
        wanted += [] if self.abstain is None else [f"abstain={self.abstain!r}"]
        wanted += [] if self.by in POINTS else [f"by={self.by!r}"]
        if wanted:
            raise ConfigError(
                f"n_draws=0 makes no joint draws, and {', '.join(wanted)} needs some: leave "
                f"n_draws out, or rank by one of {', '.join(POINTS)}"
            )


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _share(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) <= 1.0


def check_rank_arguments(by: str, k: int, seed: int) -> None:
    """Known score, at least one place, a seed for the draws."""
    if by not in get_args(RankBy):
        raise ConfigError(f"by={by!r}: expected one of {', '.join(get_args(RankBy))}")
    if not _whole(k, 1):
        raise ConfigError(f"k={k!r}: expected a whole number of places, at least 1")
    check_seed(seed)


def check_exploration(exploration: float, by: str) -> None:
    """A finite multiple, of use to draws only."""
    known = isinstance(exploration, Real) and not isinstance(exploration, bool)
    if not known or not 0.0 <= float(exploration) < math.inf:
        raise ConfigError(f"exploration={exploration!r}: expected a finite number >= 0")
    if exploration != 1.0 and by != "thompson":
        raise ConfigError(f'exploration={exploration!r}: needs by="thompson", got by={by!r}')


def check_seed(seed: int) -> None:
    """A seed is a whole number."""
    if not _whole(seed, 0):
        raise ConfigError(f"seed={seed!r}: expected a whole number >= 0")


def picked(options: RankOptions) -> int:
    """Which of the joint draws `thompson` follows."""
    return int(np.random.default_rng(options.seed).integers(options.n_draws))


def top_k_probability(draws: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Share of joint draws (draw, item) in which an allowed item is among the k best, (item,)."""
    masked = torch.where(allowed, draws, draws.new_tensor(-torch.inf))
    best = masked.topk(min(k, int(allowed.sum())), dim=1).indices
    hits = torch.zeros(draws.shape[1], dtype=torch.float64, device=draws.device)
    hits.index_add_(0, best.reshape(-1), torch.ones_like(best.reshape(-1), dtype=hits.dtype))
    return hits / len(draws)


def drawn_ranks(draws: Tensor, allowed: Tensor, items: Tensor) -> Tensor:
    """Rank of some items among the allowed ones in every joint draw (draw, item), (draw, some).

    1 is first; equals share the better rank.
    """
    masked = torch.where(allowed, draws, draws.new_tensor(-torch.inf))
    better = [(masked > masked[:, at : at + 1]).sum(1) for at in items.tolist()]
    return 1 + torch.stack(better, 1) if better else masked.new_zeros(len(draws), 0)


def score(
    by: str,
    points: Tensor,
    draws: Tensor,
    p_top_k: Tensor,
    pick: int,
    exploration: float = 1.0,
) -> Tensor:
    """The number to sort by, (item,): one of `POINTS` where `by` is, which `points` then are.

    `thompson` is joint draw number `pick`, its distance from the draws' mean times `exploration`
    (posterior reshaping; Chapelle & Li 2011).
    """
    if by == "thompson":
        return torch.lerp(draws.mean(0), draws[pick], exploration)
    if by == "p_top_k":
        return p_top_k
    return points
