"""One pass forward in time: predict each event, then absorb it. No event sees its future.

The same pass prepares a fitted model for ranking, absorbs updates, and scores a log. An event's
site matches the moments that the event leaves behind: the result depends on the past alone, and
splitting the events into batches changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.base import ExpectedDerivatives, ScalarEmission
from bayes_interest.emissions.choice import choice_site
from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.emissions.ordered import FAR, OrderedEmission
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.elbo import EventTerms, event_offsets, event_terms
from bayes_interest.model.parameters import Globals, Items, Layout, emission_of, reliability
from bayes_interest.model.softmax import Choices, look
from bayes_interest.statespace.diagonal import absorb_diagonal
from bayes_interest.statespace.kalman import (
    THREAD_WORK,
    GaussianState,
    absorb,
    as_array,
    predict,
    project,
)
from bayes_interest.statespace.random_walk import Transition
from bayes_interest.statespace.sites import SMALLEST_SHARE, matched_moments

ROWS = 16


@dataclass(frozen=True)
class Belief:
    """Users' state deviations at their last events: full or diagonal covariance."""

    mean: Tensor  # (user, state_dim)
    cov: Tensor  # (user, state_dim, state_dim) or (user, state_dim)
    members: tuple[Belief, ...] = ()  # at each draw of the globals, where there are such

    @property
    def diagonal(self) -> bool:
        """Whether `cov` holds variances only."""
        return self.cov.ndim == 2

    @property
    def variance(self) -> Tensor:
        """Of each state dimension, (user, state_dim)."""
        return self.cov if self.diagonal else self.cov.diagonal(dim1=-2, dim2=-1)

    @staticmethod
    def prior(n_users: int, values: Globals, diagonal: bool) -> Belief:
        """`N(0, I)` for every user: one for all of them, in the same memory; `copy` to write."""
        like, dim = values["mean"], values["mean"].shape[0]
        zero = like.new_zeros(1, dim)
        one = torch.ones_like(zero)
        cov = one if diagonal else torch.diag_embed(one)
        return Belief(zero.expand(n_users, -1), cov.expand(n_users, *cov.shape[1:]))

    def copy(self) -> Belief:
        """The same in memory of its own."""
        return Belief(
            self.mean.clone(memory_format=torch.contiguous_format),
            self.cov.clone(memory_format=torch.contiguous_format),
            tuple(member.copy() for member in self.members),
        )

    def take(self, users: Tensor | slice) -> Belief:
        """That of some users."""
        members = tuple(member.take(users) for member in self.members)
        return Belief(self.mean[users], self.cov[users], members)

    def extended(self, new: int, values: Globals) -> Belief:
        """With `new` users at the prior added at the end."""
        fresh = Belief.prior(new, values, self.diagonal)
        return Belief(
            torch.cat((self.mean, fresh.mean)),
            torch.cat((self.cov, fresh.cov)),
            tuple(member.extended(new, values) for member in self.members),
        )

    def advanced(self, decay: Tensor, variance: Tensor) -> Belief:
        """After a gap: decay (user, 1), variance (user, state_dim)."""
        if self.diagonal:
            return Belief(self.mean * decay, self.cov * decay**2 + variance)
        state = predict(GaussianState(self.mean, self.cov), decay, variance)
        return Belief(state.mean, state.cov)


@dataclass(frozen=True)
class ScalarForecasts:
    """What was predicted of each event's predictor before it was absorbed, (user, step) each.

    `filter_events` has (event,) in place of that.
    """

    mean: Tensor  # with the offset
    var: Tensor  # of state and item together
    state_mean: Tensor  # predicted deviation, (user, step, state_dim)
    state_cov: Tensor | None  # (user, step, state_dim, state_dim), on request

    def shaped(self, n_users: int, n_steps: int) -> ScalarForecasts:
        """Of events that lie user by user, as many for each."""
        shape = (n_users, n_steps)
        mean, var, state = (
            part.unflatten(0, shape) for part in (self.mean, self.var, self.state_mean)
        )
        cov = None if self.state_cov is None else self.state_cov.unflatten(0, shape)
        return ScalarForecasts(mean, var, state, cov)


