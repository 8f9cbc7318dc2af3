"""States and globals together: draws of ours against HMC and NUTS on the joint density."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyro
import torch
from torch import Tensor

from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.evaluation.sbc import RUN_FIT, smoothed_of_choice, smoothed_of_scalar
from bayes_interest.model.fit import fit_globals
from bayes_interest.model.members import drawn_points, draws_all
from bayes_interest.model.parameters import Globals, item_terms
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import chains_at
from bayes_interest.model.worlds import World
from benchmarks.agreement.compare import Moments, by_step, figures, worst_r_hat
from benchmarks.agreement.hmc import sample
from benchmarks.agreement.nuts import Coordinates, JointDensity, coordinates, sample_joint
from benchmarks.agreement.problems import joint_world

HMC, NUTS, OURS = "HMC", "NUTS", "draws"


@dataclass(frozen=True)
class JointCase:
    emission: str
    n_users: int = 50
    n_steps: int = 30
    our_draws: int = 800
    hmc_chains: int = 4
    hmc_draws: int = 1_000  # of each chain, every `thin`-th
    thin: int = 10
    nuts_chains: int = 2
    nuts_draws: int = 400
    nuts_warmup: int = 250

    @property
    def setting(self) -> dict[str, Any]:
        return {"kind": "joint", **asdict(self)}

    def smaller(self) -> JointCase:
        """To prove that it runs."""
        return replace(
            self,
            n_users=6,
            n_steps=8,
            our_draws=20,
            hmc_draws=40,
            thin=1,
            nuts_draws=20,
            nuts_warmup=10,
        )


@dataclass(frozen=True)
class Found:
    """A posterior: interest (user, step, item) and shared numbers by name."""

    interest: Moments
    shared: dict[str, Moments]


def run_joint(case: JointCase) -> dict[str, Any]:
    """Rows of the table, and how well the oracles did."""
    world = joint_world(case.emission, case.n_users, case.n_steps)
    density, began = JointDensity(world.design), time.perf_counter()
    names = density.design.layout.shapes()
    true = density.whitened.point({name: world.values[name] for name in names})
    found = coordinates(density, true)
    chains = sample(density, found, case.hmc_chains, case.hmc_draws, case.thin, seed=0)
    hmc_seconds = time.perf_counter() - began
    hmc, r_hat = of_chains(world, density, chains.point, chains.innovation)
    began = time.perf_counter()
    nuts, nuts_r_hat = _nuts(case, world, density, found)
    nuts_seconds = time.perf_counter() - began
    began = time.perf_counter()
    ours = our_posterior(world, case.our_draws)
    rows = _rows(OURS, ours, HMC, hmc) + _rows(OURS, ours, NUTS, nuts) + _rows(NUTS, nuts, HMC, hmc)
    return {
        "rows": rows,
        "r_hat": r_hat,
        "nuts_r_hat": nuts_r_hat,
        "seconds": hmc_seconds,
        "nuts_seconds": nuts_seconds,
        "our_seconds": time.perf_counter() - began,
        "n_draws": case.hmc_chains * case.hmc_draws * case.thin,
    }


def _nuts(
    case: JointCase, world: World, density: JointDensity, found: Coordinates
) -> tuple[Found, float]:
    draws = [
        sample_joint(density, found, case.nuts_draws, case.nuts_warmup, seed)
        for seed in range(case.nuts_chains)
    ]
    point, innovation = (torch.stack(parts) for parts in zip(*draws, strict=True))
    return of_chains(world, density, point, innovation)


def _rows(who: str, ours: Found, name: str, oracle: Found) -> list[dict[str, Any]]:
    rows = [
        {"ours": who, "oracle": name, **row, "what": f"interest, {row['what']}"}
        for row in by_step(ours.interest, oracle.interest)
    ]
    for what, moments in ours.shared.items():
        found = figures(moments, oracle.shared[what])
        rows.append({"ours": who, "oracle": name, "what": what, **found})
    return rows


def looked_at(world: World) -> Tensor:
    """The two items with the most and the two with the fewest events."""
    shown = torch.bincount(world.design.batch.item.flatten(), minlength=world.design.layout.n_items)
    order = shown.argsort()
    return torch.cat((order[-2:], order[:2]))


def of_chains(
    world: World, density: JointDensity, point: Tensor, innovation: Tensor
) -> tuple[Found, float]:
    """Draws (chain, draw, dim) and (chain, draw, user, step), and the worst R-hat.

    R-hat is of the numbers shown: chains may settle at either sign of the state.
    """
    n_chains = len(point)
    values = density.whitened.values(point.flatten(0, 1))
    gap, eps = world.design.batch.elapsed_days, innovation.flatten(0, 1)
    drift = values["log_drift"].exp()[:, :, None]
    scale = torch.cat((torch.ones_like(eps[..., :1]), drift * gap.sqrt()[None, :, 1:]), -1)
    interest = predictors(world, values, (scale * eps).cumsum(-1))
    found = Found(Moments.of(interest), moments_of(shared(values)))
    every = [interest.flatten(1), *shared(values).values()]
    r_hat = max(worst_r_hat(part.unflatten(0, (n_chains, -1))) for part in every)
    return found, r_hat


def predictors(world: World, values: Globals, state: Tensor) -> Tensor:
    """Interest (draw, user, step, item) at states (draw, user, step).

    Of choice, where only differences count, less that in the average item.
    """
    x, b = _looked_at_terms(world, values)
    return x[:, None, None] * state[..., None] + b[:, None, None]


def _looked_at_terms(world: World, values: Globals) -> tuple[Tensor, Tensor]:
    """Vectors and offsets (draw, item) of the items looked at."""
    layout, features = world.design.layout, world.design.features

    def one(own: Globals) -> tuple[Tensor, Tensor]:
        items = item_terms(layout, own, features.to(own["mean"]))
        return items.vectors[:, 0], items.offsets

    vectors, offsets = torch.func.vmap(one)(values)
    if layout.emission == "choice":
        vectors, offsets = (part - part.mean(1, keepdim=True) for part in (vectors, offsets))
    items = looked_at(world)
    return vectors[:, items], offsets[:, items]


def moments_of(values: dict[str, Tensor]) -> dict[str, Moments]:
    """Of draws."""
    return {name: Moments.of(value) for name, value in values.items()}


def shared(values: Globals) -> dict[str, Tensor]:
    """Numbers that no sign of the state changes, (draw, 1) each."""
    drift = values["log_drift"].sort(1).values
    found = {f"log drift scale {dim + 1}": drift[:, dim] for dim in range(drift.shape[1])}
    found["log offset scale"] = values["log_offset_scale"]
    found["log residual scale"] = values["log_residual_scale"]
    if "bias" in values:
        found["bias"] = values["bias"]
    elif "raw_cuts" in values:
        cuts = increasing_cuts(values["raw_cuts"])
        found |= {f"cut {place + 1}": cuts[:, place] for place in range(cuts.shape[1])}
    return {name: value[:, None] for name, value in found.items()}


def our_posterior(world: World, n_draws: int) -> Found:
    """Fit, draws of the globals, and a smoother at each.

    As `evaluation/sbc.py` does; the variance inside a draw is added, not sampled.
    """
    layout, features = world.design.layout, world.design.features.float()
    problem = Problem(layout, features, world.history)
    assert draws_all(problem)
    with torch.random.fork_rng():
        pyro.set_rng_seed(0)
        start = fit_globals(problem, replace(RUN_FIT, seed=0)).values
        whitened, point = drawn_points(problem, start, n_draws, 0)
    batch, found = world.design.batch.to(torch.float32), whitened.values(point)
    if layout.emission == "choice":
        mean, cov = smoothed_of_choice(layout, features, batch, found)
    else:
        mean, cov = smoothed_of_scalar(chains_at(whitened, features, batch, point), "smoother")
    shape = (len(point), *batch.mask.shape)
    values = {name: value.double() for name, value in found.items()}
    mean, var = mean[..., 0].reshape(shape), cov[..., 0, 0].reshape(shape)
    interest = predictors(world, values, mean.double())
    own = _looked_at_terms(world, values)[0][:, None, None] ** 2 * var.double()[..., None]
    return Found(Moments.of(interest, own), moments_of(shared(values)))
