"""The context network: causal, of bounded reach, and equal to a dense masked attention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.model.context import (
    Tokens,
    context_after,
    context_of_steps,
    dropped,
    encode_events,
    gap_features,
    reach,
)
from bayes_interest.model.parameters import (
    CONTEXT_HEADS,
    Globals,
    Layout,
    draw_prior,
    initial_globals,
)
from tests.model.problems import contexts_by_event, small_problem
from tests.oracles import slow_context

LIKE = torch.zeros(1, dtype=torch.float64)
STATE_DIM, N_ITEMS, N_USERS, N_STEPS = 3, 7, 2, 19
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
LAYERS = pytest.mark.parametrize("layers", [1, 2])


def layout_of(layers: int = 1, events: int = 4, emission: str = "rating", **more: int) -> Layout:
    return Layout(
        emission,
        STATE_DIM,
        5,
        N_ITEMS,
        n_kinds=2,
        n_levels=5,
        log_drift_centre=(-3.0, -2.0, -1.0),
        context_layers=layers,
        context_dim=6,
        context_events=events,
        **more,
    )


def values_of(layout: Layout) -> Globals:
    return draw_prior(layout, torch.Generator().manual_seed(0), LIKE)


def random_tokens(n_steps: int = N_STEPS) -> tuple[Tensor, Tokens]:
    """Item vectors, and events of which every fifth comes at the time of the one before."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(N_ITEMS, STATE_DIM, generator=generator, dtype=torch.float64)
    shape = (N_USERS, n_steps)
    days = 9.0 * torch.rand(shape, generator=generator, dtype=torch.float64)
    days[:, ::5] = 0.0
    return vectors, Tokens(
        torch.randint(0, N_ITEMS, shape, generator=generator),
        torch.randint(0, 5, shape, generator=generator).double(),
        torch.randint(0, 2, shape, generator=generator),
        days,
    )


def user(tokens: Tokens, index: int) -> tuple[Tensor, ...]:
    return tuple(getattr(tokens, name)[index] for name in vars(tokens))


def steps(tokens: Tokens, which: slice) -> Tokens:
    return Tokens(**{name: value[:, which] for name, value in vars(tokens).items()})


# -------------------------------------------------------------------------------- the oracle


@LAYERS
@pytest.mark.parametrize("emission", ["bernoulli", "rating", "choice"])
@pytest.mark.parametrize(
    ("events", "n_steps"), [(4, 19), (4, 16), (4, 3), (4, 1), (2, 9), (50, 19), (19, 19), (18, 19)]
)
def test_blocks_equal_a_dense_masked_attention(
    layers: int, emission: str, events: int, n_steps: int
) -> None:
    layout = layout_of(layers, events, emission)
    values = values_of(layout)
    vectors, tokens = random_tokens(n_steps)
    got = context_of_steps(layout, values, vectors, tokens)
    assert got.shape == (N_USERS, n_steps, STATE_DIM)
    for index in range(N_USERS):
        wanted = slow_context(layout, values, vectors, *user(tokens, index))
        torch.testing.assert_close(got[index], wanted, **CLOSE)


def test_a_batch_has_the_context_of_each_users_own_history() -> None:
    for emission in ("gaussian", "bernoulli", "rating", "choice"):
        small = small_problem(emission, context_layers=2)
        wanted = contexts_by_event(small, small.values)
        assert wanted.abs().max() > 0.1
        assert small.context is not None
        torch.testing.assert_close(small.context, wanted, **CLOSE)


def test_gaps_are_told_apart_from_seconds_to_years() -> None:
    days = torch.tensor([0.0, 1e-4, 0.1, 3.0, 100.0, 1e4], dtype=torch.float64)
    found = gap_features(days)
    assert found.shape == (6, 4)
    assert (found[:, 0].diff() > 0.0).all()
    assert (found[:, 1:].diff(dim=0) <= 0.0).all()
    assert found[0].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert found.abs().max() < 2.0


# --------------------------------------------------------------------- what depends on what


def moved_by(layout: Layout, name: str, at: int) -> Tensor:
    """Whether the context of each step changes if one column of the event at `at` does, (step,)."""
    values = values_of(layout)
    vectors, tokens = random_tokens()
    before = context_of_steps(layout, values, vectors, tokens)
    column = getattr(tokens, name).clone()
    size = {"item": N_ITEMS, "outcome": 5, "kind": 2}.get(name)
    changed = column[0, at] + 1
    column[0, at] = changed if size is None else changed % size
    after = context_of_steps(layout, values, vectors, replace(tokens, **{name: column}))
    assert torch.equal(before[1], after[1])  # another user
    return (before[0] != after[0]).any(-1)


@LAYERS
@pytest.mark.parametrize("at", [0, 3, 4, 9, 18])
@pytest.mark.parametrize("name", ["item", "outcome", "kind"])
def test_an_event_speaks_to_later_ones_within_reach_only(layers: int, at: int, name: str) -> None:
    layout = layout_of(layers)
    moved = np.flatnonzero(moved_by(layout, name, at).numpy())
    wanted = np.arange(at + 1, min(N_STEPS, at + reach(layout) + 1))
    assert moved.tolist() == wanted.tolist()


@LAYERS
@pytest.mark.parametrize("at", [3, 9, 18])
def test_a_gap_speaks_to_the_event_after_it_and_later_ones(layers: int, at: int) -> None:
    layout = layout_of(layers)
    moved = np.flatnonzero(moved_by(layout, "elapsed_days", at).numpy())
    wanted = np.arange(at, min(N_STEPS, at + reach(layout) + 1))
    assert moved.tolist() == wanted.tolist()


