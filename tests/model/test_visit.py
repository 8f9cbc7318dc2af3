"""The compiled visit of a batch is the tensor code: sites, ELBO, precisions, and every slope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.events.history import make_history
from bayes_interest.model import visit
from bayes_interest.model.families import ScalarFamily
from bayes_interest.model.parameters import Globals, Layout, draw_prior, item_terms
from bayes_interest.model.problem import Problem

N_USERS, N_ITEMS, DIM, N_LEVELS = 43, 17, 3, 4


def drawn(
    emission: str,
    dtype: torch.dtype = torch.float64,
    half_life_days: float | None = None,
    n_users: int = N_USERS,
) -> Problem:
    """A log of random users, with kinds, covariates, ties in time and drift by event."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(n_users), 1 + rng.poisson(6, n_users))
    size, top = len(user), N_LEVELS if emission == "rating" else 2
    layout = Layout(
        emission, DIM, 5, N_ITEMS, n_kinds=2, n_levels=top, rates=True, event_drift=True,
        half_life_days=half_life_days, log_drift_centre=(-3.0, -2.0, -1.0),
    )  # fmt: skip
    history = make_history(
        user,
        rng.integers(0, N_ITEMS, size),
        np.floor(rng.uniform(0.0, 40.0, size)) * 86_400.0,
        rng.integers(0, top, size).astype(float),
        rng.integers(0, 2, size),
        n_users,
    )
    return Problem(layout, torch.as_tensor(rng.standard_normal((N_ITEMS, 5))).to(dtype), history)


@dataclass(frozen=True)
class Visited:
    """What two epochs at fixed globals leave behind."""

    elbo: float
    linear: Tensor
    precision: Tensor
    blocks: Tensor
    slopes: Globals


def visited(problem: Problem, site_steps: int, compiled: bool, scale: float = 1.0) -> Visited:
    like = problem.features.new_zeros(1)
    values = draw_prior(problem.layout, torch.Generator().manual_seed(5), like)
    values["weight"] = values["weight"] * scale
    for value in values.values():
        value.requires_grad_()
    family = ScalarFamily(problem, site_steps)
    assert family.visitor is not None
    if not compiled:
        family.visitor = None
    elbo, slopes = 0.0, {name: torch.zeros_like(value) for name, value in values.items()}
    for _ in range(2):
        for block in map(problem.block, problem.groups(256)):
            items = item_terms(problem.layout, values, problem.features)
            result = family.step(values, items, block, 1.0)
            elbo += result.elbo
            found = torch.autograd.grad(result.objective, list(values.values()), allow_unused=True)
            for name, slope in zip(values, found, strict=True):
                slopes[name] += 0.0 if slope is None else slope
    return Visited(elbo, family.linear, family.precision, family.blocks, slopes)


def assert_same(found: Visited, wanted: Visited, tolerance: float) -> None:
    assert found.elbo == pytest.approx(wanted.elbo, rel=tolerance)
    for name in ("linear", "precision", "blocks"):
        one, other = getattr(found, name), getattr(wanted, name)
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * 10)
    for name, other in wanted.slopes.items():
        size = float(other.abs().max()) + 1.0
        torch.testing.assert_close(
            found.slopes[name], other, rtol=0.0, atol=tolerance * size, msg=name
        )


@pytest.mark.parametrize("site_steps", [1, 3])
@pytest.mark.parametrize("half_life_days", [None, 20.0], ids=["walk", "reverting"])
@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_all_is_as_by_tensors(emission: str, half_life_days: float | None, site_steps: int) -> None:
    problem = drawn(emission, half_life_days=half_life_days)
    wanted = visited(problem, site_steps, compiled=False)
    assert all(
        bool(wanted.slopes[name].any())
        for name in ("log_drift", "log_event_drift", "log_reliability", "covariate_weight")
    )
    assert_same(visited(problem, site_steps, compiled=True), wanted, 1e-11)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_float32_too(emission: str) -> None:
    problem = drawn(emission, torch.float32)
    assert_same(visited(problem, 2, True), visited(problem, 2, False), 2e-5)


def test_steps_that_do_no_good_are_taken_back_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long vectors make full steps overshoot; a slack below zero makes every step a bad one."""
    problem = drawn("bernoulli")
    far = visited(problem, 4, compiled=False, scale=40.0)
    assert_same(visited(problem, 4, compiled=True, scale=40.0), far, 1e-9)
    for module in ("bayes_interest.model.elbo", "bayes_interest.model.visit"):
        monkeypatch.setattr(f"{module}.ELBO_SLACK", -10.0)
    never = visited(problem, 3, compiled=False)
    assert not never.linear.any()
    assert_same(visited(problem, 3, compiled=True), never, 1e-11)


def test_few_users_and_other_families_go_by_tensors() -> None:
    few = drawn("bernoulli", n_users=4)
    assert_same(visited(few, 2, True), visited(few, 2, False), 0.0)
    assert not visit.Visitor.can(
        Problem(Layout("gaussian", DIM, 5, N_ITEMS), few.features, few.history)
    )
