"""Drawn logs with models that know the globals, so that what they say of users can be judged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.simulate import Simulation, simulate
from bayes_interest.posterior.online import absorb, restarted
from bayes_interest.text.precomputed import PrecomputedVectors


@cache
def known(emission: EmissionName, n_users: int) -> tuple[Simulation, InterestModel]:
    """A log, and a model with the globals it was drawn with that has learned of users alone."""
    log = simulate(
        n_users=n_users, n_items=12, events_per_user=25, emission=emission,
        drift_scales=(0.1, 0.2), embed_dim=4, days=200.0, seed=3,
    )  # fmt: skip
    config = ModelConfig(
        emission=emission, state_dim=2, event_drift=False, popularity_days=None, repeats=False,
        succession=False, likeness=False, rates=False, dtype="float64",
    )  # fmt: skip
    fit = FitConfig(max_epochs=1, n_members=1, progress=False, holdout=0.0)
    door = InterestModel(config, PrecomputedVectors(log.vectors)).fit(log.events, config=fit)
    posterior, truth = door.posterior, log.truth
    order = [int(item[1:]) for item in posterior.vocabulary.items.ids]
    values = {name: truth.values[name] for name in posterior.values}
    values |= {name: values[name][order] for name in ("residual", "offset")}
    features = torch.as_tensor(np.stack(log.vectors["vector"])[order]).double()
    none = torch.zeros_like(posterior.item_cov)
    told = replace(posterior, values=values, features=features, item_cov=none)
    door._posterior = absorb(restarted(told), told.history)
    torch.testing.assert_close(
        door.posterior.items.vectors, truth.items.vectors[order], rtol=1e-4, atol=1e-5
    )
    return log, door
