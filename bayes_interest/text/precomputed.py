"""Item vectors that the caller already has, looked up by item id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import EncoderError, ItemError
from bayes_interest.schema import ITEM_ID


class PrecomputedVectors:
    """A table of item vectors in place of a text encoder.

    Args:
        vectors: either a DataFrame with the column `item_id` and then one numeric column per
            dimension, or one column whose cells are vectors; or an array (items, embed_dim)
            together with `item_ids`.
        item_ids: the id of each row of an array. Ids are compared as strings, so 7 and "7" are
            the same item.

    Raises:
        ItemError: ids are missing or repeated, vectors differ in length, or a value is not a
            finite number. The message names the item.
    """

    name = "precomputed"

    def __init__(
        self,
        vectors: pd.DataFrame | np.ndarray,
        *,
        item_ids: Iterable[object] | None = None,
    ) -> None:
        if isinstance(vectors, pd.DataFrame):
            if item_ids is not None:
                raise ItemError(f"item_ids was given beside a table: put it in column {ITEM_ID!r}")
            ids, cells = _split_table(vectors)
        elif item_ids is None:
            raise ItemError("an array of vectors needs item_ids=, one id per row")
        else:
            ids, cells = list(item_ids), np.asarray(vectors)
        self._index = _id_index(ids)
        self._vectors = _vector_array(cells, self._index)
        self._vectors.flags.writeable = False

    @property
    def embed_dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def item_ids(self) -> list[str]:
        """The ids of the items that have a vector, as strings, in the order given."""
        return list(self._index)

    def lookup(self, item_ids: Iterable[object]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of items, and which of the items have one.

        Args:
            item_ids: n ids.

        Returns:
            `vectors` (n, embed_dim) float32, zero where the item is unknown, and
            `known` (n,) bool.
        """
        position = self._index.get_indexer(pd.Index([str(i) for i in item_ids], dtype=object))
        known = position >= 0
        vectors = np.zeros((len(position), self.embed_dim), dtype=np.float32)
        vectors[known] = self._vectors[position[known]]
        return vectors, known

    def encode(self, texts: Sequence[str], *, progress: bool = True) -> np.ndarray:
        """Always an error: precomputed vectors belong to items, not to texts.

        Raises:
            EncoderError: always.
        """
        raise EncoderError(
            f"cannot encode {len(texts)} text(s): this model uses precomputed item vectors "
            f"({self.embed_dim} numbers each). Give vectors for the new items with "
            "PrecomputedVectors(table), or fit with TextEncoder() or HashingEncoder()"
        )

    def spec(self) -> dict[str, Any]:
        """JSON-able description, without the vectors.

        `encoder_from_spec` makes an empty table of the same width from it: every item is unknown
        to that table, and only a new text that must be encoded is an error.
        """
        return {"kind": "precomputed", "embed_dim": self.embed_dim}

    def __repr__(self) -> str:
        return f"PrecomputedVectors({len(self._index):,} items, {self.embed_dim} numbers each)"


def _split_table(table: pd.DataFrame) -> tuple[list[object], np.ndarray]:
    """Ids, and cells as (items, embed_dim) numbers or (items,) vectors of unknown length."""
    if ITEM_ID not in table.columns:
        raise ItemError(f"the vector table has no column {ITEM_ID!r}; columns: {[*table.columns]}")
    columns = [column for column in table.columns if column != ITEM_ID]
    if not columns:
        raise ItemError(f"the vector table has no column beside {ITEM_ID!r}")
    cells = table[columns]
    if len(columns) == 1 and not pd.api.types.is_numeric_dtype(cells.dtypes.iloc[0]):
        return table[ITEM_ID].tolist(), cells.iloc[:, 0].to_numpy(dtype=object)
    for column, dtype in cells.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            raise ItemError(f"vector column {column!r} has type {dtype}, expected numbers")
    return table[ITEM_ID].tolist(), cells.to_numpy(dtype=np.float64, na_value=np.nan)


def _id_index(ids: list[object]) -> pd.Index:
    for row, item_id in enumerate(ids):
        if item_id is None or item_id is pd.NA or item_id != item_id:
            raise ItemError(f"the item id of vector row {row} is missing")
    index = pd.Index([str(item_id) for item_id in ids], dtype=object)
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        raise ItemError(
            f"{len(repeated)} item(s) have more than one vector, first: {repeated[0]!r}; keep one"
        )
    return index


def _vector_array(cells: np.ndarray, index: pd.Index) -> np.ndarray:
    """A new array (items, embed_dim) float32, every number finite."""
    if cells.ndim == 1 and cells.dtype == object:
        cells = _stack(cells, index)
    if cells.ndim != 2 or cells.shape[0] != len(index) or cells.shape[1] == 0:
        raise ItemError(
            f"vectors have shape {cells.shape}, expected ({len(index)}, embed_dim): "
            f"{len(index)} item id(s) and at least one dimension"
        )
    if not np.issubdtype(cells.dtype, np.number) or np.iscomplexobj(cells):
        raise ItemError(f"vectors have type {cells.dtype}, expected real numbers")
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, reported below
        vectors = np.array(cells, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ItemError(
            f"{len(bad)} item(s) have NaN or infinite numbers in their vector, "
            f"first: {index[bad[0]]!r}"
        )
    return vectors


def _stack(cells: np.ndarray, index: pd.Index) -> np.ndarray:
    """One list per item -> (items, embed_dim)."""
    rows = [_row(cell, item_id) for cell, item_id in zip(cells, index, strict=True)]
    if not rows:
        raise ItemError("the vector table has no rows, so the length of a vector is unknown")
    for row, item_id in zip(rows, index, strict=True):
        if len(row) != len(rows[0]):
            raise ItemError(
                f"the vector of item {item_id!r} has {len(row)} numbers, "
                f"that of item {index[0]!r} has {len(rows[0])}; all must have the same length"
            )
    return np.stack(rows)


def _row(cell: object, item_id: str) -> np.ndarray:
    try:
        row = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise ItemError(
            f"the vector of item {item_id!r} is not a list of numbers: {cell!r}"
        ) from err
    if row.ndim != 1:
        raise ItemError(f"the vector of item {item_id!r} is {cell!r}, expected a list of numbers")
    return row
