"""The filter forward in time: splitting, padding and order change nothing; oracles agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bayes_interest.events.history import pad_users
from bayes_interest.model import filtering
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.filtering import (
    Belief,
    ChoiceForecasts,
    ScalarForecasts,
    filter_choice,
    filter_scalar,
    item_variance,
)
from bayes_interest.statespace.kalman import ScalarSites, filter_states
from tests.model.problems import (
    N_EVENTS,
    N_ITEMS,
    N_USERS,
    SCALAR,
    STATE_DIM,
    Small,
    contexts_by_event,
    dense_logits,
    event_design,
    small_problem,
)

Forecasts = ScalarForecasts | ChoiceForecasts
FAMILIES = pytest.mark.parametrize("emission", [*SCALAR, "choice"])
ORDER = np.array([3, 0, 4, 1, 2])
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def item_covariance() -> Tensor:
    """Some item posterior, (item, D + 1, D + 1)."""
    generator = torch.Generator().manual_seed(0)
    shape = (N_ITEMS, STATE_DIM + 1, STATE_DIM + 1)
    root = torch.randn(shape, generator=generator, dtype=torch.float64)
    return 0.1 * root @ root.mT


def prior_belief(small: Small) -> Belief:
    return Belief.prior(N_USERS, small.values, small.layout.emission == "choice")


def tensors(small: Small, keep: np.ndarray, last_seconds: np.ndarray | None = None) -> EventTensors:
    """Some events as tensors; covariates and context are those of the whole history."""
    context = None if small.context is None else small.context[keep]
    own = small.rows.own()[keep]
    return EventTensors.of(
        small.history.take(keep), torch.float64, "cpu", last_seconds, own, context
    )


def run(
    small: Small,
    keep: np.ndarray | None = None,
    belief: Belief | None = None,
    last_seconds: np.ndarray | None = None,
    users: np.ndarray | None = None,
    n_extra: int = 0,
) -> tuple[Forecasts, Belief, Tensor, np.ndarray]:
    """Filter the events at positions `keep` with `users` in this order, padded by more steps.

    Also returns the mask and the positions of its events in the whole history.
    """
    keep = np.arange(len(small.history)) if keep is None else keep
    users = np.arange(N_USERS) if users is None else users
    history = small.history.take(keep)
    block = pad_users(history, users)
    more = torch.zeros(len(users), n_extra)
    block = replace(
        block,
        event=torch.cat((block.event, more.long()), 1),
        mask=torch.cat((block.mask, more.bool()), 1),
    )
    batch = Batch.of(tensors(small, keep, last_seconds), block)
    events = keep[block.event[block.mask].numpy()]
    belief = prior_belief(small) if belief is None else belief
    start = Belief(belief.mean[users], belief.cov[users])
    arguments = (small.layout, small.values, small.items)
    if small.layout.emission == "choice":
        choices = flat_choices(small.values, batch, events, small.rows)
        return *filter_choice(*arguments, batch, choices, start), batch.mask, events
    out = filter_scalar(*arguments, item_covariance(), batch, start, keep_cov=True)
    return *out, batch.mask, events


def by_event(
    forecasts: Forecasts, mask: Tensor, events: np.ndarray, into: dict[str, Tensor]
) -> None:
    """Put every forecast at its event's position in the whole history."""
    for name, value in vars(forecasts).items():
        into.setdefault(name, torch.full((N_EVENTS, *value.shape[2:]), torch.nan).double())
        into[name][torch.as_tensor(events)] = value[mask]


def whole(small: Small) -> tuple[dict[str, Tensor], Belief]:
    forecasts, belief, mask, events = run(small)
    table: dict[str, Tensor] = {}
    by_event(forecasts, mask, events, table)
    return table, belief


@FAMILIES
@pytest.mark.parametrize(
    ("half_life_days", "context_layers"),
    [(None, 0), (13.0, 0), (None, 1)],
    ids=["walk", "reverting", "context"],
)
@pytest.mark.parametrize("cut_days", [1.0, 11.0, 27.0])
def test_continuing_from_the_belief_equals_one_pass(
    emission: str, half_life_days: float | None, context_layers: int, cut_days: float
) -> None:
    small = small_problem(emission, half_life_days=half_life_days, context_layers=context_layers)
    wanted, last = whole(small)
    early = small.history.seconds < cut_days * 86_400
    first, belief, mask, events = run(small, np.flatnonzero(early))
    got: dict[str, Tensor] = {}
    by_event(first, mask, events, got)
    last_seconds = np.full(N_USERS, np.nan)
    for user, seconds in zip(
        small.history.user_index[early], small.history.seconds[early], strict=True
    ):
        last_seconds[user] = seconds  # times increase within a user
    second, end, mask, events = run(small, np.flatnonzero(~early), belief, last_seconds)
    by_event(second, mask, events, got)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, **CLOSE, msg=name)
    torch.testing.assert_close(end.mean, last.mean, **CLOSE)
    torch.testing.assert_close(end.cov, last.cov, **CLOSE)


