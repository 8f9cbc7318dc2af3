"""One fitting step per family behind one protocol: sites in, objective and precisions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bayes_interest.events.history import Padded, padded_batches
from bayes_interest.model.batch import Batch
from bayes_interest.model.choice_bound import (
    choice_objective,
    fit_choice_sites,
    flat_choices,
)
from bayes_interest.model.elbo import UserPosterior, event_terms, fit_sites, objective
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Globals, Items, reliability
from bayes_interest.model.problem import Problem, event_positions
from bayes_interest.model.softmax import Sample, draw_sample
from bayes_interest.model.visit import Visitor
from bayes_interest.statespace.diagonal import DiagonalSites, filter_diagonal
from bayes_interest.statespace.kalman import ScalarSites, filter_to_end
from bayes_interest.statespace.lanes import LEAST

BELIEF_EVENTS = 16_384
CONTEXT_DROPOUT = 0.2


@dataclass(frozen=True)
class StepResult:
    """One visit of a batch."""

    objective: Tensor  # its gradient in the globals is the ELBO's
    elbo: float  # of the batch's users, log priors of globals left out


class Family(Protocol):
    """Keeps the sites of every event between visits."""

    def step(self, values: Globals, items: Items, block: Padded, size: float) -> StepResult:
        """Step the sites of a block and return the objective at its guide."""
        ...

    def beliefs(self, values: Globals, items: Items) -> Belief:
        """Every user's state after the last event, by one filter pass over the kept sites."""
        ...

    def item_precision(self) -> Tensor:
        """Likelihood precision of (residual, offset) per item since the last call.

        (item, state_dim + 1, state_dim + 1), or its diagonal (item, state_dim + 1).
        """
        ...


def _visited(problem: Problem, values: Globals, items: Items, block: Padded) -> Batch:
    """The events of a block, with the context as it is in training."""
    vectors = items.vectors
    if problem.layout.context_layers and not values["context_item"].requires_grad:
        vectors = vectors.detach()  # a network that is given reads what it always read
    return problem.batch(block).with_context(problem.layout, values, vectors, CONTEXT_DROPOUT)


def _detached(items: Items) -> Items:
    return Items(items.vectors.detach(), items.offsets.detach())


def _frozen(values: Globals) -> Globals:
    return {name: value.detach() for name, value in values.items()}


class ScalarFamily:
    """bernoulli, rating, gaussian: rank-one sites, full covariance."""

    def __init__(self, problem: Problem, site_steps: int) -> None:
        self.problem, self.site_steps = problem, site_steps
        zero = problem.features.new_zeros(2, len(problem.history))
        self.linear, self.precision = zero[0], zero[1]
        self.visitor = Visitor(problem, site_steps + 1) if Visitor.can(problem) else None
        self._reset()

    def _reset(self) -> None:
        layout = self.problem.layout
        dim = layout.state_dim + 1
        self.blocks = self.linear.new_zeros(layout.n_items, dim, dim)

    def step(self, values: Globals, items: Items, block: Padded, size: float) -> StepResult:
        """Natural-gradient steps of size one with a damped fallback; `size` is for draws."""
        if self.visitor is not None and len(block.users) >= LEAST:
            log = self.visitor.events(block)
            found = self.visitor.visit(values, items, log, (self.linear, self.precision))
            target = self.visitor.objective(values, items, log, found, self.blocks)
            return StepResult(target, float(found.elbo.sum()))
        problem, batch = self.problem, _visited(self.problem, values, items, block)
        sites = ScalarSites(block.gather(self.linear), block.gather(self.precision))
        posterior = fit_sites(
            problem.layout,
            _frozen(values),
            _detached(items),
            batch.still(),
            sites,
            self.site_steps,
        )
        where = block.event[batch.mask]
        self.linear[where] = posterior.sites.linear[batch.mask]
        self.precision[where] = posterior.sites.precision[batch.mask]
        with torch.no_grad():
            self._add_precision(values, batch.still(), posterior)
        target = objective(problem.layout, values, items, batch, posterior)
        return StepResult(target, float(posterior.elbo.sum()))

    def _add_precision(self, values: Globals, batch: Batch, posterior: UserPosterior) -> None:
        """What each event says about its item once the user's state is integrated out.

        The site is a noisy look at the predictor with variance `1 / lam`; to the item the state
        adds the variance `v` it has without this event, so the precision is
        `lam / (1 + lam v) = lam (1 - lam v_smoothed)`, along the state's mean.
        """
        mask, smoothed = batch.mask, posterior.smoothed
        site = posterior.sites.precision[mask]
        rho = reliability(values, batch.kind)[mask].detach()
        weight = rho**2 * site * (1.0 - site * smoothed.predictor_var[mask]).clamp_min(0.0)
        state = values["mean"].detach() + batch.total(smoothed.mean)[mask]
        extended = torch.cat((state, torch.ones_like(state[:, :1])), 1)
        outer = extended[:, :, None] * extended[:, None, :]
        self.blocks.index_add_(0, batch.item[mask], outer * weight[:, None, None])

    def beliefs(self, values: Globals, items: Items) -> Belief:
        """Filter without the smoother: what an epoch's end needs to look ahead."""
        problem = self.problem
        belief = Belief.prior(problem.history.n_users, values, diagonal=False).copy()
        for block in padded_batches(problem.history, BELIEF_EVENTS, self.linear.device):
            batch = problem.batch(block).with_context(problem.layout, values, items.vectors)
            terms = event_terms(values, items, batch)
            sites = ScalarSites(block.gather(self.linear), block.gather(self.precision))
            walk = batch.walk(problem.layout, values)
            last = filter_to_end(terms.x, sites, walk)
            belief.mean[block.users], belief.cov[block.users] = last.mean, last.cov
        return belief

    def item_precision(self) -> Tensor:
        """Sum of the precisions of each item's events."""
        blocks = self.blocks
        self._reset()
        return blocks


