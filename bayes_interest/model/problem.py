"""What a fit works on: sizes, item features, and the log as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, Padded, length_batches, pad_users
from bayes_interest.events.surroundings import Surroundings
from bayes_interest.model.batch import Batch, StoredEvents
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.parameters import Layout

MAX_CHOICE_TABLE = 40_000_000
MIN_STEPS = 16
MIN_BATCH = 256


@dataclass(frozen=True)
class Problem:
    """A log and a catalogue, ready for inference on one device."""

    layout: Layout
    features: Tensor  # standardised text embeddings, (item, embed_dim)
    history: History
    texts: np.ndarray | None = None  # directions of the items' texts, (item, text_dim)
    weightless: bool = False  # the covariates have no weight: nobody need work them out

    @cached_property
    def events(self) -> StoredEvents:
        """The log's columns on the device."""
        if self.weightless:
            found = StoredEvents.of(self.history, self.features, None)
            return found.weightless(len(self.layout.kinds.names))
        # Only a choice asks its covariates' index more than this.
        rows = self.rows if self.layout.emission == "choice" else self._rows()
        return StoredEvents.of(self.history, self.features, rows.own())

    @cached_property
    def frequency(self) -> Tensor:
        """Events of each item, (item,)."""
        counts = torch.bincount(self.events.item.long(), minlength=self.layout.n_items)
        return counts.to(self.features)

    @cached_property
    def rows(self) -> CandidateRows:
        """The covariates of each event."""
        return self._rows()

    def _rows(self) -> CandidateRows:
        layout = self.layout
        surroundings = Surroundings(self.history, layout.n_items, layout.kinds, self.texts)
        return CandidateRows(surroundings, np.arange(len(self.history)))

    def batch_size(self, batch_events: int) -> int:
        """Events per batch: as asked; less where an epoch would have too few steps, or the table
        of a choice would be too large.
        """
        size = min(batch_events, len(self.history) // MIN_STEPS)
        if self.layout.emission == "choice":
            size = min(size, MAX_CHOICE_TABLE // self.layout.n_items)
        return max(MIN_BATCH, size)

    def groups(self, batch_events: int) -> list[np.ndarray]:
        """All users with events, those of one padded block together."""
        return length_batches(self.history.lengths, self.batch_size(batch_events))

    def block(self, users: np.ndarray) -> Padded:
        """The events of some users."""
        return pad_users(self.history, users, self.features.device)

    def batch(self, block: Padded) -> Batch:
        """The events of a block."""
        return self.events.batch(block)

    def before(self, keep: np.ndarray, n_items: int) -> Problem:
        """The same problem with some events and the first `n_items` items only."""
        layout = replace(self.layout, n_items=n_items)
        texts = None if self.texts is None else self.texts[:n_items]
        return Problem(layout, self.features[:n_items], self.history.take(keep), texts)


def event_positions(block: Padded, mask: Tensor) -> np.ndarray:
    """History positions of the steps of a block where `mask`, in (user, step) order."""
    positions: np.ndarray = block.event[mask].cpu().numpy()
    return positions


def torch_dtype(name: str) -> torch.dtype:
    """float32 or float64."""
    return {"float32": torch.float32, "float64": torch.float64}[name]
