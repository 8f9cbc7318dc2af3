"""Sorting and merging of histories as compiled CPU loops: a look or two at each event."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True)
def group_kernel(group: Array, n_groups: int) -> Array:
    """Positions sorted by group, in their order within each: a counting sort."""
    place = np.zeros(n_groups + 1, np.int64)
    for one in group:
        place[one + 1] += 1
    for one in range(n_groups):
        place[one + 1] += place[one]
    order = np.empty(len(group), np.int64)
    for event in range(len(group)):
        order[place[group[event]]] = event
        place[group[event]] += 1
    return order


@njit(cache=True, nogil=True)
def merge_kernel(user: Array, seconds: Array, more_user: Array, more_seconds: Array) -> Array:
    """How to take two histories, each by user and then time, as one; on a tie the first one's."""
    n, m = len(user), len(more_user)
    order = np.empty(n + m, np.int64)
    i, j = 0, 0
    for event in range(n + m):
        second = j < m
        if second and i < n:
            second = more_user[j] < user[i]
            if more_user[j] == user[i]:
                second = more_seconds[j] < seconds[i]
        if second:
            order[event] = n + j
            j += 1
        else:
            order[event] = i
            i += 1
    return order


# Running rates in the order of time. `users` (user, share) are averages; `items` (item, 5) and
# `overall` (5,) hold the sum and number of terms, both again before the last moment, and that
# moment: so events at one moment do not see each other.


@njit(cache=True, nogil=True)
def _earlier(state: Array, seconds: float) -> tuple[float, float]:
    """Sum and number of what is strictly earlier than a moment, none being later."""
    if state[4] == seconds:
        return state[2], state[3]
    return state[0], state[1]


@njit(cache=True, nogil=True)
def _add(state: Array, seconds: float, value: float) -> None:
    state[2], state[3] = _earlier(state, seconds)
    state[0] += value
    state[1] += 1.0
    state[4] = seconds


@njit(cache=True, nogil=True)
def rates_before(
    users: Array, items: Array, user: int, item: int, seconds: float, caution: float, out: Array
) -> None:
    """Fill `out` with the user's averages, a one, and the item's rate."""
    n_shares = users.shape[1]
    for s in range(n_shares):
        out[s] = users[user, s]
    total, count = _earlier(items[item], seconds)
    out[n_shares], out[n_shares + 1] = 1.0, total / (caution + count)


@njit(cache=True, nogil=True)
def push_rates(
    users: Array,
    items: Array,
    overall: Array,
    user: int,
    item: int,
    seconds: float,
    outcome: float,
    shares: Array,
) -> None:
    """Absorb one event, later than none before it."""
    total, count = _earlier(overall, seconds)
    excess = outcome - (total + 0.5) / (count + 1.0)
    for s in range(len(shares)):
        users[user, s] += shares[s] * (excess - users[user, s])
    _add(items[item], seconds, excess)
    _add(overall, seconds, outcome)


@njit(cache=True, nogil=True)
def replay_rates(
    users: Array,
    items: Array,
    overall: Array,
    user: Array,
    item: Array,
    seconds: Array,
    outcome: Array,
    absorb: Array,
    shares: Array,
    caution: float,
    out: Array,
) -> None:
    """Go through events in the order of time: fill `out` (event, share + 2) before each of them."""
    for e in range(len(user)):
        rates_before(users, items, user[e], item[e], seconds[e], caution, out[e])
        if absorb[e]:
            push_rates(users, items, overall, user[e], item[e], seconds[e], outcome[e], shares)


# A ring of the latest events, (event, 14 + share): user, item, moment, outcome, and what the event
# has overwritten in `items`, `overall` and `users`, so that it can be taken back.


@njit(cache=True, nogil=True)
def _push_remembered(
    users: Array,
    items: Array,
    overall: Array,
    ring: Array,
    count: int,
    user: int,
    item: int,
    seconds: float,
    outcome: float,
    shares: Array,
) -> None:
    row = ring[count % len(ring)]
    row[0], row[1], row[2], row[3] = user, item, seconds, outcome
    row[4:9], row[9:14] = items[item], overall
    for s in range(len(shares)):
        row[14 + s] = users[user, s]
    push_rates(users, items, overall, user, item, seconds, outcome, shares)


@njit(cache=True, nogil=True)
def _take_back(users: Array, items: Array, overall: Array, row: Array) -> None:
    items[int(row[1])], overall[:] = row[4:9], row[9:14]
    for s in range(users.shape[1]):
        users[int(row[0]), s] = row[14 + s]


@njit(cache=True, nogil=True)
def remember_rates(
    users: Array,
    items: Array,
    overall: Array,
    ring: Array,
    count: int,
    order: Array,
    user: Array,
    item: Array,
    seconds: Array,
    outcome: Array,
    shares: Array,
) -> None:
    """Absorb a log in `order`, by time, after `count` events."""
    for place, e in enumerate(order):
        _push_remembered(
            users, items, overall, ring, count + place, user[e], item[e], seconds[e], outcome[e],
            shares,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def observe_rates(
    users: Array,
    items: Array,
    overall: Array,
    ring: Array,
    count: int,
    user: int,
    item: int,
    seconds: float,
    outcome: float,
    shares: Array,
    caution: float,
    out: Array,
) -> bool:
    """Fill `out` with the rates just before an event, and absorb it after `count` others.

    Later ones are taken back for that, and absorbed again. False, and nothing done, where those are
    more than the ring holds.
    """
    known, late = min(count, len(ring)), 0
    while late < known and ring[(count - 1 - late) % len(ring), 2] > seconds:
        late += 1
    if late == known and late < count:
        return False
    again = np.empty((late, 4))
    for back in range(late):
        row = ring[(count - 1 - back) % len(ring)]
        for column in range(4):
            again[late - 1 - back, column] = row[column]
        _take_back(users, items, overall, row)
    rates_before(users, items, user, item, seconds, caution, out)
    at = count - late
    _push_remembered(users, items, overall, ring, at, user, item, seconds, outcome, shares)
    for row in again:
        at += 1
        u, i = int(row[0]), int(row[1])
        _push_remembered(users, items, overall, ring, at, u, i, row[2], row[3], shares)
    return True
