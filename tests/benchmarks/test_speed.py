"""The harness of the speed benchmark, and that its rivals fit the model that we do."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyro
import pytest
import torch

import bayes_interest as bi
from bayes_interest.model.batch import Batch
from bayes_interest.model.generative import Design, interest_program
from benchmarks.speed import fit_log, sections, states
from benchmarks.speed.fit_pyro import PyroRival
from benchmarks.speed.page import Kept, page, row_table
from benchmarks.speed.rows import OURS, Goal, Row, row, timed
from benchmarks.speed.states import compare, draw, kickscore_task, one_thread

USERS, STEPS, DIM = 7, 11, 3


# ------------------------------------------------------------------ harness


def test_timed_takes_turns() -> None:
    seen: list[str] = []
    seconds = timed({name: lambda n=name: seen.append(n) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(seen) == "abccbaabc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_row_is_the_median_with_its_range() -> None:
    made = row("case", "who", [3.0, 1.0, 2.0], log_loss=0.5)
    assert made == Row("case", "who", 2.0, 1.0, 3.0, 3, {"log_loss": 0.5})


def test_table_has_ratios_to_ours_in_the_same_case() -> None:
    nan = float("nan")
    rows = [
        row("a|b", "bayes_interest", [0.002], eps=1234.5),
        row("a|b", "rival 1", [0.05, 0.07]),
        row("other", "rival 1", [1.0], why="alone"),
        Row("other", "rival 2", nan, nan, nan, 0, {"why": "out of memory"}),
    ]
    lines = row_table(rows).splitlines()
    assert lines[0] == "| case | who | seconds | times ours | eps | why |"
    assert lines[2:] == [
        "| a\\|b | bayes_interest | 2.00 ms (once) |  | 1,234 |  |",
        "|  | rival 1 | 60.0 ms [50.0 ms, 70.0 ms] | 30.0 |  |  |",
        "| other | rival 1 | 1.00 s (once) |  |  | alone |",
        "|  | rival 2 | did not finish |  |  | out of memory |",
    ]


def test_page_says_what_was_not_measured() -> None:
    goal = Goal("fast", "at least 2x", "3x", True)
    rows = [row("c", "bayes_interest", [1.0])]
    good = Kept("fit", "How.", rows, [goal], None, "M1", "2026-01-02", 60.0)
    bad = Kept("rank", "Why.", [], [], "ValueError: too small", "", "", 0.0)
    text = page([good, bad])
    assert "Machine: M1." in text
    assert "| fit | fast | at least 2x | 3x | yes |" in text
    assert "| rank |  |  | not measured: ValueError: too small | **no** |" in text
    assert "## rank\n\nWhy.\n\nNot measured: ValueError: too small.\n" in text


def test_a_failed_section_keeps_its_earlier_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = ModuleType("benchmarks.speed.rank")
    section.ABOUT = "about"  # type: ignore[attr-defined]
    section.measure = lambda quick, data: [row("c", "bayes_interest", [float(quick)])]  # type: ignore[attr-defined]
    section.goals = lambda rows: [Goal("g", "w", str(rows[0].seconds), True)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, section.__name__, section)
    monkeypatch.setattr(sections, "ProcessPoolExecutor", _Here)  # the module exists here only
    path = tmp_path / "rank.json"
    assert sections.kept("rank", tmp_path).failed == "not run yet"
    sections.measure("rank", True, tmp_path, tmp_path)
    assert sections.has_rows(path)
    section.measure = lambda quick, data: 1 / 0  # type: ignore[attr-defined]
    sections.measure("rank", True, tmp_path, tmp_path)
    assert not sections.has_rows(path)  # so that the next run tries again
    kept = sections.kept("rank", tmp_path)
    assert kept.failed == "ZeroDivisionError: division by zero"
    assert kept.goals == [Goal("g", "w", "1.0", True)]
    section.measure = lambda quick, data: [row("c", "bayes_interest", [2.0])]  # type: ignore[attr-defined]
    sections.measure("rank", True, tmp_path, tmp_path)
    assert "failed" not in json.loads(path.read_text())
    assert sections.kept("rank", tmp_path).rows[0].seconds == 2.0


class _Here:
    """An executor of one worker that is this process."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, call: object, *args: object) -> SimpleNamespace:
        try:
            made, error = call(*args), None  # type: ignore[operator]
        except ArithmeticError as err:
            made, error = None, err
        return SimpleNamespace(exception=lambda: error, result=lambda: made)


