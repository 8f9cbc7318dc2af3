"""Draws of some users' whole paths from the guide, and their weights towards the exact posterior.

The guide is prior times sites, the exact posterior prior times likelihoods, both at the fitted
globals: the prior cancels, and a path's log weight is `sum_t log p(outcome_t | y_t) - log site_t`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.events.history import History, length_batches, padded_batches
from bayes_interest.events.surroundings import Surroundings
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_bound import fit_choice_sites, flat_choices, zero_choice_sites
from bayes_interest.model.elbo import EventTerms, UserPosterior, event_terms, fit_sites
from bayes_interest.model.generative import walk_path
from bayes_interest.model.guide import InnovationChain, backward_messages
from bayes_interest.model.parameters import emission_of, reliability
from bayes_interest.model.seeding import seeded
from bayes_interest.posterior.online import contexts
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.progress import bar
from bayes_interest.statespace.diagonal import DiagonalSites
from bayes_interest.statespace.random_walk import Transition

SITE_STEPS, TOLERANCE = 30, 1e-4
CHOICE_STEPS = 12
BLOCK_NUMBERS = 20_000_000  # of draws times steps times state dimensions
CHOICE_TABLE, CHOICE_CELLS = 4_000_000, 200_000_000


@dataclass(frozen=True)
class LeaveOneOut:
    """Of every event of a scalar family, (event,) each."""

    log_prob: np.ndarray  # of its outcome, given the user's other events
    in_sample: np.ndarray  # given this event too
    chance: np.ndarray  # P(interest), given the other events
    leverage: np.ndarray  # share of what is known of the predictor that the event itself says


@dataclass(frozen=True)
class GuideSample:
    """What the checks look at; events in the order of `history`."""

    posterior: Posterior
    history: History  # absorbed events of the sampled users, users renumbered
    log_ratio: np.ndarray  # log weight of each drawn path, (draw, user)
    replicated: np.ndarray  # outcomes drawn anew at the drawn states; choice: items, (draw, event)
    loo: LeaveOneOut | None  # None for choice

    @property
    def observed(self) -> np.ndarray:
        """Outcomes, or for choice the items chosen, (event,)."""
        choice = self.posterior.choice
        return self.history.item_index if choice else self.history.outcome


def draw_guide(posterior: Posterior, n_users: int, n_draws: int, seed: int) -> GuideSample:
    """Draw the paths of at most `n_users` users with events, at random by `seed`."""
    history, rows = _sampled(posterior, n_users, seed)
    like, context = posterior.features, contexts(posterior, rows)
    events = EventTensors.of(history, like.dtype, like.device, None, rows.own(), context)
    n_draws = _affordable(posterior, len(history), n_draws)
    out = _Out(np.zeros((n_draws, history.n_users)), np.zeros((n_draws, len(history))))
    size = max(1, BLOCK_NUMBERS // (n_draws * posterior.layout.state_dim))
    with seeded(seed, like.device), torch.no_grad():
        total = len(length_batches(history.lengths, size))
        blocks = padded_batches(history, size, like.device)
        for block in bar(blocks, total=total, desc="diagnose", unit="block"):
            batch, where = Batch.of(events, block), block.event[block.mask].cpu().numpy()
            users = block.users.cpu().numpy()
            if posterior.choice:
                _draw_choice(posterior, batch, rows, users, where, n_draws, out)
            else:
                _draw_scalar(posterior, batch, users, where, n_draws, out)
    loo = None if posterior.choice else LeaveOneOut(*out.loo)
    return GuideSample(posterior, history, out.log_ratio, out.replicated, loo)


class _Out:
    """Arrays to fill, block by block."""

    def __init__(self, log_ratio: np.ndarray, replicated: np.ndarray) -> None:
        self.log_ratio, self.replicated = log_ratio, replicated
        self.loo = np.zeros((4, replicated.shape[1]))


def _sampled(posterior: Posterior, n_users: int, seed: int) -> tuple[History, CandidateRows]:
    log, layout = posterior.history, posterior.layout
    active = np.unique(log.user_index[log.absorb])
    rng = np.random.default_rng(seed)
    users = np.sort(rng.permutation(active)[:n_users])
    if posterior.choice:  # tables of every candidate of every event
        lengths = np.bincount(log.user_index[log.absorb], minlength=log.n_users)
        total = np.cumsum(lengths[users]) * layout.n_items
        users = users[: max(1, int((total <= CHOICE_TABLE).sum()))]
    position = np.flatnonzero(log.absorb & np.isin(log.user_index, users))
    surroundings = Surroundings(log, layout.n_items, layout.kinds, posterior.texts)
    taken = log.take(position)
    index = np.searchsorted(users, taken.user_index)
    history = replace(taken, user_index=index, n_users=len(users))
    return history, CandidateRows(surroundings, position)


def _affordable(posterior: Posterior, n_events: int, n_draws: int) -> int:
    if not posterior.choice:
        return n_draws
    return int(np.clip(CHOICE_CELLS // (n_events * posterior.layout.n_items), 50, n_draws))


def draw_paths(precision: Tensor, linear: Tensor, walk: Transition, n_draws: int) -> Tensor:
    """States drawn from the chain with these sites, (draw, user, step, state_dim) float64."""
    walk = Transition(walk.decay.double(), walk.variance.double())
    chain = InnovationChain(backward_messages(precision, linear, walk), walk)
    return walk_path(chain.rsample(torch.Size([n_draws])), walk)


def scalar_guide(posterior: Posterior, batch: Batch) -> UserPosterior:
    """The guide of a batch at the fitted globals."""
    values, items = posterior.values, posterior.items
    return fit_sites(posterior.layout, values, items, batch, None, SITE_STEPS, TOLERANCE)


def _draw_scalar(
    posterior: Posterior,
    batch: Batch,
    users: np.ndarray,
    where: np.ndarray,
    n_draws: int,
    out: _Out,
) -> None:
    guide = scalar_guide(posterior, batch)
    terms = event_terms(posterior.values, posterior.items, batch)
    x, lam, h = terms.x.double(), guide.sites.precision.double(), guide.sites.linear.double()
    precision = lam[..., None, None] * x[..., :, None] * x[..., None, :]
    walk = batch.walk(posterior.layout, posterior.values)
    states = draw_paths(precision, h[..., None] * x, walk, n_draws)
    along = (states * x).sum(-1)
    predictor = along + terms.offset.double()
    emission = emission_of(posterior.layout, _doubled(posterior))
    likelihood = emission.log_prob(predictor, batch.outcome.double().expand_as(predictor))
    ratio = (likelihood - h * along + 0.5 * lam * along**2) * batch.mask
    out.log_ratio[:, users] = ratio.sum(-1).cpu().numpy()
    logistic = torch.logit(torch.rand_like(predictor))
    above = (predictor + logistic)[..., None] > _cuts(posterior)
    out.replicated[:, where] = above.sum(-1)[:, batch.mask].cpu().numpy()
    out.loo[:, where] = _left_out(posterior, batch, terms, guide)


def _doubled(posterior: Posterior) -> dict[str, Tensor]:
    return {name: value.double() for name, value in posterior.values.items()}


def _cuts(posterior: Posterior) -> Tensor:
    """An outcome is the number of cuts below predictor plus logistic noise."""
    if posterior.layout.emission == "rating":
        return increasing_cuts(posterior.values["raw_cuts"].double())
    return posterior.features.new_zeros(1, dtype=torch.float64)


def _left_out(
    posterior: Posterior, batch: Batch, terms: EventTerms, guide: UserPosterior
) -> np.ndarray:
    """Rows of `LeaveOneOut`: the smoothed marginal with the event's own site divided out."""
    mask, smoothed, sites = batch.mask, guide.smoothed, guide.sites
    mean, var = smoothed.predictor_mean[mask].double(), smoothed.predictor_var[mask].double()
    h, lam = sites.linear[mask].double(), sites.precision[mask].double()
    rest = (1.0 - lam * var).clamp_min(1e-6)
    offset, outcome = terms.offset[mask].double(), batch.outcome[mask].double()
    cavity = (mean - var * h) / rest + offset, var / rest
    emission = emission_of(posterior.layout, _doubled(posterior))
    without = emission.predictive(*cavity, outcome).clamp_min(1e-30).log()
    within = emission.predictive(mean + offset, var, outcome).clamp_min(1e-30).log()
    top = outcome.new_tensor(float(posterior.layout.n_levels - 1))
    levels = range(posterior.level, int(top) + 1) if posterior.layout.emission == "rating" else (1,)
    chance = torch.stack(
        [emission.predictive(*cavity, torch.full_like(outcome, float(one))) for one in levels]
    ).sum(0)
    return torch.stack((without, within, chance, lam * var)).cpu().numpy()


