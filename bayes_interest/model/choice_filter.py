"""Choices absorbed one after the other, with the full covariance of each user's state.

For models small enough that all globals are drawn; others filter each dimension on its own
(`filtering.filter_choice`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.batch import EventTensors
from bayes_interest.model.cubature import MAX_DIM, normal_points
from bayes_interest.model.filtering import Belief, ChoiceForecasts
from bayes_interest.model.parameters import Globals, Items, Layout, reliability
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.random_walk import elapsed_growth


def filter_choices(
    layout: Layout,
    values: Globals,
    items: Items,
    base: Tensor,
    events: EventTensors,
    start: np.ndarray,
    belief: Belief,
) -> tuple[ChoiceForecasts, Belief]:
    """Filter events that lie user by user, those of user u from `start[u]` on.

    After a choice a state has its exact mean and covariance, but for cubature along the `MAX_DIM`
    directions of which the choice says most, and Laplace's covariance along others. On the CPU, in
    float64; forecasts are (event, ...).

    Args:
        layout: without a context.
        values: the globals.
        items: vectors of the candidates; their offsets are part of `base`.
        base: logits at a deviation of zero, (event, item).
        events: what happened.
        start: (user + 1,).
        belief: of the users before their events, with full covariances.
    """
    days = events.elapsed_days.double()
    decay, growth = elapsed_growth(days, layout.half_life_days)
    moved = torch.zeros_like(growth)[:, None] * values["mean"]
    if "log_event_drift" in values:
        moved = events.moves[:, None] * torch.exp(2.0 * values["log_event_drift"])
    variance = growth[:, None] * torch.exp(2.0 * values["log_drift"]) + moved
    rho = reliability(values, events.kind)
    about = (events.item, events.absorb, rho, decay, variance, moved, base, items.vectors.T)
    return _filtered(about, start, belief)


def absorb_choices(
    values: Globals, items: Items, base: Tensor, item: Tensor, kind: Tensor, belief: Belief
) -> Belief:
    """Beliefs (event, ...) just after one choice each, `belief` those just before."""
    like = belief.mean
    count, nothing = len(item), torch.zeros_like(like)
    one, true = torch.ones_like(like[:, 0]), torch.ones_like(item, dtype=torch.bool)
    rho = reliability(values, kind)
    about = (item, true, rho, one, nothing, nothing, base, items.vectors.T)
    return _filtered(about, np.arange(count + 1), belief)[1]


def _filtered(
    about: tuple[Tensor, ...], start: np.ndarray, belief: Belief
) -> tuple[ChoiceForecasts, Belief]:
    """`about`: what `choice_filter_kernel` is told, from the items chosen to all vectors."""
    from bayes_interest.model.compiled_choice_filter import choice_filter_kernel

    like, (n_events, dim) = belief.mean, about[4].shape
    item, absorb, *real = (part.detach().cpu() for part in about)
    told = [as_array(item.long()), as_array(absorb), *(as_array(part.double()) for part in real)]
    mean, cov = (part.cpu().double().clone(memory_format=torch.contiguous_format)
                 for part in (belief.mean, belief.cov))  # fmt: skip
    out = [mean.new_zeros(n_events, *shape) for shape in ((dim,), (dim, dim), ())]
    arrays = [part.numpy() for part in (mean, cov, *out)]
    points = normal_points(min(dim, MAX_DIM))
    choice_filter_kernel(start.astype(np.int64), *told, points, *arrays)
    return ChoiceForecasts(*(part.to(like) for part in out)), Belief(mean.to(like), cov.to(like))
