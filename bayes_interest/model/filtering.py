"""One pass forward in time: predict each event, then absorb it. No event sees its future.

The same pass prepares a fitted model for ranking, absorbs updates, and scores a log. An event's
site matches the moments that the event leaves behind: the result depends on the past alone, and
splitting the events into batches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.emissions.base import ExpectedDerivatives, ScalarEmission
from bayes_interest.emissions.choice import choice_site
from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.emissions.ordered import FAR, OrderedEmission
from bayes_interest.model.batch import Batch
from bayes_interest.model.elbo import EventTerms, event_terms
from bayes_interest.model.parameters import Globals, Items, Layout, emission_of, reliability
from bayes_interest.model.softmax import Choices, look
from bayes_interest.statespace.diagonal import absorb_diagonal
from bayes_interest.statespace.kalman import GaussianState, absorb, as_array, predict, project
from bayes_interest.statespace.random_walk import Transition
from bayes_interest.statespace.sites import SMALLEST_SHARE, matched_moments


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

    @staticmethod
    def prior(n_users: int, values: Globals, diagonal: bool) -> Belief:
        """`N(0, I)` for every user."""
        dim = values["mean"].shape[0]
        zero = values["mean"].new_zeros(n_users, dim)
        if diagonal:
            return Belief(zero, torch.ones_like(zero))
        return Belief(
            zero, torch.eye(dim, dtype=zero.dtype, device=zero.device).repeat(n_users, 1, 1)
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
    """What was predicted of each event's predictor before it was absorbed, (user, step) each."""

    mean: Tensor  # with the offset
    var: Tensor  # of state and item together
    state_mean: Tensor  # predicted deviation, (user, step, state_dim)
    state_cov: Tensor | None  # (user, step, state_dim, state_dim), on request


@dataclass(frozen=True)
class ChoiceForecasts:
    """The predicted state deviation before each event, (user, step, state_dim) each."""

    mean: Tensor
    var: Tensor
    log_prob: Tensor  # of the choice at the predicted mean, (user, step)


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
    terms, walk = event_terms(values, items, batch), batch.walk(layout, values)
    rho = reliability(values, batch.kind) ** 2
    shift = batch.total(values["mean"].expand_as(terms.x))
    step = _Steps(emission, terms, walk, rho, shift, item_cov, batch, keep_cov)
    inputs = (terms.x, belief.mean, *((item_cov,) if item_cov is not None else ()))
    grad = torch.is_grad_enabled() and any(part.requires_grad for part in inputs)
    if isinstance(emission, OrderedEmission) and terms.x.device.type == "cpu" and not grad:
        return step.compiled(emission, belief)
    return step.eager(belief)


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

    def compiled(self, emission: OrderedEmission, belief: Belief) -> tuple[ScalarForecasts, Belief]:
        """User by user, on the CPU."""
        from bayes_interest.model.compiled import filter_ordered_kernel

        terms, walk, batch = self.terms, self.walk, self.batch
        scales, weights = scale_mixture(N_SCALES[terms.x.dtype])
        lower, upper = emission.bounds(batch.outcome)
        nothing = terms.x.new_zeros(0, 1, 1)
        mean, cov = belief.mean.clone(), belief.cov.contiguous().clone()
        out = terms.x.new_empty(2, *batch.mask.shape)
        state_mean, state_cov = terms.x.new_empty(terms.x.shape), self._room()
        inputs = (terms.x, terms.offset, walk.decay[..., 0], walk.variance, lower, upper)
        about = (batch.item, self.rho, nothing if self.item_cov is None else self.item_cov)
        filter_ordered_kernel(
            *(as_array(part.expand(out.shape[1:] + part.shape[2:])) for part in inputs),
            as_array(batch.mask),
            *(as_array(part) for part in (*about, self.shift)),
            FAR,
            SMALLEST_SHARE,
            scales**2,
            weights,
            *(as_array(part) for part in (mean, cov, out, state_mean, state_cov)),
        )
        kept = state_cov if self.keep_cov else None
        return ScalarForecasts(out[0], out[1], state_mean, kept), Belief(mean, cov)

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
        active = torch.nonzero(mask[:, t])[:, 0]
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
