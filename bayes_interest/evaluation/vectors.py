"""Item vectors by which the diversity of slates is judged: given, or from a model's encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.schema import ITEM_ID, TEXT
from bayes_interest.text.precomputed import PrecomputedVectors

VECTOR = "vector"


def find_vectors(
    vectors: object | None,
    models: Iterable[Any],
    known: pd.DataFrame,
    log: EventLog,
    items: ItemTable | None,
) -> pd.DataFrame | None:
    """item_id and vector of the items in `known`, as far as there are any; None without any.

    From `vectors` (a mapping of item ids to vectors, or a table of them), else from the first
    model that has an encoder.

    Raises:
        ItemError: vectors of different lengths, or with values that are no numbers.
    """
    ids = known[ITEM_ID].drop_duplicates().reset_index(drop=True)
    if vectors is not None:
        return _looked_up(_as_table(vectors), ids)
    encoders = (getattr(model, "encoder", None) for model in models)
    encoder = next((found for found in encoders if found is not None), None)
    if encoder is None:
        return None
    if hasattr(encoder, "lookup"):
        return _looked_up(encoder, ids)
    return _encoded(encoder, ids, log, items)


def _as_table(vectors: object) -> PrecomputedVectors:
    if isinstance(vectors, PrecomputedVectors):
        return vectors
    if isinstance(vectors, Mapping):
        vectors = pd.DataFrame({ITEM_ID: [*vectors], VECTOR: [*vectors.values()]})
    return PrecomputedVectors(vectors)  # type: ignore[arg-type] # it says what it expected


def _looked_up(table: Any, ids: pd.Series[Any]) -> pd.DataFrame | None:
    found, known = table.lookup(ids)
    return _table(ids[known], found[known])


def _encoded(
    encoder: Any, ids: pd.Series[Any], log: EventLog, items: ItemTable | None
) -> pd.DataFrame | None:
    """Vectors of the texts in the item table, else of the first text in the log."""
    frames = [table.frame for table in (items, log) if table is not None and TEXT in table.frame]
    if not frames:
        return None
    both = pd.concat([frame[[ITEM_ID, TEXT]] for frame in frames])
    texts = both[both[TEXT] != ""].drop_duplicates(ITEM_ID)
    texts = texts[texts[ITEM_ID].isin(ids)]
    if texts.empty:
        return None
    return _table(texts[ITEM_ID], encoder.encode(texts[TEXT].tolist(), progress=False))


def _table(ids: pd.Series[Any], vectors: Any) -> pd.DataFrame | None:
    if not len(ids):
        return None
    return pd.DataFrame({ITEM_ID: ids.to_numpy(), VECTOR: list(vectors)})
