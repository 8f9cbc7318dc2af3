"""The collapsed ELBO of the scalar families: its value, its gradient, its sites."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bayes_interest.model.elbo import (
    ELBO_SLACK,
    UserPosterior,
    collapsed_elbo,
    event_terms,
    fit_sites,
    objective,
)
from bayes_interest.model.parameters import Globals, emission_of, item_terms
from bayes_interest.statespace.kalman import ScalarSites
from tests.model.problems import N_USERS, SCALAR, Small, event_design, small_problem
from tests.oracles import dense_gaussian_posterior


def converged(small: Small) -> UserPosterior:
    return fit_sites(
        small.layout, small.values, small.items, small.batch, n_steps=100, tolerance=1e-11
    )


def elbo_at(small: Small, values: Globals, start: ScalarSites) -> float:
    """The collapsed ELBO at other globals, from sites near the optimum."""
    items = item_terms(small.layout, values, small.features)
    arguments = (small.layout, values, items, small.batch_at(values))
    return fit_sites(*arguments, start, n_steps=100, tolerance=1e-6).elbo.sum().item()


def some_entries(values: Tensor) -> list[int]:
    """First, middle and last flat position."""
    n = values.numel()
    return sorted({0, n // 2, n - 1})


@pytest.mark.parametrize("context_layers", [0, 1])
def test_event_terms_are_the_documented_predictor(context_layers: int) -> None:
    for emission in SCALAR:
        small = small_problem(emission, context_layers=context_layers)
        x, offset = event_design(small, small.values)
        terms = event_terms(small.values, small.items, small.batch)
        mask = small.batch.mask
        torch.testing.assert_close(terms.x[mask], x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(terms.offset[mask], offset, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context_layers", [0, 1])
@pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
def test_gaussian_elbo_is_the_exact_marginal_likelihood(
    half_life_days: float | None, context_layers: int
) -> None:
    small = small_problem("gaussian", half_life_days=half_life_days, context_layers=context_layers)
    x, offset = event_design(small, small.values)
    noise_var = (2.0 * small.values["log_noise_scale"]).exp()
    walk = small.batch.walk(small.layout, small.values)
    outcome = torch.as_tensor(small.history.outcome) - offset
    wanted = torch.zeros((), dtype=torch.float64)
    for user in range(N_USERS):
        own = torch.as_tensor(small.history.user_index == user)
        n = int(own.sum())
        wanted = (
            wanted
            + dense_gaussian_posterior(
                x[own],
                outcome[own],
                noise_var.expand(n),
                walk.decay[user, :n],
                walk.variance[user, :n],
            ).log_evidence
        )
    got = collapsed_elbo(small.layout, small.values, small.items, small.batch)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=0.0)


def slopes(small: Small, posterior: UserPosterior) -> Globals:
    """Gradient of the objective in every global."""
    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    items = item_terms(small.layout, leaves, small.features)
    surrogate = objective(small.layout, leaves, items, small.batch_at(leaves), posterior)
    gradient = torch.autograd.grad(surrogate, list(leaves.values()))
    return dict(zip(leaves, gradient, strict=True))


# Scales of offsets and residuals act through their priors only. Measured: 2e-6 relative, of which
# the quadrature's own error in Price's identity is the larger part.
@pytest.mark.parametrize(
    ("emission", "half_life_days", "context_layers"),
    [
        ("gaussian", None, 0), ("bernoulli", None, 0), ("rating", None, 0), ("rating", 13.0, 0),
        ("gaussian", None, 1), ("bernoulli", None, 1), ("rating", None, 2),
    ],
)  # fmt: skip
def test_gradient_of_the_objective_is_that_of_the_collapsed_elbo(
    emission: str, half_life_days: float | None, context_layers: int
) -> None:
    small = small_problem(emission, half_life_days=half_life_days, context_layers=context_layers)
    likelihood_only = {
        name: value
        for name, value in small.values.items()
        if name not in ("log_offset_scale", "log_residual_scale")
    }
    small_free = replace(small, values=likelihood_only)
    posterior = converged(small)
    gradient = slopes(small_free, posterior)
    step = 1e-4
    for name, value in likelihood_only.items():
        for entry in some_entries(value):
            ends = []
            for shift in (1.0, -1.0, 2.0, -2.0):
                moved = value.clone()
                moved.view(-1)[entry] += shift * step
                changed = small.values | {name: moved}
                ends.append(elbo_at(small, changed, posterior.sites))
            # To fourth order: the context bends more within a step than 1e-5.
            wanted = (8.0 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12.0 * step)
            got = gradient[name].reshape(-1)[entry].item()
            assert got == pytest.approx(wanted, rel=1e-5, abs=1e-6), (name, entry)


@pytest.mark.parametrize("emission", SCALAR)
def test_sites_from_nothing_and_from_nearby_give_the_same_elbo(emission: str) -> None:
    small = small_problem(emission)
    near = converged(small).sites
    moved = small.values | {"log_drift": small.values["log_drift"] + 0.1}
    cold = collapsed_elbo(
        small.layout, moved, item_terms(small.layout, moved, small.features), small.batch
    ).item()
    assert elbo_at(small, moved, near) == pytest.approx(cold, rel=1e-11)


@pytest.mark.parametrize("emission", SCALAR)
def test_converged_sites_match_the_expected_derivatives(emission: str) -> None:
    small = small_problem(emission)
    posterior = converged(small)
    assert posterior.change <= 1e-11
    terms = event_terms(small.values, small.items, small.batch)
    smoothed, mask = posterior.smoothed, small.batch.mask
    slope = emission_of(small.layout, small.values).expected_derivatives(
        smoothed.predictor_mean + terms.offset, smoothed.predictor_var, small.batch.outcome
    )
    linear = slope.first - slope.second * smoothed.predictor_mean
    sites = posterior.sites
    torch.testing.assert_close(sites.precision[mask], -slope.second[mask], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sites.linear[mask], linear[mask], rtol=1e-9, atol=1e-9)
    assert (sites.precision[~mask] == 0.0).all()
    assert (sites.linear[~mask] == 0.0).all()


def informative(small: Small, factor: float) -> Small:
    """Item vectors `factor` times larger: sites interact strongly."""
    names = ("weight", "residual", "intercept")
    return small.with_values(**{name: factor * small.values[name] for name in names})


def elbos_by_step(small: Small, steps: list[int]) -> list[Tensor]:
    arguments = (small.layout, small.values, small.items, small.batch)
    return [fit_sites(*arguments, n_steps=n).elbo for n in steps]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("emission", SCALAR)
def test_no_users_elbo_falls_from_step_to_step(emission: str, seed: int) -> None:
    small = small_problem(emission, seed=seed)
    for before, after in pairwise(elbos_by_step(small, list(range(1, 13)))):
        assert (after >= before - ELBO_SLACK * (1.0 + before.abs())).all()


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_the_fallback_saves_problems_where_plain_steps_overshoot(emission: str) -> None:
    """Item vectors ten times the prior's: a step of size one may lower a user's ELBO a lot."""
    small = informative(small_problem(emission, seed=1), 10.0)
    early, late, later = elbos_by_step(small, [2, 60, 120])
    assert (late > early).all()
    torch.testing.assert_close(later, late, rtol=2e-2, atol=2e-2)


def test_sites_continue_from_where_they_were() -> None:
    small = small_problem("rating")

    def steps(n: int, sites: ScalarSites | None = None) -> UserPosterior:
        return fit_sites(small.layout, small.values, small.items, small.batch, sites, n_steps=n)

    once, twice = steps(4), steps(1, steps(3).sites)
    torch.testing.assert_close(once.sites.linear, twice.sites.linear, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(once.elbo, twice.elbo, rtol=1e-12, atol=1e-12)


def test_full_covariances_are_kept_on_request_only() -> None:
    small = small_problem("bernoulli")
    arguments = (small.layout, small.values, small.items, small.batch)
    assert fit_sites(*arguments, n_steps=3).smoothed.cov is None
    full = fit_sites(*arguments, n_steps=3, full=True).smoothed
    assert full.cov is not None
    terms = event_terms(small.values, small.items, small.batch)
    spread = torch.einsum("uti,utij,utj->ut", terms.x, full.cov, terms.x)
    torch.testing.assert_close(full.predictor_var, spread, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("context_layers", [0, 1])
@pytest.mark.parametrize("emission", SCALAR)
def test_padding_and_user_order_change_no_users_elbo(emission: str, context_layers: int) -> None:
    small = small_problem(emission, context_layers=context_layers)
    alone = converged(small).elbo
    order = torch.tensor([3, 0, 4, 1, 2])

    def longer(values: Tensor) -> Tensor:
        return torch.cat((values[order], values.new_zeros(N_USERS, 4, *values.shape[2:])), 1)

    batch = small.batch
    parts = {name: value for name, value in vars(batch).items() if value is not None}
    there = replace(batch, **{name: longer(value) for name, value in parts.items()})
    moved = fit_sites(small.layout, small.values, small.items, there, n_steps=100, tolerance=1e-11)
    torch.testing.assert_close(moved.elbo, alone[order], rtol=1e-12, atol=1e-12)


def test_information_about_the_user_is_counted_once_per_event() -> None:
    """An item that says nothing about the user (x = 0) leaves the guide at its prior."""
    small = small_problem("bernoulli")
    names = ("weight", "residual", "intercept")
    flat = small.with_values(**{name: 0.0 * small.values[name] for name in names})
    posterior = converged(flat)
    _, offset = event_design(flat, flat.values)
    outcome = torch.as_tensor(flat.history.outcome)
    wanted = torch.distributions.Bernoulli(logits=offset).log_prob(outcome).sum()
    torch.testing.assert_close(posterior.elbo.sum(), wanted, rtol=1e-12, atol=0.0)
    assert (posterior.smoothed.mean == 0.0).all()
