"""What a held-back slice decides about a choice model of a small log."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayes_interest import FitConfig, InterestModel, ModelConfig, PrecomputedVectors, simulate
from bayes_interest.posterior import held_back

QUICK = FitConfig(max_epochs=20, n_members=1, holdout=0.2, progress=False)
EXTRAS = ("popularity_days", "repeats", "succession", "likeness", "event_drift")
ALL, NONE = [True, True, True, True, True], [False, False, False, False, False]


@cache
def log() -> Any:
    """Choices by drifting interest alone."""
    return simulate(60, 10, 20, "choice", (0.02, 0.1), embed_dim=4, seed=2)


def repeated() -> pd.DataFrame:
    """The same people, who mostly take what they took last."""
    frame = log().events.frame.sort_values(["user_id", "timestamp"])
    rng, items = np.random.default_rng(0), frame["item_id"].to_numpy(dtype=object).copy()
    users = frame["user_id"].to_numpy()
    for row in range(1, len(items)):
        if users[row] == users[row - 1] and rng.random() < 0.7:
            items[row] = items[row - 1]
    return frame.assign(item_id=items)


def fitted(events: Any, run: FitConfig = QUICK, **config: Any) -> InterestModel:
    settings = {"emission": "choice", "state_dim": 2} | config
    door = InterestModel(ModelConfig(**settings), PrecomputedVectors(log().vectors))
    return door.fit(events, config=run)


def extras(door: InterestModel) -> list[bool]:
    config = door.posterior.config
    return [bool(getattr(config, name)) for name in EXTRAS]


def test_choices_by_interest_alone_get_no_covariates() -> None:
    door = fitted(log().events)
    assert extras(door) == NONE
    assert "covariate_weight" not in door.posterior.values
    told = [note for note in door.posterior.summary.notes if note.startswith("popularity_days, ")]
    assert len(told) == 1
    assert "without" in told[0]


def test_choices_that_repeat_themselves_keep_them() -> None:
    assert extras(fitted(repeated())) == ALL


def test_what_was_asked_for_stays() -> None:
    door = fitted(log().events, repeats=True, event_drift=True)
    assert extras(door) == [False, True, False, False, True]


def test_without_a_slice_and_in_large_logs_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_slice = FitConfig(max_epochs=1, n_members=1, holdout=0.0, progress=False)
    assert extras(fitted(log().events, no_slice)) == ALL
    monkeypatch.setattr(held_back, "draws_all", lambda problem: False)
    assert extras(fitted(log().events)) == ALL
