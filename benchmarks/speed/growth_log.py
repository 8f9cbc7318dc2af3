"""A drawn log of any size, written to Parquet a slice of time at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EVENTS_PER_USER, N_ITEMS, TEXT_DIM, DAYS = 50, 20_000, 16, 365.0
DRIFT_SCALES = (0.02, 0.04, 0.08, 0.12)  # per sqrt day
SLICE = 500_000  # events of a row group


def write_log(path: Path, n_events: int, strings: bool = False, seed: int = 0) -> pd.DataFrame:
    """Write a bernoulli log in time order; returns the items' vectors.

    Users' states walk, items are met by a power law, and the outcome is drawn from the logistic
    function of state times item vector plus offset.
    """
    rng = np.random.default_rng(seed)
    n_users, dim = max(1, n_events // EVENTS_PER_USER), len(DRIFT_SCALES)
    texts = rng.standard_normal((N_ITEMS, TEXT_DIM)).astype(np.float32)
    weight = rng.standard_normal((TEXT_DIM, dim)).astype(np.float32) / np.sqrt(TEXT_DIM)
    vectors, offsets = texts @ weight, rng.normal(-0.5, 0.7, N_ITEMS).astype(np.float32)
    popular = np.cumsum(np.arange(1.0, N_ITEMS + 1.0) ** -0.8)
    state = rng.standard_normal((n_users, dim), dtype=np.float32)
    edges = np.linspace(0, n_events, max(20, n_events // SLICE) + 1).astype(int)
    gap, writer = DAYS / (len(edges) - 1), None
    for number, size in enumerate(np.diff(edges)):
        noise = rng.standard_normal(state.shape, dtype=np.float32)
        state += np.float32(np.sqrt(gap)) * np.array(DRIFT_SCALES, dtype=np.float32) * noise
        user = rng.integers(0, n_users, size)
        item = np.searchsorted(popular, popular[-1] * rng.random(size)).clip(0, N_ITEMS - 1)
        logit = (vectors[item] * state[user]).sum(1) + offsets[item]
        days = gap * (number + np.sort(rng.random(size)))
        table = pa.table(
            {
                "user_id": _ids(user, n_users, "user", strings),
                "item_id": _ids(item, N_ITEMS, "item", strings),
                "timestamp": (1.6e9 + 86_400.0 * days).astype(np.int64),
                "value": (rng.random(size) < 1.0 / (1.0 + np.exp(-logit))).astype(np.float32),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    names = _ids(np.arange(N_ITEMS), N_ITEMS, "item", strings).to_pylist()
    return pd.DataFrame({"item_id": names, "vector": list(texts)})


def _ids(index: np.ndarray, n_ids: int, name: str, strings: bool) -> Any:
    if not strings:
        return pa.array(index)
    names = pa.array([f"{name}-{number:08d}" for number in range(n_ids)])
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), names).cast(pa.string())
