"""Popularity and repeats: counted one by one, from the strict past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events.history import History, make_history
from bayes_interest.events.popularity import TICKS_PER_WINDOW, RecentCounts
from bayes_interest.model.candidates import (
    annotate,
    candidate_rows,
    repeat_rows,
    user_item_counts,
)
from tests.oracles import slow_recent_count, slow_repeats

N_USERS, N_ITEMS, N_EVENTS = 5, 11, 61
DAY = 86_400
WINDOWS = pytest.mark.parametrize("window_days", [1.0, 3.0, 7.0, 30.0])


def random_history(seed: int, days: float = 20.0) -> History:
    """Some events tied, some on a tick exactly."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, int(days * DAY), N_EVENTS).astype(float)
    seconds[:7] = seconds[7]
    seconds[8:13] = np.floor(seconds[8:13] / 10_800) * 10_800
    return make_history(
        rng.integers(0, N_USERS, N_EVENTS),
        rng.integers(0, N_ITEMS, N_EVENTS),
        seconds,
        np.zeros(N_EVENTS),
        np.zeros(N_EVENTS, dtype=int),
        N_USERS,
    )


def counts_of(history: History, window_days: float) -> RecentCounts:
    return RecentCounts.of(history.item_index, history.seconds, N_ITEMS, window_days)


def slow_table(history: History, at: np.ndarray, window_days: float) -> np.ndarray:
    counts = [
        [
            slow_recent_count(
                item, when, history.item_index, history.seconds, window_days, TICKS_PER_WINDOW
            )
            for item in range(N_ITEMS)
        ]
        for when in at
    ]
    return np.log1p(np.array(counts))


@WINDOWS
def test_popularity_is_counted_one_by_one(window_days: float) -> None:
    history = random_history(0)
    recent = counts_of(history, window_days)
    wanted = slow_table(history, history.seconds, window_days)
    assert wanted.max() > 0.0
    own = wanted[np.arange(N_EVENTS), history.item_index]
    got = recent.of_events(history.item_index, history.seconds)
    np.testing.assert_allclose(got, own, rtol=1e-12)
    np.testing.assert_allclose(recent.rows(history.seconds).toarray(), wanted, rtol=1e-6)


@WINDOWS
def test_candidate_rows_agree_with_the_popularity_of_each_events_own_item(
    window_days: float,
) -> None:
    history = random_history(1)
    rows = candidate_rows(history, counts_of(history, window_days), N_ITEMS, repeats=False)
    table = rows.rows["popularity_weight"][rows.row_of["popularity_weight"]].toarray()
    np.testing.assert_allclose(
        table, slow_table(history, history.seconds, window_days), rtol=1e-6, atol=1e-7
    )


@WINDOWS
def test_a_tick_is_its_own_tick(window_days: float) -> None:
    rng = np.random.default_rng(0)
    seconds = rng.integers(1_400_000_000, 1_700_000_000, 10_007).astype(float)
    recent = RecentCounts.of(np.zeros(1, dtype=int), np.zeros(1), 1, window_days)
    ticks = recent.tick(seconds)
    assert (ticks <= seconds).all()
    assert np.array_equal(recent.tick(ticks), ticks)


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 20 * DAY))
@settings(max_examples=40, deadline=None)
def test_events_at_or_after_the_tick_never_count(seed: int, cut: int) -> None:
    history = random_history(seed)
    at = np.array([float(cut)])
    recent = counts_of(history, 7.0)
    later = history.seconds >= recent.tick(at)[0]
    rng = np.random.default_rng(seed)
    item = np.where(later, rng.integers(0, N_ITEMS, N_EVENTS), history.item_index)
    moved = np.where(later, history.seconds + rng.integers(0, DAY), history.seconds)
    changed = RecentCounts.of(item, moved, N_ITEMS, 7.0)
    gone = RecentCounts.of(history.item_index[~later], history.seconds[~later], N_ITEMS, 7.0)
    for other in (changed, gone):
        assert np.array_equal(other.rows(at).toarray(), recent.rows(at).toarray())
        for i in range(N_ITEMS):
            one = np.array([i])
            assert np.array_equal(other.of_events(one, at), recent.of_events(one, at))


