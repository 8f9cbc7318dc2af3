"""Draws of the globals from their posterior, users' states integrated out.

The maximum of their density and the curvature there give a Gaussian (Laplace); chains of
Hamiltonian Monte Carlo that start in it and move in its metric take the draws from the Gaussian to
the density itself. All settings of the globals, be they chains or probes of the curvature, are
evaluated at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bayes_interest.model.parameters import BY_MOMENTS
from bayes_interest.model.whitened import Whitened
from bayes_interest.progress import bar

PROBE = 0.03
NEWTON_STEPS, NEWTON_REACH, GOOD_ENOUGH = 6, 1.5, 0.01
LEAST_STEP, STEP_SHRINK = 0.05, 0.4
LEAST_CURVATURE = 1.0  # that of the prior
DRIFT = ("log_drift", "log_event_drift")
GRID_REACH, GRID_SIZE = 5.0, 501
LEAPS, LEAP = 4, 0.35
FINDING, SHORTER, LONGER = 0.5, 0.3, 1.5
"""Share of the sweeps in which a chain's leaps shrink where it is refused, and by how much."""

Sites = tuple[Tensor, ...]
"""What tells where the states are; the first axis is by setting, then by user if at all."""


@dataclass(frozen=True)
class Density:
    """Log joint density of outcomes and globals at some settings."""

    value: Tensor  # (setting,)
    slope: Tensor  # (setting, dim)
    sites: Sites


class LogDensity(Protocol):
    """The log joint density as a function of the whitened globals."""

    whitened: Whitened

    def __call__(self, point: Tensor, sites: Sites | None = None) -> Density:
        """At points (setting, dim); `sites` of the same number of settings nearby save steps."""


def repeated(sites: Sites, times: int) -> Sites:
    """The sites of one setting for many settings around it."""
    return tuple(one.repeat(times, *[1] * (one.ndim - 1)) for one in sites)


@dataclass(frozen=True)
class Laplace:
    """The Gaussian at the mode."""

    mode: Tensor  # (dim,)
    precision: Tensor  # (dim, dim)
    sites: Sites  # at the mode


def laplace(
    density: LogDensity, start: Tensor, n_steps: int = NEWTON_STEPS, chord_steps: int = 1
) -> Laplace:
    """Newton's method with the curvature by central differences; no step leaves it at `start`.

    A curvature serves at most `chord_steps` steps: it costs as much as `2 dim` of them.
    Scales of effects stay where they start: where a log says little, the mode over effects and
    their scale together lies far from where their posterior is. So do drift scales where the
    vectors that they are scales of are sought too: at the mode of both vectors are too short and
    drift too fast, and chains would be long on their way back.
    """
    mode, here = start, density(start[None])
    held = BY_MOMENTS + DRIFT
    free = density.whitened.mask(lambda name: name not in held).to(start)
    for _ in range(n_steps):
        precision = _curvature(density, mode, here.sites)
        precision = precision * free * free[:, None] + torch.diag(1.0 - free)
        first = float(here.value[0])
        for _ in range(chord_steps):
            step = torch.linalg.solve(precision, here.slope[0] * free)
            step, size = step * (NEWTON_REACH / step.abs().max()).clamp_max(1.0), 1.0
            there = density((mode + step)[None], here.sites)
            while float(there.value[0]) < float(here.value[0]) and size > LEAST_STEP:
                size *= STEP_SHRINK
                there = density((mode + size * step)[None], here.sites)
            gained = float(there.value[0] - here.value[0])
            if gained > 0.0:
                mode, here = mode + size * step, there
            if gained < GOOD_ENOUGH:
                break
        if float(here.value[0]) < first + GOOD_ENOUGH:
            break
    return Laplace(mode, _curvature(density, mode, here.sites), here.sites)


def _curvature(density: LogDensity, mode: Tensor, sites: Sites) -> Tensor:
    """Minus the Hessian, made positive definite."""
    dim = len(mode)
    probes = PROBE * torch.eye(dim, dtype=mode.dtype, device=mode.device)
    found = density(torch.cat((mode + probes, mode - probes)), repeated(sites, 2 * dim))
    hessian = (found.slope[dim:] - found.slope[:dim]) / (2.0 * PROBE)
    values, vectors = torch.linalg.eigh(0.5 * (hessian + hessian.T))
    cleaned: Tensor = (vectors * values.abs().clamp_min(LEAST_CURVATURE)) @ vectors.T
    return cleaned


