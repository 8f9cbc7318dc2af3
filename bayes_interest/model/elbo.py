"""The collapsed ELBO of the scalar families, and its gradient without autograd through time.

The guide of a user is the exact smoother under the prior and one site per event. At optimal
sites the derivative of the ELBO through the guide vanishes, so its gradient in the globals is

    E_q[d log p(outcome | a)] + sum_t score_t dQ_t        (Fisher's identity),

with the scores given by the smoother. Nothing is back-propagated through the recursion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.emissions.base import ScalarEmission
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.parameters import (
    COVARIATES,
    Globals,
    Items,
    Layout,
    emission_of,
    reliability,
    weighed,
)
from bayes_interest.statespace.kalman import (
    Filtered,
    ScalarSites,
    Smoothed,
    filter_and_smooth,
    filter_states,
    kl_to_prior,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition
from bayes_interest.statespace.sites import matched_site, site_change, step_sites

ELBO_SLACK = 1e-5
"""Relative fall of a user's ELBO that rounding may cause; more halves the step."""
STEP_GROWTH = 1.2
"""A user's step grows back by this factor after every good one, up to one."""


@dataclass(frozen=True)
class EventTerms:
    """Predictor of every event: `a = x . y + offset`, y the deviation from the mean state."""

    x: Tensor  # rho * x_i, (user, step, state_dim)
    offset: Tensor  # (user, step)


@dataclass(frozen=True)
class Chains:
    """Users' chains at given globals: all that their guide depends on."""

    emission: ScalarEmission
    terms: EventTerms
    walk: Transition
    outcome: Tensor  # (user, step)
    mask: Tensor  # (user, step) bool

    @staticmethod
    def of(layout: Layout, values: Globals, items: Items, batch: Batch) -> Chains:
        """Those of a batch."""
        terms, walk = event_terms(values, items, batch), batch.walk(layout, values)
        return Chains(emission_of(layout, values), terms, walk, batch.outcome, batch.mask)


@dataclass(frozen=True)
class Look:
    """The guide at some sites."""

    log_evidence: Tensor  # of the sites, (user,)
    forward: Filtered | None  # on request
    smoothed: Smoothed
    elbo: Tensor  # (user,)
    target: ScalarSites  # where a natural-gradient step of size one leads


@dataclass(frozen=True)
class UserPosterior:
    """The guide of a batch of users at given globals."""

    sites: ScalarSites
    log_evidence: Tensor  # of the sites, (user,)
    forward: Filtered | None  # on request
    smoothed: Smoothed
    elbo: Tensor  # (user,)
    n_steps: int
    change: float  # of the sites in the last step


def event_terms(values: Globals, items: Items, batch: Batch) -> EventTerms:
    """Gather the items of a batch and add what depends on the moment."""
    rho = reliability(values, batch.kind)
    vectors = items.vectors[batch.item]
    return EventTerms(vectors * rho[..., None], event_offsets(values, items, batch) * rho)


def event_offsets(values: Globals, items: Items, events: Batch | EventTensors) -> Tensor:
    """What the predictor of each event has beside the deviation, before its reliability."""
    offset = items.offsets[events.item]
    if COVARIATES in values:
        offset = offset + weighed(events.covariates, values[COVARIATES])
    if events.context is not None:
        offset = offset + (items.vectors[events.item] * events.context).sum(-1)
    return offset


def _look(chains: Chains, sites: ScalarSites, full: bool, last: bool = True) -> Look:
    """ELBO of every user and the sites that its guide asks for; `full` keeps covariances, and all
    but the `last` look go without those of states and predictors.
    """
    forward = None
    if full:
        forward = filter_states(chains.terms.x, sites, chains.walk)
        smoothed = smooth_states(chains.terms.x, sites, chains.walk, forward, full)
        log_evidence = forward.log_evidence
    else:
        log_evidence, smoothed = filter_and_smooth(chains.terms.x, sites, chains.walk, last)
    mean = smoothed.predictor_mean + chains.terms.offset
    seen = chains.emission.expected(mean, smoothed.predictor_var, chains.outcome)
    elbo = (seen.log_prob * chains.mask).sum(-1)
    elbo = elbo - kl_to_prior(sites, smoothed, log_evidence)
    first, second = seen.slope.first * chains.mask, seen.slope.second * chains.mask
    target = matched_site(first, second, smoothed.predictor_mean)
    return Look(log_evidence, forward, smoothed, elbo, target)


def zero_sites(batch: Batch | Chains, like: Tensor) -> ScalarSites:
    """No information yet."""
    zero = like.new_zeros(batch.mask.shape)
    return ScalarSites(zero, zero)


