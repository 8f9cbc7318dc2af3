"""Expectation propagation on users' chains: an estimate of the log evidence, not a bound.

The same Gaussian chain as the guide's, with sites that match the moments of each event's exact
likelihood under everything else (Minka 2001). With `q_t` the marginal of event t's predictor and
`c_t` the same without its site,

    log Z = log int N(z) prod_t site_t + sum_t log E_c[p(outcome_t)] - log E_c[site_t].

Where the moments match, its derivative through sites and marginals vanishes (Seeger 2005): as for
the ELBO, its gradient in the globals needs no autograd through time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.model.elbo import Chains, zero_sites
from bayes_interest.statespace.kalman import (
    ScalarSites,
    Smoothed,
    filter_and_smooth,
    site_log_evidence,
)
from bayes_interest.statespace.sites import matched_moments, step_sites

LEAST_SHARE = 1e-4
"""Of the precision of a predictor the site leaves at least this share to everything else."""
SLOWER = 0.5


@dataclass(frozen=True)
class Propagated:
    """The chain at some sites."""

    sites: ScalarSites
    smoothed: Smoothed
    log_evidence: Tensor  # (user,)
    cavity_mean: Tensor  # of the predictor less its offset, without the event's site, (user, step)
    cavity_var: Tensor


def propagate(
    chains: Chains, sites: ScalarSites | None, n_steps: int, tolerance: float
) -> Propagated:
    """At most `n_steps` parallel updates of all sites, until none moves by `tolerance`.

    A user's steps are halved whenever they grow.
    """
    with torch.no_grad():
        sites = sites or zero_sites(chains, chains.terms.offset)
        size = torch.ones_like(sites.linear[:, :1])
        last = torch.full_like(size, torch.inf)
        seen, target = _look(chains, sites)
        for _ in range(n_steps):
            change = torch.maximum(
                (target.linear - sites.linear).abs(), (target.precision - sites.precision).abs()
            ).amax(1, keepdim=True)
            if float(change.max()) <= tolerance:
                break
            size = torch.where(change > last, SLOWER * size, size)
            sites, last = step_sites(sites, target, size), change
            seen, target = _look(chains, sites)
        return seen


def _look(chains: Chains, sites: ScalarSites) -> tuple[Propagated, ScalarSites]:
    """The chain at these sites, and the sites whose moments match."""
    terms, mask = chains.terms, chains.mask
    log_evidence, smoothed = filter_and_smooth(terms.x, sites, chains.walk)
    mean, var = smoothed.predictor_mean, smoothed.predictor_var
    share = (1.0 - sites.precision * var).clamp_min(LEAST_SHARE)
    mean, var = (mean - var * sites.linear) / share, var / share
    seen = chains.emission.evidence(mean + terms.offset, var, chains.outcome)
    gained = seen.log_prob - site_log_evidence(mean, var, sites.linear, sites.precision)
    value = log_evidence + (gained * mask).sum(-1)
    target = matched_moments(mean, var, seen.slope.first, seen.slope.second)
    target = ScalarSites(target.linear * mask, target.precision * mask)
    return Propagated(sites, smoothed, value, mean, var), target


def evidence_objective(chains: Chains, found: Propagated) -> Tensor:
    """A scalar whose gradient in the globals is that of the log evidence where moments match."""
    terms, smoothed, sites = chains.terms, found.smoothed, found.sites
    mean = (terms.x * smoothed.mean).sum(-1)
    var = 2.0 * (terms.x * smoothed.predictor_cov).sum(-1) - smoothed.predictor_var
    factor = sites.linear * mean - 0.5 * sites.precision * (var + mean**2)
    fit = chains.emission.log_evidence(
        found.cavity_mean + terms.offset, found.cavity_var, chains.outcome
    )
    drift = (smoothed.variance_score * chains.walk.variance).sum()
    return factor.sum() + (fit * chains.mask).sum() + drift
