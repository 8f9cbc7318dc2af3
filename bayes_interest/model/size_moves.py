"""Effects with their scale, and item vectors, made longer or shorter at given outcomes.

Given utilities these sizes hardly move: the more events, the closer utilities hold the predictors
that they were drawn from. Here utilities are integrated out. Parameters are multiplied by a common
factor `c`, which is a move along a group (Liu & Sabatti 2000): it is taken by the ratio of the
densities times `c` to the power of how many numbers it moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bayes_interest.model.item_draws import Noise

FIRST, GROWN, SHRUNK = 0.1, 1.1, 0.92
"""Sd of the first proposals of `log c`, and what they are multiplied by where a move was taken and
where not while the burn-in lasts: some four of ten are."""


@dataclass(frozen=True)
class Prior:
    """What the prior and the powers of `c` make of a move by `log c`."""

    count: float = 0.0  # numbers that move less those in whose densities the factor cancels
    square: float = 0.0  # of numbers with a fixed Gaussian prior, over its variance
    away: float = 0.0  # of the logarithm of a scale that moves along, from its centre, in sds
    tight: float = 0.0  # one over that sd

    def gain(self, log_c: float) -> float:
        """Log density after the move less before."""
        fixed = self.count * log_c - 0.5 * self.square * math.expm1(2.0 * log_c)
        return fixed - 0.5 * ((self.away + self.tight * log_c) ** 2 - self.away**2)


class SizeMoves:
    """Metropolis moves of several sizes, each with a step of its own."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    def log_factor(
        self,
        name: str,
        base: Tensor,
        part: Tensor,
        log_chance: Callable[[Tensor], Tensor],
        prior: Prior,
        noise: Noise,
        settling: bool,
    ) -> float:
        """`log c`, 0 where the move is not taken.

        Args:
            name: whose step it is.
            base: predictors now, (event,).
            part: what of them grows by the factor, (event,).
            log_chance: log probability of all outcomes at predictors.
            prior: of the move.
            noise: where random numbers come from.
            settling: whether the step may change.
        """
        step = self.steps.setdefault(name, FIRST)
        moved = step * float(noise.normal(1))
        there = base + part * math.expm1(moved)
        gain = log_chance(there) - log_chance(base) + prior.gain(moved)
        taken = bool(gain.isfinite()) and noise.accepts(gain)
        if settling:
            self.steps[name] = step * (GROWN if taken else SHRUNK)
        return moved if taken else 0.0
