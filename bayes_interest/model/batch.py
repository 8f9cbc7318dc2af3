"""One mini-batch of whole user histories, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, Padded, pad_users
from bayes_interest.model.context import Tokens, context_of_steps
from bayes_interest.model.parameters import Globals, Layout
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import Transition, transition


@dataclass(frozen=True)
class EventTensors:
    """The columns of a History on a device, (event,) each."""

    item: Tensor
    outcome: Tensor
    elapsed_days: Tensor
    kind: Tensor
    covariates: Tensor  # of the event's item, (event, covariate)
    absorb: Tensor
    moves: Tensor  # 1 where an event follows an earlier one of its user
    context: Tensor | None = None  # c_u(t), (event, state_dim), where it is known beforehand

    @classmethod
    def of(
        cls,
        history: History,
        dtype: torch.dtype,
        device: str | torch.device,
        last_seconds: np.ndarray | None = None,
        covariates: np.ndarray | None = None,
        context: Tensor | None = None,
    ) -> EventTensors:
        """Copy a history's columns; gaps count from `last_seconds` where given."""

        def real(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        def whole(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.long, device=device)

        return cls(
            whole(history.item_index),
            real(history.outcome),
            real(history.elapsed_days(last_seconds)),
            whole(history.kind_index),
            real(np.zeros((len(history), 0)) if covariates is None else covariates),
            torch.as_tensor(history.absorb, device=device),
            real(history.follows(last_seconds)),
            context,
        )

    def at(self, position: np.ndarray) -> EventTensors:
        """Some of the events, without context."""
        index = torch.as_tensor(position, device=self.item.device)
        columns = [getattr(self, field.name)[index] for field in fields(self)[:-1]]
        return EventTensors(*columns)


@dataclass(frozen=True)
class StoredEvents:
    """A History from which blocks are gathered: on the CPU in its own memory, nothing copied."""

    item: Tensor  # (event,) each, of the history's own types
    outcome: Tensor
    seconds: Tensor
    kind: Tensor
    covariates: Tensor  # of the event's item, (event, covariate), of the type of all results
    absorb: Tensor

    @classmethod
    def of(cls, history: History, like: Tensor, covariates: np.ndarray | None) -> StoredEvents:
        """On the device and in the type of `like`; without covariates there are none."""

        def put(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, device=like.device)

        if covariates is None:
            covariates = np.zeros((len(history), 0))
        return cls(
            put(history.item_index),
            put(history.outcome),
            put(history.seconds),
            put(history.kind_index),
            put(covariates).to(like.dtype),
            put(history.absorb),
        )

    def weightless(self, n_covariates: int) -> StoredEvents:
        """With covariates of zero, whatever they are: where they have no weight."""
        nothing = self.covariates.new_zeros(1, n_covariates)
        return replace(self, covariates=nothing.expand(len(self.item), -1))

    def batch(self, block: Padded) -> Batch:
        """The events of a block of users' whole histories."""
        dtype = self.covariates.dtype
        seconds = self.seconds[block.event]
        gap = torch.diff(seconds, dim=1, prepend=seconds[:, :1]) / SECONDS_PER_DAY
        moves = block.mask.clone()
        moves[:, 0] = False
        return Batch(
            block.gather(self.item).long(),
            block.gather(self.outcome).to(dtype),
            (gap * block.mask).to(dtype),
            block.gather(self.kind).long(),
            block.gather(self.covariates),
            block.gather(self.absorb),
            moves.to(dtype),
        )


@dataclass(frozen=True)
class Batch:
    """A padded block: (user, step) each; padded steps have zero gap and false mask.

    The mask is also false at moments that are looked at but hold no event.
    """

    item: Tensor
    outcome: Tensor
    elapsed_days: Tensor
    kind: Tensor
    covariates: Tensor  # (user, step, covariate)
    mask: Tensor
    moves: Tensor | None = None
    context: Tensor | None = None  # c_u(t), (user, step, state_dim)

    @classmethod
    def of(cls, events: EventTensors, block: Padded) -> Batch:
        """Gather the block's events."""
        return cls(
            block.gather(events.item),
            block.gather(events.outcome),
            block.gather(events.elapsed_days),
            block.gather(events.kind),
            block.gather(events.covariates),
            block.gather(events.absorb),
            block.gather(events.moves),
            None if events.context is None else block.gather(events.context),
        )

    def with_context(
        self, layout: Layout, values: Globals, vectors: Tensor, drop: float = 0.0
    ) -> Batch:
        """Of whole histories: with the context that the network finds in them, if there is one."""
        if not layout.context_layers:
            return self
        tokens = Tokens(self.item, self.outcome, self.kind, self.elapsed_days)
        return replace(self, context=context_of_steps(layout, values, vectors, tokens, drop))

    def still(self) -> Batch:
        """Without a gradient through the context."""
        return self if self.context is None else replace(self, context=self.context.detach())

    def total(self, deviation: Tensor) -> Tensor:
        """`y + c`, (user, step, state_dim)."""
        return deviation if self.context is None else deviation + self.context

    def to(self, dtype: torch.dtype) -> Batch:
        """The same with real numbers of another precision."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        real = {k: v.to(dtype) for k, v in parts.items() if v is not None and v.is_floating_point()}
        return replace(self, **real)

    def on(self, device: str) -> Batch:
        """The same on another device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in parts.items() if v is not None})

    def users(self, which: slice) -> Batch:
        """Some of the users."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[which] for k, v in parts.items() if v is not None})

    def walk(self, layout: Layout, values: Globals) -> Transition:
        """Transitions of the users' states over the gaps."""
        walk = transition(self.elapsed_days, values["log_drift"].exp(), layout.half_life_days)
        if "log_event_drift" not in values or self.moves is None:
            return walk
        return Transition(walk.decay, walk.variance + self.moved(values))

    def moved(self, values: Globals) -> Tensor:
        """Variance that comes with the event rather than with time, (user, step, state_dim)."""
        if "log_event_drift" not in values or self.moves is None:
            return values["mean"].new_zeros(*self.mask.shape, values["mean"].shape[0])
        return self.moves[..., None] * torch.exp(2.0 * values["log_event_drift"])


def whole_batch(
    history: History, dtype: torch.dtype, covariates: np.ndarray | None = None
) -> Batch:
    """All users of a small history in one block, on the CPU."""
    block = pad_users(history, np.arange(history.n_users))
    return Batch.of(EventTensors.of(history, dtype, "cpu", None, covariates), block)
