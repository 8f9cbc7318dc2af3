"""Draws of all globals of a scalar family by Gibbs sampling: a pass over the log each sweep.

For logs too large for chains on the evidence of `ensemble.py`. Every outcome gets the utility it
was cut from, `u = a + noise`, and the noise the scale it has in the normal mixture that the
logistic distribution is (Holmes & Held 2006). Given both, users' paths are linear and Gaussian,
and so are items and text weights:

- drift scales by Hamiltonian moves on the evidence of the utilities, paths integrated out;
- paths by a simulation smoother (Durbin & Koopman 2002), and the mean state given them;
- scales of effects and text weights with the items' own effects integrated out, then these
  (`item_draws.py`); weights of many and wide texts not in every sweep;
- sizes of effects and of vectors (`size_moves.py`), cut points and reliabilities from the outcomes,
  utilities integrated out.

States and item vectors are known by their products, mean states and paths, offsets and cut points
by their sums: moves along stretch and shift, which leave every predictor as it is, keep the chain
from crawling there (Liu & Sabatti 2000).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.events.history import length_batches, pad_users
from bayes_interest.model.batch import Batch
from bayes_interest.model.compiled_gibbs import add_said
from bayes_interest.model.hamiltonian import Hamiltonian, settling
from bayes_interest.model.item_draws import (
    Noise,
    Said,
    drawn_effects,
    drawn_weights,
    moved_scales,
)
from bayes_interest.model.parameters import (
    BY_MOMENTS,
    COVARIATES,
    PRIOR_SCALES,
    SCALE_CENTRES,
    Globals,
    Layout,
    emission_of,
    prior,
    reliability,
    weighed,
)
from bayes_interest.model.problem import Problem
from bayes_interest.model.size_moves import Prior, SizeMoves
from bayes_interest.progress import bar
from bayes_interest.statespace.kalman import ScalarSites, filter_and_smooth
from bayes_interest.statespace.random_walk import Transition, elapsed_growth

BLOCK_EVENTS = 16_384
OUTCOME_TRIES, OUTCOME_STEP = 4, 2.4
"""Moves of cut points and reliabilities in a sweep, and their size times the root of their number
(Roberts, Gelman & Gilks 1997)."""
STRETCH, STRETCH_SIZE = 10.0, 401
"""Half of the grid of stretches in sds, and its points."""
EVENT_WORK, PRODUCT_WORK = 80, 1 / 600
"""What an event costs beside its matrices; what a product in drawing text weights costs."""
LEAST_CURVATURE = 1.0
TINY = 1e-300
WALKS, OF_OUTCOMES = ("log_drift", "log_event_drift"), ("raw_cuts", "log_reliability")


def work_of_events(layout: Layout, n_events: int) -> float:
    """Operations of a sweep on the events, in units of some 25 nanoseconds."""
    return n_events * ((layout.state_dim + 1) ** 2 + EVENT_WORK)


def work_of_weights(layout: Layout) -> float:
    """The same of drawing text weights once."""
    text, items, rows = layout.embed_dim, layout.n_items, layout.state_dim + 1
    if items <= text + 1:  # see `drawn_weights`
        return PRODUCT_WORK * (2 * items**2 * text + rows * items**3 / 3)
    return PRODUCT_WORK * rows * (items + text / 3) * text**2


@dataclass
class _Block:
    """Some users, their utilities and their paths."""

    batch: Batch
    decay: Tensor  # (user, step)
    growth: Tensor  # (user, step)
    path: Tensor  # deviation y, (user, step, state_dim)
    utility: Tensor  # (user, step)
    precision: Tensor  # of the noise, (user, step); zero where there is no event


class Gibbs:
    """The chain: `values` are the globals of the moment. Its moves settle in `burn_in` sweeps.

    Of double precision on the CPU: where drift is fast, covariances are small differences.
    """

    def __init__(self, problem: Problem, values: Globals, seed: int, burn_in: int) -> None:
        self.layout, self.burn_in, self.done = problem.layout, burn_in, 0
        like = problem.features.double().cpu()
        self.values = {name: value.detach().double().cpu() for name, value in values.items()}
        self.noise = Noise(seed)
        ones = torch.ones(len(like), 1, dtype=like.dtype)
        self.features = torch.cat((like / math.sqrt(self.layout.embed_dim), ones), 1)
        self.blocks = list(self._blocks(problem))
        self.n_users = sum(len(block.path) for block in self.blocks)
        mixture = scale_mixture(N_SCALES[torch.float32])
        self.scales, weights = (torch.as_tensor(part) for part in mixture)
        self.shares = torch.log(weights / self.scales)
        nothing = torch.zeros(0, dtype=torch.float64)
        self.walks, self.outcome_root = Hamiltonian(burn_in), nothing
        self.sizes = SizeMoves()
        share = work_of_weights(self.layout) / work_of_events(self.layout, len(problem.history))
        self.weights_every = max(1, round(share))  # sweeps: they take half of the time at most

    def _blocks(self, problem: Problem) -> Iterator[_Block]:
        for users in length_batches(problem.history.lengths, BLOCK_EVENTS):
            block = pad_users(problem.history, users, problem.features.device)
            batch = problem.batch(block).on("cpu").to(torch.float64)
            decay, growth = elapsed_growth(batch.elapsed_days, self.layout.half_life_days)
            nothing = torch.zeros_like(batch.outcome)
            path = nothing[..., None].repeat(1, 1, self.layout.state_dim)
            yield _Block(batch, decay, growth, path, nothing, nothing)

    def sweep(self) -> None:
        """One move of everything."""
        for block in self.blocks:
            self._draw_utilities(block)
        self._move_walks()
        for block in self.blocks:
            self._draw_paths(block)
        self._draw_mean()
        self._shift()
        self._stretch()
        self._draw_items()
        self._move_sizes()
        if names := [name for name in OF_OUTCOMES if name in self.values]:
            self._move_outcomes(names)
        if "raw_cuts" in self.values and self.layout.n_kinds == 1:
            self._shift_cuts()
        self.done += 1

    # ------------------------------------------------------------- the predictor

    def _weights(self) -> Tensor:
        """Rows of item vectors and of offsets in text and one, (state_dim + 1, embed_dim + 1)."""
        values, dim = self.values, self.layout.state_dim
        top = torch.cat((values["weight"] / math.sqrt(dim), values["intercept"][:, None]), 1)
        bias = values.get("bias", torch.zeros((), dtype=torch.float64))
        low = torch.cat((values["offset_weight"], bias[None]))
        return torch.cat((top, low[None]))

    def _effects(self) -> Tensor:
        """Of the items, on vectors and offset: (item, state_dim + 1)."""
        offset = self.values["offset"][:, None]
        nothing = offset.new_zeros(len(offset), self.layout.state_dim)
        return torch.cat((self.values.get("residual", nothing), offset), 1)

    def _items(self) -> tuple[Tensor, Tensor]:
        """Vectors (item, state_dim), and offsets (item,) without the mean state's share."""
        both = self.features @ self._weights().T + self._effects()
        return both[:, :-1], both[:, -1]

    def _fixed(self, batch: Batch) -> Tensor:
        """What covariates add, (user, step)."""
        if COVARIATES not in self.values:
            return torch.zeros_like(batch.outcome)
        return weighed(batch.covariates, self.values[COVARIATES])

    def _reliability(self, batch: Batch) -> Tensor:
        return reliability(self.values, batch.kind)

    def _base(self, block: _Block) -> Tensor:
        """The predictor before its reliability, (user, step)."""
        x, offset = self._terms(block)
        return ((x * block.path).sum(-1) + offset) / self._reliability(block.batch)

    def _terms(self, block: _Block) -> tuple[Tensor, Tensor]:
        """`x` and `offset` of a predictor linear in the path."""
        (vectors, offsets), batch = self._items(), block.batch
        rho, offsets = self._reliability(batch), offsets + vectors @ self.values["mean"]
        x = vectors[batch.item] * rho[..., None]
        return x, (offsets[batch.item] + self._fixed(batch)) * rho

    # ------------------------------------------------------------- utilities

    def _draw_utilities(self, block: _Block) -> None:
        """Noise within the outcome's cuts, then its scale in the mixture."""
        batch = block.batch
        x, offset = self._terms(block)
        predictor = (x * block.path).sum(-1) + offset
        lower, upper = emission_of(self.layout, self.values).bounds(batch.outcome)
        low, high = lower - predictor, upper - predictor
        flip = low + high > 0.0  # measured in the nearer tail
        low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
        below = torch.sigmoid(low)
        chance = below + self.noise.uniform(*low.shape) * (torch.sigmoid(high) - below)
        noise = torch.logit(chance.clamp_min(TINY))
        noise = torch.where(flip, -noise, noise)
        weight = self.shares - 0.5 * (noise[..., None] / self.scales) ** 2
        weight = torch.exp(weight - weight.amax(-1, keepdim=True))
        total = weight.cumsum(-1)
        place = (self.noise.uniform(*low.shape)[..., None] * total[..., -1:] > total).sum(-1)
        scale = self.scales[place.clamp_max(len(self.scales) - 1)]
        block.utility = torch.where(batch.mask, predictor + noise, 0.0)
        block.precision = batch.mask / scale**2

    # ------------------------------------------------------------- drift

    def _walk(self, block: _Block, values: Globals) -> Transition:
        variance = block.growth[..., None] * torch.exp(2.0 * values["log_drift"])
        variance = variance + block.batch.moved(values)
        return Transition(block.decay[..., None], variance)

    def _walk_names(self) -> list[str]:
        return [name for name in WALKS if name in self.values]

    def _move_walks(self) -> None:
        """One Hamiltonian move of all drift scales; the metric is that of the users' scores."""
        names = self._walk_names()
        terms = [self._terms(block) for block in self.blocks]
        sites = [
            ScalarSites(block.precision * (block.utility - offset), block.precision)
            for block, (_, offset) in zip(self.blocks, terms, strict=True)
        ]
        sizes = [len(self.values[name]) for name in names]

        def look(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            values = self.values | dict(zip(names, point.split(sizes), strict=True))
            value, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(point)
            metric = torch.eye(len(point), dtype=torch.float64) / PRIOR_SCALES["log_drift"] ** 2
            for name, own in zip(names, slope.split(sizes), strict=True):
                centre, scale = prior(self.layout, name, values, point)
                away = (values[name] - centre) / scale
                value = value - 0.5 * (away**2).sum()
                own -= away / scale
            for block, (x, _), site in zip(self.blocks, terms, sites, strict=True):
                walk = self._walk(block, values)
                evidence, smoothed = filter_and_smooth(x, site, walk, predictor_cov=False)
                score = smoothed.variance_score
                each = [(score * block.growth[..., None]).sum(1)]
                if len(names) > 1:
                    assert block.batch.moves is not None
                    each.append((score * block.batch.moves[..., None]).sum(1))
                users = 2.0 * torch.cat(each, 1) * torch.exp(2.0 * point)
                value, slope = value + evidence.sum(), slope + users.sum(0)
                metric = metric + users.T @ users
            return value, slope, metric

        point = torch.cat([self.values[name] for name in names])
        point = self.walks.moved(point, look, self.noise)
        self.values |= dict(zip(names, point.split(sizes), strict=True))

    # ------------------------------------------------------------- paths

    def _draw_paths(self, block: _Block) -> None:
        """A path from the prior, moved by what the utilities say beyond those it would give."""
        x, offset = self._terms(block)
        walk = self._walk(block, self.values)
        path = self.noise.normal(*block.path.shape)
        path[:, 1:] *= walk.scale[:, 1:]
        if self.layout.half_life_days is None:
            path = path.cumsum(1)
        else:
            for step in range(1, path.shape[1]):
                path[:, step] += walk.decay[:, step] * path[:, step - 1]
        noise = self.noise.normal(*offset.shape) * block.precision.sqrt()
        linear = block.precision * (block.utility - offset - (x * path).sum(-1)) - noise
        sites = ScalarSites(linear, block.precision)
        _, smoothed = filter_and_smooth(x, sites, walk, predictor_cov=False)
        block.path = path + smoothed.mean

    def _draw_mean(self) -> None:
        """The mean state at given paths: a regression on all events."""
        dim = self.layout.state_dim
        matrix = torch.eye(dim, dtype=torch.float64) / PRIOR_SCALES["mean"] ** 2
        linear = torch.zeros(dim, dtype=torch.float64)
        for block in self.blocks:
            x, offset = self._terms(block)
            offset = offset - x @ self.values["mean"]
            rest = block.precision * (block.utility - offset - (x * block.path).sum(-1))
            flat = x.reshape(-1, dim)
            matrix = matrix + (flat.T @ (block.precision.reshape(-1, 1) * flat))
            linear = linear + (rest.reshape(-1) @ flat)
        self.values["mean"] = self.noise.gaussian(matrix, linear)

    def _shift(self) -> None:
        """Mean state up, all paths down: only their priors have a say."""
        weight = torch.full_like(self.values["mean"], PRIOR_SCALES["mean"] ** -2.0)
        linear = -weight * self.values["mean"]
        for block in self.blocks:
            weight, linear = weight + len(block.path), linear + block.path[:, 0].sum(0)
            if self.layout.half_life_days is not None:
                walk = self._walk(block, self.values)
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
        longer, count = self._length_prior(), self._vector_numbers()
        shorter = (values["mean"] / PRIOR_SCALES["mean"]) ** 2
        shorter = shorter + sum((block.path[:, 0] ** 2).sum(0) for block in self.blocks)
        reach = STRETCH / math.sqrt(2.0 * (count + self.n_users))  # by sizes alone: reversible
        grid = torch.linspace(-reach, reach, STRETCH_SIZE, dtype=torch.float64)
        log_density = (count - 1 - self.n_users) * grid - 0.5 * (
            longer[:, None] * torch.exp(2.0 * grid) + shorter[:, None] * torch.exp(-2.0 * grid)
        )
        for name in self._walk_names():
            centre, scale = prior(layout, name, values, values["mean"])
            away = (values[name] - centre)[:, None] - grid
            log_density = log_density - 0.5 * (away / scale[:, None]) ** 2
        total = torch.softmax(log_density, 1).cumsum(1)
        level = self.noise.uniform(len(total), 1) * total[:, -1:]
        place = (level > total).sum(1).clamp_max(STRETCH_SIZE - 1)
        within = (self.noise.uniform(len(place)) - 0.5) * (grid[1] - grid[0])
        log_factor = grid[place] + within
        factor = log_factor.exp()
        for name in ("weight", "intercept", "residual", "mean"):
            if name in values:
                by = factor[:, None] if name == "weight" else factor
                values[name] = values[name] / by if name == "mean" else values[name] * by
        for name in self._walk_names():
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
            rho = self._reliability(block.batch)
            state = (block.path + self.values["mean"]).flatten(0, 1)
            rest = block.utility - self._fixed(block.batch) * rho
            flat = (rho.expand_as(rest), rest, block.precision, block.batch.item)
            columns = (
                part.contiguous().numpy() for part in (state, *(one.flatten() for one in flat))
            )
            add_said(*columns, matrix.numpy(), linear.numpy())
        return Said(matrix + matrix.tril(-1).mT, linear)

    def _draw_items(self) -> None:
        values, said, weights = self.values, self._said(), self._weights()
        names = [name for name in BY_MOMENTS if name in values]
        centres, spreads = (
            [table[name] for name in names] for table in (SCALE_CENTRES, PRIOR_SCALES)
        )
        logs = moved_scales(
            said,
            self.features @ weights.T,
            torch.stack([values[name] for name in names]),
            self._effect_scale,
            (torch.tensor(centres).double(), torch.tensor(spreads).double()),
            self.noise,
        )
        values |= dict(zip(names, logs, strict=True))
        scale = self._effect_scale(logs)
        if self.done % self.weights_every == 0:
            sd = self._weight_sd()
            weights = drawn_weights(said, self.features, weights, scale, sd, self.noise)
        effects = drawn_effects(said, self.features @ weights.T, scale, self.noise)
        self._put(weights, effects)

    def _effect_scale(self, logs: Tensor) -> Tensor:
        """Prior sds of an item's effects, (state_dim + 1,), from those of `BY_MOMENTS`."""
        scale = logs.exp()
        first = scale[:1] if self.layout.residuals else torch.zeros_like(scale[:1])
        return torch.cat((first.expand(self.layout.state_dim), scale[-1:]))

    def _weight_sd(self) -> Tensor:
        """Prior sds of `_weights`; without a bias its own is zero."""
        sd = torch.ones_like(self._weights()) * PRIOR_SCALES["weight"]
        sd[:-1] /= math.sqrt(self.layout.state_dim)
        sd[:-1, -1] = PRIOR_SCALES["intercept"]
        sd[-1] = PRIOR_SCALES["offset_weight"]
        sd[-1, -1] = PRIOR_SCALES["bias"] if "bias" in self.values else 0.0
        return sd

    def _put(self, weights: Tensor, effects: Tensor) -> None:
        values, dim = self.values, self.layout.state_dim
        values["weight"] = weights[:dim, :-1] * math.sqrt(dim)
        values["intercept"], values["offset_weight"] = weights[:dim, -1], weights[dim, :-1]
        if "bias" in values:
            values["bias"] = weights[dim, -1]
        if "residual" in values:
            values["residual"] = effects[:, :dim]
        values["offset"] = effects[:, dim]

    # ------------------------------------------------------------- sizes

    def _move_sizes(self) -> None:
        """Residuals and offsets with their scales, and vectors a dimension at a time."""
        values, layout = self.values, self.layout
        emission, masks = emission_of(layout, values), [b.batch.mask for b in self.blocks]
        item, outcome, rho, state, base = (
            torch.cat([part[mask] for part, mask in zip(parts, masks, strict=True)])
            for parts in zip(*(self._seen(block) for block in self.blocks), strict=True)
        )

        def move(name: str, part: Tensor, prior: Prior) -> float:
            nonlocal base
            found = self.sizes.log_factor(
                name, base, part, log_chance, prior, self.noise, self.done < self.burn_in
            )
            base = base + part * math.expm1(found)
            return found

        def log_chance(predictor: Tensor) -> Tensor:
            return emission.log_prob(predictor, outcome).sum()

        for scale, name in (("log_offset_scale", "offset"), ("log_residual_scale", "residual")):
            if name in values:
                own, tight = values[name][item], 1.0 / PRIOR_SCALES[scale]
                part = own * rho if name == "offset" else (own * state).sum(1)
                away = tight * (float(values[scale]) - SCALE_CENTRES[scale])
                found = move(name, part, Prior(away=away, tight=tight))
                values[name], values[scale] = values[name] * math.exp(found), values[scale] + found
        vectors, longer, count = self._items()[0], self._length_prior(), self._vector_numbers()
        log_c = torch.zeros_like(longer)
        for place in range(layout.state_dim):
            part, prior = vectors[item, place] * state[:, place], Prior(count, float(longer[place]))
            log_c[place] = move(f"vectors {place}", part, prior)
        values["weight"] = values["weight"] * log_c.exp()[:, None]
        values["intercept"] = values["intercept"] * log_c.exp()
        if layout.residuals:
            values["residual"] = values["residual"] * log_c.exp()

    def _seen(self, block: _Block) -> tuple[Tensor, ...]:
        """Of every step its item, outcome, reliability, that times the state, and the predictor."""
        batch, rho = block.batch, self._reliability(block.batch).expand_as(block.utility)
        x, offset = self._terms(block)
        state = (block.path + self.values["mean"]) * rho[..., None]
        return batch.item, batch.outcome, rho, state, (x * block.path).sum(-1) + offset

    def _length_prior(self) -> Tensor:
        """Squares of the numbers that make vectors, over their prior variances, (state_dim,)."""
        values = self.values
        longer = (values["weight"] ** 2).sum(1) / PRIOR_SCALES["weight"] ** 2
        longer = longer + (values["intercept"] / PRIOR_SCALES["intercept"]) ** 2
        if self.layout.residuals:
            square = (values["residual"] ** 2).sum(0)
            longer = longer + square * torch.exp(-2.0 * values["log_residual_scale"])
        return longer

    def _vector_numbers(self) -> int:
        """How many these are for each dimension."""
        return self.layout.embed_dim + 1 + self.layout.residuals * self.layout.n_items

    # ------------------------------------------------------------- cut points, reliabilities

    def _move_outcomes(self, names: list[str]) -> None:
        """Metropolis moves of cut points and reliabilities at given paths and items."""
        sizes = [len(self.values[name]) for name in names]
        rows = [(self._base(b)[b.batch.mask], b.batch) for b in self.blocks]
        base = torch.cat([own for own, _ in rows])
        outcome = torch.cat([batch.outcome[batch.mask] for _, batch in rows])
        kind = torch.cat([batch.kind[batch.mask] for _, batch in rows])

        def look(point: Tensor) -> Tensor:
            values = self.values | dict(zip(names, point.split(sizes), strict=True))
            emission = emission_of(self.layout, values)
            value = emission.log_prob(base * reliability(values, kind), outcome).sum()
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

    def _shift_cuts(self) -> None:
        """All cut points and all offsets up: only their priors have a say."""
        values, tight = self.values, PRIOR_SCALES["raw_cuts"] ** -2.0
        own = torch.exp(-2.0 * values["log_offset_scale"])
        centre, _ = prior(self.layout, "raw_cuts", values, values["mean"])
        linear = tight * (centre[0] - values["raw_cuts"][0]) - own * values["offset"].sum()
        weight = tight + own * len(values["offset"])
        shift = (linear + weight.sqrt() * self.noise.normal(1)[0]) / weight
        values["offset"] = values["offset"] + shift
        values["raw_cuts"] = values["raw_cuts"].clone()
        values["raw_cuts"][0] += shift


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
