"""The filter of choices with full covariances, beside exact integrals and the smoother."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_interest.model.batch import EventTensors
from bayes_interest.model.choice_filter import absorb_choices, filter_choices
from bayes_interest.model.choice_paths import smoothed_choices
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Items, Layout
from bayes_interest.statespace.random_walk import transition

N_ITEMS = 6


def globals_of(dim: int, layout_seed: int = 0) -> tuple[Layout, dict[str, torch.Tensor], Items]:
    rng = np.random.default_rng(layout_seed)
    layout = Layout("choice", dim, 4, N_ITEMS, n_kinds=2, event_drift=True)
    values = {
        "mean": torch.zeros(dim, dtype=torch.float64),
        "log_drift": torch.full((dim,), -1.5, dtype=torch.float64),
        "log_event_drift": torch.full((dim,), -2.0, dtype=torch.float64),
        "log_reliability": torch.tensor([-0.4], dtype=torch.float64),
    }
    vectors = torch.as_tensor(rng.normal(0.0, 1.0, (N_ITEMS, dim)))
    return layout, values, Items(vectors, torch.as_tensor(rng.normal(0.0, 0.5, N_ITEMS)))


def events_of(n: int, seed: int = 0) -> EventTensors:
    rng = np.random.default_rng(seed)
    days = rng.exponential(3.0, n)
    days[0] = 0.0
    whole = [torch.as_tensor(rng.integers(0, top, n)) for top in (N_ITEMS, 2)]
    real = torch.as_tensor(days)
    moves = (torch.arange(n) > 0).double()
    nothing = torch.zeros(n, 0, dtype=torch.float64)
    absorb = torch.ones(n, dtype=torch.bool)
    return EventTensors(whole[0], real * 0.0, real, whole[1], nothing, absorb, moves)


def start_of(users: int, dim: int) -> Belief:
    zero = torch.zeros(users, dim, dtype=torch.float64)
    return Belief(zero, torch.diag_embed(torch.ones_like(zero)))


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_one_choice_has_nearly_the_moments_of_the_exact_posterior(seed: int, kind: int) -> None:
    _, values, items = globals_of(2, seed)
    rng = np.random.default_rng(seed)
    mean, root = rng.normal(0.0, 0.5, 2), rng.normal(0.0, 0.5, (2, 2))
    cov = root @ root.T + 0.1 * np.eye(2)
    grid = np.linspace(-7.0, 7.0, 401)
    z = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    away = z - mean
    rho = 1.0 if kind == 0 else float(values["log_reliability"].exp())
    logits = rho * (z @ items.vectors.numpy().T + items.offsets.numpy())
    density = -0.5 * ((away @ np.linalg.inv(cov)) * away).sum(1)
    density += torch.log_softmax(torch.as_tensor(logits), 1).numpy()[:, 2]
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    exact = weight @ z
    exact_cov = (weight[:, None] * (z - exact)).T @ (z - exact)
    before = Belief(torch.as_tensor(mean)[None], torch.as_tensor(cov)[None])
    two, of_kind = torch.tensor([2]), torch.tensor([kind])
    after = absorb_choices(values, items, items.offsets[None], two, of_kind, before)
    sd = np.sqrt(np.diag(exact_cov))
    assert np.abs((after.mean[0].numpy() - exact) / sd).max() < 0.06
    np.testing.assert_allclose(after.cov[0].numpy(), exact_cov, atol=0.04 * sd.max() ** 2)


def test_one_event_is_smoothed_as_it_is_filtered() -> None:
    layout, values, items = globals_of(3)
    events, start = events_of(1), start_of(1, 3)
    base = items.offsets[None]
    _, after = filter_choices(layout, values, items, base, events, np.array([0, 1]), start)
    walk = transition(torch.zeros(1, 1, dtype=torch.float64), values["log_drift"].exp(), None)
    rho = (
        torch.ones(1, dtype=torch.float64)
        if events.kind[0] == 0
        else torch.exp(values["log_reliability"])
    )
    mean, cov, _ = smoothed_choices(base, items.vectors, rho, events.item, walk)
    torch.testing.assert_close(after.mean[0], mean[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after.cov[0], cov[0], rtol=1e-6, atol=1e-6)


def test_a_long_path_ends_where_importance_sampling_says() -> None:
    layout, values, items = globals_of(2)
    n, draws = 8, 400_000
    events, start = events_of(n), start_of(1, 2)
    base = items.offsets.expand(n, -1)
    _, after = filter_choices(layout, values, items, base, events, np.array([0, n]), start)
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(draws, 2, generator=generator, dtype=torch.float64)
    weight = torch.zeros(draws, dtype=torch.float64)
    rho = torch.where(events.kind == 0, 1.0, values["log_reliability"].exp())
    for t in range(n):
        if t:
            q = events.elapsed_days[t] * torch.exp(2.0 * values["log_drift"])
            q = q + torch.exp(2.0 * values["log_event_drift"])
            noise = torch.randn(draws, 2, generator=generator, dtype=torch.float64)
            state = state + q.sqrt() * noise
        logits = rho[t] * (state @ items.vectors.T + items.offsets)
        weight += torch.log_softmax(logits, 1)[:, events.item[t]]
    share = torch.softmax(weight, 0)
    mean = share @ state
    cov = (share[:, None] * (state - mean)).T @ (state - mean)
    sd = cov.diagonal().sqrt()
    assert ((after.mean[0] - mean) / sd).abs().max() < 0.06
    ratio = after.cov[0].diagonal().sqrt() / sd
    assert (ratio - 1.0).abs().max() < 0.04
    correlation = float(after.cov[0, 0, 1] / after.cov[0].diagonal().prod().sqrt())
    assert correlation == pytest.approx(float(cov[0, 1] / sd.prod()), abs=0.05)
    assert abs(correlation) > 0.1  # else the full covariance is put to no test


def test_a_look_changes_nothing_and_users_do_not_meet() -> None:
    layout, values, items = globals_of(2)
    events, n = events_of(9), 9
    base = items.offsets.expand(n, -1)
    looks = torch.tensor([True, True, False, True, True, True, True, True, False])
    part = replace(events, absorb=looks)
    both = filter_choices(layout, values, items, base, part, np.array([0, 4, 9]), start_of(2, 2))
    alone = filter_choices(
        layout, values, items, base[4:], part.at(np.arange(4, 9)), np.array([0, 5]), start_of(1, 2)
    )
    assert torch.equal(both[1].cov[1:], alone[1].cov)
    assert torch.equal(both[0].log_prob[4:], alone[0].log_prob)
    rest = np.flatnonzero(looks[:4].numpy())
    gap = events.elapsed_days.clone()
    gap[3] += gap[2]
    moved = replace(part, elapsed_days=gap).at(rest)
    left_out = filter_choices(
        layout, values, items, base[:3], moved, np.array([0, 3]), start_of(1, 2)
    )
    torch.testing.assert_close(both[1].cov[:1], left_out[1].cov)
    torch.testing.assert_close(both[1].mean[:1], left_out[1].mean)


def test_reversion_pulls_the_state_back_between_choices() -> None:
    layout, values, items = globals_of(2)
    events, start = events_of(3), start_of(1, 2)
    base, ends = items.offsets.expand(3, -1), np.array([0, 3])
    calm = replace(layout, half_life_days=2.0)
    plain = filter_choices(layout, values, items, base, events, ends, start)[0]
    pulled = filter_choices(calm, values, items, base, events, ends, start)[0]
    kept = 0.5 ** (events.elapsed_days[1] / 2.0)
    torch.testing.assert_close(pulled.mean[1], plain.mean[1] * kept)
    assert (pulled.cov[1].diagonal() < plain.cov[1].diagonal()).all()