def choice_sites(
    posterior: Posterior, batch: Batch, rows: CandidateRows, where: np.ndarray
) -> DiagonalSites:
    """The guide's sites of a batch of choices at the fitted globals, by averaged steps."""
    layout, values, items = posterior.layout, posterior.values, posterior.items
    choices = flat_choices(values, batch, where, rows)
    sites = zero_choice_sites(batch, values["mean"])
    generator = torch.Generator().manual_seed(len(where))
    for step in range(CHOICE_STEPS):
        size = 1.0 / max(1, step - 1)
        found = fit_choice_sites(layout, values, items, batch, choices, sites, size, generator)
        sites = found.sites
    return sites


def _draw_choice(
    posterior: Posterior,
    batch: Batch,
    rows: CandidateRows,
    users: np.ndarray,
    where: np.ndarray,
    n_draws: int,
    out: _Out,
) -> None:
    sites = choice_sites(posterior, batch, rows, where)
    lam, h = sites.precision.double(), sites.linear.double()
    walk = batch.walk(posterior.layout, posterior.values)
    states = draw_paths(torch.diag_embed(lam), h, walk, n_draws)
    site = (h * states - 0.5 * lam * states**2).sum(-1) * batch.mask
    mask, items = batch.mask, posterior.items
    extra = (rows.dense(where, posterior.values) + items.offsets).double()
    rho = reliability(posterior.values, batch.kind)[mask].double()[:, None]
    chosen, fit = batch.item[mask], torch.zeros_like(site[0])
    for draw, path in enumerate(states):
        total = batch.total(path)[mask]
        logits = (total @ items.vectors.double().T + extra) * rho
        log_prob = torch.log_softmax(logits, -1)
        fit[mask] = log_prob.gather(1, chosen[:, None])[:, 0]
        out.log_ratio[draw, users] = (fit - site[draw]).sum(-1).cpu().numpy()
        noise = torch.rand_like(log_prob[:, :1])
        below = (log_prob.exp().cumsum(1) < noise).sum(1)
        out.replicated[draw, where] = below.clamp_max(len(items.offsets) - 1).cpu().numpy()
