"""One user's states given all choices: against slow expectation propagation, Laplace and draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.model import choice_paths
from bayes_interest.model.choice_paths import smoothed_choices
from bayes_interest.statespace.random_walk import Transition
from tests.oracles import choice_mode, matched_choices, walk_covariance

N_ITEMS = 6


@dataclass(frozen=True)
class Case:
    base: Tensor
    vectors: Tensor
    rho: Tensor
    chosen: Tensor
    walk: Transition

    def smoothed(self) -> tuple[Tensor, Tensor, Tensor]:
        return smoothed_choices(self.base, self.vectors, self.rho, self.chosen, self.walk)

    @property
    def dense(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the oracles are told."""
        decay, variance = self.walk.decay[0, :, 0], self.walk.variance[0]
        size = variance.numel()
        prior = walk_covariance(decay, variance).reshape(size, size)
        return self.rho[:, None] * self.base, self.rho, self.vectors, self.chosen, prior


def case(dim: int, n: int = 7, seed: int = 0, size: float = 1.0) -> Case:
    """A fading walk with a tie in time, two kinds, and a look at which nothing was chosen."""
    rng = np.random.default_rng(seed)
    real = [rng.normal(0.0, 1.0, shape) for shape in ((n, N_ITEMS), (N_ITEMS, dim))]
    base, vectors = (torch.as_tensor(part) for part in real)
    variance = torch.as_tensor(rng.uniform(0.05, 0.5, (1, n, dim)))
    decay = torch.as_tensor(rng.uniform(0.8, 1.0, (1, n, 1)))
    variance[:, 3], decay[:, 3] = 0.0, 1.0
    variance[:, 0] = 1.0 - decay[:, 0] ** 2
    rho = torch.ones(n, dtype=torch.float64)
    rho[2], rho[4] = 0.6, 0.0
    chosen = torch.as_tensor(rng.integers(0, N_ITEMS, n))
    return Case(base, size * vectors, rho, chosen, Transition(decay, variance))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("dim", "size", "apart"), [(1, 2.5, 0.02), (2, 2.0, 0.005), (3, 1.0, 0.01)]
)
def test_moments_are_those_of_slow_expectation_propagation(
    dim: int, size: float, apart: float, seed: int
) -> None:
    one = case(dim, seed=seed, size=size)
    mean, cov, filtered = one.smoothed()
    wanted, joint = matched_choices(*one.dense)
    for t in range(len(mean)):
        own = slice(t * dim, (t + 1) * dim)
        sd = joint[own, own].diagonal().sqrt()
        assert float(((mean[t] - wanted[t]) / sd).abs().max()) < apart
        scaled = (cov[t] - joint[own, own]) / (sd[:, None] * sd)
        assert float(scaled.abs().max()) < 2.0 * apart
    torch.testing.assert_close(filtered[-1], cov[-1])


def test_laplace_is_further_away() -> None:
    """Or matching would be for nothing."""
    one = case(1, size=2.5)
    wanted, joint = matched_choices(*one.dense)
    state, *_, curve = choice_mode(*one.dense)
    prior = one.dense[-1]
    laplace = torch.linalg.solve(torch.eye(len(prior)).double() + prior @ curve, prior)
    sd = joint.diagonal().sqrt()
    mean, cov, _ = one.smoothed()
    ours = (mean - wanted)[:, 0] / sd
    assert float(ours.abs().max()) < 0.2 * float(((state - wanted)[:, 0] / sd).abs().max())
    spread, other = cov[:, 0, 0].sqrt() / sd - 1.0, laplace.diagonal().sqrt() / sd - 1.0
    assert float(spread.abs().max()) < 0.2 * float(other.abs().max())


def test_directions_in_which_items_are_alike_are_left_alone() -> None:
    """Items that lie in three dimensions of ten: there the states are those of three dimensions."""
    few = case(3)
    generator = torch.Generator().manual_seed(0)
    way = torch.linalg.qr(torch.randn(10, 3, dtype=torch.float64, generator=generator))[0]
    decay, variance = few.walk.decay, few.walk.variance[..., :1]
    few = replace(few, walk=Transition(decay, variance.expand(-1, -1, 3)))
    wide = Transition(decay, variance.expand(-1, -1, 10))
    mean, cov, _ = replace(few, vectors=few.vectors @ way.T, walk=wide).smoothed()
    wanted, joint = matched_choices(*few.dense)
    prior = walk_covariance(decay[0, :, 0], wide.variance[0])
    beside = torch.eye(10).double() - way @ way.T
    for t in range(len(mean)):
        own = slice(3 * t, 3 * t + 3)
        torch.testing.assert_close(mean[t], way @ wanted[t], rtol=0.0, atol=0.01)
        there = way @ joint[own, own] @ way.T + beside @ prior[t, :, t] @ beside
        torch.testing.assert_close(cov[t], there, rtol=0.0, atol=0.02)