def fit_sites(
    layout: Layout,
    values: Globals,
    items: Items,
    batch: Batch,
    sites: ScalarSites | None = None,
    n_steps: int = 1,
    tolerance: float = 0.0,
    full: bool = False,
) -> UserPosterior:
    """Natural-gradient steps on the sites of a batch at fixed globals, without autograd.

    Steps have size one; where a user's ELBO falls, the step is taken back by half. Stops early
    once no natural parameter moves by more than `tolerance`.
    """
    with torch.no_grad():
        chains = Chains.of(layout, values, items, batch)
        return fit_chains(chains, sites, n_steps, tolerance, full)


def fit_chains(
    chains: Chains,
    sites: ScalarSites | None = None,
    n_steps: int = 1,
    tolerance: float = 0.0,
    full: bool = False,
) -> UserPosterior:
    """See `fit_sites`."""
    with torch.no_grad():
        search = _SiteSearch(chains)
        sites = sites or zero_sites(chains, chains.terms.offset)
        change, taken = torch.inf, 0
        while taken < n_steps and change > tolerance:
            proposal = search.propose(sites)
            change = site_change(sites, proposal)
            sites, taken = proposal, taken + 1
        sites, seen = search.settle(sites, full)
        return UserPosterior(
            sites, seen.log_evidence, seen.forward, seen.smoothed, seen.elbo, taken, change
        )


class _SiteSearch:
    """Keeps, per user, the best sites so far, where they point, and the step size."""

    def __init__(self, chains: Chains) -> None:
        self.chains = chains
        self.best: Tensor | None = None  # ELBO, (user,)
        self.size = torch.ones_like(chains.terms.offset[:, 0])

    def _worse(self, elbo: Tensor) -> Tensor:
        if self.best is None:
            return torch.zeros_like(elbo, dtype=torch.bool)
        return elbo < self.best - ELBO_SLACK * (1.0 + self.best.abs())

    def propose(self, sites: ScalarSites) -> ScalarSites:
        """Take `sites` or go back to the best ones, and step from there."""
        seen = _look(self.chains, sites, full=False, last=False)
        elbo, target, worse = seen.elbo, seen.target, self._worse(seen.elbo)
        if self.best is None:
            self.kept, self.target, self.best = sites, target, elbo
        else:
            self.kept = _blend(worse, self.kept, sites)
            self.target = _blend(worse, self.target, target)
            self.best = torch.where(worse, self.best, elbo)
        grown = (self.size * STEP_GROWTH).clamp_max(1.0)
        self.size = torch.where(worse, 0.5 * self.size, grown)
        return step_sites(self.kept, self.target, self.size[:, None])

    def settle(self, sites: ScalarSites, full: bool) -> tuple[ScalarSites, Look]:
        """The guide at `sites`, or at the best ones for users whom the last step did no good."""
        seen = _look(self.chains, sites, full)
        worse = self._worse(seen.elbo)
        if bool(worse.any()):
            sites = _blend(worse, self.kept, sites)
            seen = _look(self.chains, sites, full)
        return sites, seen


def _blend(choose: Tensor, yes: ScalarSites, no: ScalarSites) -> ScalarSites:
    pick = choose[:, None]
    return ScalarSites(
        torch.where(pick, yes.linear, no.linear),
        torch.where(pick, yes.precision, no.precision),
    )


def collapsed_elbo(layout: Layout, values: Globals, items: Items, batch: Batch) -> Tensor:
    """ELBO of a batch at converged sites (log priors of globals left out), a scalar."""
    return fit_sites(layout, values, items, batch, n_steps=100, tolerance=1e-10).elbo.sum()


def objective(
    layout: Layout, values: Globals, items: Items, batch: Batch, posterior: UserPosterior
) -> Tensor:
    """A scalar whose gradient in the globals is the ELBO's at the batch's present guide."""
    return chains_objective(Chains.of(layout, values, items, batch), posterior)


def chains_objective(chains: Chains, posterior: UserPosterior) -> Tensor:
    """See `objective`."""
    terms, smoothed = chains.terms, posterior.smoothed
    deviation, cov_x = smoothed.mean.detach(), smoothed.predictor_cov.detach()
    mean = (terms.x * deviation).sum(-1) + terms.offset
    var = 2.0 * (terms.x * cov_x).sum(-1) - smoothed.predictor_var.detach()
    fit = chains.emission.expected_log_prob(mean, var, chains.outcome)
    drift = (smoothed.variance_score.detach() * chains.walk.variance).sum()
    return (fit * chains.mask).sum() + drift