@FAMILIES
@pytest.mark.parametrize("context_layers", [0, 1])
def test_padding_and_user_order_change_nothing(emission: str, context_layers: int) -> None:
    small = small_problem(emission, context_layers=context_layers)
    wanted, last = whole(small)
    forecasts, belief, mask, events = run(small, users=ORDER, n_extra=3)
    got: dict[str, Tensor] = {}
    by_event(forecasts, mask, events, got)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, **CLOSE, msg=name)
    torch.testing.assert_close(belief.mean, last.mean[ORDER], **CLOSE)
    torch.testing.assert_close(belief.cov, last.cov[ORDER], **CLOSE)


@FAMILIES
@pytest.mark.parametrize("context_layers", [0, 1])
def test_no_forecast_sees_its_own_outcome_or_the_future(emission: str, context_layers: int) -> None:
    small = small_problem(emission, context_layers=context_layers)
    wanted, _ = whole(small)
    at = 15.0 * 86_400
    future = small.history.seconds >= at
    history = small.history
    outcome = np.where(future, 1.0 - history.outcome, history.outcome)
    item = history.item_index.copy()
    if emission == "choice":
        item[future] = (item[future] + 3) % N_ITEMS
        outcome = item.astype(float)
    moved = replace(small, history=replace(history, outcome=outcome, item_index=item))
    got, _ = whole(moved)
    first = future & (np.diff(future.astype(int), prepend=0) == 1)  # seen before its own outcome
    ahead = torch.as_tensor(~future | first)
    past = torch.as_tensor(~future)
    for name, value in wanted.items():
        rows = past if name == "log_prob" else ahead
        assert torch.equal(got[name][rows], value[rows]), name
    if emission != "choice":
        assert not torch.equal(got["mean"], wanted["mean"])


@pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
@pytest.mark.parametrize("context_layers", [0, 1])
def test_gaussian_forecasts_are_the_exact_kalman_ones(
    half_life_days: float | None, context_layers: int
) -> None:
    small = small_problem("gaussian", half_life_days=half_life_days, context_layers=context_layers)
    batch = small.batch
    arguments = (small.layout, small.values, small.items, None, batch, prior_belief(small))
    forecasts, belief = filter_scalar(*arguments, keep_cov=True)
    rows, shifts = event_design(small, small.values)
    x, offset = torch.zeros(*batch.mask.shape, STATE_DIM).double(), batch.outcome * 0.0
    x[batch.mask], offset[batch.mask] = rows, shifts
    lam = torch.exp(-2.0 * small.values["log_noise_scale"]) * batch.mask
    sites = ScalarSites(lam * (batch.outcome - offset), lam)
    exact = filter_states(x, sites, batch.walk(small.layout, small.values))
    mask = batch.mask
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(forecasts.mean[mask], (exact.predicted_mean + offset)[mask], **close)
    torch.testing.assert_close(forecasts.var[mask], exact.predicted_var[mask], **close)
    torch.testing.assert_close(belief.mean, exact.mean[:, -1], **close)
    torch.testing.assert_close(belief.cov, exact.cov[:, -1], **close)
    assert forecasts.state_cov is not None
    spread = torch.einsum("uti,utij,utj->ut", x, forecasts.state_cov, x)
    torch.testing.assert_close(spread[mask], exact.predicted_var[mask], **close)


