"""The problems: states at known globals, and worlds whose globals are hidden too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyro
import torch

from bayes_interest.events.history import History, make_history
from bayes_interest.model.batch import whole_batch
from bayes_interest.model.generative import Design, interest_program
from bayes_interest.model.parameters import Globals, Layout, draw_prior, item_terms
from bayes_interest.model.worlds import World, draw_world

N_ITEMS, EMBED_DIM, N_LEVELS, DAYS = 23, 5, 5, 60
JOINT_ITEMS, JOINT_EMBED, JOINT_LEVELS, DRIFT_CENTRE = 15, 2, 4, 0.1
LEAST_VECTOR, DRIFT_FACTOR, MOST_OF_ONE = 0.5, 2.0, 0.8


@dataclass(frozen=True)
class Size:
    n_users: int
    n_steps: int
    state_dim: int
    n_draws: int
    n_warmup: int


def conditioned_problem(emission: str, size: Size) -> tuple[Design, Globals, History]:
    """Outcomes drawn from the program itself at known globals, at random times over `DAYS`.

    Uses the global random state.
    """
    generator = torch.Generator().manual_seed(0)
    layout = Layout(
        emission,
        size.state_dim,
        EMBED_DIM,
        N_ITEMS,
        n_levels=N_LEVELS,
        log_drift_centre=tuple(np.linspace(-2.5, -1.0, size.state_dim)),
    )
    values = draw_prior(layout, generator, torch.zeros(1, dtype=torch.float64))
    values["log_drift"] = torch.tensor(layout.log_drift_centre, dtype=torch.float64)
    if emission == "bernoulli":
        values["bias"] = torch.zeros((), dtype=torch.float64)
    elif emission == "rating":
        values["raw_cuts"] = torch.tensor([-1.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    features = torch.randn(N_ITEMS, EMBED_DIM, generator=generator, dtype=torch.float64)
    history = _shown(size)
    design = Design(layout, features, whole_batch(history, torch.float64))
    program = pyro.condition(interest_program, data=values)
    outcome = program(design, observed=False)
    if emission == "choice":  # an outcome is the item itself
        history = replace(history, item_index=outcome[design.batch.mask].numpy())
    batch = replace(whole_batch(history, torch.float64), outcome=outcome.to(torch.float64))
    return replace(design, batch=batch), values, history


def _shown(size: Size) -> History:
    """Random items at random times, without outcomes."""
    rng, n_events = np.random.default_rng(0), size.n_users * size.n_steps
    zeros = np.zeros(n_events)
    return make_history(
        np.repeat(np.arange(size.n_users), size.n_steps),
        rng.integers(0, N_ITEMS, n_events),
        rng.uniform(0.0, DAYS * 86_400.0, n_events),
        zeros,
        zeros.astype(int),
        size.n_users,
    )


def joint_world(emission: str, n_users: int, n_steps: int, first_seed: int = 0) -> World:
    """The first world drawn from the prior, seeds going up, in which interests tell and move.

    Its drift scale is within `DRIFT_FACTOR` of its prior's centre, its item vectors have a mean
    length of at least `LEAST_VECTOR`, and no outcome has more than `MOST_OF_ONE` of the events.
    """
    layout = Layout(
        emission,
        1,
        JOINT_EMBED,
        JOINT_ITEMS,
        n_levels=JOINT_LEVELS,
        log_drift_centre=(float(np.log(DRIFT_CENTRE)),),
    )
    seed = first_seed
    while True:
        world = draw_world(layout, np.full(n_users, n_steps), JOINT_ITEMS, float(DAYS), seed)
        if emission == "choice":  # an outcome is the item itself
            batch = replace(world.design.batch, outcome=world.design.batch.item.double())
            world = replace(world, design=replace(world.design, batch=batch))
        if _tells(world):
            return world
        seed += 1


def _tells(world: World) -> bool:
    vectors = item_terms(world.design.layout, world.values, world.design.features).vectors
    away = float((world.values["log_drift"] - np.log(DRIFT_CENTRE)).abs().max())
    outcome = world.design.batch.outcome[world.design.batch.mask].numpy()
    shares = np.unique(outcome, return_counts=True)[1] / len(outcome)
    return bool(
        away <= np.log(DRIFT_FACTOR)
        and float(vectors.norm(dim=1).mean()) >= LEAST_VECTOR
        and shares.max() <= MOST_OF_ONE
    )
