"""The oracle: Pyro's NUTS on the program, or on the same density written for speed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import pyro
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from bayes_interest.model.generative import (
    Design,
    interest_program,
    outcome_distribution,
    walk_path,
)
from bayes_interest.model.parameters import BY_MOMENTS, Globals, item_terms, prior
from bayes_interest.model.whitened import Whitened
from bayes_interest.statespace.random_walk import Transition
from benchmarks.agreement.problems import Size

GLOBALS, INNOVATION = "globals", "innovation"
NEWTON_STEPS = 10
START_SD = 0.3
"""Of chains about the point of `Coordinates`: further out some end at the other sign of the state,
where these coordinates are of no help and moves are slow.
"""


def summed_path(innovation: Tensor, walk: Transition) -> Tensor:
    """`walk_path` of a walk without decay as one cumulative sum: no loop over the steps."""
    first = torch.ones_like(walk.scale[..., :1, :])
    return (torch.cat((first, walk.scale[..., 1:, :]), -2) * innovation).cumsum(-2)


@contextmanager
def fast_path(design: Design) -> Iterator[None]:
    """The program with `summed_path` in place of its loop."""
    assert design.layout.half_life_days is None  # with a pull to the mean they differ
    with patch("bayes_interest.model.generative.walk_path", summed_path):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's word on its compiler."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`?torch.jit", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


def sample_states(design: Design, values: Globals, size: Size) -> tuple[Tensor, float]:
    """NUTS on the innovations, as states (draw, user, step, state_dim), and the worst R-hat."""
    program = pyro.condition(interest_program, data=values)
    kernel = NUTS(lambda: program(design), jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_samples=size.n_draws, warmup_steps=size.n_warmup, disable_progbar=True)
    with quiet():
        mcmc.run()
    innovation = mcmc.get_samples()[INNOVATION]
    r_hat = mcmc.diagnostics()[INNOVATION]["r_hat"].max().item()
    return walk_path(innovation, design.batch.walk(design.layout, values)), r_hat


class JointDensity:
    """Minus the log density of the program as a function of independent standard normals.

    The same density as `interest_program`'s but for the whitening, see `program_potential`, in a
    fifth of its time: one prior for all globals, no handlers.
    """

    def __init__(self, design: Design) -> None:
        self.design, layout = design, design.layout
        self.whitened = Whitened.of(layout, {}, tuple(layout.shapes()))
        self.effects = {scale.removeprefix("log_").removesuffix("_scale") for scale in BY_MOMENTS}
        like = torch.zeros(1, dtype=torch.float64)
        unit = {name: like.new_zeros(()) for name in BY_MOMENTS}
        each = [prior(layout, name, unit, like) for name in self.whitened.spans]
        self.centre, self.spread = (
            torch.cat([part.reshape(-1) for part in parts]) for parts in zip(*each, strict=True)
        )

    def values(self, point: Tensor) -> Globals:
        """Globals of one point (dim,)."""
        flat, shapes = self.centre + self.spread * point, self.design.layout.shapes()
        values: Globals = {}
        for name, span in self.whitened.spans.items():
            value = flat[span].reshape(shapes[name])
            if name in self.effects:
                value = value * values[f"log_{name}_scale"].exp()
            values[name] = value
        return values

    def potential(self, point: Tensor, innovation: Tensor) -> Tensor:
        """At point (dim,) and innovation (user, step, state_dim), a scalar."""
        values, layout, batch = self.values(point), self.design.layout, self.design.batch
        items = item_terms(layout, values, self.design.features)
        state = summed_path(innovation, batch.walk(layout, values))
        outcome = outcome_distribution(self.design, values, items.vectors, items.offsets, state)
        log_prob = (outcome.log_prob(batch.outcome) * batch.mask).sum()
        return 0.5 * (point**2).sum() + 0.5 * (innovation**2).sum() - log_prob

    def program_potential(self, point: Tensor, innovation: Tensor) -> Tensor:
        """The same from Pyro's own program, up to a constant: what this class is held to."""
        values = {name: value[0] for name, value in self.whitened.values(point[None]).items()}
        program = pyro.condition(interest_program, data=values | {INNOVATION: innovation})
        trace = pyro.poutine.trace(program).get_trace(self.design)
        layout = self.design.layout
        scales = [
            prior(layout, name, values, point)[1].log().expand(shape).sum()
            for name, shape in layout.shapes().items()
        ]
        return -(trace.log_prob_sum() + torch.stack(scales).sum())


