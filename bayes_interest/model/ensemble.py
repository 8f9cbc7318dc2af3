"""Draws of the globals of choices, users' paths drawn beside them.

Hamiltonian Monte Carlo on the joint density of both, many chains at once (Neal 2011). Nothing is
approximate in that density, and it takes no filter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.choice_paths import ChoicePaths, Joint
from bayes_interest.model.parameters import PRIOR_SCALES, WALKS
from bayes_interest.progress import bar

LEAPS, LEAP, SHORTEST = 12, 0.2, 0.7
"""Of a move, and their length at first; each move's own is between this share of it and all."""
FINDING, WANTED, ADAPTING = 0.5, 0.8, 0.5
"""Share of the sweeps in which the length is found, which share of the moves shall be taken, and
how fast the length follows."""
METRIC_AT, METRIC_CHAINS, PROBE, PIECE = (0.0, 0.1, 0.2, 0.3), 2, 0.03, 64
"""When the metric is found and paths are drawn anew, as shares of the sweeps; from how many chains
that of the globals is, the half length of its differences, and how many are taken at once."""
LEAST_CURVATURE = 1.0  # that of the prior


def draw_points(
    density: ChoicePaths, start: Tensor, n_draws: int, sweeps: int, generator: torch.Generator
) -> Tensor:
    """Points (draw, dim): chains that start at the point `start`, each with a path of its own.

    All together find the metric and the length of leaps, in the first half of `sweeps`.
    """
    point = start.double().cpu().expand(n_draws, -1).contiguous()
    if not sweeps:
        return point
    leap, metric_at = LEAP, {int(share * sweeps) for share in METRIC_AT}

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    for sweep in bar(range(sweeps), desc="draws of the globals", unit="sweep"):
        if sweep in metric_at:
            step, precision = density.drawn_steps(point, generator)
            here, short = density(point, step), precision.rsqrt()
            root = torch.linalg.cholesky(_metric(density, point, step))
        push, step_push = normal(point), normal(step)
        energy = here.value - _kinetic(push, step_push)
        there, moved, walked = here, point, step
        size = leap * float(SHORTEST + (1.0 - SHORTEST) * torch.rand(1, generator=generator))
        for _ in range(LEAPS):
            push = push + 0.5 * size * _solved(root, there.slope, upper=False)
            step_push = step_push + 0.5 * size * short * there.step_slope
            moved = moved + size * _solved(root.T, push, upper=True)
            walked = walked + size * short * step_push
            there = density(moved, walked)
            push = push + 0.5 * size * _solved(root, there.slope, upper=False)
            step_push = step_push + 0.5 * size * short * there.step_slope
        gained = there.value - _kinetic(push, step_push) - energy
        uniform = torch.rand(n_draws, generator=generator, dtype=torch.float64)
        take = torch.log(uniform) < gained
        point, step = _chosen(take, moved, point), _chosen(take, walked, step)
        pairs = zip(vars(there).values(), vars(here).values(), strict=True)
        here = Joint(*(_chosen(take, yes, no) for yes, no in pairs))
        point, step, here = redrawn_scales(density, point, step, here, generator)
        if sweep < FINDING * sweeps:
            accepted = float(gained.clamp_max(0.0).exp().nan_to_num(0.0).mean())
            leap *= float(np.exp(ADAPTING * (accepted - WANTED)))
    return point


def _metric(density: ChoicePaths, point: Tensor, step: Tensor) -> Tensor:
    """Minus the Hessian in the globals at given paths, made positive definite; of some chains."""
    dim = point.shape[1]
    probes, total = PROBE * torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dim)
    for own, path in zip(point[:METRIC_CHAINS], step[:METRIC_CHAINS], strict=True):
        ends = torch.cat((own + probes, own - probes)).split(PIECE)
        slope = torch.cat([density(one, path.expand(len(one), -1, -1)).slope for one in ends])
        total = total + (slope[dim:] - slope[:dim]) / (2.0 * PROBE * min(METRIC_CHAINS, len(point)))
    values, vectors = torch.linalg.eigh(0.5 * (total + total.T))
    cleaned: Tensor = (vectors * values.abs().clamp_min(LEAST_CURVATURE)) @ vectors.T
    return cleaned


def _kinetic(push: Tensor, step_push: Tensor) -> Tensor:
    return 0.5 * (push**2).sum(1) + 0.5 * (step_push**2).sum((1, 2))


def _solved(root: Tensor, rows: Tensor, upper: bool) -> Tensor:
    """`root^-1` times each row, for a triangular matrix."""
    return torch.linalg.solve_triangular(root, rows.T, upper=upper).T


def _chosen(take: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(take.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def redrawn_scales(
    density: ChoicePaths, point: Tensor, step: Tensor, here: Joint, generator: torch.Generator
) -> tuple[Tensor, Tensor, Joint]:
    """New scales of effects given the effects, and of drift given the paths: outcomes have no say.

    Between moves at fixed standard normals this makes scales mix (interweaving; Yu & Meng 2011).
    """
    whitened = density.whitened
    log_prob = here.value + 0.5 * (point**2).sum(1) + 0.5 * (step**2).sum((1, 2))
    point, slope = point.clone(), here.slope + point
    step, step_slope = step.clone(), here.step_slope + step
    for place, effects, sd in whitened.scaled:
        factor = _rescaled(point, {place: sd}, point[:, effects], generator)
        point[:, effects] /= factor
        slope[:, effects] *= factor
    walks = [name for name in WALKS if name in whitened.layout.shapes()]
    for dim in range(step.shape[2] if set(walks) <= set(whitened.names) else 0):
        places = {whitened.spans[name].start + dim: PRIOR_SCALES[name] for name in walks}
        own = step[:, density.moving, dim]
        factor = _rescaled(point, places, own, generator)
        step[:, density.moving, dim] = own / factor
        step_slope[:, density.moving, dim] *= factor
    value = log_prob - 0.5 * (point**2).sum(1) - 0.5 * (step**2).sum((1, 2))
    return point, step, Joint(value, slope - point, step_slope - step)


def _rescaled(
    point: Tensor, places: dict[int, float], normals: Tensor, generator: torch.Generator
) -> Tensor:
    """Factors (draw, 1) by which scales grow, after which `normals` (draw, n) of theirs shrink.

    Moves `point` at the `places` of the scales' logarithms, whose prior sds are given. A factor is
    proposed as if its logarithm had a flat prior, `normals^2 / chi^2_n`, and taken as the prior
    allows.
    """
    chi = torch.randn(normals.shape, generator=generator, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    total, proposed = ((part**2).sum(1).clamp_min(tiny) for part in (normals, chi))
    log_factor, columns = 0.5 * (total / proposed).log(), list(places)
    old = point[:, columns]
    new = old + log_factor[:, None] / torch.tensor(list(places.values()), dtype=torch.float64)
    gained = 0.5 * (old**2 - new**2).sum(1)
    uniform = torch.rand(len(point), generator=generator, dtype=torch.float64)
    take = (torch.log(uniform) < gained)[:, None]
    point[:, columns] = torch.where(take, new, old)
    return torch.where(take, log_factor[:, None].exp(), 1.0)