def draw_points(
    density: LogDensity, fit: Laplace, n_draws: int, sweeps: int, generator: torch.Generator
) -> Tensor:
    """Points (draw, dim): draws from the Gaussian, each moved by `sweeps` of its own chain.

    Far out, where effects are large, the density is steeper than the Gaussian and leaps of full
    length are refused for ever: in the first half of the sweeps a chain's own shrink meanwhile.
    """
    root = torch.linalg.cholesky(fit.precision)

    def normal() -> Tensor:
        noise = torch.randn(n_draws, len(fit.mode), generator=generator, dtype=torch.float64)
        return noise.to(fit.mode)

    def placed(inner: Tensor) -> Tensor:
        return fit.mode + torch.linalg.solve_triangular(root.T, inner.T, upper=True).T

    def slope(outer: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(root, outer.T, upper=False).T

    inner = normal()
    if not sweeps:
        return placed(inner)
    here = density(placed(inner), repeated(fit.sites, n_draws))
    if not bool(torch.isfinite(here.value).all()):  # too far out: start those at the mode
        inner = torch.where(torch.isfinite(here.value)[:, None], inner, torch.zeros_like(inner))
        here = density(placed(inner), repeated(fit.sites, n_draws))
    leap = torch.full_like(inner[:, :1], LEAP)
    for sweep in bar(range(sweeps), desc="draws of the globals", unit="sweep"):
        momentum = normal()
        energy = here.value - 0.5 * (momentum**2).sum(1)
        there, moved = here, inner
        for _ in range(LEAPS):
            momentum = momentum + 0.5 * leap * slope(there.slope)
            moved = moved + leap * momentum
            there = density(placed(moved), there.sites)
            momentum = momentum + 0.5 * leap * slope(there.slope)
        change = there.value - 0.5 * (momentum**2).sum(1) - energy
        uniform = torch.rand(n_draws, generator=generator, dtype=torch.float64).to(change)
        take = torch.log(uniform) < change
        here = _chosen(take, there, here)
        point, here = redrawn_scales(
            density.whitened, placed(torch.where(take[:, None], moved, inner)), here, generator
        )
        inner = (point - fit.mode) @ root
        longer = torch.where(take[:, None], LONGER * leap, SHORTER * leap).clamp_max(LEAP)
        leap = longer if sweep + 1 < FINDING * sweeps else torch.full_like(leap, LEAP)
    return placed(inner)


def redrawn_scales(
    whitened: Whitened, point: Tensor, here: Density, generator: torch.Generator
) -> tuple[Tensor, Density]:
    """New scales of effects given the effects themselves: the outcomes have no say in that.

    `p(t | e)` for `s = exp(sd t) s_0` and effects `e = s x` is `N(t; 0, 1) prod N(e; 0, s^2)`,
    drawn on a grid. Between moves at fixed `x` it makes scales mix (interweaving; Yu & Meng 2011).
    """
    point, likelihood = point.clone(), here.slope + point
    value = here.value + 0.5 * (point**2).sum(1)
    for place, effects, sd in whitened.scaled:
        old, grid = point[:, place, None], torch.linspace(-GRID_REACH, GRID_REACH, GRID_SIZE)
        grid = grid.to(point)
        square = (point[:, effects] ** 2).sum(1, keepdim=True)
        count = effects.stop - effects.start
        log_density = -0.5 * grid**2 - count * sd * (grid - old)
        log_density = log_density - 0.5 * square * torch.exp(2.0 * sd * (old - grid))
        chosen = torch.multinomial(torch.softmax(log_density.cpu(), 1), 1, generator=generator)
        within = torch.rand(len(point), 1, generator=generator).to(point) - 0.5
        new = grid[chosen.to(point.device)] + within * (grid[1] - grid[0])
        grown = torch.exp(sd * (new - old))
        point[:, place] = new[:, 0]
        point[:, effects] /= grown
        likelihood[:, effects] *= grown
    return point, Density(value - 0.5 * (point**2).sum(1), likelihood - point, here.sites)


def _chosen(take: Tensor, yes: Density, no: Density) -> Density:
    sites = []
    for one, other in zip(yes.sites, no.sites, strict=True):
        rows = take.repeat_interleave(len(one) // len(take)).reshape(-1, *[1] * (one.ndim - 1))
        sites.append(torch.where(rows, one, other))
    value = torch.where(take, yes.value, no.value)
    return Density(value, torch.where(take[:, None], yes.slope, no.slope), tuple(sites))
