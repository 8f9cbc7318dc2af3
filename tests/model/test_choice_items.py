"""How sure items are in the choice family: against dense algebra on one vector of everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_interest.events.history import make_history
from bayes_interest.model.batch import whole_batch
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.choice_items import (
    can_integrate,
    integrated_covs,
    prior_cov,
    user_information,
)
from bayes_interest.model.generative import walk_path
from bayes_interest.model.parameters import Items, Layout, draw_prior, item_terms
from bayes_interest.model.problem import Problem
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.variance_parts import item_cov_parts
from tests.fitted import model

LAYOUT = Layout("choice", 2, 3, 5, log_drift_centre=(-2.0, -1.0), event_drift=True)


def made(layout: Layout = LAYOUT, n_users: int = 7, steps: int = 4, seed: int = 0) -> Problem:
    rng, n_events = np.random.default_rng(seed), n_users * steps
    history = make_history(
        np.repeat(np.arange(n_users), steps),
        rng.integers(0, layout.n_items, n_events),
        rng.uniform(0.0, 40.0 * 86_400.0, n_events),
        np.ones(n_events),
        np.zeros(n_events, dtype=np.int64),
        n_users,
    )
    features = torch.as_tensor(rng.standard_normal((layout.n_items, layout.embed_dim)))
    return Problem(layout, features, history)


def drawn(layout: Layout) -> dict[str, torch.Tensor]:
    like = torch.zeros(1, dtype=torch.float64)
    return draw_prior(layout, torch.Generator().manual_seed(3), like)


@pytest.mark.parametrize("half_life_days", [None, 9.0])
def test_prior_of_the_states_is_that_of_the_walk(half_life_days: float | None) -> None:
    layout = replace(LAYOUT, half_life_days=half_life_days)
    batch = whole_batch(made(layout).history, torch.float64)
    walk, steps, dim = batch.walk(layout, drawn(layout)), 4, 2
    innovations = torch.eye(steps * dim, dtype=torch.float64).reshape(-1, 1, steps, dim)
    one = replace(walk, decay=walk.decay[2:3], variance=walk.variance[2:3])
    root = walk_path(innovations, one).reshape(steps * dim, -1)
    torch.testing.assert_close(prior_cov(walk, 2, steps), root.T @ root)


def test_information_is_the_schur_complement_of_everything() -> None:
    problem, values = made(), drawn(LAYOUT)
    items = item_terms(LAYOUT, values, problem.features)
    batch = whole_batch(problem.history, torch.float64)
    choices = flat_choices(values, batch, np.arange(len(problem.history)), problem.rows)
    own, cov = choices.part(slice(0, 4)), prior_cov(batch.walk(LAYOUT, values), 0, 4)
    given = items.offsets - items.vectors @ values["mean"]

    def logits(flat: torch.Tensor) -> torch.Tensor:
        states, effects = flat[:8].reshape(4, 2), flat[8:].reshape(5, 3)
        return (states + values["mean"]) @ effects[:, :2].T + effects[:, 2]

    def loss(states: torch.Tensor) -> torch.Tensor:
        table = logits(torch.cat((states, effects.reshape(-1))))
        fit = table.log_softmax(-1)[torch.arange(4), own.item.long()].sum()
        return 0.5 * states @ torch.linalg.solve(cov, states) - fit

    effects = torch.cat((items.vectors, given[:, None]), 1)
    states = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([states], max_iter=200, tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss(states)
        value.backward()
        return value

    search.step(closure)
    where = torch.cat((states.detach(), effects.reshape(-1)))
    slope = torch.func.jacrev(logits)(where)  # (step, item, number)
    probs = logits(where).softmax(-1)
    fisher = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None, :]
    whole = torch.einsum("tia,tij,tjb->ab", slope, fisher, slope)
    whole[:8, :8] += torch.linalg.inv(cov)
    expected = whole[8:, 8:] - whole[8:, :8] @ torch.linalg.solve(whole[:8, :8], whole[:8, 8:])
    found = user_information(values, Items(items.vectors, items.offsets), own, cov)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_without_events_all_is_prior_and_events_make_it_sure() -> None:
    values = drawn(LAYOUT)
    one, many = (integrated_covs(made(LAYOUT, n), values) for n in (1, 200))
    scale = torch.cat(
        (values["log_residual_scale"].exp().expand(2), values["log_offset_scale"].exp()[None])
    )
    assert (one[0] < scale**2).all()
    assert (many[0] < one[0]).all()
    eye = torch.eye(3, dtype=torch.float64)
    for before, after in zip(one[1], many[1], strict=True):
        assert (torch.linalg.eigvalsh(eye - before) > 0).all()
        assert after.trace() < before.trace()


def test_text_variance_comes_apart_again() -> None:
    posterior = model("choice").posterior
    cov, features = posterior.item_cov, posterior.features
    assert posterior.text_cov.shape == (2, features.shape[1], features.shape[1])
    parts = [item_cov_parts(posterior, item) for item in range(len(cov))]
    text = torch.stack([part for _, part in parts])
    assert (text > 0).all()
    bare = posterior.item_cov - text
    layout, values = posterior.layout, posterior.values
    found = with_text_variance(layout, values, bare, features.double(), posterior.text_cov.double())
    torch.testing.assert_close(found, cov.double(), atol=1e-5, rtol=1e-3)


def test_large_logs_and_other_families_go_without() -> None:
    assert can_integrate(made())
    assert not can_integrate(made(replace(LAYOUT, emission="rating")))
    assert not can_integrate(made(replace(LAYOUT, n_items=600)))
    assert not can_integrate(made(replace(LAYOUT, context_layers=1)))
    assert not can_integrate(made(n_users=2, steps=800))
    assert not can_integrate(made(n_users=2100, steps=1))
