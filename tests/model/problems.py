"""Small problems of every family: 5 users, 37 events, 11 items, 3 dimensions, 7 text features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, make_history, pad_users
from bayes_interest.events.popularity import RecentCounts
from bayes_interest.model.batch import Batch, whole_batch
from bayes_interest.model.candidates import CandidateRows, annotate, candidate_rows
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.parameters import (
    Globals,
    Items,
    Layout,
    draw_prior,
    item_terms,
)
from bayes_interest.model.softmax import Choices

SCALAR = ("gaussian", "bernoulli", "rating")
N_USERS, N_EVENTS, N_ITEMS, STATE_DIM, EMBED_DIM, N_LEVELS = 5, 37, 11, 3, 7, 5


@dataclass(frozen=True)
class Small:
    """A log, true globals drawn from the prior, and what the inference needs of them."""

    layout: Layout
    values: Globals
    features: Tensor
    history: History
    rows: CandidateRows

    @property
    def items(self) -> Items:
        return item_terms(self.layout, self.values, self.features)

    @property
    def batch(self) -> Batch:
        return whole_batch(self.history, torch.float64)

    @property
    def events(self) -> np.ndarray:
        """History positions of the batch's real events in (user, step) order."""
        block = pad_users(self.history, np.arange(self.history.n_users))
        positions: np.ndarray = block.event[block.mask].numpy()
        return positions

    @property
    def choices(self) -> Choices:
        return flat_choices(self.values, self.batch, self.events, self.rows)

    def with_values(self, **changed: Tensor) -> Small:
        return replace(self, values=self.values | changed)


def small_problem(
    emission: str,
    seed: int = 0,
    n_events: int = N_EVENTS,
    n_kinds: int = 2,
    popularity: bool = True,
    repeats: bool = True,
    half_life_days: float | None = None,
) -> Small:
    """Times within a month, a tenth of them tied; covariates rounded to float32 as in rows."""
    rng = np.random.default_rng(seed)
    outcome = {
        "gaussian": rng.normal(0.0, 1.5, n_events),
        "bernoulli": rng.integers(0, 2, n_events),
        "rating": rng.integers(0, N_LEVELS, n_events),
        "choice": np.zeros(n_events),
    }[emission]
    seconds = rng.integers(0, 30 * 86_400, n_events).astype(float)
    user = np.concatenate((np.arange(N_USERS), rng.integers(0, N_USERS, n_events - N_USERS)))
    user[1:4], seconds[1:4] = 1, seconds[1]
    history = make_history(
        user,
        rng.integers(0, N_ITEMS, n_events),
        seconds,
        outcome,
        rng.integers(0, n_kinds, n_events),
        N_USERS,
    )
    recent = RecentCounts.of(history.item_index, history.seconds, N_ITEMS, 7.0)
    history = annotate(history, recent, N_ITEMS, repeats=True)
    history = replace(
        history,
        popularity=history.popularity.astype(np.float32).astype(np.float64),
        outcome=history.item_index.astype(float) if emission == "choice" else history.outcome,
    )
    layout = Layout(
        emission,
        STATE_DIM,
        EMBED_DIM,
        N_ITEMS,
        n_kinds=n_kinds,
        n_levels=N_LEVELS,
        popularity=popularity,
        repeats=repeats,
        half_life_days=half_life_days,
        log_drift_centre=(-3.0, -2.0, -1.0),
    )
    generator = torch.Generator().manual_seed(seed)
    values = draw_prior(layout, generator, torch.zeros(1, dtype=torch.float64))
    features = torch.randn(N_ITEMS, EMBED_DIM, generator=generator, dtype=torch.float64)
    rows = candidate_rows(history, recent if popularity else None, N_ITEMS, repeats)
    return Small(layout, values, features, history, rows)


def event_design(small: Small, values: Globals) -> tuple[Tensor, Tensor]:
    """Slowly, event by event: `a = x . y + offset`; (event, state_dim) and (event,)."""
    layout, history = small.layout, small.history
    xs, offsets = [], []
    for event in range(len(history)):
        item, kind = int(history.item_index[event]), int(history.kind_index[event])
        phi = small.features[item] / layout.embed_dim**0.5
        x = values["weight"] @ phi / layout.state_dim**0.5
        x = x + values["residual"][item]
        if "intercept" in values:
            x = x + values["intercept"]
        base = values["offset_weight"] @ phi + values["offset"][item] + x @ values["mean"]
        if "bias" in values:
            base = base + values["bias"]
        if layout.popularity:
            base = base + values["popularity_weight"] * float(history.popularity[event])
        if layout.repeats:
            base = base + values["repeat_weight"] * float(history.repeats[event])
        rho = torch.ones(()) if kind == 0 else values["log_reliability"][kind - 1].exp()
        xs.append(rho * x)
        offsets.append(rho * base)
    return torch.stack(xs), torch.stack(offsets)


def dense_logits(small: Small, values: Globals, states: Tensor) -> Tensor:
    """Slowly: logits of every event (event, item) at states (event, state_dim)."""
    items = item_terms(small.layout, values, small.features)
    logits = states @ items.vectors.T + items.offsets
    for name, table in small.rows.rows.items():
        extra = table[small.rows.row_of[name]][small.events].toarray()
        logits = logits + values[name] * torch.as_tensor(extra, dtype=torch.float64)
    kind = small.history.kind_index[small.events]
    rho = torch.cat((torch.ones(1, dtype=torch.float64), values["log_reliability"].exp()))
    return logits * rho[torch.as_tensor(kind)][:, None]
