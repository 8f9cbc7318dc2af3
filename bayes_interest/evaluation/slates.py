"""What a model would show: coverage, novelty, diversity, serendipity, popularity of slates.

A slate is the ordered list of the k best items just before an event; slates are arrays (event, k)
of item positions, -1 where a slate is shorter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import BAND, N_TRAIN, USER_SHARE, WINDOW
from bayes_interest.schema import ITEM_ID

CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of all windows, and what training says of them in each: (window, item)."""

    ids: pd.Index
    information: np.ndarray  # -log2 of the share of training users that met the item
    percentile: np.ndarray  # place in the order of training counts, 0 least to 1 most popular
    place: np.ndarray  # 1 is the most popular item of training; ties as in the log
    tail: np.ndarray  # in neither the head nor the middle band
    vectors: np.ndarray | None  # of length one, or zero where unknown, (item, embed_dim)


def make_catalogue(items: pd.DataFrame, vectors: pd.DataFrame | None) -> Catalogue:
    """From the item table of a backtest, and a table of item_id and vector."""
    ids = pd.Index(items[ITEM_ID].unique())
    n_windows = int(items[WINDOW].max()) + 1
    counts = np.full((n_windows, len(ids)), -1.0)
    share, tail = np.ones_like(counts), np.ones(counts.shape, dtype=bool)
    at = items[WINDOW].to_numpy(), ids.get_indexer(pd.Index(items[ITEM_ID]))
    counts[at], share[at] = items[N_TRAIN], items[USER_SHARE]
    tail[at] = (items[BAND] == "tail").to_numpy()
    percentile = (rankdata(counts, axis=1) - 1.0) / max(1, len(ids) - 1)
    place = rankdata(-counts, axis=1, method="ordinal")
    return Catalogue(ids, -np.log2(share), percentile, place, tail, _unit_vectors(ids, vectors))


def _unit_vectors(ids: pd.Index, vectors: pd.DataFrame | None) -> np.ndarray | None:
    if vectors is None or not len(vectors):
        return None
    given = np.stack([np.asarray(v, dtype=np.float32) for v in vectors["vector"]])
    given = given / np.maximum(np.linalg.norm(given, axis=1, keepdims=True), 1e-12)
    place = pd.Index(vectors[ITEM_ID]).get_indexer(ids)
    unit: np.ndarray = np.where(place[:, None] >= 0, given[place], np.float32(0.0))
    return unit


def slate_array(slates: pd.Series, ids: pd.Index, model: str) -> np.ndarray:
    """Lists of item ids -> positions in `ids`, (event, longest), -1 where there is none.

    Raises:
        InputError: a slate has an item that nobody knows, or one item twice.
    """
    lists = [() if _missing(entry) else entry for entry in slates]
    lengths = np.array([len(entry) for entry in lists], dtype=np.int64)
    flat = pd.Index([item for entry in lists for item in entry])
    found = ids.get_indexer(flat) if len(flat) else np.empty(0, dtype=np.int64)
    if (found < 0).any():
        raise InputError(f"model {model!r}: slate with unknown item {flat[found < 0][0]!r}")
    out = np.full((len(lists), int(lengths.max(initial=0))), -1, dtype=np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = found
    ordered = np.sort(out, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        raise InputError(
            f"model {model!r}: slate {list(lists[int(twice.any(1).argmax())])!r} has an item twice"
        )
    return out


def _missing(entry: object) -> bool:
    return entry is None or (isinstance(entry, float) and np.isnan(entry))


def mean_of_slate(values: np.ndarray, window: np.ndarray, slates: np.ndarray) -> np.ndarray:
    """Mean of values (window, item) over the items of each slate, (event,); NaN for empty ones."""
    inside = slates >= 0
    picked = values[window[:, None], np.maximum(slates, 0)]
    size = inside.sum(1)
    return np.where(size > 0, (picked * inside).sum(1) / np.maximum(size, 1), np.nan)


def diversity(slates: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """1 - mean cosine over the pairs of items of a slate, (event,); NaN with fewer than two.

    The intra-list diversity of Smyth and McClave (2001). Items without a vector are passed over.
    With m unit vectors: `sum over pairs = (|sum v|^2 - m) / 2`.
    """
    known = (slates >= 0) & np.asarray(unit.any(axis=1))[np.maximum(slates, 0)]
    count = known.sum(1)
    squares = np.empty(len(slates))
    size = max(1, CELLS // max(1, slates.shape[1] * unit.shape[1]))
    for begin in range(0, len(slates), size):
        part = slice(begin, begin + size)
        vectors = unit[np.maximum(slates[part], 0)].astype(np.float64)
        squares[part] = ((vectors * known[part][:, :, None]).sum(1) ** 2).sum(1)
    cosine = (squares - count) / np.maximum(count * (count - 1.0), 1.0)
    return np.where(count > 1, 1.0 - cosine, np.nan)


def coverage(slates: np.ndarray, n_items: int) -> float:
    """Share of the items that are in some slate; NaN without a slate."""
    shown = np.unique(slates[slates >= 0])
    return len(shown) / n_items if len(shown) else float("nan")
