"""One look at the softmax against a dense log_softmax under autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bayes_interest.events import succession
from bayes_interest.model import softmax
from bayes_interest.model.choice_bound import choice_objective, fit_choice_sites
from bayes_interest.model.parameters import COVARIATES, Globals, item_terms, reliability
from bayes_interest.model.softmax import Look, Sample, draw_sample, gradient_sums, look
from bayes_interest.statespace.diagonal import DiagonalSites, filter_diagonal
from tests.model.problems import (
    N_EVENTS,
    N_ITEMS,
    STATE_DIM,
    Small,
    contexts_by_event,
    dense_logits,
    small_problem,
)

EVERY_ITEM = Sample(
    torch.arange(N_ITEMS), torch.zeros(N_ITEMS, dtype=torch.float64), torch.arange(N_ITEMS)
)


def random_states(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N_EVENTS, STATE_DIM, generator=generator, dtype=torch.float64)


def look_at(small: Small, sample: Sample | None) -> tuple[Look, dict[str, Tensor]]:
    with torch.no_grad():
        sums = gradient_sums(small.values, small.items)
        seen = look(small.values, small.items, small.choices, random_states(), sample, sums)
    return seen, sums


def dense_log_prob(small: Small, values: Globals, states: Tensor) -> Tensor:
    logits = dense_logits(small, values, states)
    return torch.log_softmax(logits, 1)[torch.arange(N_EVENTS), small.choices.item]


def chained(small: Small, sums: dict[str, Tensor]) -> Globals:
    """Gradients in the globals from those in vectors, offsets and weights."""
    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    items = item_terms(small.layout, leaves, small.features)
    parts = {"vectors": items.vectors, "offsets": items.offsets} | leaves
    total = torch.zeros((), dtype=torch.float64)
    for name, slope in sums.items():
        if name != "curvature":
            total = total + (parts[name] * slope).sum()
    slopes = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


@pytest.mark.parametrize("sample", [None, EVERY_ITEM], ids=["full", "every item sampled"])
def test_log_prob_and_moments_are_the_dense_ones(sample: Sample | None) -> None:
    small = small_problem("choice")
    seen, _ = look_at(small, sample)
    logits = dense_logits(small, small.values, random_states())
    probs, x = torch.softmax(logits, 1), small.items.vectors
    wanted = dense_log_prob(small, small.values, random_states())
    torch.testing.assert_close(seen.log_prob, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen.moments.mean, probs @ x, rtol=1e-12, atol=1e-12)
    spread = probs @ x**2 - (probs @ x) ** 2
    torch.testing.assert_close(seen.moments.var, spread, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sample", [None, EVERY_ITEM], ids=["full", "every item sampled"])
def test_every_gradient_is_autograds(sample: Sample | None) -> None:
    small = small_problem("choice")
    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    total = dense_log_prob(small, leaves, random_states()).sum()
    slopes = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    _, sums = look_at(small, sample)
    got = chained(small, sums)
    for name, wanted in zip(leaves, slopes, strict=True):
        torch.testing.assert_close(got[name], wanted, rtol=1e-11, atol=1e-11, msg=name)
    for name in ("weight", "offset", COVARIATES, "log_reliability"):
        assert got[name].abs().max() > 1e-3, name
    assert (got[COVARIATES].abs() > 1e-3).all()


def sampled_log_prob(small: Small, values: Globals, states: Tensor, sample: Sample) -> Tensor:
    """The chosen item apart, the other candidates with their log-q correction, event by event."""
    logits = dense_logits(small, values, states)
    found = []
    for event, chosen in enumerate(small.choices.item.tolist()):
        terms = [logits[event, chosen]]
        for item, weight in zip(sample.index.tolist(), sample.log_weight, strict=True):
            if item != chosen:
                terms.append(logits[event, item] + weight)
        found.append(terms[0] - torch.logsumexp(torch.stack(terms), 0))
    return torch.stack(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n_kinds", [1, 2])
def test_every_gradient_with_sampled_candidates_is_autograds(n_kinds: int, seed: int) -> None:
    small = small_problem("choice", n_kinds=n_kinds)
    sample = draw_sample(frequency(small), 5, torch.Generator().manual_seed(seed))
    met = torch.isin(small.choices.item, sample.index)
    assert met.any()
    assert not met.all()
    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    log_prob = sampled_log_prob(small, leaves, random_states(), sample)
    slopes = torch.autograd.grad(log_prob.sum(), list(leaves.values()), materialize_grads=True)
    seen, sums = look_at(small, sample)
    torch.testing.assert_close(seen.log_prob, log_prob.detach(), rtol=1e-12, atol=1e-12)
    got = chained(small, sums)
    for name, wanted in zip(leaves, slopes, strict=True):
        torch.testing.assert_close(got[name], wanted, rtol=1e-11, atol=1e-11, msg=name)
    assert (got[COVARIATES].abs() > 1e-3).all()


@pytest.mark.parametrize("sampled", [False, True])
def test_likeness_alone_shifts_the_logits_by_the_texts(sampled: bool) -> None:
    """Without other covariates or kinds: gradients of both weights by finite differences."""
    nothing = {"popularity_days": (), "repeats": False, "succession": False}
    small = small_problem("choice", n_kinds=1, **nothing)
    assert small.layout.kinds.names == ("likeness_last", "likeness_recent")
    drawn = draw_sample(frequency(small), 7, torch.Generator().manual_seed(0))
    sample = drawn if sampled else None
    seen, sums = look_at(small, sample)
    other, _ = look_at(
        small_problem("choice", n_kinds=1, likeness=False, **nothing).with_values(
            **{name: value for name, value in small.values.items() if name != COVARIATES}
        ),
        sample,
    )
    assert (seen.log_prob - other.log_prob).abs().max() > 0.1
    weight, step = small.values[COVARIATES], 1e-5
    for column in range(2):
        ends = []
        for shift in (step, -step):
            moved = weight.clone()
            moved[column] += shift
            ends.append(look_at(small.with_values(**{COVARIATES: moved}), sample)[0].log_prob.sum())
        wanted = (ends[0] - ends[1]) / (2.0 * step)
        assert sums[COVARIATES][column].item() == pytest.approx(wanted.item(), rel=1e-6)
        assert abs(wanted) > 1e-2


@pytest.mark.parametrize("sample", [None, EVERY_ITEM], ids=["full", "every item sampled"])
def test_curvature_is_the_documented_sum(sample: Sample | None) -> None:
    small = small_problem("choice")
    _, sums = look_at(small, sample)
    probs = torch.softmax(dense_logits(small, small.values, random_states()), 1)
    rho, chosen = small.choices.rho, small.choices.item
    wanted = torch.zeros(N_ITEMS, STATE_DIM + 1, dtype=torch.float64)
    for event in range(N_EVENTS):
        z = random_states()[event] + small.values["mean"]
        moment = rho[event] ** 2 * torch.cat((z**2, torch.ones(1, dtype=torch.float64)))
        for item in range(N_ITEMS):
            p = probs[event, item]
            wanted[item] += moment * (p * (1.0 - p) if item == chosen[event] else p)
    torch.testing.assert_close(sums["curvature"], wanted, rtol=1e-11, atol=1e-11)


def test_without_extras_it_is_a_plain_softmax() -> None:
    nothing = {"repeats": False, "succession": False, "likeness": False}
    small = small_problem("choice", n_kinds=1, popularity_days=(), **nothing)
    seen, sums = look_at(small, None)
    logits = random_states() @ small.items.vectors.T + small.items.offsets
    wanted = torch.log_softmax(logits, 1)[torch.arange(N_EVENTS), small.choices.item]
    torch.testing.assert_close(seen.log_prob, wanted, rtol=1e-12, atol=1e-12)
    assert set(sums) == {"vectors", "offsets", "curvature"}


def frequency(small: Small) -> Tensor:
    return torch.bincount(small.choices.item, minlength=N_ITEMS).double()


def test_sampled_normaliser_is_unbiased() -> None:
    """`exp(-log_prob)` is the normaliser over the chosen item's weight: its mean is exact."""
    small, n_samples = small_problem("choice"), 700
    full, _ = look_at(small, None)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(2, N_EVENTS, dtype=torch.float64)
    choices, items, states = small.choices, small.items, random_states()
    for _ in range(n_samples):
        sample = draw_sample(frequency(small), 7, generator)
        inverse = torch.exp(-look(small.values, items, choices, states, sample).log_prob)
        total += torch.stack((inverse, inverse**2))
    mean, second = total / n_samples
    se = ((second - mean**2) / n_samples).sqrt()
    z = (mean - torch.exp(-full.log_prob)) / se.clamp_min(1e-12)
    assert z.abs().max() < 5.0
    assert z.square().mean() < 2.5  # events share samples


