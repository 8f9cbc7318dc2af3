"""Small logs, and models whose figures are known without a computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import FitConfig
from bayes_interest.events.read import read_events, read_items

DAY = 86_400


def make_log(
    n_users: int = 29, n_items: int = 17, n_events: int = 500, seed: int = 0, binary: bool = True
) -> pd.DataFrame:
    """Events at random times over a year; items of low number are met and liked more often."""
    rng = np.random.default_rng(seed)
    item = np.minimum(rng.geometric(0.15, n_events) - 1, n_items - 1)
    liked = rng.uniform(size=n_events) < 0.8 - 0.6 * item / n_items
    frame = pd.DataFrame(
        {
            "user_id": [f"u{u:02d}" for u in rng.integers(0, n_users, n_events)],
            "item_id": [f"i{i:02d}" for i in item],
            "timestamp": 1_600_000_000 + np.sort(rng.choice(365 * DAY, n_events, replace=False)),
        }
    )
    return frame.assign(value=liked.astype(float)) if binary else frame


class Fake:
    """Predicts event by event with `predict`, then absorbs; counts how often it is fitted."""

    def __init__(self) -> None:
        self.fits: list[tuple[int, FitConfig | None]] = []

    def fit(self, events: Any, items: Any = None, config: FitConfig | None = None) -> Fake:
        self.train = read_events(events).frame
        self.items = [] if items is None else read_items(items).frame["item_id"].tolist()
        self.fits.append((len(self.train), config))
        return self

    def score_events(
        self, events: Any, items: Any = None, exclude_seen: bool = True, *, k: int | None = None
    ) -> pd.DataFrame:
        log = read_events(events)
        known = [*self.train["item_id"], *self.items, *log.frame["item_id"]]
        ids = np.array(sorted(set(known)), dtype=object)
        self.start(log.frame, ids)
        seen = {u: set(own) for u, own in self.train.groupby("user_id")["item_id"]}
        rows = []
        for event in log.frame.itertuples(index=False):
            met = seen.setdefault(event.user_id, set())
            rows.append(self.row(event, ids, met if exclude_seen else set(), k))
            met.add(event.item_id)
            self.absorb(event)
        table = pd.DataFrame(rows, index=log.row)
        ours = log.frame[["user_id", "item_id", "timestamp"]].set_axis(log.row, axis=0)
        return pd.concat((ours, table), axis=1).sort_index()

    def row(self, event: Any, ids: np.ndarray, met: set[str], k: int | None) -> dict[str, Any]:
        chance, scores = self.predict(event, ids)
        allowed = np.array([i not in met or i == event.item_id for i in ids])
        own = scores[ids == event.item_id][0]
        rank = int((scores[allowed] >= own).sum())  # the item itself is one of them
        outcome = getattr(event, "value", 1.0) >= 1.0
        row = {"mean": chance, "log_prob": np.log(chance if outcome else 1 - chance), "rank": rank}
        if k is not None:
            free = np.array([i not in met for i in ids])
            order = np.argsort(-scores[free], kind="stable")
            row["slate"] = ids[free][order][:k].tolist()
        return row

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        """Before the first event."""

    def absorb(self, event: Any) -> None:
        """After each event."""

    def predict(self, event: Any, ids: np.ndarray) -> tuple[float, np.ndarray]:
        raise NotImplementedError


class Oracle(Fake):
    """Knows every outcome, and puts the event's item first."""

    def predict(self, event: Any, ids: np.ndarray) -> tuple[float, np.ndarray]:
        positive = getattr(event, "value", 1.0) >= 1.0
        return (1.0 - 1e-9 if positive else 1e-9), (ids == event.item_id).astype(float)


class Chance(Fake):
    """Knows nothing: one half on average, and a random order."""

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        self.rng = np.random.default_rng(3)

    def predict(self, event: Any, ids: np.ndarray) -> tuple[float, np.ndarray]:
        return float(self.rng.uniform(0.3, 0.7)), self.rng.uniform(size=len(ids))


class Rates(Fake):
    """Honest: smoothed rate of the item so far, and items in order of their events so far."""

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        self.place = {item: i for i, item in enumerate(ids)}
        self.counts, self.likes = np.zeros(len(ids)), np.zeros(len(ids))
        for event in self.train.itertuples(index=False):
            self.absorb(event)

    def absorb(self, event: Any) -> None:
        self.counts[self.place[event.item_id]] += 1.0
        self.likes[self.place[event.item_id]] += getattr(event, "value", 1.0)

    def predict(self, event: Any, ids: np.ndarray) -> tuple[float, np.ndarray]:
        at = self.place[event.item_id]
        chance = (self.likes[at] + 1.0) / (self.counts[at] + 2.0)
        return float(chance), self.counts + np.linspace(1e-3, 0.0, len(ids))


class Silent(Rates):
    """Only orders items, and only for users of even number; gives no slates."""

    def score_events(  # type: ignore[override]
        self, events: Any, items: Any = None, exclude_seen: bool = True
    ) -> pd.DataFrame:
        table = super().score_events(events, items, exclude_seen)
        odd = table["user_id"].str[-1].isin(list("13579"))
        rank = table["rank"].astype(float).mask(odd)
        return table[["user_id", "item_id", "timestamp"]].assign(mean=np.nan, rank=rank)
