"""The covariates of candidates as tensors, against those counted one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bayes_interest.events.history import History, make_history
from bayes_interest.events.surroundings import Kinds, Surroundings
from bayes_interest.model.candidates import CandidateRows, user_item_counts
from bayes_interest.model.parameters import COVARIATES
from tests.oracles import slow_covariates

N_USERS, N_ITEMS, N_EVENTS = 5, 11, 61
DAY = 86_400
TEXT_DIM = 4
KINDS = Kinds((0.5, 3.0), repeats=True, succession=True, likeness=True)
EVENTS = np.array([3, 17, 60, 42])
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def random_history(seed: int, days: float = 20.0) -> History:
    """Some events tied."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, int(days * DAY), N_EVENTS).astype(float)
    seconds[:7] = seconds[7]
    return make_history(
        rng.integers(0, N_USERS, N_EVENTS),
        rng.integers(0, N_ITEMS, N_EVENTS),
        seconds,
        np.zeros(N_EVENTS),
        np.zeros(N_EVENTS, dtype=int),
        N_USERS,
    )


def unit_vectors() -> np.ndarray:
    """Directions of texts; item 2 has none."""
    texts = np.random.default_rng(5).normal(size=(N_ITEMS, TEXT_DIM))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    texts[2] = 0.0
    return texts.astype(np.float32)


TEXTS = unit_vectors()


def rows_of(history: History) -> CandidateRows:
    """Moments in an order that is not the log's."""
    surroundings = Surroundings(history, N_ITEMS, KINDS, TEXTS)
    return CandidateRows(surroundings, np.arange(N_EVENTS)[::-1])


def slow_rows(history: History, rows: CandidateRows) -> np.ndarray:
    """Every covariate of every item at the moment of `EVENTS`, (event, item, covariate)."""
    moments = rows.moment[EVENTS]
    return np.stack([slow_covariates(history, N_ITEMS, KINDS, at, TEXTS) for at in moments])


def test_entries_and_likeness_are_the_covariates_of_the_events_moments() -> None:
    history = random_history(6)
    rows = rows_of(history)
    got = np.zeros((len(EVENTS), N_ITEMS, len(KINDS.names)))
    for columns, row, item, values in rows.entries(EVENTS):
        assert values.shape == (len(row), columns.stop - columns.start)
        got[row, item, columns] += values.numpy()
    alike = KINDS.columns("likeness")
    assert (got[:, :, alike] == 0.0).all()  # not among the entries
    like = rows.likeness(EVENTS)
    assert like.shape == (len(EVENTS), 2, TEXT_DIM)
    got[:, :, alike] = (like @ torch.as_tensor(TEXTS).T).numpy().swapaxes(1, 2)
    wanted = slow_rows(history, rows)
    assert (np.abs(wanted).max((0, 1)) > 0.1).all()
    np.testing.assert_allclose(got, wanted, **CLOSE)


def test_own_covariates_are_those_of_each_events_item() -> None:
    history = random_history(6)
    rows = rows_of(history)
    own = slow_rows(history, rows)[np.arange(len(EVENTS)), history.item_index[rows.moment[EVENTS]]]
    np.testing.assert_allclose(rows.own()[EVENTS], own, **CLOSE)


def test_dense_is_the_weighted_sum_of_the_covariates() -> None:
    history = random_history(7)
    rows = rows_of(history)
    weight = torch.tensor([0.7, -1.3, 0.4, 1.9, -0.6, 0.3, 1.1, -0.2, 0.9, -1.7]).double()
    assert len(weight) == len(KINDS.names)
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