@pytest.mark.parametrize(
    ("dim", "size", "apart"),
    [(1, 2.5, 0.02), (3, 5.0, 0.02), (4, 10.0, 0.06), *((d, 2.0, 0.02) for d in (6, 9, 16))],
)
@pytest.mark.parametrize("seed", range(2))
def test_logits_after_a_choice_have_the_moments_of_draws(
    dim: int, size: float, apart: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many dimensions as a model has, and where a choice says so much that it surprises."""
    rng = np.random.default_rng((7, dim, seed))
    n_items = max(4, 2 * dim)
    vectors = torch.as_tensor(rng.normal(0.0, size / dim**0.5, (n_items, dim)))
    base = torch.as_tensor(rng.normal(0.0, 1.0, (1, n_items)))
    chosen, one = base.argmin()[None], torch.ones(1).double()
    walk = Transition(torch.zeros(1, 1, 1).double(), torch.ones(1, 1, dim).double())
    only = Case(base, vectors, one, chosen, walk)
    drawn = torch.as_tensor(rng.normal(size=(200_000, dim)))
    drawn = torch.cat((drawn, -drawn))
    weight = (base + drawn @ vectors.T).log_softmax(1)[:, chosen[0]].softmax(0)
    reach = vectors - vectors.mean(0)
    centre = weight @ drawn @ reach.T
    spread = (weight @ (drawn @ reach.T - centre) ** 2).sqrt()

    def away() -> tuple[float, float]:
        """Means in standard deviations, and those themselves."""
        mean, cov, _ = only.smoothed()
        sd = ((reach @ cov[0]) * reach).sum(1).sqrt()
        far = (reach @ mean[0] - centre) / spread
        return float(far.abs().mean()), float((sd / spread - 1.0).abs().mean())

    far, wide = away()
    monkeypatch.setattr(choice_paths, "MATCH_WORK", 0)
    _, wide_laplace = away()
    assert far < apart
    assert wide < apart
    assert wide < 0.5 * wide_laplace


@pytest.mark.parametrize("dim", [2, 6])
def test_what_is_not_matched_is_laplaces_with_its_first_correction(
    dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_paths, "MATCH_WORK", 0)
    one = case(dim, n=5)
    fixed, rho, vectors, _, prior = one.dense
    state, *_, curve = choice_mode(*one.dense)
    joint = torch.linalg.solve(torch.eye(len(prior)).double() + prior @ curve, prior)

    def half_trace(y: Tensor) -> Tensor:
        """Of all blocks of the joint covariance with the curvature at states y."""
        total = torch.zeros(()).double()
        for t in range(len(y)):
            own = slice(t * dim, (t + 1) * dim)
            probs = (fixed[t] + rho[t] * (vectors @ y[t])).softmax(0)
            away = vectors - probs @ vectors
            total = total + 0.5 * rho[t] ** 2 * (joint[own, own] * ((probs * away.T) @ away)).sum()
        return total

    turn = -torch.func.grad(half_trace)(state)
    mean, cov, _ = one.smoothed()
    shift = (joint @ turn.reshape(-1)).reshape(state.shape)
    torch.testing.assert_close(mean, state + shift, rtol=0.0, atol=2e-3)
    assert float(shift.abs().max()) > 0.02
    for t in range(len(mean)):
        own = slice(t * dim, (t + 1) * dim)
        torch.testing.assert_close(cov[t], joint[own, own], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("size", [0.0, 1e-6, 10.0, 100.0])
def test_states_are_finite_however_much_a_choice_says(dim: int, size: float) -> None:
    one = case(dim, n=12, size=size)
    for part in one.smoothed():
        assert bool(torch.isfinite(part).all())
    mean, cov, _ = one.smoothed()
    assert float(torch.linalg.eigvalsh(cov).min()) > 0.0
    if size <= 1e-6:
        assert float(mean.abs().max()) < 1e-4  # choices say nothing


@pytest.mark.parametrize("seed", range(2))
def test_states_stay_finite_where_covariances_are_rounding_errors(seed: int) -> None:
    for part in case(16, n=12, size=1e4, seed=seed).smoothed():
        assert bool(torch.isfinite(part).all())
