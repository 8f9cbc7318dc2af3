"""The rivals once more, one event at a time, from data frames and external ids only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

WEEK = 7 * 86_400.0
Scorer = Callable[[pd.Series, pd.DataFrame, str], float]  # event, its strict past, item


def past(log: pd.DataFrame, event: pd.Series) -> pd.DataFrame:
    """Events with a strictly earlier timestamp."""
    return log[log["timestamp"] < event["timestamp"]]


def count_scorer(days: float | None) -> Scorer:
    """Positive events of the item in the last days, or ever."""

    def score(event: pd.Series, before: pd.DataFrame, item: str) -> float:
        mine = before[(before["item_id"] == item) & before["positive"]]
        if days is not None:
            mine = mine[mine["timestamp"] >= event["timestamp"] - days * 86_400.0]
        return float(len(mine))

    return score


def rate_scorer(strength: float) -> Scorer:
    """Smoothed positive rate of the item."""

    def score(event: pd.Series, before: pd.DataFrame, item: str) -> float:
        rate = (before["positive"].sum() + 0.5) / (len(before) + 1.0)
        mine = before[before["item_id"] == item]
        return float((mine["positive"].sum() + strength * rate) / (len(mine) + strength))

    return score


def cosine_scorer(vectors: dict[str, np.ndarray]) -> Scorer:
    """Cosine with the mean vector of the user's earlier positive items."""

    def score(event: pd.Series, before: pd.DataFrame, item: str) -> float:
        mine = before[(before["user_id"] == event["user_id"]) & before["positive"]]
        if mine.empty:
            return 0.0
        mean = np.mean([vectors[other] for other in mine["item_id"]], axis=0)
        size = np.linalg.norm(mean) * np.linalg.norm(vectors[item])
        return float(mean @ vectors[item] / size) if size > 0 else 0.0

    return score


def score_table(log: pd.DataFrame, events: pd.DataFrame, items: list[str], scorer: Scorer):
    """(event, item), a cell at a time."""
    table = np.empty((len(events), len(items)))
    for row, (_, event) in enumerate(events.iterrows()):
        before = past(log, event)
        table[row] = [scorer(event, before, item) for item in items]
    return table


def pessimistic_ranks(
    log: pd.DataFrame,
    events: pd.DataFrame,
    items: list[str],
    table: np.ndarray,
    exclude_seen: bool,
) -> list[int]:
    """1 + other candidates that score at least as much; `log` is in time order."""
    ranks = []
    for row, (label, event) in enumerate(events.iterrows()):
        mine = log[(log["user_id"] == event["user_id"]) & (log.index < label)]
        seen = set(mine["item_id"]) if exclude_seen else set()
        own = table[row, items.index(event["item_id"])]
        others = [
            item
            for column, item in enumerate(items)
            if item != event["item_id"] and item not in seen and table[row, column] >= own - 1e-6
        ]
        ranks.append(1 + len(others))
    return ranks
