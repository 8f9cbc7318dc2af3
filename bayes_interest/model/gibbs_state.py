"""Where a chain of Gibbs sampling is: globals, users' paths, and the predictors that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from bayes_interest.events.history import length_batches, pad_users
from bayes_interest.model.batch import Batch
from bayes_interest.model.compiled_walks import Walk
from bayes_interest.model.parameters import (
    COVARIATES,
    PRIOR_SCALES,
    WALKS,
    Globals,
    reliability,
    weighed,
)
from bayes_interest.model.problem import Problem
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.random_walk import Transition, elapsed_growth

T = TypeVar("T")
BLOCK_EVENTS = 16_384
Terms = list[tuple[Tensor, Tensor]]
"""`x` (user, step, state_dim) and offset (user, step) of each block."""


@dataclass
class Block:
    """Some users, their utilities and their paths."""

    batch: Batch
    decay: Tensor  # (user, step)
    growth: Tensor  # (user, step)
    fixed: Tensor  # what covariates add, (user, step)
    path: Tensor  # deviation y, (user, step, state_dim)
    utility: Tensor  # (user, step)
    precision: Tensor  # of the noise, (user, step); zero where there is no event


class GibbsState:
    """`values` are the globals of the moment, `blocks` hold the users' paths.

    Of double precision on the CPU: where drift is fast, covariances are small differences.
    """

    def __init__(self, problem: Problem, values: Globals) -> None:
        self.layout = problem.layout
        like = problem.features.double().cpu()
        self.values = {name: value.detach().double().cpu() for name, value in values.items()}
        ones = torch.ones(len(like), 1, dtype=like.dtype)
        self.features = torch.cat((like / math.sqrt(self.layout.embed_dim), ones), 1)
        self.blocks = list(self._blocks(problem))
        self.n_users = sum(len(block.path) for block in self.blocks)
        self._rows = [block.batch.mask.flatten().nonzero()[:, 0] for block in self.blocks]
        self.item = self.events(lambda block: block.batch.item)
        self.outcome = self.events(lambda block: block.batch.outcome)
        self.kind = self.events(lambda block: block.batch.kind)

    def _blocks(self, problem: Problem) -> Iterator[Block]:
        for users in length_batches(problem.history.lengths, BLOCK_EVENTS):
            block = pad_users(problem.history, users, problem.features.device)
            batch = problem.batch(block).on("cpu").to(torch.float64)
            decay, growth = elapsed_growth(batch.elapsed_days, self.layout.half_life_days)
            fixed = nothing = torch.zeros_like(batch.outcome)
            if COVARIATES in self.values:  # points, not drawn
                fixed = weighed(batch.covariates, self.values[COVARIATES])
            path = nothing[..., None].repeat(1, 1, self.layout.state_dim)
            yield Block(batch, decay, growth, fixed, path, nothing, nothing)

    def events(self, look: Callable[[Block], Tensor]) -> Tensor:
        """A block's (user, step, ...) of all events, (event, ...)."""
        pairs = zip(self.blocks, self._rows, strict=True)
        return torch.cat([look(block).flatten(0, 1)[rows] for block, rows in pairs])

    def of_blocks(self, work: Callable[..., T], terms: Sequence[tuple[Tensor, ...]]) -> list[T]:
        """`work(block, *its terms)` of every block, on as many threads as torch would use."""
        columns = (self.blocks, *zip(*terms, strict=True))
        return list((map if self._pool is None else self._pool.map)(work, *columns))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor | None:
        """Kept, as starting threads takes longer than what they do."""
        n_threads = min(torch.get_num_threads(), len(self.blocks))
        return ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    def weights(self) -> Tensor:
        """Rows of item vectors and of offsets in text and one, (state_dim + 1, embed_dim + 1)."""
        values, dim = self.values, self.layout.state_dim
        top = torch.cat((values["weight"] / math.sqrt(dim), values["intercept"][:, None]), 1)
        bias = values.get("bias", torch.zeros((), dtype=torch.float64))
        low = torch.cat((values["offset_weight"], bias[None]))
        return torch.cat((top, low[None]))

    def effects(self) -> Tensor:
        """Of the items, on vectors and offset: (item, state_dim + 1)."""
        offset = self.values["offset"][:, None]
        nothing = offset.new_zeros(len(offset), self.layout.state_dim)
        return torch.cat((self.values.get("residual", nothing), offset), 1)

    def items(self) -> tuple[Tensor, Tensor]:
        """Vectors (item, state_dim), and offsets (item,) without the mean state's share."""
        both = self.features @ self.weights().T + self.effects()
        return both[:, :-1], both[:, -1]

    def reliability(self, batch: Batch) -> Tensor:
        """Of every event's kind, (user, step)."""
        return reliability(self.values, batch.kind)

    def terms(self) -> Terms:
        """Of predictors linear in the path."""
        vectors, offsets = self.items()
        offsets = offsets + vectors @ self.values["mean"]
        found = []
        for block in self.blocks:
            rho, item = self.reliability(block.batch), block.batch.item
            offset = (offsets[item] + block.fixed) * rho
            found.append((vectors[item] * rho[..., None], offset))
        return found

    def walk(self, block: Block, values: Globals) -> Transition:
        """Of the deviation from the mean state."""
        variance = block.growth[..., None] * torch.exp(2.0 * values["log_drift"])
        variance = variance + block.batch.moved(values)
        return Transition(block.decay[..., None], variance)

    def walk_arrays(self, block: Block, values: Globals) -> Walk:
        """The same for compiled loops."""
        time_drift = torch.exp(2.0 * values["log_drift"])
        event_drift = torch.zeros_like(time_drift)
        if "log_event_drift" in values:
            event_drift = torch.exp(2.0 * values["log_event_drift"])
        moves = torch.zeros_like(block.decay) if block.batch.moves is None else block.batch.moves
        parts = (block.decay, block.growth, moves, time_drift, event_drift)
        return Walk(*(as_array(part) for part in parts))

    def walk_names(self) -> list[str]:
        """Of the drift scales there are."""
        return [name for name in WALKS if name in self.values]

    def weight_sd(self) -> Tensor:
        """Prior sds of `weights`; without a bias its own is zero."""
        sd = torch.ones_like(self.weights()) * PRIOR_SCALES["weight"]
        sd[:-1] /= math.sqrt(self.layout.state_dim)
        sd[:-1, -1] = PRIOR_SCALES["intercept"]
        sd[-1] = PRIOR_SCALES["offset_weight"]
        sd[-1, -1] = PRIOR_SCALES["bias"] if "bias" in self.values else 0.0
        return sd

    def length_prior(self) -> Tensor:
        """Squares of the numbers that make vectors, over their prior variances, (state_dim,)."""
        values = self.values
        longer = (values["weight"] ** 2).sum(1) / PRIOR_SCALES["weight"] ** 2
        longer = longer + (values["intercept"] / PRIOR_SCALES["intercept"]) ** 2
        if self.layout.residuals:
            square = (values["residual"] ** 2).sum(0)
            longer = longer + square * torch.exp(-2.0 * values["log_residual_scale"])
        return longer

    def vector_numbers(self) -> int:
        """How many these are for each dimension."""
        return self.layout.embed_dim + 1 + self.layout.residuals * self.layout.n_items

    def lengthen(self, factor: Tensor) -> None:
        """Item vectors multiplied by `factor` (state_dim,)."""
        values = self.values
        values["weight"] = values["weight"] * factor[:, None]
        values["intercept"] = values["intercept"] * factor
        if self.layout.residuals:
            values["residual"] = values["residual"] * factor
