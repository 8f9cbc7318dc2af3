"""Products of users' states with items: all at once, or pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.statespace.kalman import as_array


@dataclass(frozen=True)
class Products:
    """Products of users and items all at once; how one is rounded depends on the others."""

    def dots(self, rows: Tensor, columns: Tensor) -> Tensor:
        """`rows @ columns.T`."""
        return rows @ columns.T

    def forms(self, cov: Tensor, vectors: Tensor) -> Tensor:
        """`x . P x` of every covariance (user, D, D) and vector (item, D), (user, item)."""
        outer = vectors[:, :, None] * vectors[:, None, :]
        return cov.flatten(1) @ outer.flatten(1).T

    def of(self, columns: Tensor) -> Tensor:
        """Columns of the items wanted, from those of all."""
        return columns


@dataclass(frozen=True)
class PairByPair(Products):
    """The same pair by pair, of all items or of some positions: on the CPU the bits of a pair are
    the same whoever and whatever else is asked about.
    """

    items: Tensor | None = None

    def dots(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See `Products`."""
        if rows.device.type != "cpu":
            return super().dots(rows, self.of(columns))
        from bayes_interest.posterior.compiled_products import dots  # numba is slow to load

        return torch.as_tensor(dots(*self._arrays(rows, columns)))

    def forms(self, cov: Tensor, vectors: Tensor) -> Tensor:
        """See `Products`."""
        if cov.device.type != "cpu":
            return super().forms(cov, self.of(vectors))
        from bayes_interest.posterior.compiled_products import forms

        return torch.as_tensor(forms(*self._arrays(cov, vectors)))

    def of(self, columns: Tensor) -> Tensor:
        """See `Products`."""
        return columns if self.items is None else columns[self.items]

    def _arrays(self, rows: Tensor, columns: Tensor) -> tuple[np.ndarray, ...]:
        some = torch.arange(len(columns)) if self.items is None else self.items
        return tuple(as_array(part.contiguous()) for part in (rows, columns, some))


TOGETHER, PAIR_BY_PAIR = Products(), PairByPair()
