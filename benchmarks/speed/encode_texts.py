"""What is encoded, and how like two rankings are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

import bayes_interest as bi

JUDGED = 300
"""Texts whose cosines are compared."""


def corpora(data: Path, quick: bool) -> dict[str, list[str]]:
    """Texts by what they are; the last with the repeats of a log."""
    some = 40 if quick else 1
    films = pd.read_parquet(data / "ml-latest-small" / "items.parquet")
    products = pd.read_parquet(data / "completejourney" / "items.parquet")
    questions = pd.read_parquet(data / "stackexchange-small" / "items.parquet")
    tags = films["tags"].fillna("").astype(str)
    titles = films["title"] + np.where(tags != "", ". Tags: " + tags, "")
    of_film = dict(zip(films["item_id"].astype(str), titles, strict=True))
    column = [of_film[str(item)] for item in _events(data, 8_000 // some)["item_id"]]
    return {
        "film titles and tags": _drawn(titles, 2_000 // some),
        "products": _drawn(products["text"], 1_000 // some),
        "questions": _drawn(questions["text"], 320 // some),
        "item column of a film log": column,
    }


def _drawn(texts: pd.Series, count: int) -> list[str]:
    return texts.drop_duplicates().sample(count, random_state=0).tolist()


def _events(data: Path, count: int) -> pd.DataFrame:
    """The last events in time whose film has a text."""
    log = pd.read_parquet(data / "ml-latest-small" / "interactions.parquet")
    items = pd.read_parquet(data / "ml-latest-small" / "items.parquet", columns=["item_id"])
    log = log[log["item_id"].isin(items["item_id"])]
    return log.sort_values("timestamp", kind="stable").tail(count)


def kendall(a: np.ndarray, b: np.ndarray, texts: list[str] | None) -> float:
    """Mean over rows of Kendall's tau between two rankings of all other rows.

    Args:
        a: (n, embed_dim) vectors; or (user, item) scores, without `texts`.
        b: alike.
        texts: of the vectors; repeats are left out.
    """
    if texts is None:
        return float(np.mean([kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]))
    first = list({text: place for place, text in enumerate(texts)}.values())[:JUDGED]
    off = ~np.eye(len(first), dtype=bool)
    cosines = [(v[first] @ v[first].T)[off].reshape(len(first), -1) for v in map(_unit, (a, b))]
    return kendall(cosines[0], cosines[1], None)


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


@dataclass(frozen=True)
class Interest:
    """What a model fitted with one encoder's vectors says, and how long that took."""

    scores: np.ndarray  # (user, item)
    seconds: float


def fitted_interest(data: Path, quick: bool, encode: Callable[[list[str]], np.ndarray]) -> Interest:
    """Interest of 20 users in all items, after a short fit on the end of a log."""
    events = _events(data, 300 if quick else 4_000)
    films = pd.read_parquet(data / "ml-latest-small" / "items.parquet").set_index("item_id")
    ids = events["item_id"].drop_duplicates()
    vectors = encode(films.loc[ids, "title"].tolist())
    began = time.perf_counter()
    model = bi.InterestModel(
        bi.ModelConfig("bernoulli", 4, 4.0), bi.PrecomputedVectors(vectors, item_ids=ids)
    )
    model.fit(events, config=bi.FitConfig(max_epochs=3, seed=0, progress=False, n_members=1))
    users = events["user_id"].drop_duplicates().tolist()[:20]
    found = model.interest(users, ids.tolist())
    scores = found.pivot(index="user_id", columns="item_id", values="mean").to_numpy()
    return Interest(scores, time.perf_counter() - began)
