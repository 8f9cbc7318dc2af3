"""What users get about whom too little is known: a stranger's ranking, or a list of items."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bayes_interest.posterior.exposure import ExposedUsers
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.asked import Asked, draw_user, each_user, with_stranger
from bayes_interest.ranking.scores import POPULAR, RankOptions

OWN, LISTED = "own interest", "list"


class Fallback(Protocol):
    """Scores for users whose own slate is too uncertain."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    def scores(self, asked: Asked) -> Tensor:
        """The number to sort by, -inf for items that are not shown, (item,)."""
        ...


class Stranger:
    """The ranking that somebody without any event would get at the same moment."""

    name = POPULAR

    def __init__(
        self,
        posterior: Posterior,
        seconds: np.ndarray,
        options: RankOptions,
        exposure: ExposedUsers | None,
    ) -> None:
        self.posterior, self.user = with_stranger(posterior)
        self.seconds, self.options, self.exposure = seconds, options, exposure
        self.asked: dict[float, Asked] = {}  # by moment, for the log is long
        if exposure is not None:
            choice, other = with_stranger(exposure.choice)
            users = np.full(len(seconds), other)
            self.exposure = replace(exposure, choice=choice, users=users)

    def scores(self, asked: Asked) -> Tensor:
        """Mean probabilities of the stranger among the items allowed for the user, (item,)."""
        options, row = self.options, asked.row
        second = float(self.seconds[row])
        if second not in self.asked:
            who, when, none = np.array([self.user]), np.array([second]), np.arange(0)
            self.asked[second] = next(each_user(self.posterior, who, when, none, False))
        stranger = replace(self.asked[second], row=row, allowed=asked.allowed)
        found = draw_user(
            self.posterior, stranger, options.prob, options.n_draws, options.seed, self.exposure
        )
        return found.mean.masked_fill(~asked.allowed, -torch.inf)


class Listed:
    """Given items, best first; those not allowed for the user are passed over."""

    name = LISTED

    def __init__(self, items: np.ndarray) -> None:
        self.items = torch.as_tensor(items)

    def scores(self, asked: Asked) -> Tensor:
        """Minus the place in the list, (item,)."""
        out = torch.full(asked.allowed.shape, -torch.inf, device=asked.allowed.device)
        place = torch.arange(1.0, len(self.items) + 1.0, device=out.device)
        out[self.items.to(out.device)] = -place
        return out.masked_fill(~asked.allowed, -torch.inf)
