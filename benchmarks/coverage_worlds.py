"""The drawn worlds of `coverage.py`: logs of unlike users and items, fits, and every asked pair."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

import bayes_interest as bi
from bayes_interest.schema import ITEM_ID, LOWER, PROBABILITY, TIMESTAMP, UPPER, USER_ID, VALUE

PROB, LATER_DAYS = 0.9, 60.0
HISTORIES = {"never seen": (0, 0), "2": (2, 2), "3-9": (3, 9), "10-29": (10, 29), "30+": (30, 50)}
AGAIN = 100_000
SKEW = 1.6
"""Item number k is shown with a chance in proportion to k ** -SKEW."""
WELL_SPECIFIED = {"popularity_days": None, "repeats": False, "succession": False,
                  "likeness": False, "event_drift": False}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "bernoulli": {"emission": "bernoulli"},
    "rating": {"emission": "rating"},
    "choice": {"emission": "choice", **WELL_SPECIFIED},
    "choice, all defaults": {"emission": "choice"},
    "bernoulli, points": {"emission": "bernoulli"},
}
POINTS = "bernoulli, points"
"""Fitted without draws of the globals, to see what those are for; of large worlds only."""


@dataclass(frozen=True)
class Size:
    """A kind of world."""

    users: int  # of each kind of history
    items: int
    cold: int  # of the items
    embed_dim: int
    drift_scales: tuple[float, ...]  # per sqrt day
    fit: dict[str, Any]
    from_prior: bool = False  # bias, cut points and all scales too, drift scales around those


SIZES = {
    "small": Size(5, 15, 3, 4, (0.02, 0.1), {"holdout": 0.0, "max_epochs": 40}),
    "prior": Size(
        5, 15, 3, 4, (0.0097, 0.097), {"holdout": 0.0, "max_epochs": 40}, from_prior=True
    ),
    "middle": Size(40, 60, 8, 8, (0.02, 0.05, 0.1), {}),
    "large": Size(150, 200, 20, 16, (0.02, 0.05, 0.1), {}),
    "wide": Size(20, 60, 6, 384, (0.02, 0.1), {"holdout": 0.0, "max_epochs": 40}),
    "deep": Size(
        20, 60, 6, 32, tuple(np.geomspace(0.0097, 0.097, 16).tolist()),
        {"holdout": 0.0, "max_epochs": 40}, from_prior=True,
    ),
    "quick": Size(2, 8, 2, 2, (0.05,), {"holdout": 0.0, "max_epochs": 2, "n_members": 1}),
}  # fmt: skip
Fit = Callable[[bi.InterestModel, bi.Simulation, Size], bi.InterestModel]


def fitted(model: bi.InterestModel, drawn: bi.Simulation, size: Size) -> bi.InterestModel:
    """Fit as the README says for a log of this size; cold items come to the catalogue later."""
    catalogue = pd.DataFrame({ITEM_ID: drawn.vectors[ITEM_ID], "text": ""})
    offered = catalogue[: drawn.truth.layout.n_items - size.cold]
    model.fit(drawn.events, offered, bi.FitConfig(progress=False, **size.fit))
    return model.update(drawn.events.frame[:0], items=catalogue)


def draw(case: str, size: Size, seed: int) -> bi.Simulation:
    """One world: which users have how many events and which items are cold is set beforehand.

    Drawn again where some outcome never comes: such a log is of another family.
    """
    rng = np.random.default_rng((seed, 1))
    spans = list(HISTORIES.values())
    lengths = [int(rng.integers(low, high + 1)) for low, high in spans for _ in range(size.users)]
    exposure = np.arange(1, size.items + 1) ** -SKEW
    exposure[size.items - size.cold :] = 0.0
    worlds = (
        bi.simulate(
            len(lengths), size.items, lengths, CASES[case]["emission"], size.drift_scales,
            size.embed_dim, exposure=exposure.tolist(), from_prior=size.from_prior,
            seed=seed + AGAIN * turn,
        )
        for turn in count()
    )  # fmt: skip
    return next(drawn for drawn in worlds if _has_every_outcome(drawn))


def _has_every_outcome(drawn: bi.Simulation) -> bool:
    frame, layout = drawn.events.frame, drawn.truth.layout
    levels = layout.n_levels if layout.emission == "rating" else 2
    return VALUE not in frame or frame[VALUE].nunique() == levels


def pairs(case: str, size_name: str, seed: int, fit: Fit = fitted) -> pd.DataFrame:
    """Truth and interval of every user with every item, at the last event and later.

    Columns: user_id, item_id, probability, lower, upper, mean, later, and how many events of the
    log the user and the item have; `attrs` has the draws of the globals and the seconds of the fit.
    """
    size = SIZES[size_name]
    if case == POINTS:
        size = replace(size, fit=size.fit | {"n_members": 1})
    drawn, began = draw(case, size, seed), time.perf_counter()
    config = bi.ModelConfig(state_dim=len(size.drift_scales), **CASES[case])
    model = bi.InterestModel(config, bi.PrecomputedVectors(drawn.vectors))
    model = fit(model, drawn, size)
    seconds = time.perf_counter() - began
    parts = [
        asked(model, drawn.truth_after(days, seed)).assign(later=days > 0.0)
        for days in (0.0, LATER_DAYS)
    ]
    table = pd.concat(parts, ignore_index=True)
    frame = drawn.events.frame
    for name, column in ((USER_ID, "user_events"), (ITEM_ID, "item_events")):
        counts = frame[name].value_counts()
        table[column] = table[name].map(counts).fillna(0).astype(int)
    table = table[~table["later"] | (table["user_events"] > 0)]  # who has no event has no "later"
    offered = drawn.truth.layout.n_items - size.cold
    table["cold"] = table[ITEM_ID].str[1:].astype(int) >= offered
    table.attrs = {"members": len(model.posterior.members), "seconds": round(seconds, 1)}
    return table


def asked(model: bi.InterestModel, truth: pd.DataFrame) -> pd.DataFrame:
    """The truth with mean and bounds beside it, each user asked at the moment of the truth."""
    parts = []
    for (user, second), own in truth.groupby([USER_ID, TIMESTAMP], sort=False):
        found = model.interest([user], own[ITEM_ID].tolist(), second, PROB)
        parts.append(found[["mean", LOWER, UPPER]].set_index(own.index))
    columns = truth[[USER_ID, ITEM_ID, PROBABILITY]]
    return pd.concat((columns, pd.concat(parts).reindex(truth.index)), axis=1)
