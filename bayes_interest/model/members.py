"""How sure the globals are after a fit: settings of them drawn from their posterior.

All are drawn together, items included: for bernoulli and rating by Gibbs sampling, whose sweeps
cost what a pass over the log does, for choice, of small logs, by Hamiltonian chains.

Texts of few items span few dimensions. Weights within them are drawn, and weights beside them, of
which no outcome says anything, come from the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.config import FitConfig
from bayes_interest.errors import ConfigError
from bayes_interest.model.choice_paths import ChoicePaths
from bayes_interest.model.ensemble import draw_points
from bayes_interest.model.gibbs import gibbs_draws, work_of_events, work_of_weights
from bayes_interest.model.parameters import COVARIATES, PRIOR_SCALES, Globals, Layout
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened

OF_TEXTS = ("weight", "offset_weight")
AUTO_MEMBERS = 16
CHOICE_WORK = 10_000_000
"""Operations of a choice's density for one draw up to which it is drawn unasked, and at all."""
ITEM_WORK, MANY_NUMBERS = 8, 1_000
"""What a candidate costs at an event beside its numbers; parameters whose metric costs as much as
the moves do."""
SWEEP_WORK = 20_000_000
"""Operations of a sweep of Gibbs sampling up to which it is taken unasked, about 0.15 seconds."""
SWEEPS = 72
"""Of a choice's chains."""
EVERY, BURN_IN = (15, 40), 200
"""Sweeps of Gibbs sampling from one draw to the next, and before the first. A log of 80,000 events
needed 150 until its residual scale settled."""
DRAW_WORK, CALL_WORK = 100_000_000, 500_000
"""Operations for a draw up to which there are more sweeps than the least; those that a sweep of the
smallest log costs."""


def count_members(problem: Problem, fit: FitConfig) -> int:
    """How many draws of the globals a fit takes; 1 stands for none, but their best values.

    Raises ConfigError for more than can be.
    """
    if fit.n_members == "auto":
        return AUTO_MEMBERS if draws_all(problem) else 1
    large = problem.layout.emission == "choice" and not draws_all(problem)
    if fit.n_members > 1 and (problem.layout.context_layers or large):
        raise ConfigError(
            f"n_members={fit.n_members}: a model with context, and one of choice with so large a "
            "log and catalogue, take 1 only"
        )
    return fit.n_members


def draws_all(problem: Problem) -> bool:
    """Whether drawing all globals together is cheap enough to be done unasked."""
    if problem.layout.context_layers:
        return False
    if problem.layout.emission == "choice":
        return _choice_work(problem) <= CHOICE_WORK
    return _sweep_work(problem) <= SWEEP_WORK


def _choice_work(problem: Problem) -> float:
    """Operations of the density for one draw, and the metric's share where parameters are many."""
    layout = _spanned(problem.layout)
    each = ITEM_WORK + layout.state_dim + len(layout.kinds.names)
    work = len(problem.history) * layout.n_items * each
    return work * (1.0 + _whitened(layout, {}).dim / MANY_NUMBERS)


def _sweep_work(problem: Problem) -> float:
    layout = _spanned(problem.layout)
    events = work_of_events(layout, len(problem.history))
    return events + min(events, work_of_weights(layout))


def _every(problem: Problem) -> int:
    """Sweeps of Gibbs sampling from one draw to the next."""
    return int(np.clip(DRAW_WORK // (CALL_WORK + _sweep_work(problem)), *EVERY))


def _spanned(layout: Layout) -> Layout:
    return replace(layout, embed_dim=min(layout.embed_dim, layout.n_items))


def _whitened(layout: Layout, values: Globals) -> Whitened:
    """Of all globals; weights of covariates are drawn for choice only."""
    names = tuple(layout.shapes())
    if layout.emission != "choice":
        names = tuple(name for name in names if name != COVARIATES)
    return Whitened.of(layout, values, names)


def draw_members(
    problem: Problem, values: Globals, n_draws: int, seed: int, cold_shift: float = 0.0
) -> list[Globals]:
    """Settings of the globals around the fitted ones, for a family without context.

    `cold_shift` is the logit, for choice, of items without an earlier event.
    """
    span = _Span.of(problem) if draws_all(problem) else None
    if span is not None:
        problem, values = span.problem, span.within(values)
    whitened, point = drawn_points(problem, values, n_draws, seed, cold_shift=cold_shift)
    drawn = {name: value.to(problem.features) for name, value in whitened.values(point).items()}
    if span is not None:
        drawn |= span.whole(drawn, torch.Generator().manual_seed(seed + 1))
    return [{name: value[draw].clone() for name, value in drawn.items()} for draw in range(n_draws)]


@dataclass(frozen=True)
class _Span:
    """A problem in coordinates of the span of its items' texts; a rotation leaves the prior of the
    weights as it is.
    """

    problem: Problem
    basis: Tensor  # orthonormal, (embed_dim, rank)

    @staticmethod
    def of(problem: Problem) -> _Span | None:
        """None where the texts span everything."""
        layout, features = problem.layout, problem.features
        if layout.n_items >= layout.embed_dim:
            return None
        basis = torch.linalg.svd(features.double(), full_matrices=False).Vh.T.to(features)
        rank = basis.shape[1]
        features = features @ basis * math.sqrt(rank / layout.embed_dim)  # as `item_terms` divides
        layout = replace(layout, embed_dim=rank)
        return _Span(replace(problem, layout=layout, features=features), basis)

    def within(self, values: Globals) -> Globals:
        """Globals whose weights (..., embed_dim) are those of the span, (..., rank)."""
        return values | {name: values[name] @ self.basis for name in OF_TEXTS}

    def whole(self, drawn: Globals, generator: torch.Generator) -> Globals:
        """The weights (draw, ..., embed_dim) again, beside the span as the prior has them."""
        found = {}
        for name in OF_TEXTS:
            shape = *drawn[name].shape[:-1], len(self.basis)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.basis)
            beside = noise - noise @ self.basis @ self.basis.T
            found[name] = drawn[name] @ self.basis.T + PRIOR_SCALES[name] * beside
        return found


def drawn_points(
    problem: Problem,
    values: Globals,
    n_draws: int,
    seed: int,
    sweeps: int = SWEEPS,
    cold_shift: float = 0.0,
) -> tuple[Whitened, Tensor]:
    """The same as points (draw, dim). `sweeps` are those of a choice; others take in proportion."""
    if problem.layout.emission != "choice":
        whitened = _whitened(problem.layout, values)
        burn_in, every = (sweeps * count // SWEEPS for count in (BURN_IN, _every(problem)))
        drawn = gibbs_draws(problem, values, n_draws, seed, burn_in, max(1, every))
        return whitened, torch.stack([whitened.point(own) for own in drawn]).to(problem.features)
    values = {name: value.cpu().double() for name, value in values.items()}
    density = ChoicePaths(_whitened(problem.layout, values), problem, cold_shift)
    start, generator = density.whitened.point(values), torch.Generator().manual_seed(seed)
    return density.whitened, draw_points(density, start, n_draws, sweeps, generator)