# ------------------------------------------------------------------ the fit's rivals


@cache
def small() -> tuple[fit_log.Task, bi.InterestModel, fit_log.Arrays]:
    task = fit_log.draw_task(USERS, STEPS, DIM, n_items=5, seed=2)
    config = bi.ModelConfig(emission="bernoulli", state_dim=DIM, rates=False)
    model = bi.InterestModel(config, bi.PrecomputedVectors(task.vectors))
    model.fit(task.train, config=bi.FitConfig(max_epochs=2, n_members=1, progress=False))
    return task, model, fit_log.arrays_of(task, model)


def test_rivals_get_the_log_as_it_is() -> None:
    task, model, data = small()
    assert data.item.shape == (USERS, STEPS)
    assert data.test_item.shape == (USERS, fit_log.TEST)
    known, frame = model.posterior.vocabulary, task.test.frame
    user = frame["user_id"].iloc[0]
    own = frame[frame["user_id"] == user]
    at = sorted(frame["user_id"].unique()).index(user)
    np.testing.assert_array_equal(data.test_item[at], known.items.index_of(own["item_id"]))
    np.testing.assert_array_equal(data.test_outcome[at], own["value"])
    last = task.train.frame.query("user_id == @user")["timestamp"].max()
    days = (own["timestamp"] - last).dt.total_seconds() / 86_400.0
    np.testing.assert_allclose(data.test_wait[at], days, rtol=1e-5)


def test_pyros_program_is_the_definition() -> None:
    _, _, data = small()
    pyro.set_rng_seed(1)
    rival = PyroRival(data, rate=0.01, centred=False, jit=False)
    trace = pyro.poutine.trace(rival.program).get_trace()
    values = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}
    features = torch.as_tensor(data.features) * data.layout.embed_dim**0.5
    design = Design(data.layout, features, batch_of(data))
    given = {name: value for name, value in values.items() if name not in ("outcome", "users")}
    defined = pyro.poutine.trace(pyro.condition(interest_program, given)).get_trace(design)
    torch.testing.assert_close(trace.log_prob_sum(), defined.log_prob_sum(), rtol=1e-4, atol=1e-3)


def batch_of(data: fit_log.Arrays) -> Batch:
    zero = torch.zeros(data.item.shape)
    return Batch(
        item=torch.as_tensor(data.item), outcome=torch.as_tensor(data.outcome),
        kind=zero.long(), elapsed_days=torch.as_tensor(data.gap), mask=zero == 0,
        covariates=zero[..., None][..., :0],
    )  # fmt: skip


def test_numpyros_program_is_the_definition() -> None:
    pytest.importorskip("numpyro")
    from numpyro.infer.util import log_density

    from benchmarks.speed.fit_numpyro import NumPyroRival

    _, _, data = small()
    for centred in (False, True):
        pyro.set_rng_seed(1)
        rival = PyroRival(data, 0.01, centred, jit=False)
        trace = pyro.poutine.trace(rival.program).get_trace()
        names = [*data.layout.shapes(), "state" if centred else "innovation"]
        values = {name: trace.nodes[name]["value"].numpy() for name in names}
        other = NumPyroRival.__new__(NumPyroRival)
        other.prepare(data, centred)
        density, _ = log_density(other.program, other.given, {}, values)
        np.testing.assert_allclose(float(density), trace.log_prob_sum().item(), rtol=1e-4)


def test_a_rival_learns_and_its_guide_is_read_in_both_ways() -> None:
    task, _, data = small()
    for centred in (False, True):
        rival, losses = PyroRival(data, 0.05, centred, jit=False), []
        for _ in range(2):
            rival.run(10)
            guide = rival.moments()
            losses.append(
                fit_log.rival_loss(data, guide, fit_log.last_states(data, guide, centred))
            )
        assert set(guide) == {*data.layout.shapes(), "state" if centred else "innovation"}
        assert losses[1] != losses[0]
        assert abs(losses[1] - task.truth_loss) < 0.3


