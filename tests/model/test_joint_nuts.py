"""Long MCMC on the whole Pyro program, globals and states together, is the oracle of the draws.

Slow: `pytest -m slow tests/model/test_joint_nuts.py`, some minutes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from bayes_interest.evaluation.sbc import RUN_FIT
from bayes_interest.model.elbo import fit_chains
from bayes_interest.model.fit import fit_globals
from bayes_interest.model.generative import interest_program, walk_path
from bayes_interest.model.members import drawn_points
from bayes_interest.model.parameters import Globals, Layout, item_terms
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import chains_at
from bayes_interest.model.worlds import World, draw_world

pytestmark = pytest.mark.slow

N_USERS, N_STEPS, N_ITEMS, N_MEMBERS = 50, 30, 7, 128
WARMUP, N_DRAWS = 300, 600


@dataclass(frozen=True)
class Moments:
    """Of the states along the most frequent item, (user, step), and of the log drift scale."""

    mean: Tensor
    sd: Tensor
    drift_mean: float
    drift_sd: float


def world(emission: str) -> World:
    centre = (float(np.log(0.15)),)
    layout = Layout(emission, 1, 2, N_ITEMS, n_levels=4, log_drift_centre=centre)
    return draw_world(layout, np.full(N_USERS, N_STEPS), N_ITEMS, 60.0, seed=3)


def signs(drawn: World, values: Globals) -> Tensor:
    """Sign of the most frequent item's vector at every draw, (draw,)."""
    features = drawn.design.features.to(values["mean"].dtype)
    layout = drawn.design.layout
    vectors = torch.func.vmap(lambda one: item_terms(layout, one, features).vectors)(values)
    batch = drawn.design.batch
    shown = int(torch.bincount(batch.item[batch.mask]).argmax())
    return vectors[:, shown, 0].sign()


def ours(drawn: World) -> Moments:
    design = drawn.design
    problem = Problem(design.layout, design.features.float(), drawn.history)
    start = fit_globals(problem, RUN_FIT).values
    whitened, point = drawn_points(problem, start, N_MEMBERS, seed=0)
    values = whitened.values(point)
    chains = chains_at(whitened, problem.features, design.batch.to(torch.float32), point)
    found = fit_chains(chains, n_steps=100, tolerance=1e-4, full=True).smoothed
    assert found.cov is not None
    shape = (N_MEMBERS, N_USERS, N_STEPS)
    mean = found.mean.reshape(shape) * signs(drawn, values)[:, None, None]
    sd = (found.cov.reshape(shape).mean(0) + mean.var(0)).sqrt()
    drift = values["log_drift"][:, 0]
    return Moments(mean.mean(0), sd, float(drift.mean()), float(drift.std()))


def by_nuts(drawn: World) -> Moments:
    design = drawn.design
    with torch.random.fork_rng():
        pyro.set_rng_seed(0)
        kernel = NUTS(
            lambda: interest_program(design),
            jit_compile=True,
            ignore_jit_warnings=True,
            max_tree_depth=8,
        )
        mcmc = MCMC(kernel, num_samples=N_DRAWS, warmup_steps=WARMUP, disable_progbar=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`?torch.jit", DeprecationWarning)
            mcmc.run()
    found = mcmc.get_samples()
    innovation = found.pop("innovation")
    paths = []
    for draw in range(N_DRAWS):
        values = {name: value[draw] for name, value in found.items()}
        paths.append(walk_path(innovation[draw], design.batch.walk(design.layout, values))[..., 0])
    states = torch.stack(paths) * signs(drawn, found)[:, None, None]
    drift = found["log_drift"][:, 0]
    return Moments(states.mean(0), states.std(0), float(drift.mean()), float(drift.std()))


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_states_and_drift_agree_with_nuts_on_everything(emission: str) -> None:
    drawn = world(emission)
    mine, oracle = ours(drawn), by_nuts(drawn)
    error = ((mine.mean - oracle.mean).abs() / oracle.sd).mean()
    ratio = (mine.sd / oracle.sd).mean()
    assert mine.drift_sd / oracle.drift_sd == pytest.approx(1.0, abs=0.2)
    assert abs(mine.drift_mean - oracle.drift_mean) < 0.3 * oracle.drift_sd
    assert error < 0.1
    assert float(ratio) == pytest.approx(1.0, abs=0.05)
