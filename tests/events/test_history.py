"""Sorting and joining histories: the same as sorting by all keys at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events.history import History, join_histories, make_history

EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=40)


def made(events: list[tuple[int, int]], n_users: int = 7, in_time: bool = False) -> History:
    if in_time:
        events = sorted(events, key=lambda event: event[1])
    user = np.array([event[0] for event in events], dtype=np.int64)
    seconds = np.array([event[1] for event in events], dtype=float)
    place = np.arange(len(events))
    return make_history(user, place, seconds, place % 2, 0 * place, n_users)


@settings(max_examples=80, deadline=None)
@given(events=EVENTS, in_time=st.booleans())
def test_a_history_is_sorted_by_user_time_and_place(
    events: list[tuple[int, int]], in_time: bool
) -> None:
    found = made(events, in_time=in_time)
    keys = list(zip(found.user_index, found.seconds, found.order, strict=True))
    assert keys == sorted(keys)
    assert np.array_equal(found.item_index, found.order)
    wanted = np.searchsorted(found.user_index, np.arange(8))
    assert np.array_equal(found.start, wanted)
    assert np.array_equal(found.lengths, np.diff(wanted))


@settings(max_examples=80, deadline=None)
@given(first=EVENTS, second=EVENTS)
def test_joined_histories_are_sorted_and_the_first_comes_first_on_ties(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    one, other = made(first), made(second)
    joined = join_histories(one, other, 7)
    keys = list(zip(joined.user_index, joined.seconds, joined.order, strict=True))
    assert keys == sorted(keys)
    assert sorted(joined.order) == list(range(len(first) + len(second)))
    both = np.concatenate(
        (one.outcome[np.argsort(one.order)], other.outcome[np.argsort(other.order)])
    )
    assert np.array_equal(joined.outcome, both[joined.order])


def test_users_beyond_those_counted_are_sorted_too() -> None:
    found = made([(3, 1), (9, 0), (9, 1)], n_users=5, in_time=True)
    assert found.user_index.tolist() == [3, 9, 9]
    assert found.start.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("n_users", [0, 3])
def test_no_event_is_a_history(n_users: int) -> None:
    nothing = made([], n_users=n_users)
    assert len(join_histories(nothing, nothing, n_users)) == 0
    assert nothing.start.tolist() == [0] * (n_users + 1)