def test_extended_counts_are_those_of_all_events() -> None:
    history = random_history(2)
    early = history.seconds < 9 * DAY
    first = RecentCounts.of(history.item_index[early], history.seconds[early], N_ITEMS, 7.0)
    both = first.extend(history.item_index[~early], history.seconds[~early], N_ITEMS + 2)
    at = np.array([5.0, 12.0, 19.0]) * DAY
    got = both.rows(at).toarray()
    assert got.shape == (3, N_ITEMS + 2)
    assert np.array_equal(got[:, :N_ITEMS], counts_of(history, 7.0).rows(at).toarray())
    assert (got[:, N_ITEMS:] == 0.0).all()


def test_no_events_no_popularity() -> None:
    nothing = RecentCounts.of(np.zeros(0, dtype=int), np.zeros(0), N_ITEMS, 7.0)
    at = np.array([1.0, 2.0])
    assert nothing.rows(at).shape == (2, N_ITEMS)
    assert nothing.rows(at).nnz == 0
    assert nothing.of_events(np.array([3, 4]), at).tolist() == [0.0, 0.0]


def slow_repeat_table(history: History) -> np.ndarray:
    counts = [
        [slow_repeats(history.user_index, history.item_index, event, i) for i in range(N_ITEMS)]
        for event in range(len(history))
    ]
    return np.log1p(np.array(counts))


def test_repeats_are_counted_one_by_one() -> None:
    history = random_history(3)
    wanted = slow_repeat_table(history)
    assert wanted.max() > np.log(2.5)
    np.testing.assert_allclose(repeat_rows(history, N_ITEMS).toarray(), wanted, rtol=1e-6)
    own = annotate(history, None, N_ITEMS, repeats=True).repeats
    np.testing.assert_allclose(own, wanted[np.arange(N_EVENTS), history.item_index], rtol=1e-6)


def test_repeats_continue_from_counts_before_the_history() -> None:
    history = random_history(4)
    early = history.seconds < 9 * DAY
    past = user_item_counts(history.take(early), N_ITEMS)
    late = repeat_rows(history.take(~early), N_ITEMS, past).toarray()
    np.testing.assert_allclose(late, repeat_rows(history, N_ITEMS).toarray()[~early], rtol=1e-6)


def test_moments_that_are_only_looked_at_are_not_counted() -> None:
    history = random_history(5)
    absorb = np.arange(N_EVENTS) % 3 != 0
    kept = replace(history, absorb=absorb)
    got = repeat_rows(kept, N_ITEMS).toarray()[absorb]
    wanted = repeat_rows(history.take(absorb), N_ITEMS).toarray()
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_annotate_fills_in_the_rows_own_entries() -> None:
    history = random_history(6)
    recent = counts_of(history, 7.0)
    filled = annotate(history, recent, N_ITEMS, repeats=True)
    rows = candidate_rows(history, recent, N_ITEMS, repeats=True)
    for name, column in (
        ("popularity_weight", filled.popularity),
        ("repeat_weight", filled.repeats),
    ):
        table = rows.rows[name][rows.row_of[name]].toarray()
        np.testing.assert_allclose(
            table[np.arange(N_EVENTS), history.item_index], column, rtol=1e-6
        )


def test_dense_is_the_weighted_sum_of_the_entries() -> None:
    history = random_history(7)
    rows = candidate_rows(history, counts_of(history, 7.0), N_ITEMS, repeats=True)
    values = {
        "mean": torch.zeros(3, dtype=torch.float64),
        "popularity_weight": torch.tensor(0.7, dtype=torch.float64),
        "repeat_weight": torch.tensor(-1.3, dtype=torch.float64),
    }
    events = np.array([3, 17, 60, 42])
    wanted = 0.7 * slow_table(history, history.seconds, 7.0) - 1.3 * slow_repeat_table(history)
    got = rows.dense(events, values, N_ITEMS).numpy()
    np.testing.assert_allclose(got, wanted[events], rtol=1e-6, atol=1e-6)
