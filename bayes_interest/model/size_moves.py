"""Sizes of effects, item vectors, drift, and of all at once, moved at given outcomes.

Given utilities these sizes hardly move: the more events, the closer utilities hold the predictors
that they were drawn from. Here utilities are integrated out. Numbers are multiplied by a common
factor `c`, which is a move along a group (Liu & Sabatti 2000): it is taken by the ratio of the
densities times `c` to the power of how many numbers it moves. Where the scale of their prior moves
along, that power and their densities cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.compiled_gibbs import (
    Array,
    fill_states,
    grow_moved,
    log_chance,
    times_rows,
)
from bayes_interest.model.gibbs_state import GibbsState
from bayes_interest.model.item_draws import Noise
from bayes_interest.model.parameters import (
    BY_MOMENTS,
    PRIOR_SCALES,
    emission_of,
    prior,
    reliability,
)
from bayes_interest.statespace.kalman import as_array

FIRST, GROWN, SHRUNK = 0.1, 1.1, 0.92
"""Sd of the first proposals of `log c`, and what they are multiplied by where a move was taken and
where not while the burn-in lasts: some four of ten are."""
NUMBERS = ("weight", "intercept", "offset_weight", "bias")
"""What makes items' vectors and offsets beside effects, whose scales are known only by them."""


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


class _Seen:
    """Every event's part in the moves, (event,) or (state_dim, event)."""

    def __init__(self, state: GibbsState) -> None:
        emission = emission_of(state.layout, state.values)
        self.item, n_events = as_array(state.item), len(state.item)
        self.lower, self.upper = (as_array(part) for part in emission.bounds(state.outcome))
        self.reliability = as_array(reliability(state.values, state.kind))
        self.states, self.moved = np.empty((2, state.layout.state_dim, n_events))
        mean, begin = as_array(state.values["mean"]), 0
        for block in state.blocks:
            own = (block.path, block.decay, block.batch.mask, state.reliability(block.batch))
            arrays = (as_array(part) for part in own)
            fill_states(*arrays, mean, begin, self.states, self.moved)
            begin += int(block.batch.mask.sum())
        fixed = as_array(state.events(lambda block: block.fixed))
        vectors, offsets = state.items()
        self.fixed = fixed * self.reliability
        own = self.along(vectors, self.states).sum(0)
        self.predictor = own + as_array(offsets)[self.item] * self.reliability + self.fixed

    def along(self, rows: Tensor, states: Array) -> Array:
        """Rows of the items (item, state_dim) times `states`, number by number."""
        out = np.empty_like(states)
        times_rows(as_array(rows), self.item, states, out)
        return out

    def log_chance(self, part: Array, factor: float) -> float:
        """Log probability of all outcomes with more of `part` in the predictors."""
        return log_chance(self.predictor, part, factor, self.lower, self.upper)


class SizeMoves:
    """Metropolis moves of several sizes, each with a step of its own."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    def sweep(self, state: GibbsState, noise: Noise, settling: bool) -> None:
        """One move of each; steps change while `settling`."""
        values, seen = state.values, _Seen(state)
        value = seen.log_chance(seen.predictor, 0.0)

        def move(name: str, part: Array, prior: Prior) -> float:
            """`log c`, 0 where the move is not taken; `part` of the predictors grows by `c`."""
            nonlocal value
            step = self.steps.setdefault(name, FIRST)
            log_c = step * float(noise.normal(1))
            found = seen.log_chance(part, math.expm1(log_c))
            gain = found - value + prior.gain(log_c)
            taken = math.isfinite(gain) and noise.accepts(gain)
            if settling:
                self.steps[name] = step * (GROWN if taken else SHRUNK)
            if taken:
                value = found
                seen.predictor = seen.predictor + math.expm1(log_c) * part
            return log_c if taken else 0.0

        def grow(log_c: float, *names: str) -> None:
            for name in names:
                if name in values:
                    values[name] = values[name] * math.exp(log_c)

        for scale, name in (("log_offset_scale", "offset"), ("log_residual_scale", "residual")):
            if name in values:
                if name == "offset":
                    part = as_array(values[name])[seen.item] * seen.reliability
                else:
                    part = seen.along(values[name], seen.states).sum(0)
                log_c = move(name, part, _of_scales(state, [scale]))
                grow(log_c, name)
                values[scale] = values[scale] + log_c
        longer, count = state.length_prior(), state.vector_numbers()
        factors = torch.ones_like(longer)
        for place, part in enumerate(seen.along(state.items()[0], seen.states)):
            factors[place] *= math.exp(
                move(f"vectors {place}", part, Prior(count, float(longer[place])))
            )
        state.lengthen(factors)
        log_c = move("all", seen.predictor - seen.fixed, _of_all(state))
        grow(log_c, *NUMBERS, "residual", "offset")
        for scale in _scales(state):
            values[scale] = values[scale] + log_c
        walks, log_cs = state.walk_names(), torch.zeros_like(longer)
        for place, part in enumerate(seen.along(state.items()[0], seen.moved)):
            log_cs[place] = move(f"walk {place}", part, _of_scales(state, walks, place))
        for name in walks:
            values[name] = values[name] + log_cs
        for block in state.blocks:
            grow_moved(as_array(block.path), as_array(block.decay), as_array(torch.expm1(log_cs)))


def _scales(state: GibbsState) -> list[str]:
    return [name for name in BY_MOMENTS if name in state.values]


def _of_scales(state: GibbsState, names: list[str], place: int | None = None) -> Prior:
    """Where only these logarithms of scales have a say; `place` is the dimension of walks."""
    slope = curvature = 0.0
    for name in names:
        centre, sd = prior(state.layout, name, state.values, state.values["mean"])
        away = (state.values[name] - centre) / sd**2
        slope += float(away if place is None else away[place])
        curvature += float(1.0 / (sd if place is None else sd[place]) ** 2)
    return Prior(away=slope / math.sqrt(curvature), tight=math.sqrt(curvature))


def _of_all(state: GibbsState) -> Prior:
    """Of everything that makes predictors but covariates and states."""
    numbers = {name: state.values[name] for name in NUMBERS if name in state.values}
    count = sum(own.numel() for own in numbers.values())
    square = sum(float((own / PRIOR_SCALES[name]).square().sum()) for name, own in numbers.items())
    scales = _of_scales(state, _scales(state))
    return Prior(count, square, scales.away, scales.tight)
