"""Draws of the globals of choices: the right place, the right spread, at the right cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.events.history import make_history
from bayes_interest.model import ensemble, members
from bayes_interest.model.choice_paths import ChoicePaths
from bayes_interest.model.ensemble import draw_points
from bayes_interest.model.members import OF_TEXTS, _Span, draw_members, drawn_points, draws_all
from bayes_interest.model.parameters import Layout, draw_prior
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened
from tests.model.problems import small_problem


def density_of(copies: int = 1) -> tuple[ChoicePaths, Tensor]:
    problem, values = problem_of("choice", copies)
    whitened = Whitened.of(problem.layout, values, tuple(problem.layout.shapes()))
    return ChoicePaths(whitened, problem), whitened.point(values)


def with_unknown_drift() -> tuple[ChoicePaths, Tensor]:
    """Twenty choices of one user among five items; all but the drift scale is known."""
    layout, n = Layout("choice", 1, 3, 5, log_drift_centre=(-1.0,)), 20
    rng = np.random.default_rng(0)
    zeros = np.zeros(n, dtype=np.int64)
    seconds = np.sort(rng.uniform(0.0, 9.0, n)) * 86_400.0
    history = make_history(zeros, rng.integers(0, 5, n), seconds, np.ones(n), zeros, 1)
    like = torch.zeros(1, dtype=torch.float64)
    values = draw_prior(layout, torch.Generator().manual_seed(4), like)
    values["weight"] = 5.0 * values["weight"]
    whitened = Whitened.of(layout, values, ("log_drift",))
    problem = Problem(layout, torch.as_tensor(rng.standard_normal((5, 3))), history)
    return ChoicePaths(whitened, problem), whitened.point(values)


def drift_by_sampling(density: ChoicePaths) -> tuple[float, float]:
    """Mean and sd of the whitened drift scale on a grid, paths drawn from their prior."""
    grid = torch.linspace(-4.0, 4.0, 33, dtype=torch.float64)
    generator, n = torch.Generator().manual_seed(1), len(density.growth)
    step = torch.randn(60_000, n, 1, generator=generator, dtype=torch.float64)
    values = [density(one.expand(len(step), 1), step).value for one in grid]
    evidence = torch.logsumexp(torch.stack(values) + 0.5 * (step**2).sum((1, 2)), 1)
    mass = torch.softmax(evidence, 0)
    mean = float(mass @ grid)
    return mean, float((mass @ (grid - mean) ** 2).sqrt())


@pytest.mark.parametrize("away", [0.0, 3.0])
def test_chains_find_the_posterior_from_wherever_they_start(away: float) -> None:
    density, point = with_unknown_drift()
    mean, sd = drift_by_sampling(density)
    many = 800
    start, generator = torch.zeros_like(point) + away, torch.Generator().manual_seed(3)
    drawn = draw_points(density, start, many, 60, generator)[:, 0]
    assert float(drawn.mean()) == pytest.approx(mean, abs=4.0 * sd / many**0.5)
    assert float(drawn.std()) == pytest.approx(sd, rel=4.0 / (2.0 * many) ** 0.5)
    assert abs(mean) > 0.3 or sd < 0.8  # the choices do tell


def test_without_sweeps_draws_are_the_start() -> None:
    density, point = with_unknown_drift()
    drawn = draw_points(density, point, 3, 0, torch.Generator())
    assert torch.equal(drawn, point.expand(3, -1))


@pytest.mark.parametrize("event_drift", [False, True])
def test_new_scales_leave_effects_and_paths_and_tell_value_and_slope(event_drift: bool) -> None:
    problem, values = problem_of("choice", 1)
    layout = replace(problem.layout, event_drift=event_drift)
    if event_drift:
        values["log_event_drift"] = values["log_drift"] - 2.0
    whitened = Whitened.of(layout, values, tuple(layout.shapes()))
    density, point = ChoicePaths(whitened, replace(problem, layout=layout)), whitened.point(values)
    points = torch.stack((point, 0.8 * point, 1.1 * point))
    shape = 3, len(density.growth), 3
    step = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    here = density(points, step)
    moved, walked, told = ensemble.redrawn_scales(
        density, points, step, here, torch.Generator().manual_seed(0)
    )
    before, after = whitened.values(points), whitened.values(moved)
    for name, value in before.items():
        same = torch.allclose(value, after[name], rtol=0.0, atol=1e-12)
        scales = "log_offset_scale", "log_residual_scale", "log_drift", "log_event_drift"
        assert same == (name not in scales)
    again, found = density(points, step), density(moved, walked)
    torch.testing.assert_close(told.value, found.value, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(told.slope, found.slope, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(told.step_slope, found.step_slope, rtol=1e-8, atol=1e-8)
    outcomes = [
        one.value + 0.5 * (p**2).sum(1) + 0.5 * (s**2).sum((1, 2))
        for one, p, s in ((again, points, step), (found, moved, walked))
    ]
    torch.testing.assert_close(*outcomes, rtol=0.0, atol=1e-9)


def test_new_scales_follow_what_they_are_scales_of() -> None:
    """Given n normals of size s the scale grows by s, within one over the root of 2 n."""
    many, n, sd = 4_000, 50, 1.5
    generator = torch.Generator().manual_seed(0)
    normals = 0.3 * torch.randn(many, n, generator=generator, dtype=torch.float64)
    point = torch.zeros(many, 1, dtype=torch.float64)
    factor = ensemble._rescaled(point, {0: sd}, normals, generator)
    torch.testing.assert_close(point, factor.log() / sd)
    grid = torch.linspace(-4.0, 4.0, 4_001, dtype=torch.float64)
    square = (normals**2).sum(1, keepdim=True)
    mass = torch.softmax(-0.5 * grid**2 - n * sd * grid - 0.5 * square * (-2 * sd * grid).exp(), 1)
    mean = (mass * grid).sum(1)
    spread = ((mass * grid**2).sum(1) - mean**2).sqrt()
    for _ in range(12):
        normals = normals / factor
        factor = ensemble._rescaled(point, {0: sd}, normals, generator)
    away = (point[:, 0] - mean) / spread
    assert float(away.mean()) == pytest.approx(0.0, abs=4.0 / many**0.5)
    assert float(away.std()) == pytest.approx(1.0, abs=4.0 / (2 * many) ** 0.5)


def problem_of(emission: str, copies: int) -> tuple[Problem, dict[str, Tensor]]:
    small = small_problem(emission)
    history = small.history
    n = len(history)
    many = replace(
        history.take(np.tile(np.arange(n), copies)),
        user_index=np.concatenate([history.user_index + 5 * c for c in range(copies)]),
        n_users=5 * copies,
    )
    layout = replace(small.layout, popularity_days=(), repeats=False, succession=False, rates=False)
    layout = replace(layout, likeness=False)
    values = {name: value for name, value in small.values.items() if name in layout.shapes()}
    return Problem(layout, small.features, many.numbered()), values


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_sweeps_move_every_draw(emission: str) -> None:
    problem, values = problem_of(emission, 2)
    whitened, moved = drawn_points(problem, values, 3, seed=0, sweeps=10)
    drawn = whitened.values(moved)["residual"]
    assert not torch.equal(drawn[0], drawn[1])
    _, still = drawn_points(problem, values, 3, seed=0, sweeps=0)
    assert not torch.equal(still, moved)


def with_wide_texts(emission: str, embed_dim: int = 40) -> tuple[Problem, dict[str, Tensor]]:
    """Eleven items whose texts have more numbers than that."""
    problem, values = problem_of(emission, 2)
    layout = replace(problem.layout, embed_dim=embed_dim)
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(layout.n_items, embed_dim, generator=generator, dtype=torch.float64)
    for name in OF_TEXTS:
        shape = layout.shapes()[name]
        values[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return replace(problem, layout=layout, features=features), values


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_weights_beside_the_span_of_the_texts_are_those_of_the_prior(
    emission: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_points, "__defaults__", (1, 0.0))  # one sweep
    problem, values = with_wide_texts(emission)
    whole = torch.linalg.svd(problem.features, full_matrices=True).Vh.T  # the span first
    drawn = draw_members(problem, values, 40, seed=0)
    weight = torch.stack([one["weight"] for one in drawn])
    beside = weight @ whole[:, 11:]
    assert float(beside.mean()) == pytest.approx(0.0, abs=4.0 / beside.numel() ** 0.5)
    assert float(beside.std()) == pytest.approx(1.0, rel=0.06)
    span = _Span.of(problem)
    assert span is not None
    whitened, point = drawn_points(span.problem, span.within(values), 40, seed=0)
    torch.testing.assert_close(weight @ span.basis, whitened.values(point)["weight"])
    assert drawn[0]["offset_weight"].shape == (40,)


def test_the_rotation_leaves_the_density_as_it_is() -> None:
    problem, values = with_wide_texts("choice")
    span = _Span.of(problem)
    assert span is not None
    within = span.within(values)
    values |= {name: within[name] @ span.basis.T for name in OF_TEXTS}  # nothing beside it
    shape = 1, len(problem.history), problem.layout.state_dim
    step = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def density(problem: Problem, values: dict[str, Tensor]) -> float:
        names = tuple(problem.layout.shapes())
        whitened = Whitened.of(problem.layout, values, names)
        return float(ChoicePaths(whitened, problem)(whitened.point(values)[None], step).value)

    assert density(span.problem, within) == pytest.approx(density(problem, values), abs=1e-6)
    nothing = values | {name: torch.zeros_like(values[name]) for name in OF_TEXTS}
    assert density(problem, values) != pytest.approx(density(problem, nothing), abs=0.1)


def test_few_items_need_less_work_than_their_texts_have_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, _ = with_wide_texts("choice", 4_000)
    spanned = replace(problem, layout=replace(problem.layout, embed_dim=11))
    limit = members._choice_work(spanned)
    monkeypatch.setattr("bayes_interest.model.members.CHOICE_WORK", limit)
    assert draws_all(problem)
    monkeypatch.setattr("bayes_interest.model.members.CHOICE_WORK", limit - 1)
    assert not draws_all(problem)
