"""Hamiltonian moves in a metric and of a length that settle in the burn-in (Neal 2011)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bayes_interest.model.item_draws import Noise

SETTLING, NEWEST = 0.5, 0.1
"""Share of the burn-in in which the metric is found, and the weight of the newest in it."""
LEAPS, LEAP, SHORTEST = 3, 0.6, 0.3
"""Leaps of a move, their length, and the shortest as a share of it: tails are steep."""
LONGER, SHORTER = 1.05, 0.9
"""By how much a leap grows where it was taken, and shrinks: about two of three are."""

Look = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Log density at a point (dim,), its slope, and the metric there (dim, dim)."""


class Hamiltonian:
    """Moves of one point, a call each."""

    def __init__(self, burn_in: int) -> None:
        self.burn_in, self.done, self.leap = burn_in, 0, LEAP
        self.metric = self.root = torch.zeros(0, dtype=torch.float64)

    def moved(self, point: Tensor, look: Look, noise: Noise) -> Tensor:
        """The point after a move, or the same one where that is not taken."""
        value, slope, metric = look(point)
        if settling(self.done, self.burn_in):
            self.metric = torch.lerp(self.metric, metric, NEWEST) if self.done else metric
            self.root = torch.linalg.cholesky(self.metric)
        momentum = noise.normal(len(point))
        start, there = value - 0.5 * (momentum**2).sum(), point
        size = self.leap * (SHORTEST + (1.2 - SHORTEST) * float(noise.uniform(1)))
        for _ in range(LEAPS):
            momentum = momentum + 0.5 * size * _solved(self.root, slope, upper=False)
            there = there + size * _solved(self.root.T, momentum, upper=True)
            value, slope, _ = look(there)
            if not bool(value.isfinite()):  # so far that numbers overflow
                value = torch.full_like(value, -torch.inf)
                break
            momentum = momentum + 0.5 * size * _solved(self.root, slope, upper=False)
        taken = noise.accepts(value - 0.5 * (momentum**2).sum() - start)
        if self.done < self.burn_in:
            self.leap = min(LEAP, self.leap * (LONGER if taken else SHORTER))
        self.done += 1
        return there if taken else point


def settling(done: int, burn_in: int) -> bool:
    """Whether metrics are still being found after so many sweeps."""
    return done == 0 or done < SETTLING * burn_in


def _solved(root: Tensor, vector: Tensor, upper: bool) -> Tensor:
    """`root^-1 vector` of a triangular matrix."""
    return torch.linalg.solve_triangular(root, vector[:, None], upper=upper)[:, 0]
