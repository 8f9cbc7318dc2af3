"""Joint draws of users' paths, items and outcomes along a log: what an export to ArviZ holds.

A draw is one setting of everything: globals (draws of them take turns), the vector and offset of
every item, and each user's whole path. So what is uncertain of an item is the same at every event
of a draw, and sums and differences of a draw's entries are as uncertain as they should be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bayes_interest.evaluation.guide_sample import choice_sites, draw_paths, scalar_guide
from bayes_interest.events.history import History, padded_batches
from bayes_interest.events.surroundings import Surroundings
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows, extra_table
from bayes_interest.model.elbo import event_terms
from bayes_interest.model.parameters import (
    COVARIATES,
    Items,
    emission_of,
    reliability,
    weighed,
)
from bayes_interest.model.seeding import seeded
from bayes_interest.posterior.draws import square_root
from bayes_interest.posterior.online import contexts, moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import interest_probabilities, novelty
from bayes_interest.posterior.two_moments import in_double
from bayes_interest.progress import bar

BLOCK_NUMBERS = 20_000_000  # of draws times steps times state dimensions
TABLE_CELLS = 4_000_000


@dataclass(frozen=True)
class Asked:
    """The events of some users, and the items whose interest is asked for at each."""

    history: History  # absorbed events, users renumbered
    rows: CandidateRows  # covariates at the events
    looks: CandidateRows  # just after each event, as a trajectory looks at it
    shared: CandidateRows  # the same for nobody in particular, where the family is choice
    items: np.ndarray  # positions, (item,)

    @cached_property
    def own(self) -> np.ndarray:
        """Covariates of each event's own item, (event, covariate)."""
        return self.rows.own()

    @classmethod
    def of(cls, posterior: Posterior, users: np.ndarray, items: np.ndarray) -> Asked:
        """Of user and item positions."""
        log, layout = posterior.history, posterior.layout
        position = np.flatnonzero(log.absorb & np.isin(log.user_index, users))
        taken = log.take(position)
        surroundings = Surroundings(log, layout.n_items, layout.kinds, posterior.texts)
        looks = moments_of(posterior, taken.user_index, taken.seconds)
        shared = looks
        if posterior.choice:
            nobody = np.full(len(taken), log.n_users)
            shared = moments_of(posterior, nobody, taken.seconds)
        index = np.searchsorted(users, taken.user_index)
        own = replace(taken, user_index=index, n_users=len(users))
        return cls(own, CandidateRows(surroundings, position), looks, shared, items)


@dataclass(frozen=True)
class Draws:
    """Joint draws; events in the order of `Asked.history`."""

    state: np.ndarray  # `z = m_0 + y`, (draw, event, state_dim)
    interest: np.ndarray  # probability of the asked items, (draw, event, item)
    outcome: np.ndarray  # drawn anew; choice: item positions, (draw, event)
    log_likelihood: np.ndarray  # of the outcome that came, (draw, event)

    @classmethod
    def empty(cls, asked: Asked, n_draws: int, state_dim: int) -> Draws:
        """Room for some draws."""
        n_events = len(asked.history)
        return cls(
            np.empty((n_draws, n_events, state_dim)),
            np.empty((n_draws, n_events, len(asked.items))),
            np.empty((n_draws, n_events)),
            np.empty((n_draws, n_events)),
        )


