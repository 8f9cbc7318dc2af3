"""The elementwise filter is the scalar one, run once per dimension."""

from __future__ import annotations

import pytest
import torch

from bayes_interest.statespace import diagonal
from bayes_interest.statespace.diagonal import (
    DiagonalSites,
    filter_diagonal,
    kl_to_prior_diagonal,
    smooth_diagonal,
)
from bayes_interest.statespace.kalman import (
    ScalarSites,
    filter_states,
    kl_to_prior,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition, transition
from tests.oracles import dense_gaussian_posterior, dense_precision_posterior

USERS, STEPS, DIM = 5, 7, 3


def problem(half_life_days: float | None = None, seed: int = 0) -> tuple[DiagonalSites, Transition]:
    generator = torch.Generator().manual_seed(seed)
    linear = torch.randn(USERS, STEPS, DIM, generator=generator, dtype=torch.float64)
    precision = torch.rand(USERS, STEPS, DIM, generator=generator, dtype=torch.float64)
    elapsed = 20.0 * torch.rand(USERS, STEPS, generator=generator, dtype=torch.float64)
    elapsed[:, 0] = 0.0
    elapsed[:, 4] = 0.0  # an ordinary zero gap
    drift = torch.tensor([0.03, 0.1, 0.4], dtype=torch.float64)
    return DiagonalSites(linear, precision), transition(elapsed, drift, half_life_days)


@pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
def test_equals_the_scalar_filter_per_dimension(half_life_days: float | None) -> None:
    sites, walk = problem(half_life_days)
    forward = filter_diagonal(sites, walk)
    smoothed = smooth_diagonal(sites, walk, forward)
    kl = kl_to_prior_diagonal(sites, smoothed, forward.log_evidence)
    one = torch.ones(USERS, STEPS, 1, dtype=torch.float64)
    evidence, total_kl = torch.zeros(2, USERS, dtype=torch.float64)
    for d in range(DIM):
        scalar = ScalarSites(sites.linear[..., d], sites.precision[..., d])
        chain = Transition(walk.decay, walk.variance[..., d : d + 1])
        there = filter_states(one, scalar, chain)
        back = smooth_states(one, scalar, chain, there, full=True)
        assert back.cov is not None
        pairs = [
            (forward.mean, there.mean[..., 0]),
            (forward.var, there.cov[..., 0, 0]),
            (forward.predicted_mean, there.predicted_mean),
            (forward.predicted_var, there.predicted_var),
            (smoothed.mean, back.mean[..., 0]),
            (smoothed.var, back.cov[..., 0, 0]),
            (smoothed.variance_score, back.variance_score[..., 0]),
        ]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours[..., d], theirs, rtol=1e-12, atol=1e-12)
        evidence = evidence + there.log_evidence
        total_kl = total_kl + kl_to_prior(scalar, back, there.log_evidence)
    torch.testing.assert_close(forward.log_evidence, evidence, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kl, total_kl, rtol=1e-12, atol=1e-12)


def test_equals_the_dense_posterior() -> None:
    sites, walk = problem(13.0, seed=1)
    walk = Transition(walk.decay, walk.variance.clamp_min(1e-3))  # the dense one needs Q > 0
    forward = filter_diagonal(sites, walk)
    smoothed = smooth_diagonal(sites, walk, forward)
    one = torch.ones(STEPS, 1, dtype=torch.float64)
    for user in range(USERS):
        evidence = torch.zeros((), dtype=torch.float64)
        for d in range(DIM):
            linear, precision = sites.linear[user, :, d], sites.precision[user, :, d]
            chain = (walk.decay[user], walk.variance[user, :, d : d + 1])
            mean, cov = dense_precision_posterior(one, linear, precision, *chain)
            var = cov[:, 0, :, 0].diagonal()
            torch.testing.assert_close(smoothed.mean[user, :, d], mean[:, 0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(smoothed.var[user, :, d], var, rtol=1e-9, atol=1e-9)
            target, noise = linear / precision, 1.0 / precision
            exact = dense_gaussian_posterior(one, target, noise, *chain)
            norm = -0.5 * (torch.log(2.0 * torch.pi * noise) + target**2 / noise).sum()
            evidence = evidence + exact.log_evidence - norm
        torch.testing.assert_close(forward.log_evidence[user], evidence, rtol=1e-9, atol=1e-9)


def test_score_is_the_gradient_of_the_log_evidence() -> None:
    sites, walk = problem(seed=2)
    smoothed = smooth_diagonal(sites, walk, filter_diagonal(sites, walk))
    step = 1e-5
    for t, d in [(1, 0), (3, 2), (6, 1)]:
        ends = []
        for sign in (1.0, -1.0):
            variance = walk.variance.clone()
            variance[:, t, d] += sign * step
            ends.append(filter_diagonal(sites, Transition(walk.decay, variance)).log_evidence)
        slope = (ends[0] - ends[1]) / (2.0 * step)
        torch.testing.assert_close(smoothed.variance_score[:, t, d], slope, rtol=1e-7, atol=1e-8)


def test_padding_and_user_order_change_nothing() -> None:
    sites, walk = problem(seed=3)
    forward = filter_diagonal(sites, walk)
    smoothed = smooth_diagonal(sites, walk, forward)
    order = torch.tensor([3, 0, 4, 1, 2])

    def longer(values: torch.Tensor, fill: float) -> torch.Tensor:
        extra = values.new_full((USERS, 4, values.shape[-1]), fill)
        return torch.cat((values[order], extra), 1)

    there = DiagonalSites(longer(sites.linear, 0.0), longer(sites.precision, 0.0))
    chain = Transition(longer(walk.decay, 1.0), longer(walk.variance, 0.0))
    forward_there = filter_diagonal(there, chain)
    smoothed_there = smooth_diagonal(there, chain, forward_there)
    for name in ("mean", "var", "predicted_mean", "predicted_var"):
        assert torch.equal(getattr(forward_there, name)[:, :STEPS], getattr(forward, name)[order])
    for name in ("mean", "var", "variance_score"):
        assert torch.equal(getattr(smoothed_there, name)[:, :STEPS], getattr(smoothed, name)[order])
    torch.testing.assert_close(
        forward_there.log_evidence, forward.log_evidence[order], rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_compiled_loops_are_the_eager_ones(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, walk = problem(13.0)
    sites = DiagonalSites(sites.linear.to(dtype), sites.precision.to(dtype))
    walk = Transition(walk.decay.to(dtype), walk.variance.to(dtype))
    generator = torch.Generator().manual_seed(1)
    start = torch.rand(2, USERS, DIM, generator=generator, dtype=torch.float64).to(dtype)
    found = []
    for compilable in (True, False):
        if not compilable:
            monkeypatch.setattr(diagonal, "_compilable", lambda *parts: False)
        forward = filter_diagonal(sites, walk, (start[0], start[1]))
        found.append(
            [*vars(forward).values(), *vars(smooth_diagonal(sites, walk, forward)).values()]
        )
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for ours, eager in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, eager, rtol=tolerance, atol=tolerance)


def test_a_gradient_is_not_lost_in_the_compiled_loop() -> None:
    sites, walk = problem()
    variance = walk.variance.clone().requires_grad_()
    forward = filter_diagonal(sites, Transition(walk.decay, variance))
    (slope,) = torch.autograd.grad(forward.log_evidence.sum(), variance)
    wanted = smooth_diagonal(sites, walk, filter_diagonal(sites, walk)).variance_score
    torch.testing.assert_close(slope, wanted, rtol=1e-8, atol=1e-10)
