"""The evidence of choices: against dense algebra, against sampling, and its slope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.events.history import make_history
from bayes_interest.model import collapsed_choice
from bayes_interest.model.batch import whole_batch
from bayes_interest.model.choice_items import prior_cov
from bayes_interest.model.collapsed_choice import CollapsedChoice, smoothed_choices
from bayes_interest.model.ensemble import repeated
from bayes_interest.model.members import draw_members, draws_all
from bayes_interest.model.parameters import COVARIATES, Globals, Layout, draw_prior
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened
from tests.model.problems import Small, dense_logits, small_problem, text_directions
from tests.oracles import choice_mode


def made(half_life_days: float | None = None, event_drift: bool = False) -> tuple[Small, Problem]:
    """All covariates, two kinds, ties in time."""
    small = small_problem("choice", half_life_days=half_life_days)
    layout = replace(small.layout, event_drift=event_drift)
    values = draw_prior(
        layout, torch.Generator().manual_seed(1), torch.zeros(1, dtype=torch.float64)
    )
    values[COVARIATES] = 0.3 * values[COVARIATES]
    small = replace(small, layout=layout, values=values)
    return small, Problem(layout, small.features, small.history, text_directions())


def density_of(small: Small, problem: Problem) -> tuple[CollapsedChoice, Tensor]:
    whitened = Whitened.of(small.layout, small.values, tuple(small.layout.shapes()))
    return CollapsedChoice(whitened, problem), whitened.point(small.values)


def by_dense_algebra(small: Small, values: Globals) -> Tensor:
    """Laplace's approximation with one vector of all of a user's states."""
    history, dim, total = small.history, small.layout.state_dim, torch.zeros(())
    items = small.layout, values, small.features
    vectors = collapsed_choice.item_terms(*items).vectors
    rho = torch.cat((torch.ones(1).double(), values["log_reliability"].exp()))[
        torch.as_tensor(history.kind_index).long()
    ]
    batch = whole_batch(history, torch.float64)
    fixed = dense_logits(small, values, torch.zeros(len(history), dim).double())
    walk = batch.walk(small.layout, values)
    for user in range(history.n_users):
        own = history.span(user)
        n = own.stop - own.start
        cov = prior_cov(walk, user, n)
        chosen = torch.as_tensor(history.item_index[own]).long()
        state, dual, fit, curve = choice_mode(fixed[own], rho[own], vectors, chosen, cov)
        eye = torch.eye(n * dim, dtype=torch.float64)
        total = total + fit - 0.5 * (state * dual).sum() - 0.5 * torch.logdet(eye + cov @ curve)
    return total


@pytest.mark.parametrize("half_life_days", [None, 9.0])
@pytest.mark.parametrize("event_drift", [False, True])
def test_value_is_that_of_dense_algebra(half_life_days: float | None, event_drift: bool) -> None:
    small, problem = made(half_life_days, event_drift)
    density, point = density_of(small, problem)
    found = density(point[None]).value + 0.5 * point @ point
    assert float(found) == pytest.approx(float(by_dense_algebra(small, small.values)), abs=1e-4)


@pytest.mark.parametrize("half_life_days", [None, 9.0])
def test_the_slope_is_that_of_the_value(half_life_days: float | None) -> None:
    density, point = density_of(*made(half_life_days, event_drift=True))
    here = density(point[None])
    for entry in range(0, len(point), 3):
        step = torch.zeros_like(point)
        step[entry] = 1e-4
        ends = density(torch.stack((point + step, point - step)), repeated(here.sites, 2)).value
        slope = float(ends[0] - ends[1]) / 2e-4
        assert float(here.slope[0, entry]) == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_starts_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    density, point = density_of(*made())
    points = torch.stack((point, 0.9 * point, 1.1 * point))
    whole = density(points)
    near = density(points + 0.05)
    monkeypatch.setattr(collapsed_choice, "MAX_NUMBERS", 1)  # a setting at a time
    for again in (density(points), density(points, near.sites)):
        torch.testing.assert_close(again.value, whole.value, rtol=0.0, atol=1e-5)
        torch.testing.assert_close(again.slope, whole.slope, rtol=1e-4, atol=1e-4)


def test_value_is_near_the_integral_over_states() -> None:
    """By sampling: a user of twelve choices among five items, the states drawn from their prior."""
    layout, n, many = Layout("choice", 1, 3, 5, log_drift_centre=(-1.0,)), 12, 400_000
    rng = np.random.default_rng(0)
    zeros = np.zeros(n, dtype=np.int64)
    seconds = np.sort(rng.uniform(0.0, 5.0, n)) * 86_400.0
    history = make_history(zeros, rng.integers(0, 5, n), seconds, np.ones(n), zeros, 1)
    features = torch.as_tensor(rng.standard_normal((5, 3)))
    like = torch.zeros(1, dtype=torch.float64)
    values = draw_prior(layout, torch.Generator().manual_seed(4), like)
    values["weight"] = 5.0 * values["weight"]
    whitened = Whitened.of(layout, values, tuple(layout.shapes()))
    density = CollapsedChoice(whitened, Problem(layout, features, history))
    point = whitened.point(values)
    found = float(density(point[None]).value + 0.5 * point @ point)
    batch = whole_batch(history, torch.float64)
    root = torch.linalg.cholesky(prior_cov(batch.walk(layout, values), 0, n))
    noise = torch.randn(many, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    items = collapsed_choice.item_terms(layout, values, features)
    states = noise @ root.T
    moved = states[..., None] * items.vectors[:, 0]
    table = moved + items.offsets
    chosen = torch.as_tensor(history.item_index).long()
    fit = table.log_softmax(2)[:, torch.arange(n), chosen].sum(1)
    exact = float(torch.logsumexp(fit, 0)) - np.log(many)
    assert found == pytest.approx(exact, abs=0.1)
    assert float((moved.amax(2) - moved.amin(2)).mean()) > 2.0  # the states do matter
    share = torch.softmax(fit, 0)
    mean = share @ states
    sd = (share @ (states - mean) ** 2).sqrt()
    one = torch.ones(n).double()
    base, walk = items.offsets.expand(n, -1), batch.walk(layout, values)
    told, cov, _ = smoothed_choices(base, items.vectors, one, chosen, walk)
    assert float(((told[:, 0] - mean) / sd).abs().mean()) < 0.03
    torch.testing.assert_close(cov[:, 0, 0].sqrt() / sd, one, rtol=0.06, atol=0.0)


def test_draws_are_of_everything() -> None:
    small, problem = made(event_drift=True)
    assert draws_all(problem)
    drawn = draw_members(problem, small.values, 12, 0)
    for name, value in small.values.items():
        spread = torch.stack([one[name] for one in drawn]).std(0)
        assert bool((spread > 0.0).all()), name
        assert drawn[0][name].dtype == value.dtype
    again = draw_members(problem, small.values, 12, 0)
    torch.testing.assert_close(drawn[3]["residual"], again[3]["residual"], rtol=0.0, atol=0.0)


def test_too_many_items_are_not_drawn() -> None:
    small, problem = made()
    wide = replace(small.layout, n_items=4_000)
    assert not draws_all(replace(problem, layout=wide))


def test_items_without_an_earlier_event_are_shifted() -> None:
    small, problem = made()
    whitened = Whitened.of(small.layout, small.values, tuple(small.layout.shapes()))
    point = whitened.point(small.values)[None]
    plain = CollapsedChoice(whitened, problem)(point)
    shifted = CollapsedChoice(whitened, problem, cold_shift=-2.0)(point)
    assert float(shifted.value) != pytest.approx(float(plain.value), abs=0.1)
    history = small.history
    cold = collapsed_choice.without_earlier_event(problem)
    for event in range(len(history)):
        for item in range(small.layout.n_items):
            earlier = history.seconds[history.item_index == item] < history.seconds[event]
            assert cold[event, item] == (not earlier.any())
    far = CollapsedChoice(whitened, problem, cold_shift=-1e-9)(
        point
    )  # the column adds nothing else
    torch.testing.assert_close(far.value, plain.value, rtol=0.0, atol=1e-6)