def test_the_rivals_loss_is_that_of_draws_from_its_guide() -> None:
    _, _, data = small()
    rng = np.random.default_rng(0)
    guide = {
        name: (rng.normal(0.0, 0.5, shape), rng.uniform(0.05, 0.2, shape))
        for name, shape in data.layout.shapes().items()
    }
    guide["log_drift"] = (np.full(DIM, -3.0), np.full(DIM, 0.1))
    innovation = (USERS, STEPS, DIM)
    guide["innovation"] = (rng.normal(0.0, 1.0, innovation), rng.uniform(0.2, 0.6, innovation))
    n_draws = 4000
    draw_of = {name: rng.normal(*both, (n_draws, *both[0].shape)) for name, both in guide.items()}
    drift = np.exp(guide["log_drift"][0])  # rivals' drift scales are taken at their mean
    scale = np.sqrt(data.gap)[..., None] * drift
    scale[:, 0] = 1.0
    state = (scale * draw_of["innovation"]).sum(2)[:, :, None]  # (draw, user, 1, dim)
    wait = np.sqrt(data.test_wait)[..., None] * drift
    state = state + wait * rng.normal(size=(n_draws, *wait.shape)) + draw_of["mean"][:, None, None]
    x = data.features @ draw_of["weight"].mT / DIM**0.5
    x = x + draw_of["intercept"][:, None] + draw_of["residual"]
    offset = draw_of["offset_weight"] @ data.features.T + draw_of["offset"]
    logits = (x[:, data.test_item] * state).sum(-1) + offset[:, data.test_item]
    logits = (logits + draw_of["bias"][:, None, None]) * (2.0 * data.test_outcome - 1.0)
    drawn = -np.log((1.0 / (1.0 + np.exp(-logits))).mean(0)).mean()
    found = fit_log.rival_loss(data, guide, fit_log.last_states(data, guide, centred=False))
    assert found == pytest.approx(drawn, abs=0.01)


def test_our_loss_absorbs_no_held_out_event() -> None:
    task, model, _ = small()
    loss = fit_log.our_loss(model, task)
    chance = []
    for place in range(fit_log.TEST):
        part = task.rounds[place].frame
        assert part["user_id"].is_unique
        for user, item, when, value in part[
            ["user_id", "item_id", "timestamp", "value"]
        ].itertuples(index=False):
            mean = model.interest([user], [item], at=when)["mean"].iloc[0]
            chance.append(mean if value else 1.0 - mean)
    assert len(chance) == USERS * fit_log.TEST
    assert loss == pytest.approx(-np.log(chance).mean(), abs=2e-3)


# ------------------------------------------------------------------ the states' rivals


def test_kickscore_gives_the_same_states() -> None:
    pytest.importorskip("kickscore")
    chains = draw(USERS, STEPS, 1, torch.float64, ones=True)
    compare(one_thread(chains), kickscore_task(chains)(), 1e-9, "kickscore")


def test_rivals_that_differ_are_not_compared() -> None:
    chains = draw(USERS, STEPS, DIM, torch.float32)
    ours = one_thread(chains)
    wrong = [ours[0] + 0.01, *ours[1:]]
    with pytest.raises(AssertionError, match="rival"):
        compare(ours, wrong, 2e-3, "rival")


def test_a_rival_that_does_not_end_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "PATIENCE", 0.01)
    monkeypatch.setattr(states, "version", lambda _: "0")
    rows = states.against_dynamax(draw(USERS, STEPS, DIM, torch.float32), 1)
    assert [row.who for row in rows] == [OURS, "dynamax 0", "dynamax 0 parallel"]
    assert all(np.isnan(row.seconds) and "not within" in str(row.figures) for row in rows[1:])
    assert "not measured" in states.times_faster(rows, "dynamax").reached
    there = states.row(rows[0].case, "dynamax 0", [20.0 * rows[0].seconds])
    assert states.times_faster([*rows, there], "dynamax").met
