"""Small logs for the rivals, with many ties, and slow looks at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.baselines import all_rivals
from bayes_interest.baselines.base import Baseline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.precomputed import PrecomputedVectors

N_USERS, N_ITEMS, N_EVENTS, N_TRAIN = 5, 11, 127, 103
ITEMS = [f"i{i:02d}" for i in range(N_ITEMS)]
FAMILIES = ("bernoulli", "rating", "choice")
RUN = FitConfig(max_epochs=2, progress=False, device="cpu")
TINY: dict[str, dict[str, Any]] = {
    "feature_bayes": {"n_clusters": 3},
    "matrix_factorization": {"factors": 3, "iterations": 3},
    "interest_strength_net": {"hidden_dim": 5, "batch_events": 31},
    "gru": {"hidden_dim": 6, "max_len": 7, "batch_events": 31},
    "lstm": {"hidden_dim": 6, "max_len": 7, "batch_events": 31},
    "sasrec": {"hidden_dim": 6, "max_len": 7, "batch_events": 31, "n_layers": 1},
}
"""Options that keep the trained rivals quick."""
RIVALS = [(family, name) for family in FAMILIES for name in all_rivals(family)]


def make_frame(family: str, seed: int = 3) -> pd.DataFrame:
    """Whole days, so many ties in and between users; items come again."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in rng.integers(0, N_USERS, N_EVENTS)],
            "item_id": [ITEMS[i] for i in rng.integers(0, N_ITEMS, N_EVENTS)],
            "timestamp": 1_600_000_000 + 86_400 * np.sort(rng.integers(0, 60, N_EVENTS)),
            "value": rng.integers(0, 2 if family == "bernoulli" else 5, N_EVENTS).astype(float),
        }
    )
    return frame.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)


def vectors_of_items() -> np.ndarray:
    """Two items share a vector."""
    vectors = np.random.default_rng(4).normal(size=(N_ITEMS, 3)).astype(np.float32)
    vectors[7] = vectors[2]
    return vectors


def encoder() -> PrecomputedVectors:
    return PrecomputedVectors(vectors_of_items(), item_ids=ITEMS)


def config_of(family: str) -> ModelConfig:
    threshold = None if family == "bernoulli" else 3.0
    return ModelConfig(emission=family, state_dim=2, positive_threshold=threshold)


def cut(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    at = frame["timestamp"].iloc[N_TRAIN]
    early = frame["timestamp"] < at
    return frame[early].reset_index(drop=True), frame[~early].reset_index(drop=True)


def with_positive(frame: pd.DataFrame, family: str) -> pd.DataFrame:
    least = 1.0 if family == "bernoulli" else 3.0
    return frame.assign(positive=frame["value"] >= least)


def make(family: str, name: str, **options: Any) -> Baseline[Any]:
    """A rival of the registry, with options that keep it quick."""
    found = all_rivals(family)[name]
    return found(config_of(family), encoder(), **(TINY.get(name, {}) | options))


def fit(family: str, name: str, run: FitConfig = RUN, **options: Any) -> Baseline[Any]:
    """The same, fitted to the early part of the small log."""
    return make(family, name, **options).fit(cut(make_frame(family))[0], config=run)
