"""The log joint density of choices and whitened globals, users' states integrated out.

Laplace's approximation in the states: choices are log-concave in them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.ensemble import Density, Sites
from bayes_interest.model.parameters import COVARIATES, Globals, item_terms, reliability
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.random_walk import Transition, elapsed_growth

MAX_NUMBERS = 10_000_000
"""Of the largest array, the variances (setting, event, D), at a time."""


class CollapsedChoice:
    """That log density for the choice family without context; on the CPU, in float64.

    A density's `sites` are the duals of the most likely states, (setting, event, D). `cold_shift`
    is the logit of items without an earlier event.
    """

    def __init__(self, whitened: Whitened, problem: Problem, cold_shift: float = 0.0) -> None:
        layout, history = problem.layout, problem.history
        self.whitened, self.features = whitened, problem.features.cpu().double()
        days = torch.as_tensor(history.elapsed_days())
        decay, self.growth = elapsed_growth(days, layout.half_life_days)
        self.moves = torch.as_tensor(history.follows())
        start = history.start[np.flatnonzero(history.lengths)]
        start = np.append(start, len(history)).astype(np.int64)
        own, kind = history.item_index.astype(np.int64), history.kind_index.astype(np.int64)
        self.shift = torch.full((int(cold_shift != 0.0),), cold_shift, dtype=torch.float64)
        table = covariate_table(problem)
        if cold_shift:
            table = np.concatenate((table, without_earlier_event(problem)[:, None]), 1)
        self.events = (start, own, kind, decay.numpy(), table)

    def __call__(self, point: Tensor, sites: Sites | None = None) -> Density:
        """At points (setting, dim)."""
        dim = self.whitened.layout.state_dim
        step = max(1, MAX_NUMBERS // (len(self.growth) * dim))
        values, slopes, after = [], [], []
        for at in range(0, len(point), step):
            part = slice(at, at + step)
            dual = point.new_zeros(len(point[part]), len(self.growth), dim)
            if sites is not None:
                dual.copy_(sites[0][part])
            value, slope = self._look(point[part], dual)
            values.append(value)
            slopes.append(slope)
            after.append(dual)
        value = torch.cat(values) - 0.5 * (point**2).sum(1)
        return Density(value, torch.cat(slopes) - point, (torch.cat(after),))

    def _look(self, point: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
        """Log evidence (setting,) and its slope; moves `dual`."""
        from bayes_interest.model.compiled_choice import evidence_kernel

        here = point.detach().requires_grad_()
        parts = self._parts(self.whitened.values(here))
        slopes = [part.new_zeros(part.shape) for part in parts]
        value = point.new_empty(len(point), len(self.events[0]) - 1)
        inputs = [part.detach().contiguous() for part in parts]
        arrays = [part.numpy() for part in (*inputs, dual, value, *slopes)]
        evidence_kernel(*self.events, *arrays)
        shared = [(part * slope).sum() for part, slope in zip(parts, slopes, strict=True)]
        (slope,) = torch.autograd.grad(torch.stack(shared).sum(), here)
        possible = (torch.isfinite(value) & (value <= 0.0)).all(1)  # far out rounding may lead on
        return torch.where(possible, value.sum(1), -torch.inf), slope

    def _parts(self, values: Globals) -> list[Tensor]:
        """What the kernel wants of every setting."""
        layout = self.whitened.layout

        def one(own: Globals) -> tuple[Tensor, Tensor, Tensor]:
            items = item_terms(layout, own, self.features)
            return items.vectors.T, items.offsets, reliability(own, torch.arange(layout.n_kinds))

        vectors, offsets, rho = torch.func.vmap(one)(values)
        drift = torch.exp(2.0 * values["log_drift"])[:, None]
        variance = self.growth[:, None] * drift
        if "log_event_drift" in values:
            moved = torch.exp(2.0 * values["log_event_drift"])[:, None]
            variance = variance + self.moves[:, None] * moved
        weight = values.get(COVARIATES, vectors.new_zeros(len(vectors), 0))
        weight = torch.cat((weight, self.shift.expand(len(vectors), -1)), 1)
        return [vectors, offsets, weight, rho, variance]


def covariate_table(problem: Problem) -> np.ndarray:
    """The covariates of all items at every event, (event, covariate, item)."""
    layout, n_events = problem.layout, len(problem.history)
    count = len(layout.kinds.names)
    table = np.zeros((n_events, count, layout.n_items))
    for column, one in enumerate(np.eye(count)):
        if not problem.weightless:
            table[:, column] = problem.rows.surroundings.table(problem.rows.moment, one)
    return table


def without_earlier_event(problem: Problem) -> np.ndarray:
    """1 for items that nobody has met before an event, (event, item)."""
    history = problem.history
    first = np.full(problem.layout.n_items, np.inf)
    np.minimum.at(first, history.item_index, history.seconds)
    return (first[None, :] >= history.seconds[:, None]).astype(np.float64)


def smoothed_choices(
    base: Tensor, vectors: Tensor, rho: Tensor, chosen: Tensor, walk: Transition
) -> tuple[Tensor, Tensor, Tensor]:
    """One user's states given all choices, at known globals; see `path_kernel`.

    Returns float64 means (step, D), covariances (step, D, D), and those given what came up to the
    step.

    Args:
        base: logits but for the states' part, (step, item).
        vectors: of the items, (item, D).
        rho: what multiplies all logits, 0 at steps without a choice, (step,).
        chosen: positions of the chosen items, (step,).
        walk: that leads to each step, of one user.
    """
    from bayes_interest.model.compiled_choice import path_kernel

    shape = len(base), vectors.shape[1]
    real = [part.detach().cpu().double() for part in (base, rho, walk.decay[0, :, 0], vectors.T)]
    logits, scale, decay, x = (as_array(part) for part in real)
    variance = as_array(walk.variance[0].detach().cpu().double())
    out = [torch.zeros(*shape, *more, dtype=torch.float64) for more in ((), shape[1:], shape[1:])]
    own = as_array(chosen.cpu().long())
    path_kernel(logits, own, scale, decay, x, variance, *(part.numpy() for part in out))
    mean, cov, filtered = out
    return mean, cov, filtered
