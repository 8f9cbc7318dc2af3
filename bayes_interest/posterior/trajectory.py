"""Interest over time: the smoother over a user's whole history, also between the events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import length_batches, pad_users
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_bound import fit_choice_sites, flat_choices, zero_choice_sites
from bayes_interest.model.choice_paths import smoothed_choices
from bayes_interest.model.elbo import fit_sites
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import reliability
from bayes_interest.posterior.online import contexts, moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.statespace.diagonal import filter_diagonal, smooth_diagonal
from bayes_interest.statespace.random_walk import Transition

SITE_STEPS = 30
TOLERANCE = 1e-4
MAX_WORK = 2_000_000_000
"""Steps times items times squared dimensions of a choice up to which states are smoothed together,
some four seconds; above, each dimension is on its own."""
TOGETHER = 2**20
"""Numbers of a covariance table of users smoothed together; choices are smoothed user by user."""
CHOICE_STEPS = 12
CHOICE_SEED = 7


@dataclass(frozen=True)
class SmoothedPath:
    """One user's path given the whole history: at every event and at every moment looked at."""

    mean: Tensor  # smoothed deviation `y`, (step, state_dim)
    context: Tensor  # `c`, zero where the model has none, (step, state_dim)
    cov: Tensor  # smoothed, (step, D, D)
    filtered_cov: Tensor  # given what came before and at the step, (step, D, D)
    walk: Transition  # that led to each step, (1, step, ...)
    looks: Tensor  # steps of the moments looked at, in their order


def smoothed_beliefs(posterior: Posterior, user: int, seconds: np.ndarray) -> Belief:
    """Beliefs about one user's interest at moments (sorted), given the whole history.

    The mean is `y + c`: the smoothed state and, where the model has one, the context.
    """
    looks = looks_at(posterior, np.full(len(seconds), user), seconds)
    found = [_smoothed(one, user, looks) for one in (posterior, *posterior.each)]
    return replace(found[0], members=tuple(found[1:]))


def _smoothed(posterior: Posterior, user: int, looks: CandidateRows) -> Belief:
    """At one setting of the globals."""
    path = smoothed_path(posterior, user, looks)
    mean = path.mean + path.context
    return Belief(mean[path.looks], kept(path.cov[path.looks], posterior))


def kept(cov: Tensor, posterior: Posterior) -> Tensor:
    """What the beliefs keep of covariances (..., D, D): of some the diagonals."""
    return cov.diagonal(dim1=-2, dim2=-1) if posterior.belief.diagonal else cov


def looks_at(posterior: Posterior, users: np.ndarray, seconds: np.ndarray) -> CandidateRows:
    """Moments (look,) among the users' events, all of which may be asked about."""
    looks = moments_of(posterior, users, seconds)
    every = np.flatnonzero(np.isin(looks.surroundings.log.user_index, users))
    return CandidateRows(replace(looks.surroundings, asked=every), looks.moment)


def smoothed_path(posterior: Posterior, user: int, looks: CandidateRows) -> SmoothedPath:
    """The smoother over a user's events and the user's moments among `looks`."""
    return next(smoothed_paths(posterior, np.array([user]), looks))[1]


def smoothed_paths(
    posterior: Posterior, users: np.ndarray, looks: CandidateRows
) -> Iterator[tuple[int, SmoothedPath]]:
    """The same of several users with moments among `looks`, and whose it is; short ones first."""
    lengths = np.zeros_like(looks.surroundings.log.lengths)
    lengths[users] = looks.surroundings.log.lengths[users]
    most = 1 if posterior.choice else TOGETHER // posterior.layout.state_dim**2
    for some in length_batches(lengths, most):
        yield from zip(some.tolist(), _smoothed_together(posterior, some, looks), strict=True)


def _smoothed_together(
    posterior: Posterior, users: np.ndarray, looks: CandidateRows
) -> Iterator[SmoothedPath]:
    """Of some users, a row of a batch each."""
    log = looks.surroundings.log
    own = np.concatenate([np.arange(log.start[user], log.start[user + 1]) for user in users])
    rows = CandidateRows(looks.surroundings, own)
    place = np.repeat(np.arange(len(users)), log.lengths[users])
    history = replace(log.take(own), user_index=place, n_users=len(users))
    like, context = posterior.features, contexts(posterior, rows)
    events = EventTensors.of(history, like.dtype, like.device, None, rows.own(), context)
    block = pad_users(history, np.arange(len(users)), like.device)
    batch = Batch.of(events, block)
    assert batch.moves is not None
    real = torch.as_tensor(~np.isin(own, looks.moment), device=like.device)
    batch = replace(batch, moves=batch.moves * block.gather(real))
    if posterior.choice:
        found = _smooth_choice(posterior, batch, rows, block.event)
    else:
        found = _smooth_scalar(posterior, batch)
    mean, cov, filtered = found
    shift = batch.total(torch.zeros_like(mean))
    walk = batch.walk(posterior.layout, posterior.values)
    for row, span in enumerate(pairwise(history.start.tolist())):
        steps = slice(span[1] - span[0])
        mine = looks.moment[log.user_index[looks.moment] == users[row]]
        yield SmoothedPath(
            mean[row, steps],
            shift[row, steps],
            cov[row, steps],
            filtered[row, steps],
            Transition(walk.decay[row : row + 1, steps], walk.variance[row : row + 1, steps]),
            torch.as_tensor(mine - log.start[users[row]], device=like.device),
        )


def _smooth_scalar(posterior: Posterior, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Smoothed mean and covariance, and the filtered covariance."""
    found = fit_sites(
        posterior.layout,
        posterior.values,
        posterior.items,
        batch,
        n_steps=SITE_STEPS,
        tolerance=TOLERANCE,
        full=True,
    )
    assert found.smoothed.cov is not None
    assert found.forward is not None
    return found.smoothed.mean, found.smoothed.cov, found.forward.cov


def _smooth_choice(
    posterior: Posterior, batch: Batch, rows: CandidateRows, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As above, by expectation propagation with full covariances; of long paths, by draws."""
    n_steps, dim = batch.mask.shape[1], posterior.layout.state_dim
    if n_steps * posterior.layout.n_items * dim**2 > MAX_WORK:
        return _smooth_by_draws(posterior, batch, rows, positions)
    return _smooth_together(posterior, batch, rows, positions)


def _smooth_together(
    posterior: Posterior, batch: Batch, rows: CandidateRows, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    values, items = posterior.values, posterior.items
    base = rows.dense(positions[0].cpu().numpy(), values) + items.offsets
    if batch.context is not None:
        base = base + batch.context[0] @ items.vectors.T
    rho = reliability(values, batch.kind[0]) * batch.mask[0]
    walk = batch.walk(posterior.layout, values)
    found = smoothed_choices(base, items.vectors, rho, batch.item[0], walk)
    mean, cov, filtered = (part[None].to(values["mean"]) for part in found)
    return mean, cov, filtered


def _smooth_by_draws(
    posterior: Posterior, batch: Batch, rows: CandidateRows, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
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
    forward = filter_diagonal(sites, walk)
    smoothed = smooth_diagonal(sites, walk, forward)
    return smoothed.mean, torch.diag_embed(smoothed.var), torch.diag_embed(forward.var)
