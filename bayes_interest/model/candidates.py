"""The covariates of every candidate of a choice, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bayes_interest.events.history import History
from bayes_interest.events.surroundings import Surroundings
from bayes_interest.model.parameters import COVARIATES, Globals


@dataclass(frozen=True)
class CandidateRows:
    """Extra terms of the logits of some events."""

    surroundings: Surroundings
    moment: np.ndarray  # of each event, (event,)
    weightless: bool = False  # nobody asks what they are: zeros will do

    def entries(
        self,
        events: np.ndarray,
        wanted: np.ndarray | None = None,
        without: tuple[str, ...] = (),
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """(which covariates, position within `events`, item, values) of every non-zero.

        With `wanted` (item,) those of other items are left out, and so are groups in `without`.
        """
        for found in self.surroundings.entries(self.moment[events], wanted, without):
            yield (
                found.columns,
                torch.as_tensor(found.row, dtype=torch.long),
                torch.as_tensor(found.item, dtype=torch.long),
                torch.as_tensor(found.values),
            )

    def succession(
        self, events: np.ndarray, place: np.ndarray, width: int, always: bool = False
    ) -> Tensor | None:
        """Succession as a table (event, width) where that is quicker than `entries`; see there."""
        found = self.surroundings.succession(self.moment[events], place, width, always)
        return None if found is None else torch.as_tensor(found)

    def likeness(self, events: np.ndarray) -> Tensor:
        """What the items' texts are compared with, (event, 2, text_dim)."""
        return torch.as_tensor(self.surroundings.likeness(self.moment[events]))

    def own(self) -> np.ndarray:
        """Of each event's own item, (event, covariate)."""
        if self.weightless:
            names = self.surroundings.kinds.names
            return np.zeros((len(self.moment), len(names)), dtype=np.float32)
        return self.surroundings.own(self.moment)

    def dense(self, events: np.ndarray, values: Globals) -> Tensor:
        """The summed extra logits (event, item); for small problems and prediction."""
        return extra_table(self.surroundings, self.moment[events], values)


def extra_table(surroundings: Surroundings, moments: np.ndarray, values: Globals) -> Tensor:
    """What the covariates add to the predictor, (moment, item)."""
    return covariate_tables(surroundings, moments, [values])[0]


def covariate_tables(
    surroundings: Surroundings,
    moments: np.ndarray,
    settings: Sequence[Globals],
    items: np.ndarray | None = None,
) -> Tensor:
    """The same at several settings of the globals, (setting, moment, item); of all items or those
    at some positions.
    """
    like = settings[0]["mean"]
    if COVARIATES not in settings[0]:
        n_items = surroundings.n_items if items is None else len(items)
        return like.new_zeros(len(settings), len(moments), n_items)
    weights = torch.stack([values[COVARIATES] for values in settings]).detach().cpu().numpy()
    return torch.as_tensor(surroundings.tables(moments, weights, items)).to(like)


def user_item_counts(history: History, n_items: int) -> sparse.csr_matrix:
    """Events per (user, item), float32."""
    keep = history.absorb
    counts = sparse.csr_matrix(
        (
            np.ones(int(keep.sum()), dtype=np.float32),
            (history.user_index[keep], history.item_index[keep]),
        ),
        shape=(history.n_users, n_items),
    )
    counts.sum_duplicates()
    return counts
