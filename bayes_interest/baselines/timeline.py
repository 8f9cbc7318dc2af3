"""Train and test as one timeline, and what lies strictly before each of its moments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from bayes_interest.events.history import History, join_histories
from bayes_interest.events.read import EventLog
from bayes_interest.model.prepare import log_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.schema import SECONDS_PER_DAY


@dataclass(frozen=True)
class Timeline:
    """All events, in user-then-time order; those of train come first where times tie.

    The rivals' evidence for an event is what has a strictly earlier timestamp. Only the filter of
    seen items counts, as the model does, also the user's tied events that come first in the log:
    everybody ranks the same candidates.
    """

    history: History
    positive: np.ndarray  # engaged, liked or chosen, (event,) bool
    n_train: int
    n_items: int
    emission: str

    @property
    def is_test(self) -> np.ndarray:
        """(event,) bool."""
        return self.history.order >= self.n_train

    def last_of_train(self, share: float, positive_only: bool) -> np.ndarray:
        """Positions of the last share of train, whole timestamps; all of train if that is none."""
        train = np.flatnonzero(~self.is_test)
        seconds = self.history.seconds[train]
        cut = np.sort(seconds)[int(len(train) * (1.0 - share))]
        for part in (train[seconds >= cut], train):
            wanted = part[self.positive[part]] if positive_only else part
            if len(wanted):
                break
        return wanted

    @cached_property
    def tied_first(self) -> np.ndarray:
        """Position of the first event of the same user at the same time, (event,)."""
        user, seconds = self.history.user_index, self.history.seconds
        changes = (np.diff(user, prepend=-1) != 0) | (np.diff(seconds, prepend=np.nan) != 0)
        first: np.ndarray = np.maximum.accumulate(np.where(changes, np.arange(len(user)), 0))
        return first

    def own_past(self, part: np.ndarray) -> sparse.csr_matrix:
        """Positive events per (event, item) of the event's user, strictly before it."""
        before = np.concatenate(([0], np.cumsum(self.positive)))
        start = self.history.start[self.history.user_index[part]]
        low, high = before[start], before[self.tied_first[part]]
        pointer = np.concatenate(([0], np.cumsum(high - low)))
        column = ranges(low, high - low)
        items = self.history.item_index[self.positive][column]
        ones = np.ones(len(items), dtype=np.float32)
        return sparse.csr_matrix((ones, items, pointer), shape=(len(part), self.n_items))

    def seen(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, item) pairs that an event's user had met, in the order of the log, before it."""
        start = self.history.start[self.history.user_index[part]]
        row = np.repeat(np.arange(len(part)), part - start)
        return row, self.history.item_index[ranges(start, part - start)]


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`start, start + 1, ...` of each length, one after the other."""
    done = np.cumsum(length) - length
    positions: np.ndarray = np.arange(length.sum()) + np.repeat(start - done, length)
    return positions


def make_timeline(posterior: Posterior, train: EventLog, test: EventLog) -> Timeline:
    """Both logs in the indices of a posterior that knows their users and items."""
    words = replace(posterior.vocabulary, kinds=("",))
    config, n_users = posterior.config, len(words.users)
    parts = [log_history(log, words, config.emission, config) for log in (train, test)]
    history = join_histories(parts[0], parts[1], n_users)
    if config.emission == "choice":
        positive = history.absorb
    else:
        least = posterior.level if config.emission == "rating" else 1
        positive = history.outcome >= least
    return Timeline(history, positive, len(train), len(words.items), config.emission)


@dataclass(frozen=True)
class PastCounts:
    """Counts events per item strictly before a moment, in the last `window_days` or ever."""

    item_index: np.ndarray  # in time order, (event,)
    seconds: np.ndarray  # sorted, (event,)
    n_items: int
    window_days: float | None = None

    @classmethod
    def of(
        cls, timeline: Timeline, use: np.ndarray, window_days: float | None = None
    ) -> PastCounts:
        """From the events where `use` (event,) is true."""
        item, seconds = timeline.history.item_index[use], timeline.history.seconds[use]
        order = np.argsort(seconds, kind="stable")
        return cls(item[order], seconds[order], timeline.n_items, window_days)

    @property
    def _window(self) -> float | None:
        return None if self.window_days is None else self.window_days * SECONDS_PER_DAY

    def rows(self, moments: np.ndarray) -> np.ndarray:
        """Of every item at moments in increasing order, (moment, item) float32."""
        table = self._rows(moments)
        return table if self._window is None else table - self._rows(moments - self._window)

    def _rows(self, moments: np.ndarray) -> np.ndarray:
        first, end = np.searchsorted(self.seconds, moments[[0, -1]], side="left")
        table = np.zeros((len(moments), self.n_items), dtype=np.float32)
        table[0] = np.bincount(self.item_index[:first], minlength=self.n_items)
        row = np.searchsorted(moments, self.seconds[first:end], side="right")
        np.add.at(table, (row, self.item_index[first:end]), 1.0)
        return np.cumsum(table, axis=0, out=table)

    def of_events(self, item_index: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Of one item at one moment each, in any order, (event,)."""
        count = self._before(item_index, moments)
        if self._window is not None:
            count = count - self._before(item_index, moments - self._window)
        return count

    def totals(self, moments: np.ndarray) -> np.ndarray:
        """Of all items together, (moment,)."""
        count = np.searchsorted(self.seconds, moments, side="left")
        if self._window is not None:
            count = count - np.searchsorted(self.seconds, moments - self._window, side="left")
        return count

    def _before(self, item_index: np.ndarray, moments: np.ndarray) -> np.ndarray:
        rank = np.searchsorted(self.seconds, moments, side="left")
        start = item_index.astype(np.int64) * (len(self.seconds) + 1)
        key = self._key
        return np.searchsorted(key, start + rank) - np.searchsorted(key, start)

    @cached_property
    def _key(self) -> np.ndarray:
        width = len(self.seconds) + 1
        return np.sort(self.item_index.astype(np.int64) * width + np.arange(width - 1))
