"""Recent popularity counted one by one, and the rows of candidates as tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events.history import History, make_history
from bayes_interest.events.popularity import TICKS_PER_WINDOW, RecentCounts
from bayes_interest.events.surroundings import Kinds, Surroundings
from bayes_interest.model.candidates import CandidateRows, user_item_counts
from bayes_interest.model.parameters import COVARIATES
from tests.oracles import slow_covariates, slow_recent_count

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


KINDS = Kinds((1.0, 7.0), repeats=True, succession=True)
EVENTS = np.array([3, 17, 60, 42])


def rows_of(history: History) -> CandidateRows:
    """Moments in an order that is not the log's."""
    return CandidateRows(Surroundings(history, N_ITEMS, KINDS), np.arange(N_EVENTS)[::-1])


def slow_rows(history: History, rows: CandidateRows) -> np.ndarray:
    """Every covariate of every item at the moment of `EVENTS`, (event, item, covariate)."""
    moments = rows.moment[EVENTS]
    return np.stack([slow_covariates(history, N_ITEMS, KINDS, moment) for moment in moments])


def test_entries_are_the_covariates_of_the_events_moments() -> None:
    history = random_history(6)
    rows = rows_of(history)
    got = np.zeros((len(EVENTS), N_ITEMS, len(KINDS.names)))
    for columns, row, item, values in rows.entries(EVENTS):
        assert values.shape == (len(row), columns.stop - columns.start)
        got[row, item, columns] += values.numpy()
    np.testing.assert_allclose(got, slow_rows(history, rows), rtol=1e-5, atol=1e-6)
    own = slow_rows(history, rows)[np.arange(len(EVENTS)), history.item_index[rows.moment[EVENTS]]]
    np.testing.assert_allclose(rows.own()[EVENTS], own, rtol=1e-5, atol=1e-6)


def test_dense_is_the_weighted_sum_of_the_entries() -> None:
    history = random_history(7)
    rows = rows_of(history)
    weight = torch.tensor([0.7, -1.3, 0.4, 1.9, -0.6, 0.3], dtype=torch.float64)
    values = {"mean": torch.zeros(3, dtype=torch.float64), COVARIATES: weight}
    got = rows.dense(EVENTS, values)
    assert got.dtype == torch.float64
    wanted = slow_rows(history, rows) @ weight.numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_dense_without_covariates_is_zero() -> None:
    rows = CandidateRows(Surroundings(random_history(7), N_ITEMS, Kinds()), np.arange(N_EVENTS))
    got = rows.dense(EVENTS, {"mean": torch.zeros(3, dtype=torch.float64)})
    assert torch.equal(got, torch.zeros(len(EVENTS), N_ITEMS, dtype=torch.float64))
    assert rows.own().shape == (N_EVENTS, 0)


def test_counts_of_users_and_items_leave_out_looks() -> None:
    history = random_history(8)
    absorb = np.arange(N_EVENTS) % 3 != 0
    history = replace(history, absorb=absorb)
    wanted = np.zeros((N_USERS, N_ITEMS))
    for event in np.flatnonzero(absorb):
        wanted[history.user_index[event], history.item_index[event]] += 1
    assert wanted.max() > 1
    np.testing.assert_array_equal(user_item_counts(history, N_ITEMS).toarray(), wanted)
