"""One mini-batch of whole user histories, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, Padded, pad_users
from bayes_interest.model.parameters import Globals, Layout
from bayes_interest.statespace.random_walk import Transition, transition


@dataclass(frozen=True)
class EventTensors:
    """The columns of a History on a device, (event,) each."""

    item: Tensor
    outcome: Tensor
    elapsed_days: Tensor
    kind: Tensor
    popularity: Tensor
    repeats: Tensor
    absorb: Tensor
    moves: Tensor  # 1 where an event follows an earlier one of its user

    @classmethod
    def of(
        cls,
        history: History,
        dtype: torch.dtype,
        device: str | torch.device,
        last_seconds: np.ndarray | None = None,
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
            real(history.popularity),
            real(history.repeats),
            torch.as_tensor(history.absorb, device=device),
            real(history.follows(last_seconds)),
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
    popularity: Tensor
    repeats: Tensor
    mask: Tensor
    moves: Tensor | None = None

    @classmethod
    def of(cls, events: EventTensors, block: Padded) -> Batch:
        """Gather the block's events."""
        return cls(
            block.gather(events.item),
            block.gather(events.outcome),
            block.gather(events.elapsed_days),
            block.gather(events.kind),
            block.gather(events.popularity),
            block.gather(events.repeats),
            block.gather(events.absorb),
            block.gather(events.moves),
        )

    def walk(self, layout: Layout, values: Globals) -> Transition:
        """Transitions of the users' states over the gaps."""
        walk = transition(self.elapsed_days, values["log_drift"].exp(), layout.half_life_days)
        if "log_event_drift" not in values or self.moves is None:
            return walk
        moved = self.moves[..., None] * torch.exp(2.0 * values["log_event_drift"])
        return Transition(walk.decay, walk.variance + moved)


def whole_batch(history: History, dtype: torch.dtype) -> Batch:
    """All users of a small history in one block, on the CPU."""
    block = pad_users(history, np.arange(history.n_users))
    return Batch.of(EventTensors.of(history, dtype, "cpu"), block)
