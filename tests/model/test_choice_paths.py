"""Choices and paths: density and Laplace's approximation against dense algebra and sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.events.history import make_history
from bayes_interest.model import choice_paths
from bayes_interest.model.batch import whole_batch
from bayes_interest.model.choice_items import prior_cov
from bayes_interest.model.choice_paths import ChoicePaths, smoothed_choices
from bayes_interest.model.members import draw_members, draws_all
from bayes_interest.model.parameters import COVARIATES, Layout, draw_prior, item_terms
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


def density_of(small: Small, problem: Problem) -> tuple[ChoicePaths, Tensor]:
    whitened = Whitened.of(small.layout, small.values, tuple(small.layout.shapes()))
    return ChoicePaths(whitened, problem), whitened.point(small.values)


def some_steps(density: ChoicePaths, many: int, seed: int = 0) -> Tensor:
    shape = many, len(density.growth), density.whitened.layout.state_dim
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def paths_of(small: Small, step: Tensor) -> Tensor:
    """States (..., event, state_dim) from steps of the same shape."""
    history, path = small.history, torch.zeros_like(step)
    walk = whole_batch(history, torch.float64).walk(small.layout, small.values)
    for user in range(history.n_users):
        own = history.span(user)
        y = torch.zeros_like(step[..., 0, :])
        for t, event in enumerate(range(own.start, own.stop)):
            variance = walk.variance[user, t] + (t == 0) * walk.decay[user, t] ** 2
            y = walk.decay[user, t] * y + variance.sqrt() * step[..., event, :]
            path[..., event, :] = y
    return path


def reliabilities(small: Small) -> Tensor:
    both = torch.cat((torch.ones(1).double(), small.values["log_reliability"].exp()))
    return both[torch.as_tensor(small.history.kind_index).long()]


@pytest.mark.parametrize("half_life_days", [None, 9.0])
@pytest.mark.parametrize("event_drift", [False, True])
def test_value_is_that_of_plain_sums(half_life_days: float | None, event_drift: bool) -> None:
    small, problem = made(half_life_days, event_drift)
    density, point = density_of(small, problem)
    step = some_steps(density, 1)
    path = paths_of(small, step)[0]
    logits = dense_logits(small, small.values, path)
    chosen = torch.as_tensor(small.history.item_index).long()[:, None]
    wanted = logits.log_softmax(1).gather(1, chosen).sum()
    wanted = wanted - 0.5 * (point**2).sum() - 0.5 * (step**2).sum()
    assert float(density(point[None], step).value) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("half_life_days", [None, 9.0])
def test_the_slope_is_that_of_the_value(half_life_days: float | None) -> None:
    density, point = density_of(*made(half_life_days, event_drift=True))
    step = some_steps(density, 1)
    here = density(point[None], step)
    for entry in range(0, len(point), 3):
        away = torch.zeros_like(point)
        away[entry] = 1e-5
        ends = density(torch.stack((point + away, point - away)), step.expand(2, -1, -1)).value
        slope = float(ends[0] - ends[1]) / 2e-5
        assert float(here.slope[0, entry]) == pytest.approx(slope, rel=1e-6, abs=1e-6)
    for event in range(0, step.shape[1], 3):
        away = torch.zeros_like(step)
        away[0, event, event % step.shape[2]] = 1e-5
        ends = [float(density(point[None], one).value) for one in (step + away, step - away)]
        found = float((here.step_slope * away).sum()) / 1e-5
        assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    density, point = density_of(*made())
    points, step = torch.stack((point, 0.9 * point, 1.1 * point)), some_steps(density, 3)
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        generator = torch.Generator().manual_seed(1)
        found.append(
            [*vars(density(points, step)).values(), *density.drawn_steps(points, generator)]
        )
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@pytest.mark.parametrize("half_life_days", [None, 9.0])
def test_drawn_paths_have_the_moments_of_the_dense_approximation(
    half_life_days: float | None,
) -> None:
    small, problem = made(half_life_days)
    density, point = density_of(small, problem)
    many, dim = 8_000, small.layout.state_dim
    step, _ = density.drawn_steps(point.expand(many, -1), torch.Generator().manual_seed(2))
    paths, history = paths_of(small, step), small.history
    vectors = item_terms(small.layout, small.values, small.features).vectors
    fixed = dense_logits(small, small.values, torch.zeros(len(history), dim).double())
    walk = whole_batch(history, torch.float64).walk(small.layout, small.values)
    for user in range(history.n_users):
        own = history.span(user)
        n = own.stop - own.start
        cov = prior_cov(walk, user, n)
        chosen = torch.as_tensor(history.item_index[own]).long()
        state, _, _, curve = choice_mode(
            fixed[own], reliabilities(small)[own], vectors, chosen, cov
        )
        wanted = cov @ torch.linalg.inv(torch.eye(n * dim).double() + curve @ cov)
        found = paths[:, own].reshape(many, -1)
        sd = wanted.diagonal().sqrt()
        assert float(((found.mean(0) - state.reshape(-1)) / sd).abs().max()) < 4.5 / many**0.5
        apart = (torch.cov(found.T) - wanted) / (sd[:, None] * sd)
        assert float(apart.abs().max()) < 6.0 / many**0.5


def test_smoothed_choices_are_near_the_integral_over_states() -> None:
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
    batch = whole_batch(history, torch.float64)
    root = torch.linalg.cholesky(prior_cov(batch.walk(layout, values), 0, n))
    noise = torch.randn(many, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    items = item_terms(layout, values, features)
    states = noise @ root.T
    moved = states[..., None] * items.vectors[:, 0]
    table = moved + items.offsets
    chosen = torch.as_tensor(history.item_index).long()
    fit = table.log_softmax(2)[:, torch.arange(n), chosen].sum(1)
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
    density = ChoicePaths(whitened, problem)
    step = some_steps(density, 1)
    plain = density(point, step)
    shifted = ChoicePaths(whitened, problem, cold_shift=-2.0)(point, step)
    assert float(shifted.value) != pytest.approx(float(plain.value), abs=0.1)
    history = small.history
    cold = choice_paths.without_earlier_event(problem)
    for event in range(len(history)):
        for item in range(small.layout.n_items):
            earlier = history.seconds[history.item_index == item] < history.seconds[event]
            assert cold[event, item] == (not earlier.any())
    far = ChoicePaths(whitened, problem, cold_shift=-1e-9)(point, step)  # no more than the column
    torch.testing.assert_close(far.value, plain.value, rtol=0.0, atol=1e-6)
