"""The model, as a Pyro program: this is its definition; the fast code must agree with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.model.batch import Batch
from bayes_interest.model.elbo import event_terms
from bayes_interest.model.parameters import (
    Globals,
    Layout,
    item_terms,
    prior,
    reliability,
)
from bayes_interest.statespace.random_walk import Transition


@dataclass(frozen=True)
class Design:
    """What the program conditions on: sizes, item features, and the events' circumstances."""

    layout: Layout
    features: Tensor  # standardised text embeddings, (item, embed_dim)
    batch: Batch
    candidate_offset: Tensor | None = None  # choice: extra logits, (user, step, item)


def walk_path(innovation: Tensor, walk: Transition) -> Tensor:
    """States from standard-normal innovations, both (..., user, step, state_dim).

    The first innovation is the initial deviation itself: `y_1 = eps_1`, later
    `y_t = A_t y_{t-1} + sqrt(Q_t) eps_t`. A first gap (since before the log) adds nothing.
    """
    scale = walk.scale
    state = innovation[..., 0, :]
    path = [state]
    for t in range(1, innovation.shape[-2]):
        state = walk.decay[..., t, :] * state + scale[..., t, :] * innovation[..., t, :]
        path.append(state)
    return torch.stack(path, -2)


def sample_globals(layout: Layout, like: Tensor) -> Globals:
    """Sample every global parameter from its prior."""
    values: Globals = {}
    for name, shape in layout.shapes().items():
        mean, scale = prior(layout, name, values, like)
        values[name] = pyro.sample(name, dist.Normal(mean, scale).to_event(len(shape)))
    return values


def interest_program(design: Design, observed: bool = True) -> Tensor:
    """Globals, one random walk per user, one outcome per event; returns the outcomes."""
    layout, batch = design.layout, design.batch
    values = sample_globals(layout, design.features)
    items = item_terms(layout, values, design.features)
    design = replace(design, batch=batch.with_context(layout, values, items.vectors))
    walk = batch.walk(layout, values)
    n_users, n_steps = batch.mask.shape
    with pyro.plate("users", n_users, dim=-1):
        unit = torch.ones(n_steps, layout.state_dim, dtype=design.features.dtype)
        innovation = pyro.sample("innovation", dist.Normal(0.0 * unit, unit).to_event(2))
        state = walk_path(innovation, walk)
        emission = outcome_distribution(design, values, items.vectors, items.offsets, state)
        masked = emission.mask(batch.mask).to_event(1)
        obs = batch.outcome if observed else None
        return pyro.sample("outcome", masked, obs=obs)


def outcome_distribution(
    design: Design, values: Globals, vectors: Tensor, offsets: Tensor, state: Tensor
) -> dist.TorchDistribution:
    """The family's distribution of every event's outcome, batch shape (user, step)."""
    layout, batch = design.layout, design.batch
    if layout.emission == "choice":
        logits = batch.total(state) @ vectors.T + offsets
        if design.candidate_offset is not None:
            logits = logits + design.candidate_offset
        return dist.Categorical(logits=logits * reliability(values, batch.kind)[..., None])
    from bayes_interest.model.parameters import Items

    terms = event_terms(values, Items(vectors, offsets), batch)
    predictor = (terms.x * state).sum(-1) + terms.offset
    if layout.emission == "gaussian":
        return dist.Normal(predictor, values["log_noise_scale"].exp())
    if layout.emission == "rating":
        cuts = increasing_cuts(values["raw_cuts"])
        return dist.OrderedLogistic(predictor, cuts)
    return dist.Bernoulli(logits=predictor)
