"""Expectation propagation against evidence by brute force, and beside the bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.emissions.base import ScalarEmission
from bayes_interest.model.elbo import Chains, EventTerms, fit_chains
from bayes_interest.model.propagation import Propagated, propagate
from bayes_interest.statespace.random_walk import Transition
from tests.model.problems import SCALAR, small_problem


def chains_of(emission: str) -> Chains:
    small = small_problem(emission)
    return Chains.of(small.layout, small.values, small.items, small.batch)


def converged(chains: Chains) -> Propagated:
    return propagate(chains, None, 200, 1e-10)


def evidence_on_a_grid(chains: Chains, user: int) -> float:
    """Of a one-dimensional chain, by a filter on a grid."""
    grid = torch.linspace(-9.0, 9.0, 1_201, dtype=torch.float64)
    mass = torch.exp(-0.5 * grid**2)
    mass, total = mass / mass.sum(), 0.0
    for t in range(int(chains.mask[user].sum())):
        decay, var = chains.walk.decay[user, t, 0], chains.walk.variance[user, t, 0]
        if var > 1e-4:  # a narrower step falls between the points, and moves nothing
            kernel = torch.exp(-0.5 * (grid[:, None] - decay * grid) ** 2 / var)
            mass = (kernel / kernel.sum(0)) @ mass
        predictor = chains.terms.x[user, t, 0] * grid + chains.terms.offset[user, t]
        seen = chains.emission.log_prob(predictor, chains.outcome[user, t].expand(len(grid)))
        mass = mass * seen.exp()
        total += float(mass.sum().log())
        mass = mass / mass.sum()
    return total


def line(emission: ScalarEmission, outcome: Tensor, size: float) -> Chains:
    """Users with vectors of a given size in one dimension."""
    generator = torch.Generator().manual_seed(4)
    x = size * torch.randn(*outcome.shape, 1, generator=generator, dtype=torch.float64)
    offset = torch.randn(outcome.shape, generator=generator, dtype=torch.float64)
    variance = torch.rand(*outcome.shape, 1, generator=generator, dtype=torch.float64)
    walk = Transition(torch.ones_like(variance), 0.01 + 0.3 * variance)
    return Chains(emission, EventTerms(x, offset), walk, outcome, torch.ones_like(offset).bool())


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_the_evidence_is_nearer_to_that_of_a_grid_than_the_bound(emission: str) -> None:
    kind = chains_of(emission).emission
    outcome = torch.randint(0, 2, (3, 23), generator=torch.Generator().manual_seed(1)).double()
    chains = line(kind, outcome, size=2.0)
    truth = torch.tensor([evidence_on_a_grid(chains, user) for user in range(3)])
    found, bound = converged(chains).log_evidence, fit_chains(chains, None, 200, 1e-10).elbo
    assert (found - truth).abs().max() < 0.03
    assert (bound < truth).all()
    assert (found - truth).abs().sum() < 0.45 * (truth - bound).sum()


def test_with_gaussian_outcomes_it_is_exact_after_one_step() -> None:
    chains = chains_of("gaussian")
    found, bound = propagate(chains, None, 1, 0.0), fit_chains(chains, None, 1)
    torch.testing.assert_close(found.log_evidence, bound.elbo, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(found.smoothed.mean, bound.smoothed.mean, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("emission", SCALAR)
def test_padding_and_the_order_of_users_change_nothing(emission: str) -> None:
    small = small_problem(emission)
    batch = small.batch
    wider = {
        field: torch.cat((getattr(batch, field), torch.zeros_like(getattr(batch, field)[:, :2])), 1)
        for field in ("item", "outcome", "elapsed_days", "kind", "covariates", "mask")
    }
    order = torch.tensor([3, 1, 4, 0, 2])
    wider = {name: value[order] for name, value in wider.items()}
    padded = replace(batch, **wider, moves=None, context=None)
    both = [
        converged(Chains.of(small.layout, small.values, small.items, one)).log_evidence
        for one in (replace(batch, moves=None, context=None), padded)
    ]
    torch.testing.assert_close(both[0][order], both[1], rtol=1e-8, atol=1e-8)


def test_it_settles_where_outcomes_contradict_each_other() -> None:
    """Long vectors, small drift, coin-flip outcomes: the sites of one user move one another."""
    outcome = torch.from_numpy(np.random.default_rng(2).integers(0, 2, (5, 60)).astype(float))
    chains = line(chains_of("bernoulli").emission, outcome, size=6.0)
    near, far = propagate(chains, None, 60, 1e-3), propagate(chains, None, 400, 1e-9)
    torch.testing.assert_close(near.log_evidence, far.log_evidence, rtol=0.0, atol=1e-4)
