"""The fast filter and smoother against dense Gaussians, and against their own laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bayes_interest.statespace import kalman
from bayes_interest.statespace.kalman import (
    GaussianState,
    ScalarSites,
    filter_and_smooth,
    filter_states,
    kl_to_prior,
    predict,
    site_log_evidence,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition
from tests.oracles import (
    DensePosterior,
    dense_gaussian_posterior,
    dense_precision_posterior,
    gaussian_kl,
    textbook_smoother,
    walk_covariance,
)
from tests.statespace.problems import Regression, regression

TOLERANCE = 1e-9
REVERSION = pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
SEEDS = st.integers(0, 2**32 - 1)
PROPERTY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one path for all examples
)


@pytest.fixture(autouse=True, params=["compiled", "eager"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every law holds for the compiled loops and for the tensor code of other devices."""
    if request.param == "eager":
        monkeypatch.setattr(kalman, "_compilable", lambda *_: False)
    return str(request.param)


def dense(problem: Regression, user: int) -> DensePosterior:
    walk = problem.walk
    return dense_gaussian_posterior(
        problem.x[user],
        problem.target[user],
        problem.noise_var[user],
        walk.decay[user],
        walk.variance[user],
    )


def block_diagonal(cov: Tensor) -> Tensor:
    """Marginal covariances (step, D, D) of a path covariance (step, D, step, D)."""
    return torch.stack([cov[t, :, t] for t in range(cov.shape[0])])


def assert_close(actual: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


@REVERSION
def test_log_evidence_is_that_of_dense_gaussian_process_regression(
    half_life_days: float | None,
) -> None:
    problem = regression(half_life_days=half_life_days)
    forward, _ = problem.solve()
    wanted = torch.stack([dense(problem, user).log_evidence for user in range(5)])
    torch.testing.assert_close(
        forward.log_evidence + problem.site_norm, wanted, rtol=TOLERANCE, atol=0.0
    )


@REVERSION
def test_smoothed_moments_are_those_of_dense_gaussian_process_regression(
    half_life_days: float | None,
) -> None:
    problem = regression(half_life_days=half_life_days)
    _, smoothed = problem.solve()
    assert smoothed.cov is not None
    for user in range(5):
        exact, x = dense(problem, user), problem.x[user]
        cov = block_diagonal(exact.cov)
        assert_close(smoothed.mean[user], exact.mean)
        assert_close(smoothed.cov[user], cov)
        assert_close(smoothed.predictor_mean[user], (x * exact.mean).sum(-1))
        assert_close(smoothed.predictor_var[user], torch.einsum("ti,tij,tj->t", x, cov, x))
        assert_close(smoothed.predictor_cov[user], torch.einsum("tij,tj->ti", cov, x))


@REVERSION
def test_smoothed_moments_are_those_of_the_inverse_precision(half_life_days: float | None) -> None:
    problem = regression(1, half_life_days=half_life_days)
    _, smoothed = problem.solve()
    assert smoothed.cov is not None
    sites, walk = problem.sites, problem.walk
    for user in range(5):
        mean, cov = dense_precision_posterior(
            problem.x[user],
            sites.linear[user],
            sites.precision[user],
            walk.decay[user],
            walk.variance[user],
        )
        assert_close(smoothed.mean[user], mean)
        assert_close(smoothed.cov[user], block_diagonal(cov))


@REVERSION
def test_filter_and_smoother_are_the_textbook_ones(half_life_days: float | None) -> None:
    problem = regression(2, half_life_days=half_life_days)
    forward, smoothed = problem.solve()
    assert smoothed.cov is not None
    walk = problem.walk
    for user in range(5):
        wanted = textbook_smoother(
            problem.x[user],
            problem.target[user],
            problem.noise_var[user],
            walk.decay[user],
            walk.variance[user],
        )
        actual = (forward.mean, forward.cov, smoothed.mean, smoothed.cov)
        for ours, theirs in zip(actual, wanted, strict=True):
            assert_close(ours[user], theirs)


@REVERSION
def test_score_is_the_gradient_of_the_dense_evidence(half_life_days: float | None) -> None:
    problem = regression(3, half_life_days=half_life_days)
    _, smoothed = problem.solve()
    walk = problem.walk
    variance = walk.variance.clone().requires_grad_()
    evidence = torch.stack(
        [
            dense_gaussian_posterior(
                problem.x[user],
                problem.target[user],
                problem.noise_var[user],
                walk.decay[user],
                variance[user],
            ).log_evidence
            for user in range(5)
        ]
    )
    (wanted,) = torch.autograd.grad(evidence.sum(), variance)
    assert_close(smoothed.variance_score, wanted)


@REVERSION
def test_kl_is_that_of_two_dense_gaussians(half_life_days: float | None) -> None:
    problem = regression(4, half_life_days=half_life_days)
    forward, smoothed = problem.solve()
    kl = kl_to_prior(problem.sites, smoothed, forward.log_evidence)
    walk = problem.walk
    for user in range(5):
        exact = dense(problem, user)
        prior = walk_covariance(walk.decay[user], walk.variance[user]).reshape(21, 21)
        wanted = gaussian_kl(exact.mean.reshape(21), exact.cov.reshape(21, 21), prior)
        assert_close(kl[user], wanted)


def test_continuing_from_a_belief_equals_one_pass() -> None:
    problem = regression(5)
    whole, _ = problem.solve()
    walk, sites = problem.walk, problem.sites

    def part(steps: slice, initial: GaussianState | None) -> GaussianState:
        piece = Transition(walk.decay[:, steps], walk.variance[:, steps])
        cut = ScalarSites(sites.linear[:, steps], sites.precision[:, steps])
        out = filter_states(problem.x[:, steps], cut, piece, initial)
        return GaussianState(out.mean[:, -1], out.cov[:, -1])

    last = part(slice(3, None), part(slice(3), None))
    assert torch.equal(last.mean, whole.mean[:, -1])
    assert torch.equal(last.cov, whole.cov[:, -1])


def test_predict_leaves_its_argument_alone() -> None:
    state = GaussianState.standard(5, 3, torch.zeros(1, dtype=torch.float64))
    predict(state, torch.ones(5, 1, dtype=torch.float64), torch.ones(5, 3, dtype=torch.float64))
    assert torch.equal(state.cov, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))