@pytest.mark.parametrize("context_layers", [0, 1])
def test_item_uncertainty_acts_as_observation_noise(context_layers: int) -> None:
    """Gaussian family, one user at a time, with textbook gains."""
    small = small_problem("gaussian", context_layers=context_layers)
    context = contexts_by_event(small, small.values)
    cov = item_covariance()
    forecasts, belief, mask, _ = run(small)
    assert isinstance(forecasts, ScalarForecasts)
    x, offset = event_design(small, small.values)
    walk = small.batch.walk(small.layout, small.values)
    noise = torch.exp(2.0 * small.values["log_noise_scale"])
    event = 0
    for user in range(N_USERS):
        mean = torch.zeros(STATE_DIM, dtype=torch.float64)
        state = torch.eye(STATE_DIM, dtype=torch.float64)
        for t in range(int(mask[user].sum())):
            state = state + torch.diag(walk.variance[user, t])
            item = int(small.history.item_index[event])
            kind = int(small.history.kind_index[event])
            rho = small.values["log_reliability"][kind - 1].exp() if kind else torch.tensor(1.0)
            total = small.values["mean"] + mean + context[event]
            z = torch.cat((total, torch.ones(1).double()))
            extra = z @ cov[item] @ z + (cov[item][:-1, :-1] @ state).trace()
            spread = x[event] @ state @ x[event] + rho**2 * extra
            predicted = x[event] @ mean + offset[event]
            torch.testing.assert_close(forecasts.mean[user, t], predicted, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(forecasts.var[user, t], spread, rtol=1e-10, atol=1e-10)
            gain = state @ x[event] / (spread + noise)
            mean = mean + gain * (float(small.history.outcome[event]) - predicted)
            state = state - torch.outer(gain, gain) * (spread + noise)
            event += 1
        torch.testing.assert_close(belief.mean[user], mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(belief.cov[user], state, rtol=1e-10, atol=1e-10)


def test_item_variance_by_sampling() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 400_000
    cov = item_covariance()[:1]
    mean = torch.tensor([[0.7, -0.4, 1.1]], dtype=torch.float64)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    state_cov = (root @ root.T)[None]
    noise = torch.randn(n, 7, generator=generator, dtype=torch.float64)
    item = noise[:, :4] @ torch.linalg.cholesky(cov[0]).T
    z = mean + noise[:, 4:] @ torch.linalg.cholesky(state_cov[0]).T
    draws = (item[:, :3] * z).sum(1) + item[:, 3]
    assert item_variance(cov, mean, state_cov).item() == pytest.approx(draws.var().item(), rel=0.02)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_an_events_site_is_a_fixed_point_of_its_own_filtered_marginal(emission: str) -> None:
    """One event per user: the belief must equal the converged smoother (exact CVI)."""
    from bayes_interest.model.elbo import fit_sites

    small = small_problem(emission)
    first = np.flatnonzero(np.diff(small.history.user_index, prepend=-1))
    history = small.history.take(first)
    block = pad_users(history, np.arange(N_USERS))
    batch = Batch.of(tensors(small, first), block)
    arguments = (small.layout, small.values, small.items)
    _, belief = filter_scalar(*arguments, None, batch, prior_belief(small))
    exact = fit_sites(*arguments, batch, n_steps=200, tolerance=1e-12, full=True)
    assert exact.smoothed.cov is not None
    sd = exact.smoothed.cov[:, 0].diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((belief.mean - exact.smoothed.mean[:, 0]).abs() / sd).max() < 1e-3
    torch.testing.assert_close(belief.cov, exact.smoothed.cov[:, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("half_life_days", [None, 13.0], ids=["walk", "reverting"])
@pytest.mark.parametrize("context_layers", [0, 1])
def test_choice_filter_is_newton_on_the_dense_log_softmax(
    half_life_days: float | None, context_layers: int
) -> None:
    """One user and event at a time, derivatives by autograd."""
    small = small_problem("choice", half_life_days=half_life_days, context_layers=context_layers)
    context = contexts_by_event(small, small.values)
    forecasts, belief, mask, events = run(small)
    assert isinstance(forecasts, ChoiceForecasts)
    assert np.array_equal(events, np.arange(N_EVENTS))
    walk = small.batch.walk(small.layout, small.values)
    event = 0
    for user in range(N_USERS):
        mean = torch.zeros(STATE_DIM, dtype=torch.float64)
        var = torch.ones(STATE_DIM, dtype=torch.float64)
        for t in range(int(mask[user].sum())):
            mean, var = (
                walk.decay[user, t] * mean,
                walk.decay[user, t] ** 2 * var + walk.variance[user, t],
            )
            torch.testing.assert_close(forecasts.mean[user, t], mean, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(forecasts.cov[user, t], var, rtol=1e-10, atol=1e-10)

            def log_prob(state: Tensor, event: int = event) -> Tensor:
                rows = state.expand(N_EVENTS, STATE_DIM) + context
                table = torch.log_softmax(dense_logits(small, small.values, rows), 1)
                return table[event, int(small.history.item_index[event])]

            wanted = log_prob(mean)
            torch.testing.assert_close(forecasts.log_prob[user, t], wanted, rtol=1e-10, atol=1e-10)
            gradient = torch.autograd.functional.jacobian(log_prob, mean)
            hessian = torch.autograd.functional.hessian(log_prob, mean)
            var = 1.0 / (1.0 / var - hessian.diagonal())
            mean = mean + var * gradient
            event += 1
        torch.testing.assert_close(belief.mean[user], mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(belief.cov[user], var, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
@pytest.mark.parametrize("context_layers", [0, 1])
def test_the_compiled_loop_gives_what_the_tensors_give(
    emission: str, context_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_problem(emission, context_layers=context_layers)
    before = prior_belief(small)
    compiled, belief, _, _ = run(small, n_extra=2)
    assert torch.equal(prior_belief(small).mean, before.mean)
    monkeypatch.setattr(filtering, "OrderedEmission", type("NoFamily", (), {}))
    eager, wanted, _, _ = run(small, n_extra=2)
    for name, value in vars(eager).items():
        torch.testing.assert_close(getattr(compiled, name), value, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(belief.mean, wanted.mean, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(belief.cov, wanted.cov, rtol=1e-11, atol=1e-12)
    nothing = run_without_items(small)
    monkeypatch.undo()
    for one, other in zip(run_without_items(small), nothing, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def run_without_items(small: Small) -> tuple[Tensor, Tensor, Tensor]:
    """Forecasts and final means where items are certain."""
    arguments = (small.layout, small.values, small.items, None, small.batch)
    found, belief = filter_scalar(*arguments, prior_belief(small))
    return found.mean, found.var, belief.mean
