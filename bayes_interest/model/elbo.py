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
from bayes_interest.model.batch import Batch
from bayes_interest.model.parameters import Globals, Items, Layout, emission_of, reliability
from bayes_interest.statespace.kalman import (
    Filtered,
    GaussianState,
    ScalarSites,
    Smoothed,
    filter_states,
    kl_to_prior,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition
from bayes_interest.statespace.sites import matched_site, site_change

ELBO_SLACK = 1e-5
"""Relative fall of a user's ELBO that rounding may cause; more halves the step."""


@dataclass(frozen=True)
class EventTerms:
    """Predictor of every event: `a = x . y + offset`, y the deviation from the mean state."""

    x: Tensor  # rho * x_i, (user, step, state_dim)
    offset: Tensor  # (user, step)


@dataclass(frozen=True)
class UserPosterior:
    """The guide of a batch of users at given globals."""

    sites: ScalarSites
    forward: Filtered
    smoothed: Smoothed
    elbo: Tensor  # (user,)
    n_steps: int
    change: float  # of the sites in the last step


def event_terms(values: Globals, items: Items, batch: Batch) -> EventTerms:
    """Gather the items of a batch and add what depends on the moment."""
    rho = reliability(values, batch.kind)
    offset = items.offsets[batch.item]
    if "popularity_weight" in values:
        offset = offset + values["popularity_weight"] * batch.popularity
    if "repeat_weight" in values:
        offset = offset + values["repeat_weight"] * batch.repeats
    return EventTerms(items.vectors[batch.item] * rho[..., None], offset * rho)


def _user_elbo(
    emission: ScalarEmission,
    terms: EventTerms,
    batch: Batch,
    state: tuple[ScalarSites, Filtered, Smoothed],
) -> Tensor:
    sites, forward, smoothed = state
    mean = smoothed.predictor_mean + terms.offset
    fit = emission.expected_log_prob(mean, smoothed.predictor_var, batch.outcome)
    return (fit * batch.mask).sum(-1) - kl_to_prior(sites, smoothed, forward.log_evidence)


def zero_sites(batch: Batch, like: Tensor) -> ScalarSites:
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
        emission = emission_of(layout, values)
        terms = event_terms(values, items, batch)
        walk = batch.walk(layout, values)
        sites = sites or zero_sites(batch, terms.offset)
        kept, best, change = sites, None, torch.inf
        for step in range(n_steps + 1):
            last = step == n_steps or change <= tolerance
            forward = filter_states(terms.x, sites, walk)
            smoothed = smooth_states(terms.x, sites, walk, forward, full and last)
            elbo = _user_elbo(emission, terms, batch, (sites, forward, smoothed))
            if last:
                break
            worse = torch.zeros_like(elbo, dtype=torch.bool)
            if best is not None:
                worse = elbo < best - ELBO_SLACK * (1.0 + best.abs())
            target = _next_sites(emission, terms, batch, smoothed)
            proposal = _blend(worse, _middle(kept, sites), target)
            change = site_change(sites, proposal)
            kept = _blend(worse, kept, sites)
            best = elbo if best is None else torch.where(worse, best, elbo)
            sites = proposal
        return UserPosterior(sites, forward, smoothed, elbo, step, change)


def _next_sites(
    emission: ScalarEmission, terms: EventTerms, batch: Batch, smoothed: Smoothed
) -> ScalarSites:
    mean = smoothed.predictor_mean + terms.offset
    slope = emission.expected_derivatives(mean, smoothed.predictor_var, batch.outcome)
    return matched_site(
        slope.first * batch.mask, slope.second * batch.mask, smoothed.predictor_mean
    )


def _middle(one: ScalarSites, two: ScalarSites) -> ScalarSites:
    return ScalarSites(0.5 * (one.linear + two.linear), 0.5 * (one.precision + two.precision))


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
    terms = event_terms(values, items, batch)
    smoothed = posterior.smoothed
    deviation, cov_x = smoothed.mean.detach(), smoothed.predictor_cov.detach()
    mean = (terms.x * deviation).sum(-1) + terms.offset
    var = 2.0 * (terms.x * cov_x).sum(-1) - smoothed.predictor_var.detach()
    fit = emission_of(layout, values).expected_log_prob(mean, var, batch.outcome)
    walk: Transition = batch.walk(layout, values)
    drift = (smoothed.variance_score.detach() * walk.variance).sum()
    return (fit * batch.mask).sum() + drift


def initial_state(n_users: int, values: Globals) -> GaussianState:
    """Every user's belief before the first event."""
    return GaussianState.standard(n_users, values["mean"].shape[0], values["mean"])
