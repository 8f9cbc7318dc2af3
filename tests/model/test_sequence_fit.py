"""Training of the context network: windows, what it learns, and when it stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.config import FitConfig
from bayes_interest.events.history import History, make_history
from bayes_interest.model import sequence_fit
from bayes_interest.model.context import Tokens, context_of_steps
from bayes_interest.model.parameters import Globals, Layout, item_terms
from bayes_interest.model.problem import Problem
from bayes_interest.model.seeding import seeded
from bayes_interest.model.sequence_fit import (
    READ_ONLY,
    SoftmaxLoss,
    fit_sequence,
    trains_first,
    windows,
)

LAYOUT = Layout(
    "choice",
    4,
    5,
    8,
    log_drift_centre=(-3.0,) * 4,
    context_layers=1,
    context_dim=16,
    context_events=6,
)
RUN = FitConfig(progress=False, context_epochs=25)


def history(users: np.ndarray, items: np.ndarray) -> History:
    """Events an hour apart, in the given order."""
    seconds, zero = 3600.0 * np.arange(len(users)), np.zeros(len(users), dtype=np.int64)
    return make_history(users, items, seconds, items.astype(float), zero, int(users.max()) + 1)


def problem(n_items: int = 8, seed: int = 0, cycle: bool = True) -> Problem:
    """30 users of 20 events; item k is followed by k + 1, or by whatever comes."""
    rng = np.random.default_rng(seed)
    shape = (30, 20)
    item = (rng.integers(0, n_items, 30)[:, None] + np.arange(20)) % n_items
    item = item if cycle else rng.integers(0, n_items, shape)
    log = history(np.repeat(np.arange(30), 20), item.ravel())
    features = torch.as_tensor(rng.normal(size=(n_items, 5)), dtype=torch.float32)
    return Problem(replace(LAYOUT, n_items=n_items), features, log)


def loss_of(task: Problem, values: Globals) -> float:
    """Minus mean log probability of all choices but the users' first, user by user."""
    values = {"mean": torch.zeros(4)} | values
    items = item_terms(task.layout, values, task.features)
    log, total = task.history, []
    for user in range(log.n_users):
        own = slice(*log.start[user : user + 2])
        item = torch.as_tensor(log.item_index[own])[None]
        days = torch.as_tensor(np.diff(log.seconds[own], prepend=log.seconds[own][0]) / 86_400.0)
        tokens = Tokens(item, item.float(), torch.zeros_like(item), days.float()[None])
        context = context_of_steps(task.layout, values, items.vectors, tokens)[0]
        logits = context @ items.vectors.T + items.offsets
        total.append(torch.log_softmax(logits, 1)[range(1, item.shape[1]), item[0, 1:]])
    return -float(torch.cat(total).mean())


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=12).filter(any),
    size=st.integers(20, 200),
    seed=st.integers(0, 100),
)
def test_every_choice_is_foretold_once_from_its_own_users_past(
    lengths: list[int], size: int, seed: int
) -> None:
    users = np.repeat(np.arange(len(lengths)), lengths)
    log = history(users, np.zeros(len(users), dtype=np.int64))
    task = Problem(LAYOUT, torch.zeros(8, 5), log)
    count = np.zeros(len(log), dtype=int)
    for block, wanted in windows(task, size, np.random.default_rng(seed)):
        assert not bool((wanted & ~block.mask).any())
        for row in range(len(block.mask)):
            event = block.event[row][block.mask[row]].numpy()
            asked = block.event[row][wanted[row]].numpy()
            np.testing.assert_array_equal(event, np.arange(event[0], event[-1] + 1))
            assert len(set(log.user_index[event])) == 1
            assert log.user_index[event[0]] == int(block.users[row])
            assert len(asked) <= 2 * LAYOUT.context_events
            begins = event[0] == log.start[log.user_index[event[0]]]
            read = asked[0] - event[0]
            assert read <= READ_ONLY if begins else read == READ_ONLY
            count[asked] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("n_items", [8, 20])
def test_it_learns_what_follows_what(n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all items at once, or of sampled candidates."""
    monkeypatch.setattr(sequence_fit, "N_CANDIDATES", 10)
    monkeypatch.setattr(sequence_fit, "RATE", 1e-2)
    monkeypatch.setattr(sequence_fit, "LEAST_BATCH", 64)  # so that there are enough steps
    task = problem(n_items)
    values, epoch = fit_sequence(task, RUN)
    assert epoch == RUN.context_epochs
    assert loss_of(task, values) < 0.25 * np.log(n_items)


@pytest.mark.parametrize("half", [False, True])
def test_the_loss_of_all_items_is_cross_entropy(
    half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and slopes, some rows at a time with some left over."""
    monkeypatch.setattr(sequence_fit, "ROWS", 7)
    monkeypatch.setattr(sequence_fit, "half_is_fast", lambda _: half)
    rng = torch.Generator().manual_seed(2)
    chosen = torch.randint(9, (23,), generator=rng)
    shapes = [(23, 4), (9, 4), (9,)]
    ours = [torch.randn(shape, generator=rng).requires_grad_() for shape in shapes]
    theirs = [part.detach().clone().requires_grad_() for part in ours]
    found = SoftmaxLoss.apply(*ours, chosen)
    context, vectors, offsets = theirs
    wanted = torch.nn.functional.cross_entropy(context @ vectors.T + offsets, chosen)
    (3.0 * found).backward()
    (3.0 * wanted).backward()
    close = {"rtol": 0.0, "atol": 0.02 if half else 1e-6}  # eight bits of mantissa
    torch.testing.assert_close(found, wanted, **close)
    for part, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(part.grad, other.grad, **close)


def test_where_nothing_follows_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled candidates leave the probabilities right: those of a uniform choice."""
    monkeypatch.setattr(sequence_fit, "N_CANDIDATES", 10)
    task = problem(20, cycle=False)
    values, _ = fit_sequence(task, replace(RUN, context_epochs=3))
    assert loss_of(task, values) == pytest.approx(np.log(20), abs=0.1)


def test_it_keeps_the_epoch_that_the_slice_likes_best() -> None:
    """Not stopping early: the rate falls in the end, and the loss with it."""
    task, losses, seen = problem(), iter([3.0, 2.0, 1.0, 1.5, 1.4, 1.3, 1.2]), list[Globals]()

    def validate(values: Globals) -> float:
        seen.append(values)
        return next(losses)

    run, cpu = replace(RUN, patience=1, context_epochs=7), torch.device("cpu")
    with seeded(0, cpu):
        values, epoch = fit_sequence(task, run, validate)
    assert (epoch, len(seen)) == (3, 7)
    with seeded(0, cpu):
        again, _ = fit_sequence(task, run, n_epochs=3)
    for name, value in values.items():
        torch.testing.assert_close(value, seen[2][name], rtol=0.0, atol=0.0)
        torch.testing.assert_close(value, again[name], rtol=0.0, atol=0.0)


def test_only_choices_with_a_context_have_one_and_only_if_asked() -> None:
    assert trains_first(LAYOUT, RUN)
    assert not trains_first(LAYOUT, FitConfig())
    assert not trains_first(replace(LAYOUT, context_layers=0), RUN)
    assert not trains_first(replace(LAYOUT, emission="bernoulli"), RUN)
