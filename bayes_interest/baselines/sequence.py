"""Rivals that read a user's events in order: GRU, LSTM and a causal transformer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor, nn

from bayes_interest.baselines.base import Baseline, check_option
from bayes_interest.baselines.links import Link, Sigmoid, Softmax
from bayes_interest.baselines.networks import Attention, Recurrent, SequenceNetwork
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.baselines.training import Projection, Task, fit_network
from bayes_interest.baselines.windows import Windows, training_batches, windows_before
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.encoder import Encoder

STEP_CELLS = 2_000_000  # of a block (window, step, hidden_dim)
PRIOR_COUNT = 0.5
_Batch = tuple[Timeline, Windows]


class SequenceRival(Baseline[SequenceNetwork]):
    """A network `h` over the user's last events; every item scores `h . x_i + b_i`.

    `x_i` is the item's projected text plus a vector of its own; a new item has its text alone.
    choice: P is the softmax over all known items, trained by its full cross entropy; the events
    read are the choices. bernoulli, rating: P(positive) is the sigmoid of the score plus a level
    that depends on `h`, trained by the binary cross entropy; the events read are all, with their
    outcomes. Events at one moment do not see one another, in training neither. Adam, early
    stopping on the last 10 % of train.

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors.
        hidden_dim: width of states and item vectors.
        max_len: events read, at most.
        dropout: of inputs and outputs.
        learning_rate: of Adam.
        batch_events: predicted events of a batch.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        hidden_dim: int = 64,
        max_len: int = 100,
        dropout: float = 0.2,
        learning_rate: float = 3e-3,
        batch_events: int = 512,
    ) -> None:
        super().__init__(config, encoder)
        for name, value in (("hidden_dim", hidden_dim), ("batch_events", batch_events)):
            check_option(name, value, value >= 1, "a whole number >= 1")
        check_option("max_len", max_len, max_len >= 2, "a whole number >= 2")
        check_option("dropout", dropout, 0 <= dropout < 1, "a share in [0, 1)")
        check_option("learning_rate", learning_rate, learning_rate > 0, "> 0")
        self.hidden_dim, self.max_len, self.dropout = hidden_dim, max_len, dropout
        self.learning_rate, self.batch_events = learning_rate, batch_events

    @abstractmethod
    def _reader(self) -> nn.Module:
        """A new causal network (window, step, hidden_dim) to the same shape."""

    def _learn(self, past: Timeline, run: FitConfig) -> SequenceNetwork:
        projection = Projection.of(past)

        def make(timeline: Timeline) -> SequenceNetwork:
            return self._untrained(projection, timeline)

        task = Task(make, self._batches, _loss, self._held_back, self.learning_rate)
        return fit_network(task, past, run)

    def _untrained(self, projection: Projection, timeline: Timeline) -> SequenceNetwork:
        item = timeline.history.item_index
        if timeline.emission == "choice":
            item = item[timeline.positive]
        trained = (np.bincount(item, minlength=timeline.n_items) > 0).astype(np.float32)
        return SequenceNetwork(
            self._reader(),
            projection,
            torch.as_tensor(first_offsets(timeline)),
            torch.as_tensor(trained),
            self.hidden_dim,
            self.dropout,
            timeline.emission,
        )

    def _batches(self, timeline: Timeline, rng: np.random.Generator) -> Iterator[_Batch]:
        for windows in training_batches(timeline, self.max_len, self.batch_events, rng):
            yield timeline, windows

    def _held_back(self, network: SequenceNetwork, timeline: Timeline, part: np.ndarray) -> float:
        total = 0.0
        with torch.no_grad():
            for rows in self._alike(timeline, part):
                windows = windows_before(timeline, part[rows], self.max_len)
                total += len(rows) * float(network.loss(timeline, windows))
        return total / len(part)

    def _alike(self, timeline: Timeline, part: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of `part` with windows of similar length, so many that a block fits in memory."""
        size = max(1, STEP_CELLS // (self.hidden_dim * (self.max_len + 1)))
        length = timeline.tied_first[part] - timeline.start[part]
        order = np.argsort(np.minimum(length, self.max_len), kind="stable")
        for at in range(0, len(part), size):
            yield order[at : at + size]

    def _scores(self, learned: SequenceNetwork, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        def make() -> tuple[SequenceNetwork, Tensor]:
            return learned, learned.items(timeline)  # with the network: its id stays taken

        with torch.no_grad():
            _, items = timeline.once(("items", id(learned)), make)
            states = items.new_empty(len(part), self.hidden_dim)
            for rows in self._alike(timeline, part):
                windows = windows_before(timeline, part[rows], self.max_len)
                states[torch.as_tensor(rows)] = learned.states(items, windows)
            scores = torch.addmm(learned.offsets(len(items)), states, items.T)
            if timeline.emission != "choice":
                scores += learned.level(states)
        found: np.ndarray = scores.cpu().numpy()
        return found

    def _link(self, learned: SequenceNetwork, past: Timeline, part: np.ndarray) -> Link:
        return Softmax(1.0) if past.emission == "choice" else Sigmoid()


def _loss(network: SequenceNetwork, batch: _Batch) -> Tensor:
    return network.loss(*batch)


def first_offsets(timeline: Timeline) -> np.ndarray:
    """choice: log share of the item. Otherwise log odds of its positive rate, float32."""
    item, positive = timeline.history.item_index, timeline.positive
    hits = np.bincount(item[positive], minlength=timeline.n_items)
    if timeline.emission == "choice":
        total = hits.sum() + PRIOR_COUNT * timeline.n_items
        shares: np.ndarray = np.log((hits + PRIOR_COUNT) / total).astype(np.float32)
        return shares
    shown = np.bincount(item, minlength=timeline.n_items)
    rate = (positive.sum() + 0.5) / (len(positive) + 1.0)
    odds: np.ndarray = logit((hits + 5.0 * rate) / (shown + 5.0)).astype(np.float32)
    return odds


class GRUInterest(SequenceRival):
    """A gated recurrent unit over the user's events.

    Source: Hidasi et al. (ICLR 2016), "Session-based recommendations with recurrent neural
    networks", with the full softmax; options as `SequenceRival`.
    """

    def _reader(self) -> nn.Module:
        return Recurrent(nn.GRU, self.hidden_dim)


class LSTMInterest(SequenceRival):
    """A long short-term memory over the user's events.

    Source: Hochreiter and Schmidhuber (1997); as a recommender Devooght and Bersini (2017),
    "Long and short-term recommendations with recurrent neural networks". Options as
    `SequenceRival`.
    """

    def _reader(self) -> nn.Module:
        return Recurrent(nn.LSTM, self.hidden_dim)


class SASRecInterest(SequenceRival):
    """A causal transformer over the user's events.

    Source: Kang and McAuley (ICDM 2018), "Self-attentive sequential recommendation", with the
    full softmax cross entropy of Klenitskiy and Vasilev (RecSys 2023), "Turning dross into gold
    loss". Options as `SequenceRival`, and:

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors.
        n_heads: of attention; divides `hidden_dim`.
        n_layers: of the transformer.
        options: those of `SequenceRival`.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        n_heads: int = 2,
        n_layers: int = 2,
        learning_rate: float = 2e-3,
        **options: Any,
    ) -> None:
        super().__init__(config, encoder, learning_rate=learning_rate, **options)
        good = n_heads >= 1 and self.hidden_dim % n_heads == 0
        check_option("n_heads", n_heads, good, f"a divisor of hidden_dim={self.hidden_dim}")
        check_option("n_layers", n_layers, n_layers >= 1, "a whole number >= 1")
        self.n_heads, self.n_layers = n_heads, n_layers

    def _reader(self) -> nn.Module:
        return Attention(self.hidden_dim, self.n_heads, self.n_layers, self.dropout, self.max_len)
