"""The compiled visit of a batch: arrays in, an objective with the ELBO's slopes out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.emissions.ordered import FAR
from bayes_interest.events.history import Padded
from bayes_interest.model.compiled_visit import Events, Point, Slopes, scatter, visit
from bayes_interest.model.elbo import ELBO_SLACK, STEP_GROWTH
from bayes_interest.model.parameters import COVARIATES, Globals, Items, emission_of
from bayes_interest.model.problem import Problem
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.random_walk import elapsed_growth


class Visitor:
    """Visits batches of one log, on one thread: a batch is too short for a second one to pay."""

    def __init__(self, problem: Problem, n_looks: int) -> None:
        self.problem, self.n_looks = problem, n_looks

    @staticmethod
    def can(problem: Problem) -> bool:
        """Ordered outcomes on the CPU, and no context that is learned beside them."""
        layout = problem.layout
        ordered = layout.emission in ("bernoulli", "rating")
        return ordered and not layout.context_layers and problem.features.device.type == "cpu"

    def events(self, block: Padded) -> Events:
        """Those of a block as arrays."""
        batch, half_life = self.problem.batch(block), self.problem.layout.half_life_days
        decay, growth = elapsed_growth(batch.elapsed_days, half_life)
        level, moves = batch.outcome.long(), batch.mask.to(decay)
        if batch.moves is not None:
            moves = batch.moves
        columns = (block.event, batch.mask, batch.item, batch.kind, level, decay, growth, moves)
        return Events(*(as_array(column) for column in (*columns, batch.covariates)))

    def visit(
        self, values: Globals, items: Items, log: Events, sites: tuple[Tensor, Tensor]
    ) -> Slopes:
        """Step the sites (event,) of a block's events in place; what the guide then says."""
        point, linear, precision = self._point(values, items), *map(as_array, sites)
        found = self._room(point, log.item.shape)
        scales, shares = scale_mixture(N_SCALES[items.vectors.dtype])

        constants = (self.n_looks, ELBO_SLACK, STEP_GROWTH, scales**2, shares)
        visit(log, point, linear, precision, *constants, found)
        return found

    def _point(self, values: Globals, items: Items) -> Point:
        """The globals as arrays."""
        like = items.vectors.detach()
        cuts = emission_of(self.problem.layout, values).cuts.detach()
        far = like.new_full((1,), FAR)
        lower, upper = torch.cat((-far, cuts)), torch.cat((cuts, far))
        event_drift = torch.zeros_like(values["log_drift"])
        if "log_event_drift" in values:
            event_drift = (2.0 * values["log_event_drift"]).exp()
        return Point(
            *map(
                as_array,
                (
                    like,
                    items.offsets,
                    values.get(COVARIATES, like.new_zeros(0)),
                    _reliabilities(values),
                    lower,
                    upper,
                    torch.log(-torch.expm1(lower - upper)),
                    (2.0 * values["log_drift"]).exp(),
                    event_drift,
                ),
            )
        )

    def _room(self, point: Point, shape: tuple[int, ...]) -> Slopes:
        n_users, n_steps = shape
        dim, kind = point.vectors.shape[1], point.vectors.dtype

        def zeros(*sizes: int) -> np.ndarray:
            return np.zeros((n_users, *sizes), kind)

        return Slopes(
            elbo=np.zeros(n_users),
            state=zeros(n_steps, dim),
            vector=zeros(n_steps, dim),
            offset=zeros(n_steps),
            weight=zeros(n_steps),
            covariates=zeros(len(point.weight)),
            reliability=zeros(len(point.reliability)),
            lower=zeros(len(point.lower)),
            upper=zeros(len(point.lower)),
            counts=zeros(len(point.lower)),
            time_drift=zeros(dim),
            event_drift=zeros(dim),
        )

    def objective(
        self, values: Globals, items: Items, log: Events, found: Slopes, blocks: Tensor
    ) -> Tensor:
        """A scalar whose slopes in the globals are those found.

        The items' precision is added to `blocks` (item, dim + 1, dim + 1).
        """
        vectors = np.zeros(items.vectors.shape, found.vector.dtype)
        offsets = np.zeros(len(vectors), found.vector.dtype)
        centre, precision = as_array(values["mean"]), as_array(blocks)

        scatter(log, centre, found, vectors, offsets, precision)
        pairs = [
            (items.vectors, vectors),
            (items.offsets, offsets),
            ((2.0 * values["log_drift"]).exp(), found.time_drift.sum(0)),
        ]
        if "log_event_drift" in values:
            moved = (2.0 * values["log_event_drift"]).exp()
            pairs.append((moved, found.event_drift.sum(0)))
        if COVARIATES in values:
            pairs.append((values[COVARIATES], found.covariates.sum(0)))
        if "log_reliability" in values:
            pairs.append((_reliabilities(values), found.reliability.sum(0)))
        total = torch.stack([(value * torch.as_tensor(slope)).sum() for value, slope in pairs])
        return total.sum() + self._cuts(values, found)

    def _cuts(self, values: Globals, found: Slopes) -> Tensor:
        """The part of the cuts between levels."""
        if "raw_cuts" not in values:
            return values["mean"].new_zeros(())
        cuts = emission_of(self.problem.layout, values).cuts
        lower, upper, counts = (
            torch.as_tensor(part.sum(0)) for part in (found.lower, found.upper, found.counts)
        )
        width = torch.log(-torch.expm1(cuts[:-1] - cuts[1:]))
        return (cuts * (lower[1:] + upper[:-1])).sum() + (width * counts[1:-1]).sum()


def _reliabilities(values: Globals) -> Tensor:
    """`rho` of every kind."""
    if "log_reliability" not in values:
        return torch.ones_like(values["mean"][:1])
    zero = values["log_reliability"].new_zeros(1)
    return torch.cat((zero, values["log_reliability"])).exp()
