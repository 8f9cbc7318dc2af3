"""Small problems of every family: 5 users, 37 events, 11 items, 3 dimensions, 7 text features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History, make_history, pad_users
from bayes_interest.events.surroundings import Surroundings
from bayes_interest.model.batch import Batch, whole_batch
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.parameters import (
    COVARIATES,
    Globals,
    Items,
    Layout,
    draw_prior,
    item_terms,
)
from bayes_interest.model.softmax import Choices
from tests.oracles import slow_context

SCALAR = ("gaussian", "bernoulli", "rating")
N_USERS, N_EVENTS, N_ITEMS, STATE_DIM, EMBED_DIM, N_LEVELS = 5, 37, 11, 3, 7, 5
TEXT_DIM = 4
CONTEXT_DIM, CONTEXT_EVENTS = 4, 3


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
        return self.batch_at(self.values)

    def batch_at(self, values: Globals) -> Batch:
        """With the context at other globals."""
        batch = whole_batch(self.history, torch.float64, self.rows.own())
        items = item_terms(self.layout, values, self.features)
        return batch.with_context(self.layout, values, items.vectors)

    @property
    def context(self) -> Tensor | None:
        """`c_u(t)` in the order of the history, (event, state_dim)."""
        batch = self.batch
        return None if batch.context is None else batch.context[batch.mask]

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
    popularity_days: tuple[float, ...] = (7.0,),
    repeats: bool = True,
    succession: bool = True,
    likeness: bool = True,
    context_layers: int = 0,
    half_life_days: float | None = None,
) -> Small:
    """Times within a month, a tenth of them tied."""
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
    if emission == "choice":
        history = replace(history, outcome=history.item_index.astype(float))
    layout = Layout(
        emission,
        STATE_DIM,
        EMBED_DIM,
        N_ITEMS,
        n_kinds=n_kinds,
        n_levels=N_LEVELS,
        popularity_days=popularity_days,
        repeats=repeats,
        succession=succession,
        likeness=likeness,
        half_life_days=half_life_days,
        log_drift_centre=(-3.0, -2.0, -1.0),
        context_layers=context_layers,
        context_dim=CONTEXT_DIM,
        context_events=CONTEXT_EVENTS,
    )
    values = draw_prior(
        layout, torch.Generator().manual_seed(seed), torch.zeros(1, dtype=torch.float64)
    )
    generator = torch.Generator().manual_seed(104 + seed)  # items are alike in every layout
    features = torch.randn(N_ITEMS, EMBED_DIM, generator=generator, dtype=torch.float64)
    surroundings = Surroundings(history, N_ITEMS, layout.kinds, text_directions())
    rows = CandidateRows(surroundings, np.arange(n_events))
    return Small(layout, values, features, history, rows)


def text_directions() -> np.ndarray:
    """Unit vectors (item, text_dim), zero for the last item, which has no text."""
    texts = np.random.default_rng(104).normal(size=(N_ITEMS, TEXT_DIM))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    texts[-1] = 0.0
    return texts.astype(np.float32)


def event_design(small: Small, values: Globals) -> tuple[Tensor, Tensor]:
    """Slowly, event by event: `a = x . y + offset`; (event, state_dim) and (event,)."""
    layout, history = small.layout, small.history
    covariates = torch.as_tensor(small.rows.own(), dtype=torch.float64)
    context = contexts_by_event(small, values)
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
        if COVARIATES in values:
            base = base + values[COVARIATES] @ covariates[event]
        base = base + x @ context[event]
        rho = torch.ones(()) if kind == 0 else values["log_reliability"][kind - 1].exp()
        xs.append(rho * x)
        offsets.append(rho * base)
    return torch.stack(xs), torch.stack(offsets)


def contexts_by_event(small: Small, values: Globals) -> Tensor:
    """Slowly, user by user: `c_u(t)` in the order of the history, (event, state_dim)."""
    layout, history = small.layout, small.history
    vectors = item_terms(layout, values, small.features).vectors
    out = torch.zeros(len(history), layout.state_dim, dtype=torch.float64)
    if not layout.context_layers:
        return out
    found = []
    for user in range(history.n_users):
        own = np.flatnonzero(history.user_index == user)
        columns = (history.item_index, history.outcome, history.kind_index, history.elapsed_days())
        found.append(
            slow_context(layout, values, vectors, *(torch.as_tensor(c[own]) for c in columns))
        )
    return torch.cat(found)


def dense_logits(small: Small, values: Globals, states: Tensor) -> Tensor:
    """Slowly: logits of every event (event, item) at states (event, state_dim)."""
    items = item_terms(small.layout, values, small.features)
    logits = states @ items.vectors.T + items.offsets
    for columns, row, item, value in small.rows.entries(small.events):
        extra = value.double() @ values[COVARIATES][columns]
        logits = logits.index_put((row, item), extra, accumulate=True)
    kinds = small.layout.kinds
    if kinds.likeness:
        alike = likeness_table(small)
        logits = logits + alike @ values[COVARIATES][kinds.columns("likeness")]
    if "log_reliability" not in values:
        return logits
    rho = torch.cat((torch.ones(1, dtype=torch.float64), values["log_reliability"].exp()))
    kind = small.history.kind_index[small.events]
    return logits * rho[torch.as_tensor(kind)][:, None]


def likeness_table(small: Small) -> Tensor:
    """Of every event and item, (event, item, 2); of the chosen item with its rounding."""
    history, events = small.history, small.events
    texts = torch.as_tensor(small.rows.surroundings.texts).double()
    like = small.rows.likeness(events).double()
    table = torch.stack([like[event] @ texts.T for event in range(len(events))]).mT
    own = small.rows.own()[events][:, small.layout.kinds.columns("likeness")]
    item = history.item_index[events]
    exact = table[torch.arange(len(events)), torch.as_tensor(item)]
    torch.testing.assert_close(torch.as_tensor(own).double(), exact, rtol=0.0, atol=1e-6)
    table[torch.arange(len(events)), torch.as_tensor(item)] = torch.as_tensor(own).double()
    return table
