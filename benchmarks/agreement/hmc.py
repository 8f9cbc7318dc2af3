"""Hamiltonian Monte Carlo on the joint density: compiled, for where NUTS in Python is too slow.

The density is written out by hand in `compiled.py`; a test holds it and its slope to the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.agreement.compiled import BINARY, CHOICE, LEVELS, moves, placed_potential
from benchmarks.agreement.nuts import START_SD, Coordinates, JointDensity

FAMILIES = {"bernoulli": BINARY, "rating": LEVELS, "choice": CHOICE}
FEWEST, MOST = 4, 14
TARGET, PACE, START_LEAP = 0.8, 0.5, 0.1
N_WINDOWS = 10
FIRST_DENSE = 4
"""The window of the warm-up after which the metric of the globals is taken from what was seen."""

Given = tuple[np.ndarray, ...]


def given_arrays(density: JointDensity) -> tuple[Any, ...]:
    """What `compiled.potential` conditions on."""
    layout, batch = density.design.layout, density.design.batch
    assert layout.state_dim == 1
    assert layout.half_life_days is None
    assert layout.emission != "rating" or layout.n_levels > 2
    assert bool(batch.mask.all())
    return (
        density.centre.numpy(),
        density.spread.numpy(),
        (density.design.features / math.sqrt(layout.embed_dim)).numpy(),
        batch.item.numpy(),
        batch.outcome.numpy(),
        batch.elapsed_days.sqrt().numpy(),
        FAMILIES[layout.emission],
    )


def frame_arrays(found: Coordinates) -> tuple[np.ndarray, ...]:
    """`Coordinates` as `compiled.placed_potential` reads them."""
    tilt = (found.tilt @ found.root).reshape(-1, len(found.centre))
    parts = (found.centre, found.path, found.root, tilt, found.own_root.mT)
    return tuple(np.ascontiguousarray(part.detach().numpy()) for part in parts)


@dataclass(frozen=True)
class Chains:
    """What the chains found after their warm-up, in the density's own numbers."""

    point: Tensor  # (chain, draw, dim)
    innovation: Tensor  # (chain, draw, user, step)
    accepted: float


def sample(
    density: JointDensity, found: Coordinates, n_chains: int, n_draws: int, thin: int, seed: int
) -> Chains:
    """Chains one after the other; a warm-up is half as long as what is kept."""
    given, points, innovations, accepted = given_arrays(density), [], [], []
    n_users, n_steps = found.path.shape
    dim = len(found.centre)
    for chain in range(n_chains):
        rng = np.random.default_rng((seed, chain))
        at = START_SD * rng.standard_normal(dim + n_users * n_steps)
        frame, leap = warm(at, frame_arrays(found), given, n_draws * thin // 2, rng)
        kept = np.empty((n_draws, len(at)))
        n = n_draws * thin
        share = moves(at, frame, given, leap, FEWEST, MOST, n, thin, kept, chain_seed(rng))
        accepted.append(share)
        v, w = kept[:, :dim], kept[:, dim:].reshape(n_draws, n_users, n_steps)
        centre, path, root, tilt, own = frame
        moved = (v @ tilt.T).reshape(n_draws, n_users, n_steps)
        points.append(torch.from_numpy(centre + v @ root.T))
        innovations.append(torch.from_numpy(path + moved + np.einsum("dus,ust->dut", w, own)))
    return Chains(torch.stack(points), torch.stack(innovations), float(np.mean(accepted)))


def warm(
    at: np.ndarray,
    frame: tuple[np.ndarray, ...],
    given: tuple[Any, ...],
    n_moves: int,
    rng: np.random.Generator,
) -> tuple[tuple[np.ndarray, ...], float]:
    """Moves `at` in place; the frame with the globals' metric as seen, and the length of a leap."""
    dim, leap, each = len(frame[0]), START_LEAP, n_moves // N_WINDOWS
    seen = []
    for window in range(N_WINDOWS):
        kept = np.empty((each, len(at)))
        parts = max(1, each // 50)  # short runs, to find the length of a leap
        for part in np.array_split(np.arange(each), parts):
            rows = kept[part[0] : part[-1] + 1]
            n = len(part)
            share = moves(at, frame, given, leap, FEWEST, MOST, n, 1, rows, chain_seed(rng))
            leap *= math.exp(PACE * (share - TARGET) / (1.0 + window))
        seen.append(kept[:, :dim])
        if window + 1 in (FIRST_DENSE, N_WINDOWS - 2):
            spread = np.cov(np.concatenate(seen[-FIRST_DENSE + 1 :]).T)
            root = np.linalg.cholesky(spread + 1e-3 * np.eye(dim))
            at[:dim] = np.linalg.solve(root, at[:dim])
            centre, path, old, tilt, own = frame
            new = np.ascontiguousarray(old @ root), np.ascontiguousarray(tilt @ root)
            frame, seen = (centre, path, new[0], new[1], own), []
    return frame, leap


def chain_seed(rng: np.random.Generator) -> int:
    """For a compiled loop, which has a generator of its own."""
    return int(rng.integers(0, 2**31 - 1))


class CompiledPotential(torch.autograd.Function):
    """`placed_potential` for Pyro: a scalar of (dim + user * step,) with a slope."""

    @staticmethod
    def forward(ctx: Any, at: Tensor, frame: Given, given: tuple[Any, ...]) -> Tensor:
        """Value, keeping the slope."""
        slope = np.empty(len(at))
        value = placed_potential(at.detach().numpy(), frame, given, slope)
        ctx.slope = torch.from_numpy(slope)
        return torch.tensor(value, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The kept slope."""
        return grads[0] * ctx.slope, None, None
