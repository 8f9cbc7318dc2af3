"""A fitted model as one frozen object: globals, item posterior, every user's present state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bayes_interest.config import ModelConfig
from bayes_interest.events.history import History
from bayes_interest.events.own_past import OwnPast
from bayes_interest.events.running_rates import Rates
from bayes_interest.model.candidates import user_item_counts
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import item_posterior_cov
from bayes_interest.model.parameters import Globals, Items, Layout, item_terms
from bayes_interest.model.prepare import Embedded, Standardizer, Vocabulary
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.probability_map import ProbabilityMap


@dataclass(frozen=True)
class FitSummary:
    """How the fit went."""

    family_reason: str
    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    stopped_early: bool
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One draw of the globals from their posterior."""

    values: Globals
    item_cov: Tensor  # of residual and offset given this draw


@dataclass(frozen=True)
class Posterior:
    """What is believed after all absorbed events.

    Users' states are deviations `y_u` from the mean state; interest is `z = m_0 + y`.
    """

    config: ModelConfig  # every "auto" decided
    layout: Layout
    vocabulary: Vocabulary
    standardizer: Standardizer
    features: Tensor  # (item, embed_dim)
    has_text: np.ndarray  # (item,) bool
    values: Globals
    item_cov: Tensor  # of residual and offset, (item, D + 1, D + 1) or (item, D + 1)
    text_cov: Tensor  # of the text weights, (2, embed_dim, embed_dim); empty: not known
    cold_shift: float  # choice: logit of items without an earlier event
    belief: Belief  # at each user's last absorbed event
    last_seconds: np.ndarray  # (user,), NaN for a user without events
    history: History  # every absorbed event, and every one seen
    summary: FitSummary
    encoder_spec: dict[str, Any] | None
    members: tuple[Member, ...] = ()  # `belief.members` are the states at each
    recalibration: ProbabilityMap | None = None  # of every probability that is given out
    item_spread: float = 1.0  # factor of `item_cov`, of new items too; see `item_spread.py`

    @cached_property
    def each(self) -> tuple[Posterior, ...]:
        """A posterior for every draw of the globals."""
        return tuple(
            replace(self, values=one.values, item_cov=one.item_cov, belief=belief, members=())
            for one, belief in zip(self.members, self.belief.members, strict=True)
        )

    @cached_property
    def items(self) -> Items:
        """Vectors and offsets of all known items."""
        return item_terms(self.layout, self.values, self.features)

    @cached_property
    def items_known(self) -> bool:
        """Whether nothing is uncertain of the items: all were drawn with the globals."""
        return not bool(self.item_cov.any())

    @cached_property
    def item_widths(self) -> np.ndarray:
        """What bounds each item's variance on the CPU, (item, 6); see `item_widths.py`."""
        from bayes_interest.posterior.item_widths import item_widths  # numba is slow to load

        return item_widths(self.items.vectors, self.item_cov)

    @cached_property
    def texts(self) -> np.ndarray | None:
        """Directions of the items' texts, where the predictor compares them, (item, text_dim)."""
        if not self.layout.likeness:
            return None
        return self.standardizer.directions(self.features.cpu().double().numpy())

    @cached_property
    def first_seconds(self) -> np.ndarray:
        """Time of each item's first absorbed event, inf without one, (item,)."""
        first = np.full(self.layout.n_items, np.inf)
        keep = self.history.absorb
        np.minimum.at(first, self.history.item_index[keep], self.history.seconds[keep])
        return first

    @cached_property
    def seen(self) -> sparse.csr_matrix:
        """Events of every kind per (user, item)."""
        everything = replace(self.history, absorb=np.ones(len(self.history), dtype=bool))
        return user_item_counts(everything, self.layout.n_items)

    @cached_property
    def rates(self) -> Rates:
        """Running rates after all absorbed events."""
        own = OwnPast.of(self.history)
        return Rates.of(self.history, own, self.layout.kinds.top_outcome)

    def seen_by(self, user: int) -> np.ndarray:
        """Items that one user has events of, sorted; quicker than `seen` for a few users."""
        return np.unique(self.history.item_index[self.history.span(user)])

    @property
    def choice(self) -> bool:
        """Whether an event is a choice among items."""
        return self.layout.emission == "choice"

    @property
    def level(self) -> int:
        """rating: interest is P(level index >= this); the threshold's level or the upper half."""
        return self.vocabulary.level(self.config.positive_threshold)

    def with_users(self, ids: np.ndarray) -> Posterior:
        """Also knowing these users, at the prior until their first event."""
        users = self.vocabulary.users.extend(ids)
        new = len(users) - len(self.vocabulary.users)
        if not new:
            return self
        belief = self.belief.extended(new, self.values)
        return replace(
            self,
            vocabulary=replace(self.vocabulary, users=users),
            belief=belief,
            last_seconds=np.concatenate((self.last_seconds, np.full(new, np.nan))),
            history=replace(self.history, n_users=len(users)),
        )

    def with_items(self, ids: np.ndarray, embedded: Embedded) -> Posterior:
        """Also knowing these new items by their vectors: residual and offset at their prior."""
        items = self.vocabulary.items.extend(ids)
        new = len(items) - len(self.vocabulary.items)
        if new != len(ids):
            raise ValueError("with_items takes distinct new items")
        features = torch.as_tensor(self.standardizer.apply(embedded)).to(self.features)
        parts = cold_items(self.layout, self.values, self.item_cov, new)
        fresh = with_text_variance(
            self.layout, self.values, parts["item_cov"][-new:], features, self.text_cov
        )
        parts["item_cov"] = torch.cat((self.item_cov, self.item_spread * fresh))
        members = [cold_items(self.layout, one.values, one.item_cov, new) for one in self.members]
        parts["members"] = tuple(Member(one["values"], one["item_cov"]) for one in members)
        return replace(
            self,
            **parts,
            vocabulary=replace(self.vocabulary, items=items),
            features=torch.cat((self.features, features)),
            has_text=np.concatenate((self.has_text, embedded.known)),
        )


def cold_items(layout: Layout, values: Globals, item_cov: Tensor, new: int) -> dict[str, Any]:
    """Layout, globals and item covariance with `new` items at the prior added at the end."""
    dim = layout.state_dim
    larger = dict(values)
    larger["offset"] = torch.cat((values["offset"], values["offset"].new_zeros(new)))
    if layout.residuals:
        rows = values["residual"].new_zeros(new, dim)
        larger["residual"] = torch.cat((values["residual"], rows))
    cov = item_cov
    if new:
        nothing = item_cov.new_zeros(new, *item_cov.shape[1:])
        cov = torch.cat((item_cov, item_posterior_cov(layout, values, nothing)))
    return {
        "layout": replace(layout, n_items=layout.n_items + new),
        "values": larger,
        "item_cov": cov,
    }


def cold_terms(layout: Layout, values: Globals, features: Tensor) -> Items:
    """Vectors and offsets that such new items have by their texts, features (item, embed_dim)."""
    count, zeros = len(features), values["offset"].new_zeros
    nothing = {"offset": zeros(count), "residual": zeros(count, layout.state_dim)}
    return item_terms(layout, values | nothing, features)
