"""The globals as independent standard normals, many settings of them at once.

A parameter is `mean + scale * point` with mean and scale of its prior, so that effects whose
scale is a parameter too (residuals, offsets) stay apart from it (non-centred; Papaspiliopoulos,
Roberts & Skold 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from bayes_interest.model.batch import Batch
from bayes_interest.model.elbo import Chains, EventTerms
from bayes_interest.model.parameters import (
    BY_MOMENTS,
    COVARIATES,
    PRIOR_SCALES,
    Globals,
    Layout,
    emission_of,
    item_terms,
    prior,
    reliability,
    weighed,
)
from bayes_interest.statespace.random_walk import Transition, elapsed_growth


@dataclass(frozen=True)
class Whitened:
    """Which parameters vary, and the values of those that do not."""

    layout: Layout
    names: tuple[str, ...]
    fixed: Globals

    @staticmethod
    def of(layout: Layout, values: Globals, names: tuple[str, ...]) -> Whitened:
        """Everything but `names` stays at `values`."""
        order = tuple(name for name in layout.shapes() if name in names)
        return Whitened(layout, order, {k: v for k, v in values.items() if k not in names})

    @property
    def dim(self) -> int:
        """Numbers that vary."""
        shapes = self.layout.shapes()
        return sum(math.prod(shapes[name]) for name in self.names)

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where the numbers of each parameter lie."""
        sizes = [math.prod(self.layout.shapes()[name]) for name in self.names]
        ends = list(accumulate(sizes))
        return {
            name: slice(end - size, end)
            for name, size, end in zip(self.names, sizes, ends, strict=True)
        }

    @property
    def scaled(self) -> list[tuple[int, slice, float]]:
        """Of every varying scale: where it is, where its effects are, the sd of its logarithm."""
        found = []
        for scale in BY_MOMENTS:
            effect = scale.removeprefix("log_").removesuffix("_scale")
            if scale in self.names and effect in self.names:
                place = self.spans[scale].start
                found.append((place, self.spans[effect], PRIOR_SCALES[scale]))
        return found

    def values(self, point: Tensor) -> Globals:
        """All globals at points (setting, dim): each (setting, *shape)."""
        many, shapes = len(point), self.layout.shapes()
        found = {name: value.expand(many, *value.shape) for name, value in self.fixed.items()}
        units = {scale: point.new_zeros(()) for scale in BY_MOMENTS}
        for name, span in self.spans.items():
            mean, scale = prior(self.layout, name, units, point)
            value = scale * point[:, span].reshape(many, *shapes[name])
            if (own := f"log_{name}_scale") in BY_MOMENTS:
                value = value * found[own].exp().reshape(many, *[1] * len(shapes[name]))
            found[name] = mean + value
        return {name: found[name] for name in shapes if name in found}

    def point(self, values: Globals) -> Tensor:
        """The point (dim,) of one setting."""
        parts = []
        for name in self.names:
            mean, scale = prior(self.layout, name, values, values["mean"])
            parts.append(((values[name] - mean) / scale).reshape(-1))
        return torch.cat(parts)


def chains_at(whitened: Whitened, features: Tensor, batch: Batch, point: Tensor) -> Chains:
    """The users' chains at every setting, one after the other: (setting * user, step)."""
    layout, many = whitened.layout, len(point)
    values = whitened.values(point)

    def stacked(tensor: Tensor) -> Tensor:
        return tensor.expand(many, *batch.mask.shape).reshape(-1, batch.mask.shape[1])

    def one(own: Globals) -> tuple[Tensor, Tensor]:
        """Vectors and offsets of the events' items at one setting."""
        items = item_terms(layout, own, features)
        rho, offset = reliability(own, batch.kind), items.offsets[batch.item]
        if COVARIATES in own:
            offset = offset + weighed(batch.covariates, own[COVARIATES])
        vectors = items.vectors[batch.item]
        if batch.context is not None:
            offset = offset + (vectors * batch.context).sum(-1)
        return vectors * rho[..., None], offset * rho

    x, offset = torch.func.vmap(one)(values)
    decay, growth = elapsed_growth(batch.elapsed_days, layout.half_life_days)
    variance = growth[..., None] * torch.exp(2.0 * values["log_drift"])[:, None, None]
    if "log_event_drift" in values and batch.moves is not None:
        moved = torch.exp(2.0 * values["log_event_drift"])[:, None, None]
        variance = variance + batch.moves[..., None] * moved
    walk = Transition(stacked(decay)[..., None], variance.flatten(0, 1))
    terms = EventTerms(x.flatten(0, 1), offset.flatten(0, 1))
    own = {name: values[name] for name in ("raw_cuts", "log_noise_scale") if name in values}
    rows = {name: _rows(value, len(batch.mask)) for name, value in own.items()}
    emission = emission_of(layout, rows | {"mean": values["mean"]})
    return Chains(emission, terms, walk, stacked(batch.outcome), stacked(batch.mask))


def _rows(value: Tensor, n_users: int) -> Tensor:
    """A parameter of every setting (setting, ...) for each of its users, (row, 1, ...)."""
    return value.repeat_interleave(n_users, 0)[:, None]
