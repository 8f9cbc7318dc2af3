"""Gibbs sampling of the globals: every move leaves the joint distribution as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from bayes_interest.model import gibbs, gibbs_state, members
from bayes_interest.model.compiled_gibbs import effects_evidence, log_chance
from bayes_interest.model.compiled_walks import evidence_of_walks
from bayes_interest.model.gibbs import Gibbs, gibbs_draws, work_of_events, work_of_weights
from bayes_interest.model.item_draws import Noise, Said, drawn_effects, drawn_weights, times
from bayes_interest.model.members import draw_members
from bayes_interest.model.parameters import Layout, emission_of
from bayes_interest.model.problem import Problem
from bayes_interest.model.size_moves import FIRST, Prior
from bayes_interest.model.whitened import Whitened
from bayes_interest.model.worlds import draw_world
from bayes_interest.statespace.kalman import (
    ScalarSites,
    filter_states,
    smooth_states,
)
from tests.model.test_ensemble import problem_of

LENGTHS = np.array([6, 4, 2, 5, 3])
LAYOUTS: dict[str, dict[str, Any]] = {
    "bernoulli": {"emission": "bernoulli", "state_dim": 2, "embed_dim": 2},
    "rating": {"emission": "rating", "state_dim": 1, "embed_dim": 2, "n_levels": 4},
    "kinds, reversion, drift by events": {
        "emission": "rating", "state_dim": 1, "embed_dim": 2, "n_levels": 3, "n_kinds": 2,
        "half_life_days": 30.0, "event_drift": True,
    },
    "no residuals": {"emission": "bernoulli", "state_dim": 1, "embed_dim": 3, "residuals": False},
}  # fmt: skip


def chain_of(case: str, seed: int = 3, burn_in: int = 50) -> tuple[Gibbs, Problem]:
    """A chain at the truth of a drawn world, its paths among it."""
    about = LAYOUTS[case]
    layout = Layout(n_items=4, log_drift_centre=(np.log(0.02),) * about["state_dim"], **about)
    world = draw_world(layout, LENGTHS, 3, 60.0, seed)
    history = world.history
    if layout.n_kinds > 1:
        kind = np.arange(len(history)) % 2
        history = replace(history, kind_index=kind.astype(history.kind_index.dtype))
    problem = Problem(layout, world.design.features, history)
    chain = Gibbs(problem, world.values, seed, burn_in)
    for block in chain.blocks:
        block.path = chain.noise.normal(*block.path.shape)
    chain._draw_utilities(chain.terms())
    return chain, problem


def predictors(chain: Gibbs) -> list[Tensor]:
    found = []
    for block, (x, offset) in zip(chain.blocks, chain.terms(), strict=True):
        found.append(((x * block.path).sum(-1) + offset)[block.batch.mask])
    return found


def redraw_outcomes(chain: Gibbs) -> None:
    """New outcomes of the model at the globals and paths of the moment."""
    for block, (x, offset) in zip(chain.blocks, chain.terms(), strict=True):
        predictor = ((x * block.path).sum(-1) + offset).double()
        emission = emission_of(chain.layout, chain.values)
        levels = range(emission.cuts.shape[-1] + 1)
        chance = torch.stack(
            [emission.log_prob(predictor, torch.full_like(predictor, k)).exp() for k in levels], -1
        ).cumsum(-1)
        level = (chain.noise.uniform(*predictor.shape)[..., None] > chance[..., :-1]).sum(-1)
        block.batch = replace(block.batch, outcome=level.double() * block.batch.mask)
    chain.outcome = chain.events(lambda block: block.batch.outcome)


@pytest.mark.parametrize("case", LAYOUTS)
def test_with_outcomes_drawn_anew_the_globals_have_their_prior(case: str) -> None:
    """The joint distribution test of Geweke (2004): outcomes given all else, all else by sweeps."""
    n_batches, size = 20, 150
    chain, _ = chain_of(case, burn_in=60)
    whitened = Whitened.of(chain.layout, {}, tuple(chain.layout.shapes()))
    rows = []
    for _ in range(n_batches * size + 60):
        redraw_outcomes(chain)
        chain.sweep()
        first = [block.path[:, 0].double().flatten() for block in chain.blocks]
        rows.append(torch.cat((whitened.point(chain.values), *first)))
    found = torch.stack(rows)[60:]
    for told, wanted in ((found, 0.0), (found**2, 1.0)):
        batches = told.reshape(n_batches, size, -1).mean(1)
        spread = batches.std(0) / n_batches**0.5
        score = (batches.mean(0) - wanted) / spread
        assert float(score.square().mean().sqrt()) < 1.6
        assert float(score.abs().max()) < 6.0


@pytest.mark.parametrize("case", LAYOUTS)
def test_shift_and_stretch_leave_predictors_as_they_are(case: str) -> None:
    chain, _ = chain_of(case)
    for move in (chain._shift, chain._stretch):
        before, values = predictors(chain), dict(chain.values)
        move()
        for one, other in zip(before, predictors(chain), strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=2e-4)
        assert any(not torch.equal(value, chain.values[name]) for name, value in values.items())


@pytest.mark.parametrize("case", ["bernoulli", "kinds, reversion, drift by events"])
def test_paths_have_the_smoothers_moments(case: str) -> None:
    chain, _ = chain_of(case)
    block = chain.blocks[0]
    x, offset = chain.terms()[0]
    walk = chain.walk(block, chain.values)
    sites = ScalarSites(block.precision * (block.utility - offset), block.precision)
    forward = filter_states(x, sites, walk)
    wanted = smooth_states(x, sites, walk, forward, full=True)
    many, paths = 4_000, []
    for _ in range(many):
        chain._draw_paths(chain.terms())
        paths.append(block.path)
    drawn = torch.stack(paths)
    assert wanted.cov is not None
    sd = wanted.cov.diagonal(dim1=-2, dim2=-1).sqrt()
    assert float(((drawn.mean(0) - wanted.mean) / sd).abs().max()) < 4.5 / many**0.5
    assert float((drawn.std(0) / sd - 1.0).abs().max()) < 4.5 / (2 * many) ** 0.5


@pytest.mark.parametrize("n_users", [3, 100], ids=["few", "more than are taken at once"])
@pytest.mark.parametrize("case", ["bernoulli", "kinds, reversion, drift by events"])
def test_the_evidence_of_walks_and_its_slopes_are_the_filters(case: str, n_users: int) -> None:
    chain, _ = chain_of(case)
    block, (x, _) = chain.blocks[0], chain.terms()[0]
    chosen = torch.arange(n_users) % len(x)
    block.batch = block.batch.users(chosen)  # type: ignore[arg-type]
    block.decay, block.growth = block.decay[chosen], block.growth[chosen]
    x, seen = x[chosen], chain.noise.normal(n_users, x.shape[1])
    precision = block.precision[chosen] * chain.noise.uniform(n_users, 1)
    names = chain.walk_names()
    drift = {name: chain.values[name].requires_grad_() for name in names}
    walk = chain.walk(block, chain.values | drift)
    wanted = filter_states(x, ScalarSites(precision * seen, precision), walk).log_evidence
    evidence, slopes = np.empty(n_users), np.empty((n_users, 2, x.shape[2]))
    arrays = (x.numpy(), seen.numpy(), precision.numpy())
    evidence_of_walks(*arrays, chain.walk_arrays(block, chain.values), evidence, slopes)
    torch.testing.assert_close(torch.as_tensor(evidence), wanted.detach(), rtol=1e-10, atol=1e-10)
    for place, name in enumerate(names):
        found = (2.0 * np.exp(2.0 * chain.values[name].detach().numpy()) * slopes[:, place]).sum(0)
        slope = torch.autograd.grad(wanted.sum(), drift[name], retain_graph=True)[0]
        torch.testing.assert_close(torch.as_tensor(found), slope, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_more_in_the_predictors_changes_the_outcomes_log_probability(emission: str) -> None:
    chain, _ = chain_of(emission)
    own, noise = emission_of(chain.layout, chain.values), Noise(1)
    outcome = chain.outcome.repeat(150)  # more than one product
    lower, upper = (part.numpy() for part in own.bounds(outcome))
    base, part = noise.normal(len(outcome)), 9.0 * noise.normal(len(outcome))
    before, after = (own.log_prob(base + c * part, outcome).sum() for c in (0.0, 3.0))
    low, high = (log_chance(base.numpy(), part.numpy(), c, lower, upper) for c in (0.0, 3.0))
    assert high - low == pytest.approx(float(after - before), rel=1e-9)


def test_the_evidence_of_scales_is_that_of_the_dense_gaussian() -> None:
    noise, scale = Noise(2), torch.tensor([0.7, 0.0, 0.3]).double()
    root = noise.normal(4, 3, 3)
    matrix, linear = root @ root.mT, noise.normal(4, 3)
    inner = torch.eye(3).double() + scale[:, None] * matrix * scale
    own = scale * linear
    square = (own * torch.linalg.solve(inner, own)).sum()
    wanted = 0.5 * (square - torch.linalg.slogdet(inner).logabsdet.sum())
    found = effects_evidence(matrix.numpy(), linear.numpy(), scale.numpy())
    assert found == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("width", [3, 7], ids=["many items", "few items"])
@pytest.mark.parametrize("residual", [0.7, 0.0])
def test_weights_and_effects_have_the_moments_of_the_dense_regression(
    residual: float, width: int
) -> None:
    noise, many = Noise(0), 6_000
    root = noise.normal(5, 2, 2)
    root[4] = 0.0  # an item without events
    said = Said(root @ root.mT, times(root, noise.normal(5, 2)))
    features, scale = noise.normal(5, width), torch.tensor([residual, 0.4]).double()
    sd = 0.3 + noise.uniform(2, width)
    weights, drawn = torch.zeros(2, width).double(), []
    for _ in range(many):
        weights = drawn_weights(said, features, weights, scale, sd, noise)
        mean = features @ weights.T
        drawn.append((mean + drawn_effects(said, mean, scale, noise)).reshape(-1))
    found = torch.stack(drawn)
    prior = torch.zeros(10, 10).double()  # of the rows, item after item
    for row in range(2):
        own = (features * sd[row] ** 2) @ features.T + scale[row] ** 2 * torch.eye(5).double()
        prior[row::2, row::2] = own
    precision = torch.block_diag(*said.matrix)
    cov = torch.linalg.solve(torch.eye(10).double() + prior @ precision, prior)
    wanted, spread = cov @ said.linear.reshape(-1), cov.diagonal().sqrt()
    assert float(((found.mean(0) - wanted) / spread).abs().max()) < 0.12
    assert float((found.std(0) / spread).log().abs().max()) < 0.08
    correlation = cov / spread[:, None] / spread
    assert float((torch.corrcoef(found.T) - correlation).abs().max()) < 0.08


@pytest.mark.parametrize("overflow", [torch.inf, torch.nan])
def test_a_move_beyond_all_numbers_is_not_taken(
    overflow: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, _ = chain_of("bernoulli")
    for _ in range(5):
        chain.sweep()
    before, calls = chain.values["log_drift"], []

    def overflowing(*args: Any) -> None:
        evidence_of_walks(*args)
        evidence = args[4]
        calls.append(None)
        if len(calls) > 1:
            evidence += overflow

    with monkeypatch.context() as patch:
        patch.setattr(gibbs, "evidence_of_walks", overflowing)
        chain._move_walks(chain.terms())
    assert torch.equal(chain.values["log_drift"], before)
    assert len(calls) == 2  # the start, and the first leap
    for _ in range(20):
        chain._move_walks(chain.terms())
    assert bool(((chain.values["log_drift"] - before).abs() > 0.0).all())


def test_the_same_seed_gives_the_same_draws() -> None:
    problem, values = problem_of("bernoulli", 2)
    one, again = (list(gibbs_draws(problem, values, 2, 5, burn_in=3, every=2)) for _ in range(2))
    other = next(gibbs_draws(problem, values, 1, 6, burn_in=3, every=2))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(one, again, strict=True) for name in a)
    assert not torch.equal(one[0]["weight"], other["weight"])
    assert not torch.equal(one[0]["weight"], one[1]["weight"])


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, values = problem_of("rating", 2)
    monkeypatch.setattr(gibbs_state, "BLOCK_EVENTS", 12)
    alone, shared = [], []
    for drawn, n_threads in ((alone, 1), (shared, 3)):
        monkeypatch.setattr(torch, "get_num_threads", lambda many=n_threads: many)
        drawn += gibbs_draws(problem, values, 2, 5, burn_in=3, every=2)
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_many_blocks_say_what_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, values = problem_of("bernoulli", 2)
    whole = Gibbs(problem, values, 0, burn_in=5)
    monkeypatch.setattr(gibbs_state, "BLOCK_EVENTS", 12)
    split = Gibbs(problem, values, 0, burn_in=5)
    assert len(split.blocks) > len(whole.blocks) == 1
    path = {}
    for block, users in zip(split.blocks, _users(problem, 12), strict=True):
        block.precision = block.batch.mask.double()
        block.utility = block.batch.outcome
        path |= dict(zip(users, range(len(users)), strict=True))
    whole.blocks[0].precision = whole.blocks[0].batch.mask.double()
    whole.blocks[0].utility = whole.blocks[0].batch.outcome
    one, other = whole._said(), split._said()
    torch.testing.assert_close(one.matrix, other.matrix)
    torch.testing.assert_close(one.linear, other.linear)
    assert len(path) == problem.history.n_users


def _users(problem: Problem, size: int) -> list[list[int]]:
    from bayes_interest.events.history import length_batches

    return [own.tolist() for own in length_batches(problem.history.lengths, size)]


def test_more_events_leave_less_to_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "EVERY", (10, 10))
    spread = []
    for copies in (2, 32):
        problem, values = problem_of("rating", copies)
        drawn = draw_members(problem, values, 15, seed=0)
        spread.append(torch.stack([one["raw_cuts"][1:] for one in drawn]).std(0).mean())
    assert spread[0] / spread[1] > 2.0


def test_sweeps_settle_before_the_first_draw() -> None:
    """`sweeps=0`: the first draw is near the start."""
    problem, values = problem_of("bernoulli", 2)
    near = next(gibbs_draws(problem, values, 1, 0, burn_in=0, every=1))
    assert float((near["log_drift"] - values["log_drift"]).abs().max()) < 5.0
    chain = Gibbs(problem, values, 0, burn_in=20)
    leaps = []
    for _ in range(25):
        chain.sweep()
        leaps.append(chain.walks.leap)
    assert len(set(leaps[:20])) > 1
    assert len(set(leaps[19:])) == 1  # fixed from there on


def test_weights_of_many_wide_texts_are_not_drawn_in_every_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, values = problem_of("bernoulli", 2)
    assert Gibbs(problem, values, 0, burn_in=5).weights_every == 1
    work = work_of_events(problem.layout, len(problem.history)) / work_of_weights(problem.layout)
    monkeypatch.setattr(gibbs, "PRODUCT_WORK", 3.0 * work * gibbs.PRODUCT_WORK)
    chain = Gibbs(problem, values, 0, burn_in=5)
    moved, before = [], chain.values["offset_weight"]
    for _ in range(6):
        chain.sweep()
        after = chain.values["offset_weight"]  # its length moves in every sweep
        moved.append(not torch.allclose(after / after.norm(), before / before.norm()))
        before = after
    assert moved == [True, False, False] * 2


def test_small_logs_get_more_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = problem_of("bernoulli", 2)
    least, most = members.EVERY
    assert members._every(problem) == most
    monkeypatch.setattr(members, "DRAW_WORK", 20 * members.CALL_WORK)
    assert least < members._every(problem) < most
    monkeypatch.setattr(members, "DRAW_WORK", members.CALL_WORK)
    assert members._every(problem) == least


def test_what_the_prior_makes_of_a_size_is_its_density() -> None:
    """With the power of the factor; in densities of effects and their scale it cancels."""
    noise, log_c = Noise(4), 0.3
    fixed = noise.normal(7) * 2.0

    def density(numbers: Tensor, log_scale: float) -> float:
        return float(norm.logpdf(numbers.numpy(), scale=np.exp(log_scale)).sum())

    apart = density(fixed * np.exp(log_c), np.log(2.0)) - density(fixed, np.log(2.0))
    found = Prior(count=7, square=float((fixed**2).sum() / 4.0)).gain(log_c)
    assert found == pytest.approx(apart + 7 * log_c)
    after, before = (
        density(fixed * np.exp(moved), moved - 1.0) + norm.logpdf(moved - 1.0, -2.0, 1.5)
        for moved in (log_c, 0.0)
    )
    found = Prior(away=1.0 / 1.5, tight=1.0 / 1.5).gain(log_c)
    assert found == pytest.approx(after - before + 7 * log_c)


def test_sizes_move_and_predictors_are_kept_in_step() -> None:
    chain, _ = chain_of("rating", burn_in=30)
    for _ in range(30):
        chain.sweep()
    before, steps = dict(chain.values), dict(chain.sizes.steps)
    assert set(steps) == {"offset", "residual", "vectors 0", "all", "walk 0"}
    assert all(step != FIRST for step in steps.values())
    for _ in range(30):
        chain.sweep()
    assert chain.sizes.steps == steps  # fixed from there on
    for name in (
        "log_offset_scale",
        "log_residual_scale",
        "weight",
        "offset",
        "residual",
        "log_drift",
    ):
        assert not torch.equal(before[name], chain.values[name])