@dataclass(frozen=True)
class ChoiceForecasts:
    """The predicted state deviation before each event, (user, step, ...) or (event, ...)."""

    mean: Tensor  # (..., state_dim)
    cov: Tensor  # variances (..., state_dim), or (..., state_dim, state_dim)
    log_prob: Tensor  # of the choice at the predicted mean, (...)


def filter_scalar(
    layout: Layout,
    values: Globals,
    items: Items,
    item_cov: Tensor | None,
    batch: Batch,
    belief: Belief,
    keep_cov: bool = False,
) -> tuple[ScalarForecasts, Belief]:
    """Filter a batch of a scalar family; `item_cov` (item, D + 1, D + 1) is the item posterior.

    Uncertainty about an item (residual and offset) widens the forecast and weakens what the
    event says about the user.
    """
    emission = emission_of(layout, values)
    if compilable(emission, items, item_cov, belief):
        n_users, n_steps = batch.mask.shape
        start = n_steps * np.arange(n_users + 1)
        found, after = filter_events(
            layout, values, items, item_cov, _flat(batch), start, belief, True, keep_cov
        )
        return found.shaped(n_users, n_steps), after
    terms, walk = event_terms(values, items, batch), batch.walk(layout, values)
    rho = reliability(values, batch.kind) ** 2
    shift = batch.total(values["mean"].expand_as(terms.x))
    return _Steps(emission, terms, walk, rho, shift, item_cov, batch, keep_cov).eager(belief)


def compilable(
    emission: ScalarEmission, items: Items, item_cov: Tensor | None, belief: Belief
) -> bool:
    """Whether the compiled loop can filter a scalar family: on the CPU, without gradients."""
    inputs = (items.vectors, belief.mean, *((item_cov,) if item_cov is not None else ()))
    grad = torch.is_grad_enabled() and any(part.requires_grad for part in inputs)
    cpu = items.vectors.device.type == "cpu"
    return isinstance(emission, OrderedEmission) and not belief.diagonal and cpu and not grad


def _flat(batch: Batch) -> EventTensors:
    """The steps of all users one after the other, padded ones among them."""
    moves = torch.zeros_like(batch.outcome) if batch.moves is None else batch.moves
    context = None if batch.context is None else batch.context.flatten(0, 1)
    return EventTensors(
        batch.item.reshape(-1),
        batch.outcome.reshape(-1),
        batch.elapsed_days.reshape(-1),
        batch.kind.reshape(-1),
        batch.covariates.flatten(0, 1),
        batch.mask.reshape(-1),
        moves.reshape(-1),
        context,
    )


def filter_events(
    layout: Layout,
    values: Globals,
    items: Items,
    item_cov: Tensor | None,
    events: EventTensors,
    start: np.ndarray,
    belief: Belief,
    keep: bool = True,
    keep_cov: bool = False,
) -> tuple[ScalarForecasts, Belief]:
    """`filter_scalar` of events that lie user by user, those of user u from `start[u]` on.

    Where it is `compilable`. Forecasts are (event,), and empty unless `keep`; users are shared out
    among threads.
    """
    from bayes_interest.model.compiled import filter_ordered_kernel

    like, n_events, dim = items.vectors, len(events.item), layout.state_dim
    kept = n_events if keep else 0
    forecast, state_mean = like.new_empty(2, kept), like.new_empty(kept, dim)
    state_cov = like.new_empty((n_events, dim, dim) if keep_cov else (0, 1, 1))
    after = Belief(belief.mean.clone(), belief.cov.contiguous().clone())
    scales, weights = scale_mixture(N_SCALES[like.dtype])
    about = [as_array(part) for part in event_parts(layout, values, items, events)]
    about += [as_array(part) for part in global_parts(values, items, item_cov)]
    settled = (pull_back(layout, like), FAR, SMALLEST_SHARE, scales**2, weights)
    out = [as_array(part) for part in (forecast, state_mean, state_cov)]

    def run(first: int, last: int) -> None:
        own = (as_array(part[first:last]) for part in (after.mean, after.cov))
        filter_ordered_kernel(start[first : last + 1], *about, *settled, *own, *out)

    by_events(run, start, dim)
    cov = state_cov if keep_cov else None
    return ScalarForecasts(forecast[0], forecast[1], state_mean, cov), after