def test_more_candidates_come_closer_to_the_full_softmax() -> None:
    small = small_problem("choice")
    full, full_sums = look_at(small, None)
    errors, slopes = [], []
    for n_candidates in (5, 50, 500, 50_000):
        generator = torch.Generator().manual_seed(0)
        error, slope = 0.0, 0.0
        for _ in range(11):
            seen, sums = look_at(small, draw_sample(frequency(small), n_candidates, generator))
            error += (seen.log_prob - full.log_prob).abs().mean().item() / 11
            slope += (sums["vectors"] - full_sums["vectors"]).abs().mean().item() / 11
        errors.append(error)
        slopes.append(slope)
    assert errors == sorted(errors, reverse=True)
    assert slopes == sorted(slopes, reverse=True)
    assert errors[-1] < 0.03
    assert errors[0] > 0.1


def test_draws_are_unique_items_with_their_positions() -> None:
    small = small_problem("choice")
    sample = draw_sample(frequency(small), 5, torch.Generator().manual_seed(0))
    assert len(sample.index) <= 5
    assert len(set(sample.index.tolist())) == len(sample.index)
    for item in range(N_ITEMS):
        where = int(sample.position[item])
        assert (where == -1) == (item not in sample.index.tolist())
        assert where == -1 or int(sample.index[where]) == item