class ChoiceFamily:
    """choice: diagonal sites from the softmax."""

    def __init__(
        self, problem: Problem, generator: torch.Generator, n_candidates: int | None
    ) -> None:
        self.problem, self.generator, self.n_candidates = problem, generator, n_candidates
        shape = (len(problem.history), problem.layout.state_dim)
        self.linear = problem.features.new_zeros(shape)
        self.precision = problem.features.new_zeros(shape)
        self._reset()

    def _reset(self) -> None:
        layout = self.problem.layout
        self.curvature = self.linear.new_zeros(layout.n_items, layout.state_dim + 1)

    def _sample(self) -> Sample | None:
        if self.n_candidates is None or self.n_candidates >= self.problem.layout.n_items:
            return None
        return draw_sample(self.problem.frequency, self.n_candidates, self.generator)

    def step(self, values: Globals, items: Items, block: Padded, size: float) -> StepResult:
        """One natural-gradient step of `size` from one draw of the smoothed marginals."""
        problem, batch = self.problem, _visited(self.problem, values, items, block)
        frozen, still = _frozen(values), _detached(items)
        choices = flat_choices(frozen, batch, event_positions(block, batch.mask), problem.rows)
        sites = DiagonalSites(block.gather(self.linear), block.gather(self.precision))
        posterior = fit_choice_sites(
            problem.layout,
            frozen,
            still,
            batch.still(),
            choices,
            sites,
            size,
            self.generator,
            self._sample(),
        )
        where = block.event[batch.mask]
        self.linear[where] = posterior.sites.linear[batch.mask]
        self.precision[where] = posterior.sites.precision[batch.mask]
        self.curvature += posterior.curvature
        target = choice_objective(problem.layout, values, items, batch, posterior)
        return StepResult(target, float(posterior.elbo.sum()))

    def beliefs(self, values: Globals, items: Items) -> Belief:
        """Filter without the smoother: what an epoch's end needs to look ahead."""
        problem = self.problem
        belief = Belief.prior(problem.history.n_users, values, diagonal=True).copy()
        for block in padded_batches(problem.history, BELIEF_EVENTS, self.linear.device):
            sites = DiagonalSites(block.gather(self.linear), block.gather(self.precision))
            walk = problem.batch(block).walk(problem.layout, values)
            found = filter_diagonal(sites, walk)
            belief.mean[block.users] = found.mean[:, -1]
            belief.cov[block.users] = found.var[:, -1]
        return belief

    def item_precision(self) -> Tensor:
        """Diagonal precision from the softmax's curvature."""
        curvature = self.curvature
        self._reset()
        return curvature
