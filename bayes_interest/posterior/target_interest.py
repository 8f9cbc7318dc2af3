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
from bayes_interest.posterior.draws import draw_predictors, draws_interval
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    Predictors,
    expected_rating,
    interest_interval,
    interest_probabilities,
    level_cut,
    predictors,
)
from bayes_interest.posterior.products import PairByPair
from bayes_interest.posterior.themes import Targets


@dataclass(frozen=True)
class TargetInterest:
    """Of one user."""

    interval: Interval  # (target,) each
    expected_rating: np.ndarray | None  # (target,), of a rating model


def target_interest(
    targets: Targets, belief: Belief, extra: Tensor, prob: float, n_draws: int
) -> Iterator[TargetInterest]:
    """Interest of a few users with these beliefs, one after the other; `extra` (setting, user,
    item) is what their moments add to predictors.
    """
    posterior = targets.posterior
    few = None
    if not posterior.choice:
        few = predictors(posterior, belief, extra[..., targets.item], PairByPair(targets.item))
    for row in range(len(belief.mean)):
        part = slice(row, row + 1)
        one, own = belief.take(part), extra[:, part]
        if few is None:
            logits = draw_predictors(posterior, one, own, n_draws)[0]
            yield TargetInterest(draws_interval(choice_shares(targets, logits), prob), None)
            continue
        found = few.of(row, slice(None))
        each = interest_interval(found, prob, level_cut(posterior), posterior.recalibration)
        interval = each if targets.single else _grouped(targets, each, one, own, prob, n_draws)
        yield TargetInterest(interval, _ratings(targets, posterior, found))


def _ratings(targets: Targets, posterior: Posterior, found: Predictors) -> np.ndarray | None:
    if posterior.layout.emission != "rating":
        return None
    each = expected_rating(posterior, found).double()
    out: np.ndarray = targets.mean_of_members(each).cpu().numpy()
    return out


def _grouped(
    targets: Targets, each: Interval, one: Belief, extra: Tensor, prob: float, n_draws: int
) -> Interval:
    """Of the mean over each target's items; what has one item stays exact."""
    own, member = torch.unique(targets.item, return_inverse=True)
    drawn = draw_predictors(targets.posterior, one, extra, n_draws, items=own)[0]
    chances = interest_probabilities(targets.posterior, drawn[:, member])
    found = draws_interval(targets.mean_of_members(chances.T).T, prob)
    lone = targets.sizes == 1

    def pick(exact: Tensor, of_draws: Tensor) -> Tensor:
        return torch.where(lone, targets.mean_of_members(exact), of_draws)

    return Interval(
        targets.mean_of_members(each.mean),
        pick(each.sd, found.sd),
        pick(each.lower, found.lower),
        pick(each.upper, found.upper),
    )


def choice_shares(targets: Targets, logits: Tensor) -> Tensor:
    """Choice: P(the next choice is in the target) at draws of logits (draw, item), (draw, target).

    A text competes with the real items, not with the other texts.
    """
    mapped = targets.posterior.recalibration
    logits = logits if mapped is None else mapped.slope * logits
    real = logits[:, : targets.n_items]
    alone = torch.sigmoid(logits[:, targets.n_items :] - torch.logsumexp(real, 1, keepdim=True))
    return targets.total(torch.cat((torch.softmax(real, 1), alone), 1))
