"""Users' histories as padded windows for sequence networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.baselines.timeline import Timeline


@dataclass(frozen=True)
class Evidence:
    """The events that sequence networks read, one after the other, user by user.

    choice: the choices. bernoulli, rating: every event with its outcome.
    """

    item: np.ndarray  # (evidence,)
    outcome: np.ndarray  # (evidence,) bool
    before: np.ndarray  # evidence at positions below this one, (event + 1,)
    event: np.ndarray  # position in the timeline, (evidence,)

    @classmethod
    def of(cls, timeline: Timeline) -> Evidence:
        """Of a timeline, kept with it."""

        def make() -> Evidence:
            use = timeline.positive
            if timeline.emission != "choice":
                use = np.ones_like(use)
            before = np.concatenate(([0], np.cumsum(use)))
            item = timeline.history.item_index[use]
            return cls(item, timeline.positive[use], before, np.flatnonzero(use))

        found: Evidence = timeline.once("evidence", make)
        return found


@dataclass(frozen=True)
class Windows:
    """Stretches of evidence, and what is to be predicted after so many of their events."""

    item: Tensor  # (window, step), 0 where padded
    outcome: Tensor  # (window, step) float32
    window: Tensor  # of each target, (target,)
    read: Tensor  # events of the window that each target may see, (target,)
    target: Tensor  # item, (target,)
    positive: Tensor  # outcome, (target,) float32


def padded(evidence: Evidence, begin: np.ndarray, length: np.ndarray) -> tuple[Tensor, Tensor]:
    """Items and outcomes (window, step) of stretches; zero behind their end."""
    step = np.arange(max(int(length.max(initial=0)), 1))
    inside = step[None, :] < length[:, None]
    at = np.where(inside, begin[:, None] + step[None, :], 0)
    if not len(evidence.item):
        empty = torch.zeros(inside.shape, dtype=torch.int64)
        return empty, empty.float()
    item = np.where(inside, evidence.item[at], 0)
    outcome = np.where(inside, evidence.outcome[at], False)
    return torch.as_tensor(item, dtype=torch.long), torch.as_tensor(outcome.astype(np.float32))


def windows_before(timeline: Timeline, part: np.ndarray, max_len: int) -> Windows:
    """For each event its own window: the user's last evidence strictly before it."""
    evidence = Evidence.of(timeline)
    end = evidence.before[timeline.tied_first[part]]
    begin = np.maximum(evidence.before[timeline.start[part]], end - max_len)
    item, outcome = padded(evidence, begin, end - begin)
    return Windows(
        item,
        outcome,
        torch.arange(len(part)),
        torch.as_tensor(end - begin),
        torch.as_tensor(timeline.history.item_index[part], dtype=torch.long),
        torch.as_tensor(timeline.positive[part].astype(np.float32)),
    )


@dataclass(frozen=True)
class Stretches:
    """Training windows: each event of the evidence is the target of one of them.

    A target sees at least half a window of its past, where there is as much.
    """

    begin: np.ndarray  # first event read, (window,)
    end: np.ndarray  # behind the last event read
    first: np.ndarray  # first target
    last: np.ndarray  # behind the last target

    @classmethod
    def of(cls, timeline: Timeline, max_len: int) -> Stretches:
        """Cut every user's evidence."""
        evidence = Evidence.of(timeline)
        bounds = evidence.before[timeline.history.start]
        rows = []
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            begin, first = low, low
            while first < high:
                last = min(begin + max_len + 1, high)
                rows.append((begin, min(begin + max_len, high), first, last))
                begin, first = last - max_len // 2, last
        table = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        return cls(table[0], table[1], table[2], table[3])


def training_batches(
    timeline: Timeline, max_len: int, batch_events: int, rng: np.random.Generator
) -> Iterator[Windows]:
    """Windows of similar length together, about `batch_events` targets at a time, shuffled."""
    cut: Stretches = timeline.once(("stretches", max_len), lambda: Stretches.of(timeline, max_len))
    size = cut.last - cut.first
    order = np.argsort((cut.end - cut.begin) * np.exp(0.3 * rng.standard_normal(len(size))))
    group = np.cumsum(size[order]) // batch_events
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    batches = np.split(order, starts[1:])
    for at in rng.permutation(len(batches)):
        yield _training_windows(timeline, cut, batches[int(at)])


def _training_windows(timeline: Timeline, cut: Stretches, rows: np.ndarray) -> Windows:
    evidence = Evidence.of(timeline)
    item, outcome = padded(evidence, cut.begin[rows], cut.end[rows] - cut.begin[rows])
    size = cut.last[rows] - cut.first[rows]
    window = np.repeat(np.arange(len(rows)), size)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    target = cut.first[rows][window] + within
    strict = evidence.before[timeline.tied_first[evidence.event[target]]]
    read = np.maximum(strict - cut.begin[rows][window], 0)
    return Windows(
        item,
        outcome,
        torch.as_tensor(window),
        torch.as_tensor(read),
        torch.as_tensor(evidence.item[target], dtype=torch.long),
        torch.as_tensor(evidence.outcome[target].astype(np.float32)),
    )