@LAYERS
def test_gradients_flow_from_a_step_to_strictly_earlier_outcomes_only(layers: int) -> None:
    layout = layout_of(layers)
    values = values_of(layout)
    vectors, tokens = random_tokens()
    outcome = tokens.outcome.clone().requires_grad_()
    found = context_of_steps(layout, values, vectors, replace(tokens, outcome=outcome))
    for t in range(N_STEPS):
        (slope,) = torch.autograd.grad(found[0, t].sum(), outcome, retain_graph=True)
        some = np.flatnonzero(slope[0].numpy())
        assert some.tolist() == list(range(max(0, t - reach(layout)), t))
        assert (slope[1] == 0.0).all()


def test_reach_counts_layers() -> None:
    assert [reach(layout_of(layers, events)) for layers, events in ((1, 4), (2, 4), (3, 50))] == [
        4, 7, 148,
    ]  # fmt: skip


@LAYERS
def test_what_lies_beyond_the_reach_may_be_left_out(layers: int) -> None:
    layout = layout_of(layers)
    values = values_of(layout)
    vectors, tokens = random_tokens()
    whole = context_of_steps(layout, values, vectors, tokens)
    # The first kept event's gap is the context's only if it is an event within reach.
    kept = steps(tokens, slice(N_STEPS - reach(layout) - 1, None))
    part = context_of_steps(layout, values, vectors, kept)
    torch.testing.assert_close(part[:, -1], whole[:, -1], **CLOSE)


@LAYERS
def test_padding_changes_nothing(layers: int) -> None:
    layout = layout_of(layers)
    values = values_of(layout)
    vectors, tokens = random_tokens()
    whole = context_of_steps(layout, values, vectors, tokens)
    for n_steps in (1, 2, 3, 4, 5, 8, 11):
        part = context_of_steps(layout, values, vectors, steps(tokens, slice(n_steps)))
        torch.testing.assert_close(part, whole[:, :n_steps], **CLOSE)


def test_steps_are_what_comes_after_the_event_before() -> None:
    layout = layout_of(2)
    values = values_of(layout)
    vectors, tokens = random_tokens()
    hidden = encode_events(layout, values, vectors, tokens)
    found = context_of_steps(layout, values, vectors, tokens)
    assert (found[:, 0] == 0.0).all()
    one = context_after(values, hidden[1, 6], tokens.elapsed_days[1, 7])
    torch.testing.assert_close(found[1, 7], one, **CLOSE)


# -------------------------------------------------------------------------------- parameters


def test_a_zero_head_gives_zero_context_and_fits_start_from_it() -> None:
    layout = layout_of(2)
    vectors, tokens = random_tokens()
    silent = values_of(layout) | {"context_head": torch.zeros(STATE_DIM, 6, dtype=torch.float64)}
    start = initial_globals(layout, torch.Generator().manual_seed(0), LIKE)
    for values in (silent, start):
        assert (context_of_steps(layout, values, vectors, tokens) == 0.0).all()
    # It can leave zero: the head has a slope there.
    head = start["context_head"].clone().requires_grad_()
    found = context_of_steps(layout, start | {"context_head": head}, vectors, tokens)
    (slope,) = torch.autograd.grad(found.sum(), head)
    assert slope.abs().min() > 0.0


@pytest.mark.parametrize("emission", ["bernoulli", "rating", "choice"])
def test_every_weight_matters(emission: str) -> None:
    layout = layout_of(2, emission=emission)
    values = {name: value.requires_grad_() for name, value in values_of(layout).items()}
    vectors, tokens = random_tokens()
    found = context_of_steps(layout, values, vectors, tokens)
    names = [name for name in values if name.startswith("context_")]
    assert len(names) == 4 + (emission != "choice") + 1 + 2 * 5
    slopes = torch.autograd.grad(
        found.square().sum(), [values[name] for name in names], allow_unused=True
    )
    for name, slope in zip(names, slopes, strict=True):
        assert slope is not None, name
        assert slope.abs().max() > 1e-6, name


def test_without_layers_there_are_no_weights() -> None:
    assert not [name for name in layout_of(0).shapes() if name.startswith("context_")]
    one_kind = replace(layout_of(1, emission="choice"), n_kinds=1).shapes()
    assert "context_kind" not in one_kind
    assert "context_outcome" not in one_kind
    assert one_kind["context_distance_0"] == (CONTEXT_HEADS, 4)


def test_dropout_is_for_training() -> None:
    layout = layout_of(1)
    values = values_of(layout)
    vectors, tokens = random_tokens()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (context_of_steps(layout, values, vectors, tokens) for _ in range(2))
        other = context_of_steps(layout, values, vectors, tokens, drop=0.5)
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


def test_dropout_drops_the_share_it_is_asked_and_keeps_the_mean() -> None:
    whole = torch.ones(7, 31, 999)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = dropped(whole, 0.2)
    kept = found != 0.0
    assert kept.double().mean() == pytest.approx(1.0 - 51 / 256, abs=2e-3)
    assert found.double().mean() == pytest.approx(1.0, abs=3e-3)
    assert found[kept].unique().tolist() == [pytest.approx(256 / 205)]
    for axis in (1, 2):  # neighbours know nothing of each other
        many = kept.shape[axis] - 1
        both = kept.narrow(axis, 1, many) & kept.narrow(axis, 0, many)
        assert both.double().mean() == pytest.approx((205 / 256) ** 2, abs=4e-3)
    assert dropped(whole, 0.0) is whole