@pytest.mark.parametrize("chunk_logits", [1, 3 * N_ITEMS, 8 * N_ITEMS + 1])
@pytest.mark.parametrize("sampled", [False, True])
def test_working_in_pieces_changes_nothing(
    sampled: bool, chunk_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_problem("choice")
    drawn = draw_sample(frequency(small), 7, torch.Generator().manual_seed(0))
    sample = drawn if sampled else None
    whole, whole_sums = look_at(small, sample)
    monkeypatch.setattr(softmax, "CHUNK_LOGITS", chunk_logits)
    pieces, pieces_sums = look_at(small, sample)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(pieces.log_prob, whole.log_prob, **close)
    torch.testing.assert_close(pieces.moments.mean, whole.moments.mean, **close)
    torch.testing.assert_close(pieces.moments.var, whole.moments.var, **close)
    for name, total in whole_sums.items():
        torch.testing.assert_close(pieces_sums[name], total, **close)


@pytest.mark.parametrize("sampled", [False, True])
def test_successions_as_a_table_change_nothing(
    sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_problem("choice")
    drawn = draw_sample(frequency(small), 7, torch.Generator().manual_seed(0))
    found = []
    for full in (0.0, float("inf")):
        monkeypatch.setattr(succession, "FULL", full)
        seen, sums = look_at(small, drawn if sampled else None)
        found.append([seen.log_prob, seen.moments.mean, seen.moments.var, *sums.values()])
    columns = small.layout.kinds.columns("succession")
    assert columns.stop > columns.start
    for table, entries in zip(*found, strict=True):
        torch.testing.assert_close(table, entries, rtol=1e-12, atol=1e-12)


def test_logits_of_500_stay_finite() -> None:
    small = small_problem("choice")
    with torch.no_grad():
        sums = gradient_sums(small.values, small.items)
        states = 500.0 * random_states()
        seen = look(small.values, small.items, small.choices, states, None, sums)
    wanted = dense_log_prob(small, small.values, states)
    torch.testing.assert_close(seen.log_prob, wanted, rtol=1e-10, atol=1e-10)
    assert all(total.isfinite().all() for total in sums.values())
    assert (seen.moments.var >= 0.0).all()


@pytest.mark.parametrize("context_layers", [0, 1])
def test_gradient_of_the_choice_objective_is_autograds_at_the_draw(context_layers: int) -> None:
    """The same draw of states, with the log evidence's slope in the step variances."""
    small = small_problem("choice", context_layers=context_layers)
    batch = small.batch
    generator = torch.Generator().manual_seed(0)
    shape = (*batch.mask.shape, STATE_DIM)
    linear, precision = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    sites = DiagonalSites(linear * batch.mask[..., None], precision * batch.mask[..., None])
    arguments = (small.layout, small.values, small.items, batch, small.choices, sites, 0.5)
    posterior = fit_choice_sites(*arguments, torch.Generator().manual_seed(1))
    noise = torch.randn(
        N_EVENTS, STATE_DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    smoothed = posterior.smoothed
    states = smoothed.mean[batch.mask] + smoothed.var[batch.mask].sqrt() * noise

    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    items = item_terms(small.layout, leaves, small.features)
    surrogate = choice_objective(small.layout, leaves, items, small.batch_at(leaves), posterior)
    got = torch.autograd.grad(surrogate, list(leaves.values()), materialize_grads=True)

    leaves = {name: value.clone().requires_grad_() for name, value in small.values.items()}
    evidence = filter_evidence(sites, small, leaves)
    context = contexts_by_event(small, leaves)
    total = dense_log_prob(small, leaves, states + context).sum() + evidence
    wanted = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    for name, ours, theirs in zip(leaves, got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, msg=name)


def filter_evidence(sites: DiagonalSites, small: Small, values: Globals) -> Tensor:
    """The log evidence of fixed sites, out of place so that autograd can follow it."""
    walk = small.batch.walk(small.layout, values)
    mean = torch.zeros_like(sites.linear[:, 0])
    var, total = torch.ones_like(mean), torch.zeros((), dtype=torch.float64)
    for t in range(sites.linear.shape[1]):
        h, lam = sites.linear[:, t], sites.precision[:, t]
        mean, var = mean * walk.decay[:, t], var * walk.decay[:, t] ** 2 + walk.variance[:, t]
        spread = 1.0 + lam * var
        quadratic = h * mean + 0.5 * h**2 * var - 0.5 * lam * mean**2
        total = total + (quadratic / spread - 0.5 * torch.log(spread)).sum()
        mean, var = (mean + var * h) / spread, var / spread
    forward = filter_diagonal(sites, small.batch.walk(small.layout, small.values))
    torch.testing.assert_close(total.detach(), forward.log_evidence.sum(), rtol=1e-10, atol=1e-10)
    return total


def test_reliability_of_the_reference_kind_is_one() -> None:
    small = small_problem("choice")
    rho = reliability(small.values, torch.tensor([0, 1]))
    assert rho[0].item() == 1.0
    assert rho[1].item() == pytest.approx(small.values["log_reliability"][0].exp().item())
    alone = replace(small_problem("choice", n_kinds=1))
    assert reliability(alone.values, torch.tensor([0, 0])).tolist() == [1.0, 1.0]
