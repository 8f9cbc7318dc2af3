"""The table of agreement with NUTS: its density is the program's, and its figures tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyro
import pytest
import torch

from bayes_interest.model.generative import interest_program, walk_path
from bayes_interest.model.worlds import World
from benchmarks.agreement.__main__ import CASES, FAMILIES, main
from benchmarks.agreement.compare import Moments, by_step, figures
from benchmarks.agreement.hmc import CompiledPotential, frame_arrays, given_arrays, sample
from benchmarks.agreement.joint import of_chains, our_posterior
from benchmarks.agreement.nuts import (
    JointDensity,
    coordinates,
    fast_path,
    sample_joint,
    summed_path,
)
from benchmarks.agreement.page import verdict
from benchmarks.agreement.problems import Size, conditioned_problem, joint_world

USERS, STEPS, DRAWS = 5, 7, 4_000


def small_world(emission: str) -> tuple[World, JointDensity]:
    world = joint_world(emission, USERS, STEPS)
    return world, JointDensity(world.design)


def true_point(world: World, density: JointDensity) -> torch.Tensor:
    names = density.design.layout.shapes()
    return density.whitened.point({name: world.values[name] for name in names})


@pytest.mark.parametrize("emission", FAMILIES)
def test_joint_density_is_the_programs(emission: str) -> None:
    world, density = small_world(emission)
    generator = torch.Generator().manual_seed(0)
    apart = []
    for _ in range(4):
        point = torch.randn(density.whitened.dim, generator=generator, dtype=torch.float64)
        eps = torch.randn(world.states.shape, generator=generator, dtype=torch.float64)
        mine, program = density.potential(point, eps), density.program_potential(point, eps)
        apart.append(float(mine - program))
    assert np.ptp(apart) < 1e-8  # the constant of the normal densities is left out


@pytest.mark.parametrize("emission", FAMILIES)
def test_compiled_density_and_slope(emission: str) -> None:
    world, density = small_world(emission)
    found = coordinates(density, true_point(world, density))
    dim = len(found.centre)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        size = dim + USERS * STEPS
        at = torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        point, eps = found.placed(at[:dim], at[dim:].reshape(USERS, STEPS))
        slow = density.potential(point, eps[..., None])
        fast = CompiledPotential.apply(at, frame_arrays(found), given_arrays(density))
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-9)
        slopes = [torch.autograd.grad(value, at)[0] for value in (fast, slow)]
        torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-9)


def test_summed_path_is_the_walk() -> None:
    design, values, _ = conditioned_problem("bernoulli", Size(3, 6, 2, 0, 0))
    walk = design.batch.walk(design.layout, values)
    eps = torch.randn(4, 3, 6, 2, dtype=torch.float64)
    torch.testing.assert_close(summed_path(eps, walk), walk_path(eps, walk))
    data = values | {"innovation": eps[0]}
    program = pyro.condition(interest_program, data=data)
    slow = pyro.poutine.trace(program).get_trace(design).log_prob_sum()
    with fast_path(design):
        fast = pyro.poutine.trace(program).get_trace(design).log_prob_sum()
    torch.testing.assert_close(fast, slow)


def test_choices_are_what_the_program_chose() -> None:
    design, _, history = conditioned_problem("choice", Size(3, 6, 2, 0, 0))
    assert (design.batch.item == design.batch.outcome).all()
    assert (history.item_index == design.batch.item.flatten().numpy()).all()
    assert len(np.unique(history.item_index)) > 3


def test_figures_know_noise_from_error() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(DRAWS, 40, 1, 2, generator=generator, dtype=torch.float64)
    zero, one = torch.zeros(40, 1, 2), torch.ones(40, 1, 2)
    right = figures(Moments.exact(zero, one), Moments.of(draws))
    assert right["error"] == pytest.approx(right["error_expected"], rel=0.3)
    assert right["bias"] < 0.01
    assert abs(right["ratio"] - 1.0) < 4.0 * right["ratio_error"] < 0.01
    assert right["effective_draws"] == pytest.approx(DRAWS, rel=0.3)
    off = figures(Moments.exact(zero + 0.2, 0.81 * one), Moments.of(draws))
    assert off["bias"] == pytest.approx(0.2, abs=0.01)
    assert off["ratio"] == pytest.approx(0.9, abs=0.01)


def test_a_draws_own_variance_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(DRAWS, 3, 4, 1, generator=generator, dtype=torch.float64)
    mixed = Moments.of(draws, torch.full_like(draws, 3.0))
    assert mixed.sd == pytest.approx(np.full((3, 4, 1), 2.0), rel=0.05)
    assert [row["what"] for row in by_step(mixed, mixed)] == ["first", "middle", "last", "all"]


def test_hmc_and_nuts_agree() -> None:
    world, density = small_world("bernoulli")
    found = coordinates(density, true_point(world, density))
    hmc = sample(density, found, n_chains=2, n_draws=1_000, thin=2, seed=0)
    nuts, _ = sample_joint(density, found, 150, 80, seed=0)
    row = figures(Moments.of(hmc.point.flatten(0, 1)), Moments.of(nuts))
    assert row["bias"] < 0.15
    assert 0.9 < row["ratio"] < 1.1
    assert row["error"] < 2.0 * row["error_expected"]


@pytest.mark.parametrize("emission", FAMILIES)
def test_draws_of_the_globals_agree_with_hmc(emission: str) -> None:
    world, density = small_world(emission)
    found = coordinates(density, true_point(world, density))
    chains = sample(density, found, n_chains=4, n_draws=500, thin=5, seed=0)
    oracle, r_hat = of_chains(world, density, chains.point, chains.innovation)
    assert r_hat < 1.05
    ours = our_posterior(world, 80)
    for name, moments in ours.shared.items():
        row = figures(moments, oracle.shared[name])
        assert row["error"] < 4.0 * np.sqrt(2.0 / np.pi / 80), name  # its mean is that over four
        assert 0.65 < row["ratio"] < 1.35, name
    interest = figures(ours.interest, oracle.interest)
    assert interest["bias"] < 0.12
    assert 0.93 < interest["ratio"] < 1.07


def test_verdicts() -> None:
    row = {
        "ours": "o",
        "what": "all",
        "error": 0.02,
        "bias": 0.0,
        "ratio": 1.0,
        "ratio_error": 0.01,
    }
    assert verdict(row) == "met"
    assert verdict(row | {"error": 0.04, "bias": 0.04, "ratio": 0.9}) == "missed: error, sd"
    assert verdict(row | {"error": 0.04, "ratio": 0.97}) == "missed: error (noise), sd (noise)"
    drift = row | {"oracle": "HMC", "what": "log drift scale 1", "error": 0.5, "ratio": 0.93}
    assert verdict(drift) == "met"
    assert verdict(drift | {"ratio": 0.85}) == "missed: sd"
    assert verdict(drift | {"what": "bias"}) == ""
    assert verdict(drift | {"oracle": "NUTS", "ratio": 0.5}) == ""


def test_quick_run_writes_the_page_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["choice", "bernoulli, joint"]
    options = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    main([*options, "--only", *names])
    text = (tmp_path / "AGREEMENT.md").read_text()
    for name in names:
        assert f"### {name}\n" in text
    assert "log drift scale 1" in text
    assert "12 draws" in text
    assert text.count("Not run yet.") == len(CASES) - len(names)
    capsys.readouterr()
    main([*options, "--only", *names])
    assert capsys.readouterr().out == ""  # nothing was sampled again
    assert (tmp_path / "AGREEMENT.md").read_text() == text
