"""Logs with histories and items of unlike length, and the truth later on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError
from bayes_interest.model.parameters import SCALE_CENTRES
from bayes_interest.model.simulate import simulate

LENGTHS = [0, 1, 7, 40, 0]
EXPOSURE = [4.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("emission", ["bernoulli", "rating", "choice"])
def test_users_have_the_events_asked_for_and_cold_items_none(emission: EmissionName) -> None:
    drawn = simulate(5, 4, LENGTHS, emission, exposure=EXPOSURE, seed=2)
    frame = drawn.events.frame
    counts = frame["user_id"].value_counts().to_dict()
    assert counts == {"u00001": 1, "u00002": 7, "u00003": 40}
    assert set(frame["item_id"]) == {"i00000", "i00001", "i00003"}
    assert len(drawn.final_truth) == 5 * 4


def test_items_are_shown_in_proportion() -> None:
    drawn = simulate(40, 4, [100] * 40, exposure=EXPOSURE, seed=1)
    shares = drawn.events.frame["item_id"].value_counts(normalize=True).sort_index()
    assert shares.to_numpy() == pytest.approx([4 / 6, 1 / 6, 1 / 6], abs=0.03)


def test_choices_are_made_among_shown_items() -> None:
    drawn = simulate(5, 4, LENGTHS, "choice", exposure=EXPOSURE, seed=2)
    last = drawn.event_truth[drawn.event_truth["user_id"] == "u00003"].iloc[-1]
    final = drawn.final_truth[drawn.final_truth["user_id"] == "u00003"].set_index("item_id")
    chance = final["probability"]
    expected = chance[last["item_id"]] / (1.0 - chance["i00002"])
    assert last["probability"] == pytest.approx(expected)


def test_truth_after_no_time_is_the_final_truth_and_walks_on_from_it() -> None:
    lengths = [0] + [3] * 400
    drawn = simulate(401, 3, lengths, drift_scales=(0.1,), seed=5)
    now, later = drawn.truth_after(0.0), drawn.truth_after(60.0, seed=1)
    assert now.drop(columns="timestamp").equals(drawn.final_truth)
    assert (later["timestamp"] - now["timestamp"])[3:].to_numpy() == pytest.approx(60 * 86_400.0)
    assert later[:3].equals(now[:3])  # never seen: as it begins
    vector = drawn.truth.items.vectors[0]
    logits = [np.log(t["probability"] / (1 - t["probability"]))[3::3] for t in (now, later)]
    moved = (logits[1] - logits[0]) / float(vector[0])
    assert moved.std() == pytest.approx(0.1 * np.sqrt(60.0), rel=0.1)


@pytest.mark.parametrize("emission", ["bernoulli", "rating", "choice"])
def test_scales_are_at_their_centres_or_drawn_from_the_prior(emission: EmissionName) -> None:
    size: dict[str, Any] = {"n_users": 3, "n_items": 4, "events_per_user": 3, "emission": emission}
    fixed = simulate(**size, drift_scales=(0.01, 0.1)).truth
    assert fixed.drift_scales == pytest.approx([0.01, 0.1])
    away = []
    for seed in range(200):
        truth = simulate(**size, drift_scales=(0.01, 0.1), from_prior=True, seed=seed).truth
        values = {name: value.numpy() for name, value in truth.values.items()}
        values["log_drift"] = values["log_drift"] - np.log([0.01, 0.1])
        parts = {
            "log_drift": 1.5, "log_offset_scale": 1.0, "log_residual_scale": 1.0,
            "bias": 3.0, "raw_cuts": 2.0,
        }  # fmt: skip
        about = {name: values[name] for name in parts if name in values}
        for name, scale in SCALE_CENTRES.items():
            about[name] = about[name] - scale
        if "raw_cuts" in about:
            about["raw_cuts"] = about["raw_cuts"] + 0.5
        flat = [one.reshape(-1) / parts[name] for name, one in about.items()]
        away.append(np.concatenate(flat))
    each = np.stack(away)
    assert np.abs(each.mean(0)).max() < 0.25  # of 200 standard normals: 3.5 sds of their mean
    assert each.std(0) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"events_per_user": [3, 4]},
        {"events_per_user": [0, 0, 0]},
        {"events_per_user": [3, -1, 2]},
        {"events_per_user": 0},
        {"exposure": [1.0]},
        {"exposure": [1.0, 0.0, 0.0, 0.0]},
        {"exposure": [1.0, np.nan, 1.0, 1.0]},
        {"exposure": [1.0, -1.0, 1.0, 1.0]},
    ],
)
def test_impossible_logs_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        simulate(3, 4, **wrong)
