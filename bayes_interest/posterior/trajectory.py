"""Interest over time: the smoother over a user's whole history, also between the events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import pad_users
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_bound import fit_choice_sites, flat_choices, zero_choice_sites
from bayes_interest.model.elbo import fit_sites
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.online import contexts, moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.statespace.diagonal import filter_diagonal, smooth_diagonal

SITE_STEPS = 30
TOLERANCE = 1e-4
CHOICE_STEPS = 12
CHOICE_SEED = 7


def smoothed_beliefs(posterior: Posterior, user: int, seconds: np.ndarray) -> Belief:
    """Beliefs about one user's interest at moments (sorted), given the whole history.

    The mean is `y + c`: the smoothed state and, where the model has one, the context.
    """
    found = _smoothed(posterior, user, seconds)
    members = tuple(_smoothed(one, user, seconds) for one in posterior.each)
    return replace(found, members=members)


def _smoothed(posterior: Posterior, user: int, seconds: np.ndarray) -> Belief:
    """At one setting of the globals."""
    looks = moments_of(posterior, np.full(len(seconds), user), seconds)
    log = looks.surroundings.log
    own = np.flatnonzero(log.user_index == user)
    rows = CandidateRows(looks.surroundings, own)
    zeros = np.zeros(len(own), dtype=np.int64)
    history = replace(log.take(own), user_index=zeros, n_users=1)
    like, context = posterior.features, contexts(posterior, rows)
    events = EventTensors.of(history, like.dtype, like.device, None, rows.own(), context)
    block = pad_users(history, np.zeros(1, dtype=np.int64), like.device)
    batch = Batch.of(events, block)
    real = torch.as_tensor(~np.isin(own, looks.moment), device=like.device)
    assert batch.moves is not None
    batch = replace(batch, moves=batch.moves * block.gather(real))
    wanted = torch.as_tensor(np.searchsorted(own, looks.moment), device=like.device)
    if posterior.belief.diagonal:
        mean, cov = _smooth_choice(posterior, batch, rows, block.event)
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
    return Belief(batch.total(mean)[0, wanted], cov[0, wanted])


def _smooth_choice(
    posterior: Posterior, batch: Batch, rows: CandidateRows, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Averaged natural-gradient steps, then one last smoothing pass."""
    layout, values, items = posterior.layout, posterior.values, posterior.items
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
