"""The Pyro programs are the definition: the chain and the fast ELBOs must agree with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from bayes_interest.model.batch import Batch
from bayes_interest.model.choice_bound import fit_choice_sites, zero_choice_sites
from bayes_interest.model.elbo import UserPosterior, event_terms, fit_sites
from bayes_interest.model.generative import Design, interest_program, walk_path
from bayes_interest.model.guide import InnovationChain, backward_messages, interest_guide
from bayes_interest.model.parameters import COVARIATES, Globals, log_prior
from bayes_interest.statespace.diagonal import (
    DiagonalSites,
    filter_diagonal,
    kl_to_prior_diagonal,
    smooth_diagonal,
)
from bayes_interest.statespace.kalman import ScalarSites, kl_to_prior
from tests.model.problems import SCALAR, Small, small_problem

N_SE = 4.0  # standard errors of the Monte-Carlo estimates


def converged(small: Small) -> UserPosterior:
    return fit_sites(
        small.layout, small.values, small.items, small.batch, n_steps=100, tolerance=1e-11,
        full=True,
    )  # fmt: skip


def state_sites(small: Small, sites: ScalarSites) -> tuple[Tensor, Tensor]:
    """Sites as functions of the state: precision (.., D, D) and linear (.., D)."""
    x = event_terms(small.values, small.items, small.batch).x
    precision = sites.precision[..., None, None] * x[..., :, None] * x[..., None, :]
    return precision, sites.linear[..., None] * x


def bare(small: Small) -> Batch:
    """The batch without the context: the program finds its own."""
    return replace(small.batch, context=None)


def chain_of(small: Small, sites: ScalarSites) -> InnovationChain:
    walk = small.batch.walk(small.layout, small.values)
    return InnovationChain(backward_messages(*state_sites(small, sites), walk), walk)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
@pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
def test_chain_density_is_prior_times_sites(emission: str, half_life_days: float | None) -> None:
    small = small_problem(emission, half_life_days=half_life_days)
    assert (small.batch.elapsed_days[:, 1:][small.batch.mask[:, 1:]] == 0.0).any()
    posterior = converged(small)
    generator = torch.Generator().manual_seed(0)
    innovation = torch.randn(
        13, *small.batch.mask.shape, 3, generator=generator, dtype=torch.float64
    )
    walk = small.batch.walk(small.layout, small.values)
    state = walk_path(innovation, walk)
    a = (event_terms(small.values, small.items, small.batch).x * state).sum(-1)
    sites = posterior.sites
    log_sites = (sites.linear * a - 0.5 * sites.precision * a**2).sum(-1)
    log_prior_path = torch.distributions.Normal(0.0, 1.0).log_prob(innovation).sum((-1, -2))
    wanted = log_prior_path + log_sites - posterior.log_evidence
    got = chain_of(small, sites).log_prob(innovation)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_chain_draws_have_the_smoothers_moments() -> None:
    small, n_draws = small_problem("bernoulli"), 20_000
    posterior = converged(small)
    assert posterior.smoothed.cov is not None
    walk = small.batch.walk(small.layout, small.values)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        innovation = chain_of(small, posterior.sites).rsample(torch.Size([n_draws]))
    states = walk_path(innovation, walk)
    mean, cov = posterior.smoothed.mean, posterior.smoothed.cov
    var = cov.diagonal(dim1=-2, dim2=-1)
    mean_z = (states.mean(0) - mean) / (var / n_draws).sqrt()
    centred = states - mean
    sample_cov = torch.einsum("nuti,nutj->utij", centred, centred) / n_draws
    cov_sd = ((var[..., :, None] * var[..., None, :] + cov**2) / n_draws).sqrt()
    cov_z = (sample_cov - cov) / cov_sd
    assert mean_z.abs().max() < 5.0  # of 165 and 495 correlated standard normals
    assert cov_z.abs().max() < 5.0
    assert mean_z.square().mean() < 1.5
    assert cov_z.square().mean() < 1.5


def test_a_chain_without_sites_is_the_prior() -> None:
    small = small_problem("bernoulli")
    zero = torch.zeros(small.batch.mask.shape, dtype=torch.float64)
    messages = chain_of(small, ScalarSites(zero, zero)).messages
    assert (messages.slope == 0.0).all()
    assert (messages.shift == 0.0).all()
    assert torch.equal(
        messages.factor, torch.eye(3, dtype=torch.float64).expand_as(messages.factor)
    )


def test_zero_gaps_leave_the_innovation_at_its_prior() -> None:
    small = small_problem("bernoulli")
    messages = chain_of(small, converged(small).sites).messages
    still = (small.batch.elapsed_days == 0.0) & small.batch.mask
    still[:, 0] = False
    assert still.any()
    assert (messages.slope[still] == 0.0).all()
    assert (messages.shift[still] == 0.0).all()
    eye = torch.eye(3, dtype=torch.float64).expand_as(messages.factor[still])
    torch.testing.assert_close(messages.factor[still], eye, rtol=0.0, atol=1e-15)


def program_elbos(design: Design, values: Globals, sites: tuple[Tensor, Tensor], n: int) -> Tensor:
    """One-particle ELBOs of the Pyro model and guide, (n,)."""
    bound = Trace_ELBO()
    with torch.random.fork_rng(), torch.no_grad():
        pyro.set_rng_seed(0)
        losses = [
            bound.loss(interest_program, lambda d: interest_guide(d, values, *sites), design)
            for _ in range(n)
        ]
    return -torch.tensor(losses, dtype=torch.float64)


@dataclass(frozen=True)
class Estimate:
    mean: float
    se: float  # standard error

    @staticmethod
    def of(draws: Tensor) -> Estimate:
        return Estimate(draws.mean().item(), draws.std().item() / len(draws) ** 0.5)

    def z(self, other: Estimate) -> float:
        """Standardised difference; rounding counts as an error of 1e-9 relative."""
        spread = float(np.hypot(np.hypot(self.se, other.se), 1e-9 * abs(self.mean)))
        return (self.mean - other.mean) / spread


def wrong_kl(small: Small, posterior: UserPosterior) -> float:
    """How far the ELBO is off if the KL were computed with precisions 10 % too large."""
    evidence = posterior.log_evidence
    off = ScalarSites(posterior.sites.linear, 1.1 * posterior.sites.precision)
    right = kl_to_prior(posterior.sites, posterior.smoothed, evidence)
    return float((kl_to_prior(off, posterior.smoothed, evidence) - right).sum())


@pytest.mark.parametrize("context_layers", [0, 1])
@pytest.mark.parametrize("emission", SCALAR)
def test_pyro_elbo_agrees_with_the_collapsed_one(emission: str, context_layers: int) -> None:
    small = small_problem(emission, context_layers=context_layers)
    posterior = converged(small)
    design = Design(small.layout, small.features, bare(small))
    draws = program_elbos(design, small.values, state_sites(small, posterior.sites), 80)
    slow = Estimate.of(draws)
    total = posterior.elbo.sum() + log_prior(small.layout, small.values)
    fast = Estimate(total.item(), 0.0)
    assert abs(slow.z(fast)) < N_SE
    # The check has the power to see sites whose precision is 10 % off.
    wrong = Estimate(fast.mean - wrong_kl(small, posterior), 0.0)
    assert abs(slow.z(wrong)) > 2.0 * N_SE
    if emission == "gaussian":  # the guide is the posterior: every particle is the evidence
        torch.testing.assert_close(draws, total.expand_as(draws), rtol=1e-9, atol=0.0)


@dataclass(frozen=True)
class ChoiceCase:
    small: Small
    sites: DiagonalSites
    design: Design

    def elbos(self, n: int) -> Tensor:
        """The fast, unbiased ELBO at fixed sites, (n,)."""
        small, generator = self.small, torch.Generator().manual_seed(1)
        arguments = (small.layout, small.values, small.items, small.batch, small.choices)
        return torch.stack(
            [fit_choice_sites(*arguments, self.sites, 0.0, generator).elbo.sum() for _ in range(n)]
        )


def choice_case(context_layers: int) -> ChoiceCase:
    small = small_problem("choice", context_layers=context_layers)
    generator = torch.Generator().manual_seed(0)
    sites = zero_choice_sites(small.batch, small.values["mean"])
    for k in range(30):
        sites = fit_choice_sites(
            small.layout, small.values, small.items, small.batch, small.choices, sites,
            1.0 / (k + 1), generator,
        ).sites  # fmt: skip
    mask = small.batch.mask
    extra = torch.zeros(*mask.shape, small.layout.n_items, dtype=torch.float64)
    extra[mask] = small.rows.dense(small.events, small.values)
    return ChoiceCase(small, sites, Design(small.layout, small.features, bare(small), extra))


@pytest.mark.parametrize("context_layers", [0, 1])
def test_pyro_elbo_agrees_with_the_collapsed_one_for_choice(context_layers: int) -> None:
    case = choice_case(context_layers)
    small, sites = case.small, case.sites
    assert len(small.values[COVARIATES]) == len(small.layout.kinds.names) == 9
    prior = log_prior(small.layout, small.values)
    full = (torch.diag_embed(sites.precision), sites.linear)
    slow = Estimate.of(program_elbos(case.design, small.values, full, 150))
    fast = Estimate.of(case.elbos(300) + prior)
    assert abs(slow.z(fast)) < N_SE
    walk = small.batch.walk(small.layout, small.values)
    forward = filter_diagonal(sites, walk)
    smoothed = smooth_diagonal(sites, walk, forward)
    off = DiagonalSites(sites.linear, 1.1 * sites.precision)
    shift = kl_to_prior_diagonal(off, smoothed, forward.log_evidence)
    shift = shift - kl_to_prior_diagonal(sites, smoothed, forward.log_evidence)
    wrong = Estimate(fast.mean - shift.sum().item(), fast.se)
    assert abs(slow.z(wrong)) > N_SE


@pytest.mark.parametrize("context_layers", [0, 1])
def test_program_draws_outcomes_of_the_right_shape_for_every_family(context_layers: int) -> None:
    for emission in (*SCALAR, "choice"):
        small = small_problem(emission, context_layers=context_layers)
        design = Design(small.layout, small.features, bare(small))
        with torch.random.fork_rng():
            pyro.set_rng_seed(0)
            outcome = interest_program(design, observed=False)
        assert outcome.shape == small.batch.mask.shape
