"""Circumstances of the candidates of a choice, as sparse rows: popularity and own repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bayes_interest.events.history import History
from bayes_interest.events.popularity import RecentCounts

POPULARITY, REPEATS = "popularity_weight", "repeat_weight"


@dataclass(frozen=True)
class CandidateRows:
    """Extra terms of the logits, one sparse row (item,) per event and weight."""

    rows: dict[str, sparse.csr_matrix]  # weight name -> (row, item)
    row_of: dict[str, np.ndarray]  # weight name -> row of each event, (event,)

    def entries(self, events: np.ndarray) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """(weight name, position within `events`, item, value) of every non-zero."""
        for name, table in self.rows.items():
            part = table[self.row_of[name][events]].tocoo()
            yield (
                name,
                torch.as_tensor(part.row, dtype=torch.long),
                torch.as_tensor(part.col, dtype=torch.long),
                torch.as_tensor(part.data),
            )

    def dense(self, events: np.ndarray, weights: dict[str, Tensor], n_items: int) -> Tensor:
        """The summed extra logits (event, item); for small problems and prediction."""
        like = weights["mean"]
        out = torch.zeros(len(events), n_items, dtype=like.dtype, device=like.device)
        for name, row, column, value in self.entries(events):
            out.index_put_(
                (row.to(like.device), column.to(like.device)),
                weights[name].detach() * value.to(like),
                accumulate=True,
            )
        return out


def candidate_rows(
    history: History,
    recent: RecentCounts | None,
    n_items: int,
    repeats: bool,
    past: sparse.csr_matrix | None = None,
) -> CandidateRows:
    """Rows for every event of a history; `past` (user, item) counts choices before it."""
    rows: dict[str, sparse.csr_matrix] = {}
    row_of: dict[str, np.ndarray] = {}
    if recent is not None:
        ticks, row_of[POPULARITY] = np.unique(recent.tick(history.seconds), return_inverse=True)
        rows[POPULARITY] = recent.rows_at(ticks)
    if repeats:
        rows[REPEATS] = repeat_rows(history, n_items, past)
        row_of[REPEATS] = np.arange(len(history))
    return CandidateRows(rows, row_of)


def earlier_counts(history: History, n_items: int) -> sparse.csr_matrix:
    """Events of the same user and item before each event of the history, (event, item)."""
    position = np.arange(len(history)) - history.start[history.user_index]
    pointer = np.concatenate(([0], np.cumsum(position)))
    within = np.arange(pointer[-1]) - np.repeat(pointer[:-1], position)
    source = np.repeat(history.start[history.user_index], position) + within
    counts = sparse.csr_matrix(
        (history.absorb[source].astype(np.float32), history.item_index[source], pointer),
        shape=(len(history), n_items),
    )
    counts.sum_duplicates()
    return counts


def repeat_rows(
    history: History, n_items: int, past: sparse.csr_matrix | None = None
) -> sparse.csr_matrix:
    """`log(1 + earlier choices)` of each item by the event's user, (event, item)."""
    counts = earlier_counts(history, n_items)
    if past is not None:
        counts = counts + past[history.user_index]
    return counts.log1p().tocsr()


def annotate(
    history: History,
    recent: RecentCounts | None,
    n_items: int,
    repeats: bool,
    past: sparse.csr_matrix | None = None,
) -> History:
    """Fill in popularity and repeats of each event's own item."""
    changes: dict[str, Any] = {}
    if recent is not None:
        changes["popularity"] = recent.of_events(history.item_index, history.seconds)
    if repeats:
        table = repeat_rows(history, n_items, past)
        own = table[np.arange(len(history)), history.item_index]
        changes["repeats"] = np.asarray(own, dtype=np.float64).reshape(-1)
    return replace(history, **changes)


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