class Setting:
    """The model at one setting of the globals, in float64: maps paths and items to outcomes."""

    def __init__(self, posterior: Posterior, asked: Asked) -> None:
        self.posterior, self.asked = in_double(posterior), asked
        self.layout, self.values = self.posterior.layout, self.posterior.values
        history, device = asked.history, self.posterior.features.device
        self.choice = self.layout.emission == "choice"
        self.item = torch.as_tensor(history.item_index, dtype=torch.long, device=device)
        self.observed = torch.as_tensor(history.outcome, device=device)
        kind = torch.as_tensor(history.kind_index, dtype=torch.long, device=device)
        self.rho = reliability(self.values, kind)
        self.what = torch.as_tensor(asked.items, device=device)
        self.context = contexts(self.posterior, asked.rows)

    @cached_property
    def extra(self) -> Tensor:
        """What covariates add at the events: to every item for choice, else to the event's own."""
        rows, nothing = self.asked.rows, torch.zeros_like(self.observed)
        if self.choice:
            return rows.dense(np.arange(len(rows.moment)), self.values)
        if COVARIATES not in self.values:
            return nothing
        return weighed(torch.as_tensor(self.asked.own).to(nothing), self.values[COVARIATES])

    @cached_property
    def look_extra(self) -> Tensor:
        """The same just after the events, (event, item): all items for choice, else those asked."""
        shared, seconds, tables = self.asked.shared, self.asked.history.seconds, []
        size = max(1, TABLE_CELLS // self.layout.n_items)
        for at in range(0, len(seconds), size):
            part = slice(at, at + size)
            table = extra_table(shared.surroundings, shared.moment[part], self.values)
            table = table + novelty(self.posterior, seconds[part])
            tables.append(table if self.choice else table[:, self.what])
        return torch.cat(tables)

    @cached_property
    def look_context(self) -> Tensor | None:
        """The context just after the events, (event, state_dim)."""
        return contexts(self.posterior, self.asked.looks)

    def predictor(self, deviation: Tensor, items: Items) -> Tensor:
        """Of the events (event,), or for choice of all items at each (event, item)."""
        total = deviation if self.context is None else deviation + self.context
        if self.choice:
            return (total @ items.vectors.T + items.offsets + self.extra) * self.rho[:, None]
        own = (total * items.vectors[self.item]).sum(-1)
        return (own + items.offsets[self.item] + self.extra) * self.rho

    def log_likelihood(self, predictor: Tensor) -> Tensor:
        """Of what came, (event,)."""
        if self.choice:
            return torch.log_softmax(predictor, -1).gather(1, self.item[:, None])[:, 0]
        return emission_of(self.layout, self.values).log_prob(predictor, self.observed)

    def outcome(self, predictor: Tensor) -> Tensor:
        """Drawn at predictors, (event,)."""
        if self.choice:
            return torch.distributions.Categorical(logits=predictor).sample()
        noise = torch.logit(torch.rand_like(predictor), eps=1e-15)
        cuts = emission_of(self.layout, self.values).cuts
        return ((predictor + noise)[..., None] > cuts).sum(-1)

    def interest(self, deviation: Tensor, items: Items) -> Tensor:
        """Probabilities of the asked items just after the events, (event, item)."""
        context = self.look_context
        total = deviation if context is None else deviation + context
        if not self.choice:
            items = Items(items.vectors[self.what], items.offsets[self.what])
        table = total @ items.vectors.T + items.offsets + self.look_extra
        probs = interest_probabilities(self.posterior, table)
        return probs[:, self.what] if self.choice else probs

    def fill(self, out: Draws, draw: int, deviation: Tensor, items: Items) -> None:
        """Everything that follows from one path (event, state_dim) and one draw of the items."""
        predictor = self.predictor(deviation, items)
        out.state[draw] = (self.values["mean"] + deviation).cpu().numpy()
        out.outcome[draw] = self.outcome(predictor).cpu().numpy()
        out.log_likelihood[draw] = self.log_likelihood(predictor).cpu().numpy()
        if len(self.what):
            out.interest[draw] = self.interest(deviation, items).cpu().numpy()


def at_best(posterior: Posterior) -> Posterior:
    """With items and globals as points, so that states alone are uncertain."""
    none = torch.zeros_like(posterior.item_cov)
    belief = replace(posterior.belief, members=())
    return replace(posterior, members=(), belief=belief, item_cov=none)


def draw_posterior(posterior: Posterior, asked: Asked, n_draws: int, seed: int) -> Draws:
    """Joint draws given all events; draws of the globals take turns."""
    settings = posterior.each or (posterior,)
    out = Draws.empty(asked, n_draws, posterior.layout.state_dim)
    device = posterior.features.device
    with (
        seeded(seed, device),
        torch.no_grad(),
        bar(total=n_draws, desc="draws", unit="draw") as shown,
    ):
        for turn, one in enumerate(settings):
            draws = range(turn, n_draws, len(settings))
            if not draws:
                continue
            setting = Setting(one, asked)
            paths = _paths(setting, len(draws))
            spread = _item_spread(setting.posterior)
            for draw, path in zip(draws, paths, strict=True):
                setting.fill(out, draw, path.to(device), _items(setting.posterior, spread))
                shown.update()
    return out


def _item_spread(posterior: Posterior) -> Tensor:
    """A square root of the items' covariances, of the same shape."""
    cov = posterior.item_cov
    return cov.clamp_min(0.0).sqrt() if cov.ndim == 2 else square_root(cov)


def _items(posterior: Posterior, spread: Tensor) -> Items:
    """Vectors and offsets of all items, drawn from their posterior."""
    items = posterior.items
    noise = torch.randn(spread.shape[:2], dtype=spread.dtype, device=spread.device)
    apart = spread * noise if spread.ndim == 2 else (spread @ noise[..., None])[..., 0]
    vectors = apart[:, :-1]
    moved = vectors @ posterior.values["mean"] + apart[:, -1]
    return Items(items.vectors + vectors, items.offsets + moved)


def _paths(setting: Setting, n_draws: int) -> Tensor:
    """Deviations drawn from the guide at the events, (draw, event, state_dim)."""
    posterior, asked, history = setting.posterior, setting.asked, setting.asked.history
    like = posterior.features
    events = EventTensors.of(history, like.dtype, like.device, None, asked.own, setting.context)
    out = like.new_zeros(n_draws, len(history), posterior.layout.state_dim)
    size = max(1, BLOCK_NUMBERS // (n_draws * posterior.layout.state_dim))
    for block in padded_batches(history, size, like.device):
        batch, where = Batch.of(events, block), block.event[block.mask]
        walk = batch.walk(posterior.layout, posterior.values)
        if setting.choice:
            sites = choice_sites(posterior, batch, asked.rows, where.cpu().numpy())
            precision, linear = torch.diag_embed(sites.precision), sites.linear
        else:
            scalar = scalar_guide(posterior, batch).sites
            x = event_terms(posterior.values, posterior.items, batch).x
            precision = scalar.precision[..., None, None] * x[..., :, None] * x[..., None, :]
            linear = scalar.linear[..., None] * x
        states = draw_paths(precision.double(), linear.double(), walk, n_draws)
        out[:, where] = states[:, batch.mask]
    return out