def test_site_log_evidence_is_the_integral() -> None:
    grid = torch.linspace(-30.0, 30.0, 20_011, dtype=torch.float64)
    arguments = torch.tensor([0.7, 1.9, -1.3, 0.6], dtype=torch.float64)
    mean, var, linear, precision = arguments
    log_density = torch.distributions.Normal(mean, var.sqrt()).log_prob(grid)
    integrand = (log_density + linear * grid - 0.5 * precision * grid**2).exp()
    assert_close(site_log_evidence(*arguments), torch.trapezoid(integrand, grid).log())


# A thousand events at once, or ten years apart; slow and fast drift.
# Measured: means 5e-6 of a posterior sd, variances 2e-5, predictor variances 7e-5 (relative).
@pytest.mark.parametrize("gap_days", [0.0, 3650.0])
@pytest.mark.parametrize("drift_scale", [0.01, 0.05, 0.2])
def test_float32_is_float64_to_four_digits(gap_days: float, drift_scale: float) -> None:
    problem = regression(n_users=3, n_steps=1000, state_dim=7)
    elapsed = torch.full_like(problem.elapsed_days, gap_days)
    elapsed[:, 0] = 0.0
    problem = replace(
        problem,
        x=problem.x / 7**0.5,
        noise_var=torch.full_like(problem.noise_var, 4.0),
        elapsed_days=elapsed,
        drift_scale=torch.full_like(problem.drift_scale, drift_scale),
    )
    forward, smoothed = problem.solve()
    forward32, smoothed32 = problem.to(torch.float32).solve()
    assert smoothed.cov is not None
    assert smoothed32.cov is not None
    assert smoothed32.mean.dtype == torch.float32
    var = smoothed.cov.diagonal(dim1=-2, dim2=-1)
    var32 = smoothed32.cov.diagonal(dim1=-2, dim2=-1)
    errors = {
        "mean": (smoothed32.mean - smoothed.mean).abs() / var.sqrt(),
        "var": (var32 / var - 1.0).abs(),
        "predictor_mean": (smoothed32.predictor_mean - smoothed.predictor_mean).abs()
        / smoothed.predictor_var.sqrt(),
        "predictor_var": (smoothed32.predictor_var / smoothed.predictor_var - 1.0).abs(),
        "log_evidence": (forward32.log_evidence / forward.log_evidence - 1.0).abs(),
    }
    worst = {name: error.max().item() for name, error in errors.items()}
    assert max(worst.values()) < 1e-4, worst
    single = problem.to(torch.float32)
    evidence, at_once = filter_and_smooth(single.x, single.sites, single.walk)
    errors = {
        "mean": (at_once.mean - smoothed.mean).abs() / var.sqrt(),
        "predictor_var": (at_once.predictor_var / smoothed.predictor_var - 1.0).abs(),
        "log_evidence": (evidence / forward.log_evidence - 1.0).abs(),
    }
    worst = {name: error.max().item() for name, error in errors.items()}
    assert max(worst.values()) < 1e-4, worst


