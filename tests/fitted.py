"""Small fitted models, each fitted once per process; a `model` is a fresh door to one of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.simulate import Simulation, simulate
from bayes_interest.posterior import covariates, held_back
from bayes_interest.posterior.online import absorb, restarted
from bayes_interest.text.precomputed import PrecomputedVectors

FAMILIES: tuple[EmissionName, ...] = ("bernoulli", "rating", "choice")
QUICK = FitConfig(max_epochs=3, n_members=1, progress=False)
CONTEXT = {"context_layers": 2, "context_dim": 6, "context_events": 3}
N_USERS, N_ITEMS, STATE_DIM = 23, 11, 3
LEVELS = 5


@cache
def simulation(emission: EmissionName) -> Simulation:
    return simulate(
        n_users=N_USERS,
        n_items=N_ITEMS,
        events_per_user=13,
        emission=emission,
        drift_scales=(0.02, 0.05, 0.1),
        embed_dim=7,
        days=97.0,
        n_levels=LEVELS,
        seed=5,
    )


@cache
def parts(emission: EmissionName) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test, in time order, as plain frames."""
    train, test = split_by_time(simulation(emission).events, fraction=0.25)
    return train.frame, test.frame


@cache
def encoder(emission: EmissionName) -> PrecomputedVectors:
    return PrecomputedVectors(simulation(emission).vectors)


def fit(
    events: object, data: EmissionName, fit_config: FitConfig = QUICK, **config: Any
) -> InterestModel:
    """A model of some events with the item vectors of a family's simulation, fitted now.

    Running rates get weights, and choices covariates, even where so small a log hardly speaks for
    them, so that tests meet them.
    """
    chosen = ModelConfig(**{"emission": data, "state_dim": STATE_DIM} | config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covariates, "CHANCE", 1.0)
        patch.setattr(held_back, "EXTRAS", {})
        return InterestModel(chosen, encoder(data)).fit(events, config=fit_config)


@cache
def _fitted(emission: EmissionName, config: tuple[tuple[str, Any], ...]) -> InterestModel:
    return fit(parts(emission)[0], emission, **dict(config))


def model(emission: EmissionName, **config: Any) -> InterestModel:
    """A door of its own to a model fitted on the train part."""
    shared = _fitted(emission, tuple(sorted(config.items())))
    door = InterestModel(shared.config, shared.encoder)
    door._posterior = shared.posterior
    return door


@cache
def _loud(emission: EmissionName, config: tuple[tuple[str, Any], ...]) -> InterestModel:
    quiet = _fitted(emission, config).posterior
    head = quiet.values["context_head"]
    noise = torch.randn(head.shape, generator=torch.Generator().manual_seed(0)).to(head)
    values = quiet.values | {"context_head": 0.5 * noise}
    door = InterestModel(quiet.config, encoder(emission))
    door._posterior = absorb(restarted(replace(quiet, values=values)), quiet.history)
    return door


def loud(emission: EmissionName, **config: Any) -> InterestModel:
    """A model with a context that says a lot; three epochs teach it little."""
    shared = _loud(emission, tuple(sorted((CONTEXT | config).items())))
    door = InterestModel(shared.config, shared.encoder)
    door._posterior = shared.posterior
    return door


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Equal tables, bit for bit."""
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def numbers(table: pd.DataFrame) -> np.ndarray:
    """mean, sd, lower and upper as one array."""
    out: np.ndarray = table[["mean", "sd", "lower", "upper"]].to_numpy()
    return out
