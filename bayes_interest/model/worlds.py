"""Worlds drawn from the Pyro program itself: globals, states and outcomes together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyro
import torch
from torch import Tensor

from bayes_interest.events.history import History, make_history
from bayes_interest.model.batch import whole_batch
from bayes_interest.model.generative import (
    Design,
    interest_program,
    sample_globals,
    walk_path,
)
from bayes_interest.model.parameters import Globals, Layout
from bayes_interest.model.seeding import seeded
from bayes_interest.schema import SECONDS_PER_DAY


@dataclass(frozen=True)
class World:
    """A log with everything that is hidden in real ones."""

    design: Design  # its batch holds the outcomes
    history: History  # and so does this
    values: Globals
    states: Tensor  # deviation y_u at every event, (user, step, state_dim)


def draw_world(layout: Layout, lengths: np.ndarray, n_shown: int, days: float, seed: int) -> World:
    """Users with `lengths` (user,) events at random times over `days`; items below `n_shown`.

    Items from `n_shown` on have a text and no event; of choice all are candidates. Global random
    state is left alone.
    """
    rng = np.random.default_rng(seed)
    n_events = int(lengths.sum())
    nothing = np.zeros(n_events, dtype=np.int64)
    history = make_history(
        np.repeat(np.arange(len(lengths)), lengths),
        rng.integers(0, n_shown, n_events),
        rng.uniform(0.0, days * SECONDS_PER_DAY, n_events),
        nothing,
        nothing,
        len(lengths),
    )
    features = torch.as_tensor(rng.standard_normal((layout.n_items, layout.embed_dim)))
    design = Design(layout, features, whole_batch(history, torch.float64))
    with seeded(seed, features.device):
        trace = pyro.poutine.trace(interest_program).get_trace(design, observed=False)
    found = {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    values = {name: found[name] for name in layout.shapes()}
    states = walk_path(found["innovation"], design.batch.walk(layout, values))
    outcome, batch = found["outcome"] * design.batch.mask, design.batch
    if layout.emission == "choice":
        history = replace(history, item_index=outcome[batch.mask].numpy())
        batch = replace(batch, item=outcome)
    else:
        batch = replace(batch, outcome=outcome.to(torch.float64))
        history = replace(history, outcome=batch.outcome[batch.mask].numpy())
    return World(replace(design, batch=batch), history, values, states)


def prior_globals(layout: Layout, like: Tensor) -> Globals:
    """All global parameters drawn from the program's prior; uses the global random state."""
    trace = pyro.poutine.trace(sample_globals).get_trace(layout, like)
    return {name: trace.nodes[name]["value"] for name in layout.shapes()}


def prior_paths(design: Design, values: Globals) -> tuple[Tensor, Tensor]:
    """Deviations (user, step, state_dim) and outcomes (user, step) of the program, given globals.

    Uses the global random state.
    """
    program = pyro.condition(interest_program, data=values)
    trace = pyro.poutine.trace(program).get_trace(design, observed=False)
    walk = design.batch.walk(design.layout, values)
    return walk_path(trace.nodes["innovation"]["value"], walk), trace.nodes["outcome"]["value"]
