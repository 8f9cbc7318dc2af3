"""Draws of all globals of a scalar family by Gibbs sampling: a pass over the log each sweep.

Every outcome gets the utility it was cut from, `u = a + noise`, and the noise the scale it has in
the normal mixture that the logistic distribution is (Holmes & Held 2006). Given both, users' paths
are linear and Gaussian, and so are items and text weights:

- drift scales by Hamiltonian moves on the evidence of the utilities, paths integrated out;
- paths by a simulation smoother (Durbin & Koopman 2002);
- given them the mean state, with the bias, the offsets' text weights, and the first cut point,
  which say the same of an item that is often met;
- scales of effects and text weights with the items' own effects integrated out, then these
  (`item_draws.py`); weights of many and wide texts not in every sweep;
- sizes of effects, vectors and drift (`size_moves.py`), cut points and reliabilities from the
  outcomes, utilities integrated out.

States and item vectors are known by their products, mean states and paths by their sums: moves
along stretch and shift, which leave every predictor as it is, keep the chain
from crawling there (Liu & Sabatti 2000).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.model.compiled_gibbs import add_said, draw_utilities
from bayes_interest.model.compiled_walks import draw_paths, evidence_of_walks
from bayes_interest.model.gibbs_state import Block, GibbsState, Terms
from bayes_interest.model.hamiltonian import Hamiltonian, settling
from bayes_interest.model.item_draws import (
    Noise,
    Regression,
    Said,
    drawn_effects,
    drawn_weights,
    effect_scale,
    moved_scales,
)
from bayes_interest.model.parameters import (
    BY_MOMENTS,
    PRIOR_SCALES,
    RAW_CUTS_CENTRE,
    SCALE_CENTRES,
    Globals,
    Layout,
    emission_of,
    prior,
    reliability,
)
from bayes_interest.model.problem import Problem
from bayes_interest.model.size_moves import SizeMoves
from bayes_interest.progress import bar
from bayes_interest.statespace.kalman import as_array

OUTCOME_TRIES, OUTCOME_STEP = 4, 2.4
"""Moves of cut points and reliabilities in a sweep, and their size times the root of their number
(Roberts, Gelman & Gilks 1997)."""
STRETCH, STRETCH_SIZE = 10.0, 401
"""Half of the grid of stretches in sds, and its points."""
EVENT_WORK, PRODUCT_WORK = 80, 1 / 600
"""What an event costs beside its matrices; what a product in drawing text weights costs."""
LEAST_CURVATURE = 1.0
OF_OUTCOMES = ("raw_cuts", "log_reliability")


def work_of_events(layout: Layout, n_events: int) -> float:
    """Operations of a sweep on the events, in units of some 6 nanoseconds."""
    return n_events * ((layout.state_dim + 1) ** 2 + EVENT_WORK)


def work_of_weights(layout: Layout) -> float:
    """The same of drawing text weights once."""
    text, items, rows = layout.embed_dim, layout.n_items, layout.state_dim + 1
    if items <= text + 1:  # see `drawn_weights`
        return PRODUCT_WORK * (2 * items**2 * text + rows * items**3 / 3)
    return PRODUCT_WORK * rows * (items + text / 3) * text**2


class Gibbs(GibbsState):
    """The chain. Its moves settle in `burn_in` sweeps."""

    def __init__(self, problem: Problem, values: Globals, seed: int, burn_in: int) -> None:
        super().__init__(problem, values)
        self.noise, self.burn_in, self.done = Noise(seed), burn_in, 0
        mixture = scale_mixture(N_SCALES[torch.float32])
        self.scales, weights = (torch.as_tensor(part) for part in mixture)
        self.shares = torch.log(weights / self.scales)
        nothing = torch.zeros(0, dtype=torch.float64)
        self.walks, self.outcome_root = Hamiltonian(burn_in), nothing
        self.sizes = SizeMoves()
        share = work_of_weights(self.layout) / work_of_events(self.layout, len(problem.history))
        self.weights_every = max(1, round(share))  # sweeps: they take half of the time at most

    def sweep(self) -> None:
        """One move of everything."""
        terms = self.terms()
        self._draw_utilities(terms)
        self._move_walks(terms)
        self._draw_paths(terms)
        self._draw_levels(terms)
        self._shift()
        self._stretch()
        self._draw_items()
        self.sizes.sweep(self, self.noise, settling=self.done < self.burn_in)
        if names := [name for name in OF_OUTCOMES if name in self.values]:
            self._move_outcomes(names)
        self.done += 1

    # ------------------------------------------------------------- utilities

    def _draw_utilities(self, terms: Terms) -> None:
        """Noise within the outcome's cuts, then its scale in the mixture."""
        emission = emission_of(self.layout, self.values)

        def draw(block: Block, x: Tensor, offset: Tensor, uniform: Tensor) -> None:
            bounds = emission.bounds(block.batch.outcome)
            inputs = (x, block.path, offset, block.batch.mask, *bounds)
            block.utility, block.precision = torch.empty_like(offset), torch.empty_like(offset)
            more = (uniform, self.scales, self.shares, block.utility, block.precision)
            draw_utilities(*(as_array(part) for part in (*inputs, *more)))

        self.of_blocks(draw, [(*own, self.noise.uniform(2, *own[1].shape)) for own in terms])

    # ------------------------------------------------------------- drift

    def _move_walks(self, terms: Terms) -> None:
        """One Hamiltonian move of all drift scales; the metric is that of the users' scores."""
        names = self.walk_names()
        sizes = [len(self.values[name]) for name in names]
        priors = [prior(self.layout, name, self.values, self.values["mean"]) for name in names]
        centre, scale = (torch.cat(parts) for parts in zip(*priors, strict=True))
        asked = [
            (block.utility - offset, x)
            for block, (x, offset) in zip(self.blocks, terms, strict=True)
        ]

        def look(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Log density of drift scales, its slope, and the metric."""
            values = self.values | dict(zip(names, point.split(sizes), strict=True))

            def ask(block: Block, seen: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
                evidence, slopes = x.new_empty(len(x)), x.new_empty(len(x), 2, x.shape[2])
                arrays = (as_array(part) for part in (x, seen, block.precision))
                walk = self.walk_arrays(block, values)
                evidence_of_walks(*arrays, walk, evidence.numpy(), slopes.numpy())
                users = slopes[:, : len(names)].flatten(1) * 2.0 * torch.exp(2.0 * point)
                return evidence.sum(), users

            away = (point - centre) / scale
            value, slope, metric = -0.5 * (away**2).sum(), -away / scale, torch.diag(scale**-2.0)
            for evidence, users in self.of_blocks(ask, asked):
                value, slope = value + evidence, slope + users.sum(0)
                metric = metric + users.T @ users
            return value, slope, metric

        point = torch.cat([self.values[name] for name in names])
        point = self.walks.moved(point, look, self.noise)
        self.values |= dict(zip(names, point.split(sizes), strict=True))

    # ------------------------------------------------------------- paths

    def _draw_paths(self, terms: Terms) -> None:
        """Everybody's, given utilities and globals."""

        def draw(block: Block, x: Tensor, offset: Tensor, moved: Tensor, noise: Tensor) -> None:
            block.path = torch.empty_like(block.path)
            inputs = (as_array(part) for part in (x, block.utility - offset, block.precision))
            more = (moved.numpy(), noise.numpy(), block.path.numpy())
            draw_paths(*inputs, self.walk_arrays(block, self.values), *more)

        numbers = [[self.noise.normal(*part.shape) for part in own] for own in terms]
        self.of_blocks(draw, [(*a, *b) for a, b in zip(terms, numbers, strict=True)])

    def _draw_levels(self, terms: Terms) -> None:
        """Mean state, text weights of offsets, and the bias or the first cut point together.

        Items' own offsets are integrated out, and stale until `_draw_items` draws them. All cut
        points and utilities move with the first, which is minus a bias.
        """
        values, layout = self.values, self.layout
        cut = "raw_cuts" in values and layout.n_kinds == 1
        own, rest = self._said_of_offsets(terms, values["raw_cuts"][0] if cut else 0.0)
        sd, known = self.weight_sd()[-1], self.weights()[-1]
        first = 0 if self.done % self.weights_every == 0 else layout.embed_dim
        known[first:] = 0.0
        if cut:
            sd[-1], known[-1] = PRIOR_SCALES["raw_cuts"], -RAW_CUTS_CENTRE
        columns = (self.features * sd)[:, first:], self.items()[0] * PRIOR_SCALES["mean"]
        share = 1.0 / (1.0 + own * torch.exp(2.0 * values["log_offset_scale"]))
        rest = share * (rest - own * (self.features @ known))
        drawn = Regression.on(torch.cat(columns, 1)).drawn(share * own, rest, self.noise)
        found = known.clone()
        found[first:] += sd[first:] * drawn[: -layout.state_dim]
        values["mean"] = drawn[-layout.state_dim :] * PRIOR_SCALES["mean"]
        values["offset_weight"] = found[:-1]
        if "bias" in values:
            values["bias"] = found[-1]
        if cut:
            moved = -found[-1] - values["raw_cuts"][0]
            values["raw_cuts"] = values["raw_cuts"].clone()
            values["raw_cuts"][0] += moved
            for block in self.blocks:
                block.utility = block.utility + moved

    def _said_of_offsets(self, terms: Terms, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """Precision and linear part of items' whole offsets above `level`, (item,) each."""
        own, rest = torch.zeros(2, self.layout.n_items, dtype=torch.float64)
        for block, (x, _) in zip(self.blocks, terms, strict=True):
            rho = self.reliability(block.batch)
            seen = block.utility - level - (x * block.path).sum(-1) - block.fixed * rho
            item = block.batch.item.flatten()
            own.index_add_(0, item, (block.precision * rho**2).flatten())
            rest.index_add_(0, item, (block.precision * rho * seen).flatten())
        return own, rest

    def _shift(self) -> None:
        """Mean state up, all paths down: only their priors have a say."""
        weight = torch.full_like(self.values["mean"], PRIOR_SCALES["mean"] ** -2.0)
        linear = -weight * self.values["mean"]
        for block in self.blocks:
            weight, linear = weight + len(block.path), linear + block.path[:, 0].sum(0)
            if self.layout.half_life_days is not None:
                walk = self.walk(block, self.values)
                moved = walk.variance[:, 1:] > 0.0
                inverse = moved / torch.where(moved, walk.variance[:, 1:], 1.0)
                lost = 1.0 - walk.decay[:, 1:]
                step = block.path[:, 1:] - walk.decay[:, 1:] * block.path[:, :-1]
                weight = weight + (lost**2 * inverse).sum((0, 1))
                linear = linear + (lost * step * inverse).sum((0, 1))
        shift = (linear + weight.sqrt() * self.noise.normal(len(weight))) / weight
        self.values["mean"] = self.values["mean"] + shift
        for block in self.blocks:
            block.path = block.path - shift

    def _stretch(self) -> None:
        """Item vectors longer, states shorter, a dimension at a time, drawn on a grid."""
        values, layout = self.values, self.layout
        longer, count = self.length_prior(), self.vector_numbers()
        shorter = (values["mean"] / PRIOR_SCALES["mean"]) ** 2
        shorter = shorter + sum((block.path[:, 0] ** 2).sum(0) for block in self.blocks)
        reach = STRETCH / math.sqrt(2.0 * (count + self.n_users))  # by sizes alone: reversible
        grid = torch.linspace(-reach, reach, STRETCH_SIZE, dtype=torch.float64)
        log_density = (count - 1 - self.n_users) * grid - 0.5 * (
            longer[:, None] * torch.exp(2.0 * grid) + shorter[:, None] * torch.exp(-2.0 * grid)
        )
        for name in self.walk_names():
            centre, scale = prior(layout, name, values, values["mean"])
            away = (values[name] - centre)[:, None] - grid
            log_density = log_density - 0.5 * (away / scale[:, None]) ** 2
        total = torch.softmax(log_density, 1).cumsum(1)
        level = self.noise.uniform(len(total), 1) * total[:, -1:]
        place = (level > total).sum(1).clamp_max(STRETCH_SIZE - 1)
        within = (self.noise.uniform(len(place)) - 0.5) * (grid[1] - grid[0])
        log_factor = grid[place] + within
        factor = log_factor.exp()
        self.lengthen(factor)
        values["mean"] = values["mean"] / factor
        for name in self.walk_names():
            values[name] = values[name] - log_factor
        for block in self.blocks:
            block.path = block.path / factor

    # ------------------------------------------------------------- items

    def _said(self) -> Said:
        """What the utilities say of each item's vector and offset."""
        size, n_items = self.layout.state_dim + 1, self.layout.n_items
        matrix = torch.zeros(n_items, size, size, dtype=torch.float64)
        linear = torch.zeros(n_items, size, dtype=torch.float64)
        for block in self.blocks:
            rho = self.reliability(block.batch)
            state = (block.path + self.values["mean"]).flatten(0, 1)
            rest = block.utility - block.fixed * rho
            flat = (rho.expand_as(rest), rest, block.precision, block.batch.item)
            columns = (
                part.contiguous().numpy() for part in (state, *(one.flatten() for one in flat))
            )
            add_said(*columns, matrix.numpy(), linear.numpy())
        return Said(matrix + matrix.tril(-1).mT, linear)

    def _draw_items(self) -> None:
        values, said, weights = self.values, self._said(), self.weights()
        names = [name for name in BY_MOMENTS if name in values]
        centres, spreads = (
            [table[name] for name in names] for table in (SCALE_CENTRES, PRIOR_SCALES)
        )
        of_vectors = 0 if self.layout.residuals else -1
        owner = [of_vectors] * self.layout.state_dim + [len(names) - 1]
        logs = moved_scales(
            said,
            self.features @ weights.T,
            torch.stack([values[name] for name in names]),
            owner,
            (torch.tensor(centres).double(), torch.tensor(spreads).double()),
            self.noise,
        )
        values |= dict(zip(names, logs, strict=True))
        scale = effect_scale(logs, owner)
        if self.done % self.weights_every == 0:
            sd = self.weight_sd()
            weights = drawn_weights(said, self.features, weights, scale, sd, self.noise)
        effects = drawn_effects(said, self.features @ weights.T, scale, self.noise)
        self._put(weights, effects)

    def _put(self, weights: Tensor, effects: Tensor) -> None:
        values, dim = self.values, self.layout.state_dim
        values["weight"] = weights[:dim, :-1] * math.sqrt(dim)
        values["intercept"], values["offset_weight"] = weights[:dim, -1], weights[dim, :-1]
        if "bias" in values:
            values["bias"] = weights[dim, -1]
        if "residual" in values:
            values["residual"] = effects[:, :dim]
        values["offset"] = effects[:, dim]

    # ------------------------------------------------------------- cut points, reliabilities

    def _move_outcomes(self, names: list[str]) -> None:
        """Metropolis moves of cut points and reliabilities at given paths and items."""
        sizes = [len(self.values[name]) for name in names]
        vectors, offsets = self.items()
        state = self.events(lambda block: block.path) + self.values["mean"]
        base = (vectors[self.item] * state).sum(-1) + offsets[self.item]
        base = base + self.events(lambda block: block.fixed)

        def look(point: Tensor) -> Tensor:
            """Log density of cut points and reliabilities."""
            values = self.values | dict(zip(names, point.split(sizes), strict=True))
            emission = emission_of(self.layout, values)
            value = emission.log_prob(base * reliability(values, self.kind), self.outcome).sum()
            for name in names:
                centre, scale = prior(self.layout, name, values, point)
                value = value - 0.5 * (((values[name] - centre) / scale) ** 2).sum()
            return value

        point = torch.cat([self.values[name] for name in names])
        if settling(self.done, self.burn_in):
            size, vectors = torch.linalg.eigh(-torch.autograd.functional.hessian(look, point))
            self.outcome_root = vectors / size.abs().clamp_min(LEAST_CURVATURE).sqrt()
        value, step = look(point), OUTCOME_STEP / math.sqrt(len(point))
        for _ in range(OUTCOME_TRIES):
            there = point + step * self.outcome_root @ self.noise.normal(len(point))
            found = look(there)
            if self.noise.accepts(found - value):
                point, value = there, found
        self.values |= dict(zip(names, point.split(sizes), strict=True))


def gibbs_draws(
    problem: Problem, values: Globals, n_draws: int, seed: int, burn_in: int, every: int
) -> Iterator[Globals]:
    """Settings of all globals: `burn_in` sweeps before the first `every`, then one after each."""
    chain = Gibbs(problem, values, seed, burn_in)
    total = burn_in + n_draws * every
    for sweep in bar(range(1, total + 1), desc="draws of the globals", unit="sweep"):
        chain.sweep()
        if sweep > burn_in and (sweep - burn_in) % every == 0:
            yield dict(chain.values)