def by_events(run: Callable[[int, int], None], start: np.ndarray, state_dim: int) -> None:
    """Share out users among as many threads as torch would use, about equal events to each.

    `run(first, last)` works on the users from `first` to before `last`; user u has the events from
    `start[u]` to before `start[u + 1]`.
    """
    n_events, n_users = int(start[-1] - start[0]), len(start) - 1
    n_threads = min(torch.get_num_threads(), n_events * state_dim**2 // THREAD_WORK)
    if n_threads < 2:
        run(0, n_users)
        return
    share = start[0] + n_events * np.arange(1, n_threads) // n_threads
    edges = [0, *np.searchsorted(start, share).tolist(), n_users]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(run, edges[:-1], edges[1:]))


def pull_back(layout: Layout, like: Tensor) -> Any:
    """`kappa`, the rate of mean reversion per day, as a NumPy number of the dtype; 0 without."""
    half = layout.half_life_days
    rate = like.new_tensor(0.0 if half is None else math.log(2.0) / half)
    return rate.numpy()[()]


def event_parts(
    layout: Layout, values: Globals, items: Items, events: EventTensors
) -> list[Tensor]:
    """What `filter_ordered_kernel` is told of every event."""
    emission, like = emission_of(layout, values), items.vectors
    rho = reliability(values, events.kind)
    lower, upper = emission.bounds(events.outcome)
    context = like.new_empty(0, layout.state_dim) if events.context is None else events.context
    offset = event_offsets(values, items, events) * rho
    gap = (events.elapsed_days, events.moves)
    return [events.item, *gap, rho, offset, lower, upper, events.absorb, context]


def global_parts(values: Globals, items: Items, item_cov: Tensor | None) -> list[Tensor]:
    """What it is told of items and of the walk."""
    like = items.vectors
    certain = like.new_empty(1, 0, 0) if item_cov is None else item_cov
    drift = values["log_drift"].exp() ** 2
    moved = torch.zeros_like(drift)
    if "log_event_drift" in values:
        moved = torch.exp(2.0 * values["log_event_drift"])
    return [like, certain, values["mean"], drift, moved]


@dataclass(frozen=True)
class _Steps:
    """What the steps of a batch are made of."""

    emission: ScalarEmission
    terms: EventTerms
    walk: Transition
    rho: Tensor  # squared reliability, (user, step)
    shift: Tensor  # mean state and context, (user, step, state_dim)
    item_cov: Tensor | None
    batch: Batch
    keep_cov: bool

    def eager(self, belief: Belief) -> tuple[ScalarForecasts, Belief]:
        """All users at once, on any device."""
        terms, walk, batch = self.terms, self.walk, self.batch
        out = terms.x.new_zeros(2, *batch.mask.shape)
        state_mean, state_cov = torch.empty_like(terms.x), self._room()
        for t in range(batch.mask.shape[1]):
            now = belief.advanced(walk.decay[:, t], walk.variance[:, t])
            state = GaussianState(now.mean, now.cov)
            state_mean[:, t] = now.mean
            if self.keep_cov:
                state_cov[:, t] = now.cov
            along, mean, var = project(state, terms.x[:, t])
            extra = torch.zeros_like(var)
            if self.item_cov is not None:
                block = self.item_cov[batch.item[:, t]]
                total = self.shift[:, t] + now.mean
                extra = self.rho[:, t] * item_variance(block, total, now.cov)
            out[0, :, t], out[1, :, t] = mean + terms.offset[:, t], var + extra
            site = _local_site(self.emission, terms, batch, t, (mean, var, extra))
            state = absorb(state, along, (mean, var), site)
            belief = Belief(state.mean, state.cov)
        kept = state_cov if self.keep_cov else None
        return ScalarForecasts(out[0], out[1], state_mean, kept), belief

    def _room(self) -> Tensor:
        """For the covariances, where they are kept."""
        users, steps, dim = self.terms.x.shape
        return self.terms.x.new_empty((users, steps, dim, dim) if self.keep_cov else (0, 1, 1, 1))


