"""The table of global parameters: the right numbers, and words that are true of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import InputError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.summary import COLUMNS
from bayes_interest.statespace.random_walk import elapsed_growth
from tests.fitted import FAMILIES, LEVELS, STATE_DIM, fit, model, parts, simulation


@pytest.mark.parametrize("emission", FAMILIES)
def test_points_are_shown_with_blanks(emission: EmissionName) -> None:
    table, values = model(emission).summary(), model(emission).posterior.values
    assert table.columns.tolist() == COLUMNS
    assert table[["sd", "lower", "upper"]].isna().all(axis=None)
    assert table["mean"].notna().all()
    assert table.attrs == {"emission": emission, "n_draws": 0, "prob": 0.9}
    drift = table[table["parameter"] == "drift_scale"]
    np.testing.assert_allclose(drift["mean"], values["log_drift"].exp(), rtol=1e-6)
    assert drift["dimension"].tolist() == [str(place) for place in range(STATE_DIM)]
    shown = set(table["parameter"])
    assert ("cut_point" in shown) == (emission == "rating")
    assert ("bias" in shown) == (emission == "bernoulli")
    assert ("event_drift_scale" in shown) == (emission == "choice")
    assert "item_spread" not in shown
    weights = table[table["parameter"] == "covariate_weight"]
    assert tuple(weights["dimension"]) == model(emission).posterior.layout.kinds.names
    for name, text in zip(weights["dimension"], weights["meaning"], strict=True):
        assert name not in text  # said in words
        assert "{" not in text
    assert all(isinstance(text, str) and text.endswith(".") for text in table["meaning"])


def test_cut_points_increase_and_say_their_rating() -> None:
    table = model("rating").summary().set_index("parameter").loc["cut_point"]
    assert len(table) == LEVELS - 1
    assert table["mean"].is_monotonic_increasing
    assert table["dimension"].tolist() == [f"rating >= {level}" for level in range(1, LEVELS)]


@pytest.fixture(scope="module")
def drawn() -> InterestModel:
    config = FitConfig(max_epochs=1, n_members=5, progress=False)
    return fit(parts("bernoulli")[0], "bernoulli", config, state_dim=2)


def test_intervals_come_from_the_draws(drawn: InterestModel) -> None:
    table = drawn.summary(prob=0.5)
    assert table.attrs["n_draws"] == 5
    bias = np.array([float(one.values["bias"]) for one in drawn.posterior.members])
    row = table.set_index("parameter").loc["bias"]
    assert row["mean"] == pytest.approx(bias.mean(), rel=1e-5)
    assert row["sd"] == pytest.approx(bias.std(ddof=1), rel=1e-5)
    assert [row["lower"], row["upper"]] == pytest.approx(np.quantile(bias, [0.25, 0.75]), rel=1e-4)
    wide = drawn.summary(prob=0.9).set_index("parameter").loc["bias"]
    assert wide["upper"] - wide["lower"] > row["upper"] - row["lower"]
    point = table[table["parameter"] == "covariate_weight"]
    assert point[["sd", "lower", "upper"]].isna().all(axis=None)


@pytest.mark.parametrize("half_life_days", [None, 40.0])
def test_half_forgotten_means_half_of_the_variance(half_life_days: float | None) -> None:
    door = model("bernoulli", half_life_days=half_life_days)
    table = door.summary()
    row = table[table["parameter"] == "drift_scale"].iloc[-1]
    words = row["meaning"].split()
    number, unit = float(words[words.index("after") + 1]), words[words.index("after") + 2]
    days = number * {"hours:": 1 / 24, "days:": 1.0, "years:": 365.25}[unit]
    decay, growth = elapsed_growth(torch.tensor([days], dtype=torch.float64), half_life_days)
    kept = float(decay**2 / (decay**2 + growth * row["mean"] ** 2))
    assert kept == pytest.approx(0.5, abs=0.01)


def test_kinds_are_measured_by_the_reference() -> None:
    log = simulation("bernoulli").events.frame.copy()
    log["kind"] = np.where(np.arange(len(log)) % 3 == 0, "click", "view")
    door = fit(log, "bernoulli")
    table = door.summary().set_index("parameter").loc["reliability"].set_index("dimension")
    assert table.index.tolist() == list(door.posterior.vocabulary.kinds) == ["view", "click"]
    assert table.loc["view", "mean"] == 1.0
    ratio = math.exp(float(door.posterior.values["log_reliability"][0]))
    assert table.loc["click", "mean"] == pytest.approx(ratio, rel=1e-5)
    more = "more" if ratio > 1.0 else "less"
    assert f"kind 'click' says {more} of interest" in table.loc["click", "meaning"]
    constant = door.to_arviz(["u00001"], draws=2, prior_draws=0)["constant_data"]
    assert set(constant["event_kind"].values) == {"view", "click"}
    assert constant["reliability"]["kind"].values.tolist() == ["view", "click"]


def test_the_table_can_be_written() -> None:
    table = model("choice").summary()
    assert table["dimension"].map(type).eq(str).all()
    assert pd.api.types.is_float_dtype(table["sd"])


@pytest.mark.parametrize("prob", [0.0, 1.0, 90])
def test_prob_is_a_mass(prob: float) -> None:
    with pytest.raises(InputError, match=f"prob={prob}"):
        model("bernoulli").summary(prob=prob)