@pytest.mark.parametrize("n_users", [5, 41], ids=["one by one", "side by side"])
@REVERSION
def test_both_passes_at_once_are_the_two_passes(half_life_days: float | None, n_users: int) -> None:
    problem = regression(12, n_users=n_users, half_life_days=half_life_days)
    forward, smoothed = problem.solve()
    evidence, at_once = filter_and_smooth(problem.x, problem.sites, problem.walk)
    assert_close(evidence, forward.log_evidence, 1e-12)
    for name, wanted in vars(smoothed).items():
        if name == "cov":
            assert at_once.cov is None
        else:
            assert_close(getattr(at_once, name), wanted, 1e-10)
    less, short = filter_and_smooth(problem.x, problem.sites, problem.walk, predictor_cov=False)
    assert torch.equal(less, evidence)
    for name in ("mean", "predictor_mean", "predictor_var", "variance_score"):
        assert torch.equal(getattr(short, name), getattr(at_once, name)), name
    order = torch.arange(len(problem.x)).flip(0)
    flipped = problem.users(order)
    again, _ = filter_and_smooth(flipped.x, flipped.sites, flipped.walk)
    assert torch.equal(again, evidence[order])


@pytest.mark.parametrize("n_users", [5, 70], ids=["one by one", "side by side"])
def test_threads_change_nothing(n_users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = regression(13, n_users=n_users)
    alone = filter_and_smooth(problem.x, problem.sites, problem.walk)
    monkeypatch.setattr(kalman, "THREAD_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = filter_and_smooth(problem.x, problem.sites, problem.walk)
    assert torch.equal(alone[0], shared[0])
    for name in ("mean", "predictor_mean", "predictor_var", "predictor_cov", "variance_score"):
        assert torch.equal(getattr(alone[1], name), getattr(shared[1], name)), name


def padded(problem: Regression, n_extra: int) -> tuple[Tensor, ScalarSites, Transition]:
    """The same problem with `n_extra` steps of zero gap and zero sites; x there is arbitrary."""
    n_users, _, dim = problem.x.shape
    zero = problem.target.new_zeros(n_users, n_extra)
    longer = replace(
        problem,
        x=torch.cat((problem.x, problem.x.new_full((n_users, n_extra, dim), 1.7)), 1),
        elapsed_days=torch.cat((problem.elapsed_days, zero), 1),
    )
    sites = problem.sites
    return (
        longer.x,
        ScalarSites(torch.cat((sites.linear, zero), 1), torch.cat((sites.precision, zero), 1)),
        longer.walk,
    )


@REVERSION
def test_padding_changes_nothing(half_life_days: float | None) -> None:
    problem = regression(6, half_life_days=half_life_days)
    forward, smoothed = problem.solve()
    x, sites, walk = padded(problem, 4)
    forward_padded = filter_states(x, sites, walk)
    smoothed_padded = smooth_states(x, sites, walk, forward_padded, full=True)
    for name in ("mean", "cov", "projected", "predicted_mean", "predicted_var"):
        assert torch.equal(getattr(forward_padded, name)[:, :7], getattr(forward, name)), name
    for name in ("mean", "cov", "predictor_mean", "predictor_var", "predictor_cov"):
        assert torch.equal(getattr(smoothed_padded, name)[:, :7], getattr(smoothed, name)), name
    assert torch.equal(smoothed_padded.variance_score[:, :7], smoothed.variance_score)
    assert_close(forward_padded.log_evidence, forward.log_evidence, 1e-13)


def test_memory_layout_changes_nothing() -> None:
    """The same numbers, stored step by step (transposed)."""
    problem = regression(8)
    forward, smoothed = problem.solve()

    def stored_elsewhere(values: Tensor) -> Tensor:
        moved = values.transpose(0, 1).contiguous().transpose(0, 1)
        assert not moved.is_contiguous()
        return moved

    there = replace(
        problem,
        **{
            name: stored_elsewhere(getattr(problem, name))
            for name in ("x", "target", "noise_var", "elapsed_days")
        },
    )
    forward_there, smoothed_there = there.solve()
    for name, wanted in vars(forward).items():
        assert_close(getattr(forward_there, name), wanted, 1e-13)
    for name, wanted in vars(smoothed).items():
        assert_close(getattr(smoothed_there, name), wanted, 1e-13)


@REVERSION
def test_autograd_through_the_filter_agrees_with_the_score(half_life_days: float | None) -> None:
    problem = regression(9, half_life_days=half_life_days)
    _, smoothed = problem.solve()
    walk = problem.walk
    variance = walk.variance.clone().requires_grad_()
    evidence = filter_states(problem.x, problem.sites, replace(walk, variance=variance))
    (slope,) = torch.autograd.grad(evidence.log_evidence.sum(), variance)
    assert_close(smoothed.variance_score, slope)


def test_user_order_changes_nothing() -> None:
    problem = regression(7)
    forward, smoothed = problem.solve()
    order = torch.tensor([3, 0, 4, 1, 2])
    forward_there, smoothed_there = problem.users(order).solve()
    for name in ("mean", "cov", "log_evidence"):
        assert_close(getattr(forward_there, name), getattr(forward, name)[order], 1e-13)
    for name in ("mean", "cov", "predictor_mean", "predictor_var", "variance_score"):
        assert_close(getattr(smoothed_there, name), getattr(smoothed, name)[order], 1e-13)


def variances(cov: Tensor | None) -> Tensor:
    assert cov is not None
    return cov.diagonal(dim1=-2, dim2=-1)


@given(seed=SEEDS, log_gap=st.floats(-9.0, 9.0), log_noise=st.floats(-7.0, 7.0))
@PROPERTY
def test_laws_of_variances_and_kl(seed: int, log_gap: float, log_noise: float) -> None:
    problem = regression(seed, n_users=3)
    problem = replace(
        problem,
        elapsed_days=problem.elapsed_days * 10.0**log_gap / 20.0,
        noise_var=problem.noise_var * 2.718**log_noise,
    )
    forward, smoothed = problem.solve()
    filtered, after = variances(forward.cov), variances(smoothed.cov)
    assert (after > 0.0).all()
    assert (smoothed.predictor_var > 0.0).all()
    assert (after <= filtered * (1.0 + 1e-9)).all()  # the future never widens
    kl = kl_to_prior(problem.sites, smoothed, forward.log_evidence)
    assert (kl >= -1e-9 * (1.0 + forward.log_evidence.abs())).all()


@given(seed=SEEDS, factor=st.floats(1.0, 1e3))
@PROPERTY
def test_more_precise_sites_never_widen(seed: int, factor: float) -> None:
    problem = regression(seed, n_users=3)
    sharper = replace(problem, noise_var=problem.noise_var / factor)
    wide = variances(problem.solve()[1].cov)
    narrow = variances(sharper.solve()[1].cov)
    assert (narrow <= wide * (1.0 + 1e-9)).all()