@dataclass(frozen=True)
class Coordinates:
    """Affine coordinates in which the posterior is near to independent standard normals.

    `point = centre + root v` and `innovation = path + tilt (point - centre) + own_root w`: a dense
    metric for NUTS, from the curvature at one point. Any would be right; this one is quick.
    """

    centre: Tensor  # (dim,)
    path: Tensor  # (user, step * state_dim)
    root: Tensor  # (dim, dim)
    tilt: Tensor  # (user, step * state_dim, dim)
    own_root: Tensor  # (user, step * state_dim, step * state_dim)

    def placed(self, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Points (..., dim) and innovations (..., user, step * state_dim)."""
        away = v @ self.root.T
        moved = torch.einsum("utd,...d->...ut", self.tilt, away)
        return self.centre + away, self.path + moved + torch.einsum(
            "uts,...us->...ut", self.own_root, w
        )


def coordinates(density: JointDensity, centre: Tensor) -> Coordinates:
    """Of the curvature at globals `centre` and the most likely innovations there."""
    mask = density.design.batch.mask
    n_users, width = len(mask), mask.shape[1] * density.design.layout.state_dim
    path = centre.new_zeros(n_users, width)

    def potential(point: Tensor, flat: Tensor) -> Tensor:
        return density.potential(point, flat.reshape(*mask.shape, -1))

    def product(point: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        return torch.autograd.functional.hvp(potential, (centre, path), (point, flat))[1]

    def own_curvature() -> Tensor:
        still = torch.zeros_like(centre)
        probes = torch.eye(width, dtype=centre.dtype)
        return torch.stack([product(still, row.expand(n_users, -1))[1] for row in probes], -1)

    for _ in range(NEWTON_STEPS):
        (slope,) = torch.autograd.grad(potential(centre, path.requires_grad_()), path)
        path = path.detach()
        path = path - torch.linalg.solve(own_curvature(), slope[..., None])[..., 0]
    own = own_curvature()
    parts = [product(row, torch.zeros_like(path)) for row in torch.eye(len(centre)).to(centre)]
    shared, cross = torch.stack([p[0] for p in parts]), torch.stack([p[1] for p in parts], -1)
    tilt = -torch.linalg.solve(own, cross)
    values, vectors = torch.linalg.eigh(shared + torch.einsum("utd,ute->de", cross, tilt))
    root = vectors * values.abs().clamp_min(1.0).rsqrt()  # a normal prior has curvature one
    own_root = torch.linalg.inv(torch.linalg.cholesky(own)).mT
    return Coordinates(centre, path, root, tilt, own_root)


def sample_joint(
    density: JointDensity, found: Coordinates, n_draws: int, n_warmup: int, seed: int
) -> tuple[Tensor, Tensor]:
    """One chain of NUTS on globals and innovations: points (draw, dim), (draw, user, step).

    Of one state dimension: the potential is that of `compiled.py`.
    """
    from benchmarks.agreement.hmc import CompiledPotential, frame_arrays, given_arrays

    frame, given = frame_arrays(found), given_arrays(density)
    with torch.random.fork_rng():
        pyro.set_rng_seed(seed)
        start = {
            GLOBALS: START_SD * torch.randn_like(found.centre),
            INNOVATION: START_SD * torch.randn_like(found.path).flatten(),
        }

        def potential(at: dict[str, Tensor]) -> Tensor:
            both = torch.cat((at[GLOBALS], at[INNOVATION]))
            return CompiledPotential.apply(both, frame, given)

        kernel = NUTS(potential_fn=potential, full_mass=[(GLOBALS,)])
        mcmc = MCMC(
            kernel,
            num_samples=n_draws,
            warmup_steps=n_warmup,
            initial_params=start,
            disable_progbar=True,
        )
        mcmc.run()
    draws = mcmc.get_samples()
    w = draws[INNOVATION].reshape(n_draws, *found.path.shape)
    return found.placed(draws[GLOBALS], w)
