"""How the networks among the rivals are trained: Adam, early stopping, one seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bayes_interest.baselines.base import evenly
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig
from bayes_interest.model.seeding import seeded
from bayes_interest.posterior.ready import resolve_device
from bayes_interest.progress import bar, shown_if

TEXT_DIM = 64
MAX_HELD_BACK = 4_000  # events, at most, evenly spread
MIN_HELD_BACK = 20
GRADIENT_NORM = 5.0

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Task(Generic[Network, Batch]):
    """What is trained: a new network, its batches in random order, and the loss of a batch."""

    make: Callable[[Timeline], Network]
    batches: Callable[[Timeline, np.random.Generator], Iterator[Batch]]
    loss: Callable[[Network, Batch], Tensor]
    held_back: Callable[[Network, Timeline, np.ndarray], float]
    """Mean log loss of late events (positions) of a timeline."""
    learning_rate: float


def fit_network(task: Task[Network, Batch], past: Timeline, run: FitConfig) -> Network:
    """Train with early stopping on the last `run.holdout` of train by its log loss.

    With `run.refit` the network is then trained once more on everything, for the best number of
    epochs. Without a usable held-back part it is trained for `run.max_epochs`.
    """
    device = resolve_device(run.device)
    late = held_back_part(past, run.holdout)
    if late is None:
        return _train(task, past, run, device, run.max_epochs, None)[0]
    early = past.before(past.history.seconds[late[0]])
    network, epochs = _train(task, early, run, device, run.max_epochs, (past, late))
    if not run.refit:
        return network
    return _train(task, past, run, device, epochs, None)[0]


def held_back_part(past: Timeline, share: float) -> np.ndarray | None:
    """Late events to stop by, in order of time; None where there are too few."""
    if share == 0:
        return None
    choice = past.emission == "choice"
    late = past.in_time_order(past.last_of_train(share, positive_only=choice))
    early = past.before(past.history.seconds[late[0]])
    if len(late) < MIN_HELD_BACK or not early.positive.any():
        return None
    return late if choice or not early.positive.all() else None


def _train(
    task: Task[Network, Batch],
    past: Timeline,
    run: FitConfig,
    device: torch.device,
    max_epochs: int,
    watch: tuple[Timeline, np.ndarray] | None,
) -> tuple[Network, int]:
    """The network of the best epoch (the last one where nothing is watched), and that epoch."""
    rng = np.random.default_rng(run.seed)
    with seeded(run.seed, device), shown_if(run.progress):
        network = task.make(past).to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=task.learning_rate)
        best, best_loss, best_epoch = network, float("inf"), max_epochs
        label = "fit" if watch is None else "choose epochs"
        for epoch in bar(range(1, max_epochs + 1), desc=label, unit="epoch"):
            _epoch(task, network, optimiser, task.batches(past, rng))
            if watch is None:
                continue
            loss = task.held_back(network, watch[0], evenly(watch[1], MAX_HELD_BACK))
            if loss < best_loss:
                best, best_loss, best_epoch = copy.deepcopy(network), loss, epoch
            elif epoch - best_epoch >= run.patience:
                break
    return best.eval(), best_epoch


def _epoch(
    task: Task[Network, Batch],
    network: Network,
    optimiser: torch.optim.Optimizer,
    batches: Iterator[Batch],
) -> None:
    network.train()
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        task.loss(network, batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()
    network.eval()


@dataclass(frozen=True)
class Projection:
    """Text vectors in few dimensions: centred, on the leading principal axes, at unit scale."""

    mean: np.ndarray  # (embed_dim,)
    axes: np.ndarray  # (embed_dim, text_dim)

    @classmethod
    def of(cls, timeline: Timeline) -> Projection:
        """From the items that have a vector."""
        catalogue = timeline.catalogue
        known = catalogue.vectors[catalogue.has_vector].astype(np.float64)
        width = catalogue.vectors.shape[1]
        if len(known) < 2:
            return cls(np.zeros(width), np.zeros((width, 1)))
        mean = known.mean(0)
        values, axes = np.linalg.eigh(np.cov(known.T).reshape(width, width))
        keep = np.flatnonzero(values > 1e-8 * max(values[-1], 1e-30))[::-1][:TEXT_DIM]
        if not len(keep):
            return cls(mean, np.zeros((width, 1)))
        axes = axes[:, keep] * np.where(axes[:, keep].sum(0) < 0, -1.0, 1.0)
        return cls(mean, axes / np.sqrt(values[keep].mean()))

    @property
    def text_dim(self) -> int:
        """Number of axes."""
        return int(self.axes.shape[1])

    def apply(self, timeline: Timeline) -> np.ndarray:
        """Of all items (item, text_dim) float32; zero without a vector."""

        def make() -> np.ndarray:
            catalogue = timeline.catalogue
            found = (catalogue.vectors - self.mean) @ self.axes
            return np.where(catalogue.has_vector[:, None], found, 0.0).astype(np.float32)

        features: np.ndarray = timeline.once(("projection", self.axes.tobytes()), make)
        return features
