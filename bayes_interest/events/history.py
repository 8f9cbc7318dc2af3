"""A log as plain arrays in user-then-time order: what the inference reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bayes_interest.schema import SECONDS_PER_DAY


@dataclass(frozen=True)
class History:
    """Events sorted by (user, time, input order); every array is (event,), 37 bytes an event."""

    user_index: np.ndarray  # int32, as `item_index`
    item_index: np.ndarray
    seconds: np.ndarray  # unix seconds, float64
    outcome: np.ndarray  # the family's coding, float64
    kind_index: np.ndarray  # int32
    absorb: np.ndarray  # False: a moment to look at, not an event to learn from
    order: np.ndarray  # position of each event in the log it came from
    n_users: int

    def __len__(self) -> int:
        return len(self.user_index)

    @cached_property
    def start(self) -> np.ndarray:
        """First event of each user, and the end: (user + 1,)."""
        users = np.arange(self.n_users + 1)
        if self.user_index.dtype.itemsize == 4:  # of one type: else the whole log is converted
            users = users.astype(self.user_index.dtype)
        return np.searchsorted(self.user_index, users)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Events of each user, (user,)."""
        return np.diff(self.start)

    def elapsed_days(self, last_seconds: np.ndarray | None = None) -> np.ndarray:
        """Days since the user's previous event; a first event counts from `last_seconds` (user,).

        NaN in `last_seconds`, or none given, means there is no earlier event: zero.
        """
        gap = np.diff(self.seconds, prepend=self.seconds[:1])
        first = np.diff(self.user_index, prepend=-1) != 0
        since = np.zeros(int(first.sum()))
        if last_seconds is not None:
            since = np.nan_to_num(self.seconds[first] - last_seconds[self.user_index[first]])
        gap[first] = since
        return np.asarray(gap / SECONDS_PER_DAY)

    def follows(self, last_seconds: np.ndarray | None = None) -> np.ndarray:
        """1.0 where the user has an earlier event, here or at a finite `last_seconds` (user,)."""
        later = (np.diff(self.user_index, prepend=-1) == 0).astype(np.float64)
        if last_seconds is not None:
            later = np.maximum(later, np.isfinite(last_seconds[self.user_index]))
        return np.asarray(later)

    def numbered(self) -> History:
        """The same with `order` counting from zero in the present order."""
        return replace(self, order=np.arange(len(self)))

    def span(self, user: int) -> slice:
        """Where one user's events are; of a mapped history only a few pages are read."""
        ends = np.array([user, user + 1], dtype=self.user_index.dtype)
        begin, end = np.searchsorted(self.user_index, ends).tolist()
        return slice(begin, end)

    def of_users(self, first: int, last: int) -> History:
        """Of the users from `first` to before `last`, who count from zero; in the same memory."""
        begin, end = self.start[first], self.start[last]
        columns = [field.name for field in fields(self) if field.name != "n_users"]
        part = {name: getattr(self, name)[begin:end] for name in columns}
        part["user_index"] = part["user_index"] - first
        return History(**part, n_users=last - first)

    def user_ranges(self, n_events: int) -> Iterator[tuple[int, int]]:
        """All users in stretches of about `n_events` events, one user's never apart."""
        edges = np.arange(n_events, len(self), n_events)
        cuts = np.searchsorted(self.start, edges)
        inner = np.unique(cuts[(cuts > 0) & (cuts < self.n_users)])
        return pairwise([0, *inner.tolist(), self.n_users])

    def take(self, keep: np.ndarray) -> History:
        """The events where `keep` (event,) is true, or at those positions, in the same order.

        All of them are the history itself.
        """
        if keep.dtype == bool and keep.all():
            return self
        columns = [field.name for field in fields(self) if field.name != "n_users"]
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})


def make_history(
    user_index: np.ndarray,
    item_index: np.ndarray,
    seconds: np.ndarray,
    outcome: np.ndarray,
    kind_index: np.ndarray,
    n_users: int,
    absorb: np.ndarray | None = None,
) -> History:
    """Sort a log in any order into a History; ties in time keep their order."""
    order = _by_user_and_time(user_index, seconds)
    return History(
        user_index[order].astype(np.int32, copy=False),
        item_index[order].astype(np.int32, copy=False),
        seconds[order].astype(np.float64, copy=False),
        outcome[order].astype(np.float64, copy=False),
        kind_index[order].astype(np.int32, copy=False),
        np.ones(len(seconds), dtype=bool) if absorb is None else absorb[order],
        order,
        n_users,
    )


def _by_user_and_time(user_index: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Positions by user, then time, then place; of a log by time only users need sorting."""
    if (seconds[1:] < seconds[:-1]).any() or user_index.min(initial=0) < 0:
        return np.lexsort((seconds, user_index))
    from bayes_interest.events.compiled import group_kernel

    order: np.ndarray = group_kernel(user_index, int(user_index.max(initial=-1)) + 1)
    return order


def join_histories(first: History, second: History, n_users: int) -> History:
    """Events of both; where times tie, those of `first` come first. `order` counts on."""
    if not len(first):
        return replace(second, n_users=n_users)
    from bayes_interest.events.compiled import merge_kernel

    columns = [field.name for field in fields(first) if field.name not in ("n_users", "order")]
    both = {name: np.concatenate((getattr(first, name), getattr(second, name))) for name in columns}
    position = np.concatenate((first.order, second.order + len(first)))
    joined = History(**both, order=position, n_users=n_users)
    sides = (first.user_index, first.seconds, second.user_index, second.seconds)
    return joined.take(merge_kernel(*sides))


@dataclass(frozen=True)
class Padded:
    """Positions of some users' events in a History, padded to the longest."""

    users: Tensor  # (user,)
    event: Tensor  # position of each step in the history, 0 where padded, (user, step)
    mask: Tensor  # True where there is an event, (user, step)

    def gather(self, values: Tensor) -> Tensor:
        """Values (event, ...) as (user, step, ...), zero where padded."""
        out = values[self.event]
        return out * self.mask.reshape(self.mask.shape + (1,) * (out.ndim - 2)).to(out.dtype)


def pad_users(history: History, users: np.ndarray, device: str | torch.device = "cpu") -> Padded:
    """The events of `users` as a padded block."""
    start, length = history.start[users], history.lengths[users]
    steps = np.arange(max(int(length.max(initial=0)), 1))
    mask = steps[None, :] < length[:, None]
    event = np.where(mask, start[:, None] + steps[None, :], 0)
    return Padded(
        torch.as_tensor(users, device=device),
        torch.as_tensor(event, device=device),
        torch.as_tensor(mask, device=device),
    )


def length_batches(lengths: np.ndarray, max_events: int) -> list[np.ndarray]:
    """Users with events, grouped by length so that a padded group has at most `max_events`."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    groups, begin = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - begin + 1) * lengths[order[end]] > max_events:
            groups.append(order[begin:end])
            begin = end
    return groups


def padded_batches(
    history: History, max_events: int, device: str | torch.device = "cpu"
) -> Iterator[Padded]:
    """All users with events, a padded block at a time, short histories first."""
    for users in length_batches(history.lengths, max_events):
        yield pad_users(history, users, device)
