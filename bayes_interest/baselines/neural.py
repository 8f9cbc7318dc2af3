"""A network that says how strong a user's interest in an item is, from vectors of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bayes_interest.baselines.base import Baseline, check_option
from bayes_interest.baselines.links import Link, Sigmoid
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.baselines.training import Projection, Task, fit_network
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.encoder import Encoder

INNER_DIM = 32
STRENGTH_CELLS = 100_000  # (event, item) at a time


class StrengthNetwork(nn.Module):
    """`strength = sigmoid(w . relu(A u + B x + C (u * x) + a) + b)` of projected u and x."""

    def __init__(self, text_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(text_dim, INNER_DIM, bias=False)
        self.user = nn.Linear(INNER_DIM + 1, hidden_dim)
        self.item = nn.Linear(INNER_DIM, hidden_dim, bias=False)
        self.both = nn.Linear(INNER_DIM, hidden_dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_dim, 1)

    def forward(self, profile: Tensor, item: Tensor) -> Tensor:
        """Log odds of pairs: profiles (..., 1 + text_dim), the first column 1 with a history."""
        user = self.project(profile[..., 1:])
        own = self.user(torch.cat((user, profile[..., :1]), -1))
        return self._head(own, user, self.project(item))

    def _head(self, own: Tensor, user: Tensor, item: Tensor) -> Tensor:
        hidden = own + self.item(item) + self.both(user * item)
        odds: Tensor = self.out(self.dropout(functional.relu(hidden)))[..., 0]
        return odds

    def table(self, profile: Tensor, items: Tensor) -> Tensor:
        """Log odds of every pair, (event, item)."""
        user, items = self.project(profile[:, 1:]), self.project(items)
        own = self.user(torch.cat((user, profile[:, :1]), -1))
        rows = []
        size = max(1, STRENGTH_CELLS // len(items))
        for at in range(0, len(user), size):
            part = slice(at, at + size)
            rows.append(self._head(own[part, None], user[part, None], items[None]))
        return torch.cat(rows)


@dataclass(frozen=True)
class Strength:
    """What `InterestStrengthNet` learns."""

    network: StrengthNetwork
    projection: Projection


_Pairs = tuple[Tensor, Tensor, Tensor]  # profiles, items, outcomes


class InterestStrengthNet(Baseline[Strength]):
    """A multi-layer perceptron from user vector, item vector and their product to [0, 1].

    The user's vector is the mean text vector of the earlier positive items, on the leading
    principal axes of all item vectors. Trained with the binary cross entropy; for choice each
    choice stands beside `n_negatives` items drawn evenly, and the probability is a softmax of
    the log odds with a scale, learned on late train with a network of the earlier part. For
    bernoulli and rating the strength is the probability. Early stopping on the last 10 % of train.
    Source: He et al. (WWW 2017), "Neural collaborative filtering", on text vectors.

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors.
        hidden_dim: width of the hidden layer.
        dropout: share of hidden units left out while training.
        n_negatives: choice: items drawn per choice.
        learning_rate: of Adam.
        batch_events: events of a batch.
    """

    holds_back: ClassVar[bool] = True

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        hidden_dim: int = 32,
        dropout: float = 0.1,
        n_negatives: int = 4,
        learning_rate: float = 3e-3,
        batch_events: int = 512,
    ) -> None:
        super().__init__(config, encoder)
        check_option("hidden_dim", hidden_dim, hidden_dim >= 1, "a whole number >= 1")
        check_option("dropout", dropout, 0 <= dropout < 1, "a share in [0, 1)")
        check_option("n_negatives", n_negatives, n_negatives >= 1, "a whole number >= 1")
        check_option("learning_rate", learning_rate, learning_rate > 0, "> 0")
        check_option("batch_events", batch_events, batch_events >= 1, "a whole number >= 1")
        self.hidden_dim, self.dropout, self.n_negatives = hidden_dim, dropout, n_negatives
        self.learning_rate, self.batch_events = learning_rate, batch_events

    def _learn_all(self, past: Timeline, run: FitConfig) -> tuple[Strength, Link]:
        if past.emission == "choice":
            return super()._learn_all(past, run)
        return self._learn(past, run), Sigmoid()  # nothing to be learned on late events

    def _learn(self, past: Timeline, run: FitConfig) -> Strength:
        projection = Projection.of(past)

        def make(timeline: Timeline) -> StrengthNetwork:
            return StrengthNetwork(projection.text_dim, self.hidden_dim, self.dropout)

        def batches(timeline: Timeline, rng: np.random.Generator) -> Iterator[_Pairs]:
            return self._batches(projection, timeline, rng)

        def held_back(network: StrengthNetwork, timeline: Timeline, part: np.ndarray) -> float:
            rng = np.random.default_rng(run.seed)
            pairs = self._pairs(projection, timeline, part, rng)
            with torch.no_grad():
                return float(_loss(network, pairs))

        task = Task(make, batches, _loss, held_back, self.learning_rate)
        return Strength(fit_network(task, past, run), projection)

    def _batches(
        self, projection: Projection, timeline: Timeline, rng: np.random.Generator
    ) -> Iterator[_Pairs]:
        part = np.arange(len(timeline.history))
        if timeline.emission == "choice":
            part = part[timeline.positive]
        part = rng.permutation(part)
        for at in range(0, len(part), self.batch_events):
            yield self._pairs(projection, timeline, part[at : at + self.batch_events], rng)

    def _pairs(
        self, projection: Projection, timeline: Timeline, part: np.ndarray, rng: np.random.Generator
    ) -> _Pairs:
        """Events with their outcomes; for choice each with drawn items that were not chosen."""
        features = projection.apply(timeline)
        item, outcome = timeline.history.item_index[part], timeline.positive[part]
        user = profiles(projection, timeline, part)
        if timeline.emission == "choice":
            drawn = rng.integers(0, timeline.n_items, (len(part), self.n_negatives))
            item = np.column_stack((item, drawn)).ravel()
            outcome = np.tile(np.arange(1 + self.n_negatives) == 0, len(part))
            user = np.repeat(user, 1 + self.n_negatives, axis=0)
        return (
            torch.as_tensor(user),
            torch.as_tensor(features[item]),
            torch.as_tensor(outcome.astype(np.float32)),
        )

    def _scores(self, learned: Strength, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        device = learned.network.out.weight.device
        user = torch.as_tensor(profiles(learned.projection, timeline, part), device=device)
        items = torch.as_tensor(learned.projection.apply(timeline), device=device)
        with torch.no_grad():
            scores: np.ndarray = learned.network.table(user, items).cpu().numpy()
        return scores


def _loss(network: StrengthNetwork, pairs: _Pairs) -> Tensor:
    user, item, outcome = (part.to(network.out.weight.device) for part in pairs)
    return functional.binary_cross_entropy_with_logits(network(user, item), outcome)


def profiles(projection: Projection, timeline: Timeline, part: np.ndarray) -> np.ndarray:
    """1 with a history, and the mean features of the earlier positive items, float32."""
    past = timeline.own_past(part)
    count = np.asarray(past.sum(1), dtype=np.float32).reshape(-1, 1)
    mean = (past @ projection.apply(timeline)) / np.maximum(count, 1.0)
    return np.column_stack((count > 0, mean)).astype(np.float32)
