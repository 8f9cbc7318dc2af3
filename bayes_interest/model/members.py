"""How sure the globals are after a fit: settings of them drawn from their posterior.

Where the log and the model are small, all globals are drawn, items included, by chains on their
density. Else only those that every user shares (drift scales, mean state, intercept, bias or cut
points, reliabilities), from the curvature on a sample of users; items keep the Gaussian of their
own that the fit gives them.

Texts of few items span few dimensions. Weights within them are drawn by chains, and weights beside
them, of which no outcome says anything, from the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import length_batches, pad_users
from bayes_interest.model.collapsed_choice import CollapsedChoice
from bayes_interest.model.ensemble import (
    NEWTON_STEPS,
    Collapsed,
    LogDensity,
    draw_points,
    laplace,
)
from bayes_interest.model.parameters import COVARIATES, PRIOR_SCALES, Globals, Layout
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import Whitened

OF_TEXTS = ("weight", "offset_weight")
SHARED = ("log_drift", "mean", "intercept", "bias", "raw_cuts", "log_reliability")
MAX_WORK = 1_000_000
"""Parameters times events up to which all globals are drawn."""
CURVATURE_WORK = 300_000
"""The same up to which each of Newton's steps on the way to the mode has a curvature of its own,
and of the sample of users."""
CHORD_STEPS = 10
"""Steps that share one curvature beyond that. The fit is no mode: the bound, of which it is the
maximum, shrinks item vectors."""
BLOCK_EVENTS = 8_192
SWEEPS = 24
FEW_CANDIDATES = 64
"""Up to so many a choice costs about what another outcome does."""


def draws_all(problem: Problem) -> bool:
    """Whether the problem is small enough to draw all globals together."""
    return not problem.layout.context_layers and _work(problem) <= MAX_WORK


def _work(problem: Problem) -> int:
    """Parameters times events; a choice among many items counts for more."""
    layout = problem.layout
    each = max(1, layout.n_items // FEW_CANDIDATES) if layout.emission == "choice" else 1
    spanned = replace(layout, embed_dim=min(layout.embed_dim, layout.n_items))
    return _whitened(spanned, {}, True).dim * len(problem.history) * each


def _whitened(layout: Layout, values: Globals, everything: bool) -> Whitened:
    names = [name for name in layout.shapes() if everything or name in SHARED]
    if layout.emission != "choice":
        names = [name for name in names if name != COVARIATES]
    return Whitened.of(layout, values, tuple(names))


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
    """The same as points (draw, dim)."""
    everything = draws_all(problem)
    density: LogDensity
    if problem.layout.emission == "choice":
        values = {name: value.cpu().double() for name, value in values.items()}
        density = CollapsedChoice(
            _whitened(problem.layout, values, everything), problem, cold_shift
        )
    else:
        density = _collapsed(
            problem, _whitened(problem.layout, values, everything), everything, seed
        )
    start, steps = density.whitened.point(values), (0, 1)
    if everything:
        near = _work(problem) <= CURVATURE_WORK
        steps = (NEWTON_STEPS, 1) if near else (1, CHORD_STEPS)
    found = laplace(density, start, *steps)
    generator = torch.Generator().manual_seed(seed)
    point = draw_points(density, found, n_draws, sweeps if everything else 0, generator)
    return density.whitened, point


def _collapsed(problem: Problem, whitened: Whitened, everything: bool, seed: int) -> Collapsed:
    """Of a scalar family: of all users, or of a sample that stands for them."""
    users = np.flatnonzero(problem.history.lengths)
    if not everything:
        users = _sample(problem.history.lengths, CURVATURE_WORK // whitened.dim, seed)
    lengths = problem.history.lengths[users]
    blocks = [users[rows] for rows in length_batches(lengths, BLOCK_EVENTS)]
    device = problem.features.device
    batches = [problem.batch(pad_users(problem.history, rows, device)) for rows in blocks]
    weight = float(len(problem.history) / lengths.sum())
    return Collapsed(whitened, problem.features, batches, weight)


def _sample(lengths: np.ndarray, n_events: int, seed: int) -> np.ndarray:
    """Random users with about `n_events` events together."""
    users = np.flatnonzero(lengths)
    users = np.random.default_rng(seed).permutation(users)
    count = int(np.searchsorted(lengths[users].cumsum(), n_events)) + 1
    return np.sort(users[:count])
