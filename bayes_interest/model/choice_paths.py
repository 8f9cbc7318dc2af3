"""Choices, whitened globals and users' paths: their log joint density, and one user's states.

A path is made of independent standard normal steps, `y_t = decay_t y_(t-1) + scale_t step_t`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.cubature import MAX_DIM, normal_points
from bayes_interest.model.parameters import COVARIATES, Globals, item_terms, reliability
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.random_walk import Transition, elapsed_growth

MATCH_WORK = 200_000_000
"""Points times steps times items up to which the sites of a path are matched: seconds."""


@dataclass(frozen=True)
class Joint:
    """The log density of everything at some settings, and its slopes."""

    value: Tensor  # (setting,)
    slope: Tensor  # in the whitened globals, (setting, dim)
    step_slope: Tensor  # (setting, event, state_dim)


class ChoicePaths:
    """That density for the choice family without context; on the CPU, in float64.

    `cold_shift` is the logit of items without an earlier event.
    """

    def __init__(self, whitened: Whitened, problem: Problem, cold_shift: float = 0.0) -> None:
        layout, history = problem.layout, problem.history
        self.whitened, self.features = whitened, problem.features.cpu().double()
        days = torch.as_tensor(history.elapsed_days())
        decay, self.growth = elapsed_growth(days, layout.half_life_days)
        self.moves = torch.as_tensor(history.follows())
        start = history.start[np.flatnonzero(history.lengths)]
        self.first = torch.zeros_like(decay)
        self.first[start] = decay[start] ** 2  # a path starts at N(0, 1)
        start = np.append(start, len(history)).astype(np.int64)
        self.moving = self.growth > 0.0  # events before which an interest may have drifted
        if layout.event_drift:
            self.moving = self.moving | (self.moves > 0.0)
        self.moving = self.moving & (self.first == 0.0)
        own, kind = history.item_index.astype(np.int64), history.kind_index.astype(np.int64)
        self.shift = torch.full((int(cold_shift != 0.0),), cold_shift, dtype=torch.float64)
        table = covariate_table(problem)
        if cold_shift:
            table = np.concatenate((table, without_earlier_event(problem)[:, None]), 1)
        self.events = (start, own, kind, decay.numpy(), table)

    def __call__(self, point: Tensor, step: Tensor) -> Joint:
        """At points (setting, dim) and steps (setting, event, state_dim)."""
        from bayes_interest.model.compiled_paths import paths_kernel

        here = point.detach().requires_grad_()
        parts = self._parts(here)
        slopes = [part.new_zeros(part.shape) for part in parts]
        value, step_slope = point.new_empty(len(point)), point.new_empty(step.shape)
        _by_settings(paths_kernel, self.events, [*parts, step, value, *slopes, step_slope])
        shared = [(part * slope).sum() for part, slope in zip(parts, slopes, strict=True)]
        (slope,) = torch.autograd.grad(torch.stack(shared).sum(), here)
        value = value - 0.5 * (point**2).sum(1) - 0.5 * (step**2).sum((1, 2))
        value = torch.where(torch.isfinite(value), value, -torch.inf)  # far out numbers overflow
        return Joint(value, slope - point, step_slope - step)

    def drawn_steps(self, point: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of paths drawn from Laplace's approximation, (setting, event, state_dim), and the
        precision that each has given all others.
        """
        from bayes_interest.model.compiled_paths import draw_steps_kernel

        parts = self._parts(point)
        noise, step = (
            torch.randn(parts[-1].shape, generator=generator, dtype=torch.float64) for _ in range(2)
        )
        precision = torch.empty_like(step)
        _by_settings(draw_steps_kernel, self.events, [*parts, noise, step, precision])
        return step, precision

    def _parts(self, point: Tensor) -> list[Tensor]:
        """What the kernels want of every setting."""
        layout = self.whitened.layout
        values = self.whitened.values(point)

        def one(own: Globals) -> tuple[Tensor, Tensor, Tensor]:
            """Vectors and offsets of all items, reliabilities of all kinds, at one setting."""
            items = item_terms(layout, own, self.features)
            return items.vectors.T, items.offsets, reliability(own, torch.arange(layout.n_kinds))

        vectors, offsets, rho = torch.func.vmap(one)(values)
        drift = torch.exp(2.0 * values["log_drift"])[:, None]
        variance = self.growth[:, None] * drift + self.first[:, None]
        if "log_event_drift" in values:
            moved = torch.exp(2.0 * values["log_event_drift"])[:, None]
            variance = variance + self.moves[:, None] * moved
        still = variance == 0.0
        scale = torch.where(still, 1.0, variance).sqrt() * ~still
        weight = values.get(COVARIATES, vectors.new_zeros(len(vectors), 0))
        weight = torch.cat((weight, self.shift.expand(len(vectors), -1)), 1)
        return [vectors, offsets, weight, rho, scale]


def _by_settings(
    kernel: Callable[..., None], events: tuple[np.ndarray, ...], parts: list[Tensor]
) -> None:
    """Share out settings, the first axis of all parts, among as many threads as torch would use."""
    arrays = [part.detach().contiguous().numpy() for part in parts]
    count = min(torch.get_num_threads(), len(arrays[0]))
    if count < 2:
        kernel(*events, *arrays)
        return
    edges = np.linspace(0, len(arrays[0]), count + 1).astype(int)
    with ThreadPoolExecutor(count) as pool:
        shares = [[part[a:b] for part in arrays] for a, b in pairwise(edges)]
        list(pool.map(lambda own: kernel(*events, *own), shares))


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
    """One user's states given all choices, at known globals; see `compiled_choice_states`.

    Sites are matched up to `MATCH_WORK`, above they are Laplace's. Returns float64 means (step, D),
    covariances (step, D, D), and those given what came up to the step.

    Args:
        base: logits but for the states' part, (step, item).
        vectors: of the items, (item, D).
        rho: what multiplies all logits, 0 at steps without a choice, (step,).
        chosen: positions of the chosen items, (step,).
        walk: that leads to each step, of one user.
    """
    from bayes_interest.model.compiled_choice_states import path_kernel

    shape = len(base), vectors.shape[1]
    real = [part.detach().cpu().double() for part in (base, rho, walk.decay[0, :, 0], vectors.T)]
    logits, scale, decay, x = (as_array(part) for part in real)
    variance = as_array(walk.variance[0].detach().cpu().double())
    out = [torch.zeros(*shape, *more, dtype=torch.float64) for more in ((), shape[1:], shape[1:])]
    own, points = as_array(chosen.cpu().long()), normal_points(min(len(x), MAX_DIM))
    if len(points) * logits.size > MATCH_WORK:
        points = points[:0]
    path_kernel(logits, own, scale, decay, x, variance, points, *(part.numpy() for part in out))
    mean, cov, filtered = out
    return mean, cov, filtered
