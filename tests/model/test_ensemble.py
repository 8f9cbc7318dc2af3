"""Draws of the globals: the right slope, the right mode, the right spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.model import ensemble
from bayes_interest.model.collapsed_choice import CollapsedChoice
from bayes_interest.model.ensemble import (
    Density,
    Laplace,
    draw_points,
    laplace,
)
from bayes_interest.model.members import OF_TEXTS, _Span, draw_members, drawn_points, draws_all
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened
from tests.model.problems import small_problem


def collapsed() -> tuple[CollapsedChoice, Tensor]:
    problem, values = problem_of("choice", 1)
    whitened = Whitened.of(problem.layout, values, tuple(problem.layout.shapes()))
    return CollapsedChoice(whitened, problem), whitened.point(values)


def test_drift_stays_in_the_search_for_the_mode() -> None:
    density, point = collapsed()
    found = laplace(density, point).mode
    spans = density.whitened.spans
    assert torch.equal(found[spans["log_drift"]], point[spans["log_drift"]])
    assert not torch.equal(found[spans["weight"]], point[spans["weight"]])


class Quadratic:
    """A density that is Gaussian, so that everything is known."""

    def __init__(self, mean: Tensor, precision: Tensor, skew: float = 0.0) -> None:
        self.mean, self.precision, self.skew = mean, precision, skew
        self.whitened, self.scaled, self.names = self, (), ("mean",)

    def mask(self, wanted: object) -> Tensor:
        return torch.ones(len(self.mean))

    def __call__(self, point: Tensor, sites: object = None) -> Density:
        point = point.detach().requires_grad_()
        away = point - self.mean
        value = -0.5 * ((away @ self.precision) * away).sum(1)
        value = value - self.skew * torch.exp(away[:, 0])
        (slope,) = torch.autograd.grad(value.sum(), point)
        return Density(value.detach(), slope, ())


def known() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    return torch.arange(5.0, dtype=torch.float64) / 3.0, root @ root.T + torch.eye(5)


def test_newton_finds_mode_and_curvature() -> None:
    mean, precision = known()
    found = laplace(Quadratic(mean, precision), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(found.mode, mean, rtol=0.0, atol=1e-3)
    torch.testing.assert_close(found.precision, precision, rtol=1e-6, atol=1e-6)


def test_draws_from_the_gaussian_have_its_moments() -> None:
    mean, precision = known()
    fit = Laplace(mean, precision, ())
    drawn = draw_points(
        Quadratic(mean, precision), fit, 20_000, 0, torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0.0, atol=0.03)
    torch.testing.assert_close(torch.cov(drawn.T), torch.linalg.inv(precision), rtol=0, atol=0.03)


def test_sweeps_lead_from_the_gaussian_to_the_density() -> None:
    """With `exp(-s e^x)` the density leans away; its mean is found by quadrature."""
    mean, precision = torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    density, grid = Quadratic(mean, precision, skew=2.0), torch.linspace(-7, 5, 4_001)
    mass = torch.exp(density(grid.double()[:, None]).value)
    wanted = float((mass * grid).sum() / mass.sum())
    gaussian = Laplace(mean, precision, ())
    generator = torch.Generator().manual_seed(2)
    assert draw_points(density, gaussian, 4_000, 0, generator).mean() > wanted + 0.5
    moved = draw_points(density, gaussian, 4_000, 12, generator)
    assert float(moved.mean()) == pytest.approx(wanted, abs=0.05)


def test_chains_that_start_where_the_density_is_steep_come_in() -> None:
    """At 7 the slope of `exp(-2 e^x)` is 2,000: a leap of full length is refused for ever."""
    one = torch.ones(1, dtype=torch.float64)
    density = Quadratic(0.0 * one, one[None], skew=2.0)
    generator = torch.Generator().manual_seed(3)
    near = draw_points(density, Laplace(0.0 * one, one[None], ()), 4_000, 24, generator)
    far = draw_points(density, Laplace(7.0 * one, one[None], ()), 4_000, 24, generator)
    assert float(far.mean()) == pytest.approx(float(near.mean()), abs=0.05)
    assert float(far.std()) == pytest.approx(float(near.std()), abs=0.05)
    assert float(far.max()) < 2.0


def test_new_scales_leave_the_effects_and_tell_value_and_slope() -> None:
    density, point = collapsed()
    points = torch.stack((point, 0.8 * point, 1.1 * point))
    here = density(points, density(points).sites)
    moved, told = ensemble.redrawn_scales(
        density.whitened, points, here, torch.Generator().manual_seed(0)
    )
    before, after = density.whitened.values(points), density.whitened.values(moved)
    for name, value in before.items():
        same = torch.allclose(value, after[name], rtol=0.0, atol=1e-12)
        assert same == (name not in ("log_offset_scale", "log_residual_scale"))
    found = density(moved, told.sites)
    torch.testing.assert_close(told.value, found.value, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(told.slope, found.slope, rtol=1e-5, atol=1e-5)


def test_new_scales_follow_the_effects() -> None:
    """Given n effects of size s the new scale is s, within one over the root of 2 n."""
    small = small_problem("bernoulli")
    layout = replace(small.layout, n_items=400, residuals=False)
    values = {"log_offset_scale": torch.zeros(()), "mean": torch.zeros(3)}
    whitened = Whitened.of(layout, values, ("log_offset_scale", "offset"))
    many = 300
    point = torch.zeros(many, whitened.dim, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    point[:, 1:] = 0.3 * torch.randn(many, 400, generator=generator, dtype=torch.float64)
    nothing = Density(torch.zeros(many), torch.zeros_like(point), ())
    moved, _ = ensemble.redrawn_scales(whitened, point, nothing, generator)
    found = whitened.values(moved)["log_offset_scale"].exp()
    size = whitened.values(point)["offset"].square().mean(1).sqrt()
    ratio = (found / size).log()
    assert float(ratio.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(ratio.std()) == pytest.approx(1.0 / np.sqrt(2 * 400), rel=0.15)


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
    whitened, moved = drawn_points(problem, values, 3, seed=0, sweeps=1)
    drawn = whitened.values(moved)["residual"]
    assert not torch.equal(drawn[0], drawn[1])
    _, still = drawn_points(problem, values, 3, seed=0, sweeps=0)
    assert not torch.equal(still, moved)


def test_far_from_small_steps_to_the_mode_share_a_curvature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, values = problem_of("choice", 2)
    monkeypatch.setattr("bayes_interest.model.members.NEWTON_WORK", 100)
    whitened, near = drawn_points(problem, values, 400, seed=0, sweeps=0)  # around the mode
    monkeypatch.setattr("bayes_interest.model.members.CHORD_STEPS", 0)
    _, point = drawn_points(problem, values, 400, seed=0, sweeps=0)  # around the fit itself
    spread = point.std(0) / 20.0
    values = {name: value.double() for name, value in values.items()}
    assert ((point.mean(0) - whitened.point(values)).abs() < 4.5 * spread).all()
    density = CollapsedChoice(whitened, problem)
    fit, mode = density(torch.stack((whitened.point(values), near.mean(0)))).value
    assert float(mode) > float(fit) + 1.0


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

    def density(problem: Problem, values: dict[str, Tensor]) -> float:
        names = tuple(problem.layout.shapes())
        whitened = Whitened.of(problem.layout, values, names)
        return float(CollapsedChoice(whitened, problem)(whitened.point(values)[None]).value)

    assert density(span.problem, within) == pytest.approx(density(problem, values), abs=1e-6)
    nothing = values | {name: torch.zeros_like(values[name]) for name in OF_TEXTS}
    assert density(problem, values) != pytest.approx(density(problem, nothing), abs=0.1)


def test_few_items_need_less_work_than_their_texts_have_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, _ = with_wide_texts("choice", 4_000)
    spanned = replace(problem, layout=replace(problem.layout, embed_dim=11))
    n_numbers = Whitened.of(spanned.layout, {}, tuple(spanned.layout.shapes())).dim
    limit = n_numbers * len(problem.history)
    monkeypatch.setattr("bayes_interest.model.members.CHOICE_WORK", limit)
    assert draws_all(problem)
    monkeypatch.setattr("bayes_interest.model.members.CHOICE_WORK", limit - 1)
    assert not draws_all(problem)
