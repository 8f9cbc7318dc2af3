"""A user's interest in items and in themes, as a probability with its interval.

What a theme's probability is, given everything known of the user and the items:

- a group of items, bernoulli and rating: the mean interest probability over its items, which is
  that of an item of the theme picked at random. Its mean is exact; sd and bounds are those of
  joint draws of the user's state and of the items, so that what is uncertain of the user does not
  average out over the items, and what is uncertain of each item does.
- a group of items, choice: P(the next choice is one of them), the sum over its items in each joint
  draw.
- a text or a vector: interest in an item that reads so and has never been met, as if it had just
  been added; for choice the catalogue is then larger by this one item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.blocks import few_predictors
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    Predictors,
    draw_predictors,
    draws_interval,
    expected_rating,
    interest_interval,
    interest_probabilities,
    level_cut,
)
from bayes_interest.posterior.themes import Targets


@dataclass(frozen=True)
class TargetInterest:
    """Of some users."""

    interval: Interval  # (user, target) each
    expected_rating: np.ndarray | None  # (user, target), of a rating model


def target_interest(
    targets: Targets, belief: Belief, extra: Tensor, prob: float, n_draws: int
) -> TargetInterest:
    """Interest of a few users with these beliefs; `extra` (setting, user, item) is what their
    moments add to predictors.
    """
    posterior = targets.posterior
    if posterior.choice:
        drawn = _each_drawn(posterior, belief, extra, n_draws)
        intervals = [draws_interval(choice_shares(targets, logits), prob) for logits in drawn]
        return TargetInterest(Interval.stacked(intervals), None)
    found = few_predictors(posterior, belief, extra).of(slice(None), targets.item)
    each = interest_interval(found, prob, level_cut(posterior), posterior.recalibration)
    interval = each if targets.single else _grouped(targets, each, belief, extra, prob, n_draws)
    return TargetInterest(interval, _ratings(targets, posterior, found))


def _ratings(targets: Targets, posterior: Posterior, found: Predictors) -> np.ndarray | None:
    if posterior.layout.emission != "rating":
        return None
    each = expected_rating(posterior, found).double()
    out: np.ndarray = targets.mean_of_members(each.T).T.cpu().numpy()
    return out


def _grouped(
    targets: Targets, each: Interval, belief: Belief, extra: Tensor, prob: float, n_draws: int
) -> Interval:
    """Of the mean over each target's items; what has one item stays exact."""
    own, member = torch.unique(targets.item, return_inverse=True)
    intervals = []
    for drawn in _each_drawn(targets.posterior, belief, extra, n_draws, own):
        chances = interest_probabilities(targets.posterior, drawn[:, member])
        intervals.append(draws_interval(targets.mean_of_members(chances.T).T, prob))
    found = Interval.stacked(intervals)
    lone = targets.sizes == 1

    def mean(values: Tensor) -> Tensor:
        return targets.mean_of_members(values.T).T

    def pick(exact: Tensor, of_draws: Tensor) -> Tensor:
        return torch.where(lone, mean(exact), of_draws)

    return Interval(
        mean(each.mean),
        pick(each.sd, found.sd),
        pick(each.lower, found.lower),
        pick(each.upper, found.upper),
    )


def _each_drawn(
    posterior: Posterior, belief: Belief, extra: Tensor, n_draws: int, items: Tensor | None = None
) -> Iterator[Tensor]:
    """Joint draws of predictors, (draw, item), of one user after the other."""
    for row in range(len(belief.mean)):
        part = slice(row, row + 1)
        one = belief.take(part)
        yield draw_predictors(posterior, one, extra[:, part], n_draws, items=items)[0]


def choice_shares(targets: Targets, logits: Tensor) -> Tensor:
    """Choice: P(the next choice is in the target) at draws of logits (draw, item), (draw, target).

    A text competes with the real items, not with the other texts.
    """
    mapped = targets.posterior.recalibration
    logits = logits if mapped is None else mapped.slope * logits
    real = logits[:, : targets.n_items]
    alone = torch.sigmoid(logits[:, targets.n_items :] - torch.logsumexp(real, 1, keepdim=True))
    return targets.total(torch.cat((torch.softmax(real, 1), alone), 1))