def item_variance(block: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    """`Var[r . z + e]` for `(r, e) ~ N(0, block)`, `z ~ N(mean, cov)`; batched over rows."""
    extended = torch.cat((mean, torch.ones_like(mean[:, :1])), 1)
    known = torch.einsum("ui,uij,uj->u", extended, block, extended)
    return known + (block[:, :-1, :-1] * cov).sum((-1, -2))


def _local_site(
    emission: ScalarEmission,
    terms: EventTerms,
    batch: Batch,
    t: int,
    forecast: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The site of event t on the state's part of the predictor, (linear, precision).

    Assumed density filtering: after it the predictor has the mean and variance that it has under
    the exact likelihood times the Gaussian forecast, `m + v d` and `v + v^2 c` with `d`, `c` the
    derivatives of the log evidence (Minka 2001). The item's share `extra` is integrated out.
    """
    mean, var, extra = forecast
    seen = emission.evidence(mean + terms.offset[:, t], var + extra, batch.outcome[:, t])
    linear, precision = moment_site(seen.slope, mean, var)
    return linear * batch.mask[:, t], precision * batch.mask[:, t]


def moment_site(slope: ExpectedDerivatives, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """The site (linear, precision) on a predictor `N(mean, var)` whose log evidence has `slope`."""
    site = matched_moments(mean, var, slope.first, slope.second)
    return site.linear, site.precision


def _rounded_up(active: Tensor) -> Tensor:
    """With the first repeated up to a multiple of `ROWS`: a matrix product of few rows may round
    otherwise, and what one user gets must not depend on how many others there are.
    """
    extra = -len(active) % ROWS
    return torch.cat((active, active[:1].expand(extra))) if extra else active


def filter_choice(
    layout: Layout,
    values: Globals,
    items: Items,
    batch: Batch,
    choices: Choices,
    belief: Belief,
) -> tuple[ChoiceForecasts, Belief]:
    """Filter a batch of the choice family; `choices` are its real events in (user, step) order."""
    walk, mask = batch.walk(layout, values), batch.mask
    looks = ~mask[..., None] * batch.moved(values)  # a look asks about an event, it is none
    position = torch.cumsum(mask.reshape(-1), 0).reshape(mask.shape) - 1
    mean, var = belief.mean, belief.cov
    out = mean.new_zeros(2, *mask.shape, mean.shape[-1])
    log_prob = mean.new_zeros(mask.shape)
    for t in range(mask.shape[1]):
        decay = walk.decay[:, t]
        mean, var = mean * decay, var * decay**2 + walk.variance[:, t]
        out[0, :, t], out[1, :, t] = mean, var
        active = _rounded_up(torch.nonzero(mask[:, t])[:, 0])
        part = choices.at(position[active, t])
        total = mean if batch.context is None else mean + batch.context[:, t]
        seen = look(values, items, part, total[active])
        log_prob[active, t] = seen.log_prob
        chosen = items.vectors[part.item]
        site = choice_site(chosen, seen.moments, mean[active], part.rho)
        after = absorb_diagonal(mean[active], var[active], *site)
        mean, var = mean.index_copy(0, active, after[0]), var.index_copy(0, active, after[1])
        var = var - looks[:, t]
    return ChoiceForecasts(out[0], out[1], log_prob), Belief(mean, var)
