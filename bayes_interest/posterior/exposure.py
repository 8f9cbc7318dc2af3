"""The chance that a person comes to an item at all: a choice model beside one of outcomes.

An outcome is known only of items that a person met. P(outcome, given met) says nothing of what the
person would meet; P(the next choice is the item) does, and their product is the chance that the
next item is this one and goes well (a hurdle model; Cragg 1971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import ItemError
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.online import Forecasts
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    advanced_belief,
    circumstances,
    circumstances_of_events,
    interest_probabilities,
)


def item_places(choice: Posterior, other: Posterior) -> np.ndarray:
    """Position in the choice model of each item of the other, (item,). Raises ItemError."""
    ids = other.vocabulary.items.ids
    places = choice.vocabulary.items.index_of(ids)
    if (places < 0).any():
        missing = ids[places < 0]
        raise ItemError(
            f"item {missing[0]!r} is unknown to the exposure model ({len(missing)} such): fit or "
            "update both models with the same items"
        )
    return places


@dataclass(frozen=True)
class ExposedEvents:
    """Chances of all items just before each event of a log."""

    choice: Posterior
    found: Forecasts
    event: np.ndarray  # of each event of the other model's history, its position here, (event,)
    places: np.ndarray  # of each item of the other model, (item,)
    n_draws: int

    def draws(self, part: np.ndarray) -> Tensor:
        """Joint draws of P(the next choice is the item) before events, (event, draw, item)."""
        where = self.event[part]
        index = torch.as_tensor(where, device=self.choice.features.device)
        extra = circumstances_of_events(self.choice, where, self.found.rows)
        logits = draw_predictors(self.choice, self.found.belief(index), extra, self.n_draws)
        probs = interest_probabilities(self.choice, logits)
        return probs[..., torch.as_tensor(self.places, device=probs.device)]


@dataclass(frozen=True)
class ExposedUsers:
    """Chances of all items for some users at some moments."""

    choice: Posterior
    users: np.ndarray  # positions, (user,)
    seconds: np.ndarray  # (user,)
    places: np.ndarray  # of each item of the other model, (item,)
    n_draws: int
    seed: int

    def draws(self, row: int, allowed: Tensor) -> Tensor:
        """Joint draws of P(the next choice is the item) among the allowed ones, (draw, item)."""
        one = slice(row, row + 1)
        belief: Belief = advanced_belief(self.choice, self.users[one], self.seconds[one])
        extra = circumstances(self.choice, self.users[one], self.seconds[one])
        drawn = draw_predictors(self.choice, belief, extra, self.n_draws, self.seed)[0]
        mine = drawn[:, torch.as_tensor(self.places, device=drawn.device)]
        masked = torch.where(allowed, mine, mine.new_tensor(-torch.inf))
        return interest_probabilities(self.choice, masked)
