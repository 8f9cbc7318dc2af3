"""Interest over time: the smoother over a user's whole history, also between the events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, join_histories, make_history, pad_users
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import candidate_rows
from bayes_interest.model.choice_bound import fit_choice_sites, flat_choices, zero_choice_sites
from bayes_interest.model.elbo import fit_sites
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.statespace.diagonal import filter_diagonal, smooth_diagonal

SITE_STEPS = 30
TOLERANCE = 1e-4
CHOICE_STEPS = 12
CHOICE_SEED = 7


def smoothed_beliefs(posterior: Posterior, user: int, seconds: np.ndarray) -> Belief:
    """Beliefs about one user's state deviation at moments (sorted), given the whole history."""
    own = posterior.history.take(posterior.history.user_index == user)
    zeros = np.zeros(len(own), dtype=np.int64)
    own = replace(own, user_index=zeros, order=np.arange(len(own)), n_users=1)
    history = join_histories(own, _moments(seconds), 1)
    like = posterior.features
    events = EventTensors.of(history, like.dtype, like.device)
    block = pad_users(history, np.zeros(1, dtype=np.int64), like.device)
    batch = Batch.of(events, block)
    real = torch.as_tensor(history.absorb | (history.order < len(own)), device=like.device)
    assert batch.moves is not None
    batch = replace(batch, moves=batch.moves * block.gather(real))
    wanted = torch.as_tensor(np.flatnonzero(history.order >= len(own)), device=like.device)
    if posterior.belief.diagonal:
        mean, cov = _smooth_choice(posterior, history, batch, block.event)
    else:
        found = fit_sites(
            posterior.layout,
            posterior.values,
            posterior.items,
            batch,
            n_steps=SITE_STEPS,
            tolerance=TOLERANCE,
            full=True,
        ).smoothed
        assert found.cov is not None
        mean, cov = found.mean, found.cov
    return Belief(mean[0, wanted], cov[0, wanted])


def _moments(seconds: np.ndarray) -> History:
    """Looks at one user without events."""
    zeros = np.zeros(len(seconds), dtype=np.int64)
    never = np.zeros(len(seconds), dtype=bool)
    return make_history(zeros, zeros, seconds, zeros, zeros, 1, never)


def _smooth_choice(
    posterior: Posterior, history: History, batch: Batch, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Averaged natural-gradient steps, then one last smoothing pass."""
    layout, values, items = posterior.layout, posterior.values, posterior.items
    rows = candidate_rows(history, posterior.recent, layout.n_items, layout.repeats)
    events = positions[batch.mask].cpu().numpy()
    choices = flat_choices(values, batch, events, rows)
    sites = zero_choice_sites(batch, values["mean"])
    generator = torch.Generator().manual_seed(CHOICE_SEED)
    for step in range(CHOICE_STEPS):
        size = 1.0 / max(1, step - 1)
        sites = fit_choice_sites(
            layout, values, items, batch, choices, sites, size, generator
        ).sites
    walk = batch.walk(layout, values)
    smoothed = smooth_diagonal(sites, walk, filter_diagonal(sites, walk))
    return smoothed.mean, smoothed.var
