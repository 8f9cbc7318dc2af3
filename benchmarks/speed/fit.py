"""Fit to equal held-out log loss: ours, Pyro's AutoNormal and NumPyro's, on the same log."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import bayes_interest as bi
from bayes_interest.config import FitConfig
from benchmarks.speed.fit_log import (
    Arrays,
    Task,
    arrays_of,
    draw_task,
    last_states,
    our_loss,
    rival_loss,
)
from benchmarks.speed.machine import ceiling
from benchmarks.speed.rows import OURS, Goal, Row, row, timed
from benchmarks.speed.states import FLOPS

SLACK = 0.005
"""A contender is there when its held-out log loss is at most this share above the target."""
RATES = (0.01, 0.03, 0.1)
WAYS = (False, True)
"""Guides over increments; over states."""
RUNS = FitConfig().site_steps + 1
"""Filter and smoother per visit of an event by our fit."""
RIVAL_BYTES = 48.0
"""Per step and latent number: Adam reads mean, sd and two moments of each, and writes them."""
EPOCHS = (1, 2, 3, 4, 6, 8, 12, 18)
"""Lengths of our fit that are tried, shortest first."""
OWN_RATES = (0.02, 0.05)
WANTED = {"Pyro": 200.0, "NumPyro": 20.0}
ABOUT = f"""
2,000 users with 50 events each (and 5 held-out ones), 200 items with given vectors, 8 dimensions,
`bernoulli`, drawn by `bi.simulate`. All fit the definition in `model/generative.py`: the same
priors, the same features, all 100,000 events. One measure for all: log loss of every user's next 5
events, predicted from the state after the last train event without absorbing any; a rival's
predictors get their exact mean and variance under its guide.

Ours is `InterestModel.fit` from a data frame with `PrecomputedVectors`, reading, checking and the
last filter included; `ModelConfig(rates=False, event_drift=False)`, as the definition has neither.
Rivals get arrays that are ready, and their time is that of `SVI.step` alone. Both: `AutoNormal`
(mean-field) over all globals and states, Adam, one draw a step, every event in every step, no
padding (all users have as many events), no loop over time: over increments, states being their
running sum, and over states ("centred"); learning rates
{", ".join(map(str, RATES))}, started where our fit starts. All {2 * len(RATES)} settings are run
for up to 600 steps; losses are looked at every 20 steps with the clock stopped; the setting that
is there first counts. Pyro with `JitTrace_ELBO` where that is faster. NumPyro: 20 steps in one
compiled `lax.scan`, data as arguments (as constants they take longer to compile), compile time
shown apart and not counted; threefry keys, the fastest on this CPU.

The target is the worse of the best loss of the rival, over all settings and steps, and of our
whole fit; there is who is at most {SLACK:.1%} above it. A rival is stopped by this oracle, which
is in its favour; ours is given the same: the shortest of fits of {", ".join(map(str, EPOCHS))}
epochs at learning rates {" and ".join(map(str, OWN_RATES))}, without a held-back slice, that is
there (row "bayes_interest"). The last rows are whole
fits as people run them: early stopping on a held-back slice, then again on everything, and with
all defaults 16 draws of the globals from their joint posterior, by 440 sweeps of Gibbs sampling.
The time of a rival is the number of its steps times the median seconds of a block of 20, in turns
with our fit.

Operations: a visit of an event by our fit is {RUNS} runs of filter and smoother of 11 D² + 30 D
operations each (see `states`), 4,720 at 8 dimensions, and expectations of the log likelihood beside
each. `times floor` of ours is the time over that of the recursions' operations in all epochs at the
ceiling of `machine.py`: everything else (reading, expectations, gradients, the last filter) counts
as waste. A rival's step does a few dozen operations per latent number, but there are two
parameters to each of the 800,000, and Adam alone must read and write them with their moments:
{RIVAL_BYTES:.0f} bytes a number and step, 38 MB, far more than the cache. That is its floor.
"""


@dataclass
class Trace:
    """What one setting of a rival reaches, and when."""

    who: str
    setting: str
    make: Callable[[], Any]  # starts anew
    losses: dict[int, float]  # steps so far: held-out loss
    rival: Any = None  # where it can go on beside others

    @property
    def best(self) -> float:
        return min(self.losses.values())

    def steps_to(self, target: float) -> float:
        """The first checkpoint within the target; infinite where there is none."""
        return min((s for s, loss in self.losses.items() if loss <= target), default=math.inf)


def measure(quick: bool, data: Path) -> list[Row]:
    task = draw_task(*((60, 8, 2, 20) if quick else (2000, 50, 8)))
    model = fitted(task, n_members=1, **({"max_epochs": 2} if quick else {}))
    arrays, ours = arrays_of(task, model), our_loss(model, task)
    size = f"{len(arrays.item):,} users x {task.steps} events, {task.dim} dimensions"
    every, limit = (5, 10) if quick else (20, 600)
    rates, ways = (RATES[:1], WAYS[:1]) if quick else (RATES, WAYS)
    rows: list[Row] = []
    for name, traces in (
        ("Pyro", pyro_traces(arrays, rates, ways)),
        ("NumPyro", numpyro_traces(arrays, rates, ways, every)),
    ):
        for trace in traces:
            follow(trace, arrays, every, limit)
        target = (1.0 + SLACK) * max(ours, min(trace.best for trace in traces))
        case = f"{size}, to {target:.4f}, against {name}"
        rows += race(case, task, traces, target, every, 1 if quick else 5)
    return rows + whole_fits(f"{size}, the whole fit", task, quick)


def fitted(task: Task, **run: Any) -> bi.InterestModel:
    """Our fit as people call it."""
    config = bi.ModelConfig("bernoulli", task.dim, rates=False, event_drift=False)
    model = bi.InterestModel(config, bi.PrecomputedVectors(task.vectors))
    return model.fit(task.train.frame, config=bi.FitConfig(progress=False, **run))


def pyro_traces(arrays: Arrays, rates: Sequence[float], ways: Sequence[bool]) -> list[Trace]:
    """Every setting in Pyro; compiled by `torch.jit` where that is faster here."""
    from benchmarks.speed.fit_pyro import PyroRival, faster_with_jit

    jit = faster_with_jit(arrays)
    who = f"Pyro {version('pyro-ppl')} AutoNormal{', jit' if jit else ''}"
    return [
        Trace(who, named(rate, centred), partial(PyroRival, arrays, rate, centred, jit), {})
        for centred, rate in product(ways, rates)
    ]


def numpyro_traces(
    arrays: Arrays, rates: Sequence[float], ways: Sequence[bool], every: int
) -> list[Trace]:
    from benchmarks.speed.fit_numpyro import NumPyroRival

    who = f"NumPyro {version('numpyro')} AutoNormal"
    return [
        Trace(who, named(rate, centred), partial(NumPyroRival, arrays, rate, centred, every), {})
        for centred, rate in product(ways, rates)
    ]


def named(rate: float, centred: bool) -> str:
    return f"{'states' if centred else 'increments'}, rate {rate:g}"


def follow(trace: Trace, arrays: Arrays, every: int, limit: int) -> None:
    """Run and look; ends when the loss has not fallen for a third of the limit."""
    rival = trace.make()
    trace.rival = rival if rival.own_state else None
    for steps in range(every, limit + 1, every):
        rival.run(every)
        guide = rival.moments()
        trace.losses[steps] = rival_loss(arrays, guide, last_states(arrays, guide, rival.centred))
        if steps - min(trace.losses, key=trace.losses.__getitem__) > limit // 3:
            return


def race(
    case: str, task: Task, traces: list[Trace], target: float, every: int, repeats: int
) -> list[Row]:
    """Ours and the quickest setting of a rival, in turns; what the other settings came to."""
    fit, loss = shortest(task, target)
    winner = min(traces, key=lambda trace: (trace.steps_to(target), trace.best))
    steps, rival = winner.steps_to(target), winner.rival or winner.make()
    rival.run(every)  # warm
    seconds = timed(
        {OURS: partial(fitted, task, **fit), winner.who: lambda: rival.run(every)}, repeats
    )
    blocks = [block * steps / every for block in seconds[winner.who]]
    compiled = {"compile_seconds": rival.compile_seconds} if rival.compile_seconds else {}
    tried = "; ".join(
        f"{t.setting}: {t.best:.4f} at best, there after {t.steps_to(target):g} steps"
        for t in traces
    )
    floor = steps * RIVAL_BYTES * len(task.train.frame) * task.dim
    over = median(blocks) / ceiling().seconds(0.0, floor)
    return [
        row(case, OURS, seconds[OURS], log_loss=loss, setting=said(fit),
            times_floor=over_floor(task, fit.get("max_epochs"), seconds[OURS])),
        row(case, winner.who, blocks, log_loss=winner.losses[int(steps)], times_floor=over,
            setting=f"{winner.setting}, {steps:g} steps", **compiled, tried=tried),
    ]  # fmt: skip


def over_floor(task: Task, epochs: int | None, seconds: list[float]) -> float:
    """Our time over that of the recursions' operations alone; NaN for an unknown length."""
    if epochs is None:
        return math.nan
    per_event = FLOPS[0] * task.dim**2 + FLOPS[1] * task.dim
    flops = epochs * RUNS * len(task.train.frame) * per_event
    return median(seconds) / ceiling().seconds(flops)


def shortest(task: Task, target: float) -> tuple[dict[str, Any], float]:
    """Our shortest fit within the target, and its loss; the whole fit always is."""
    short = {"n_members": 1, "holdout": 0.0}
    runs = [
        short | {"max_epochs": epochs, "learning_rate": rate}
        for epochs, rate in product(EPOCHS, OWN_RATES)
    ]
    for run in (*runs, {"n_members": 1}):
        if (loss := our_loss(fitted(task, **run), task)) <= target:
            return run, loss
    raise RuntimeError(f"no fit of ours has a held-out loss of at most {target:.4f}")


def said(run: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in run.items())


def whole_fits(case: str, task: Task, quick: bool) -> list[Row]:
    """As people run them: early stopping, then again on everything."""
    short: dict[str, Any] = {"max_epochs": 2, "n_members": 1} if quick else {}
    runs: dict[str, dict[str, Any]] = {
        f"{OURS}, n_members=1": {"n_members": 1},
        f"{OURS}, defaults": {},
    }
    models: dict[str, bi.InterestModel] = {}

    def run(name: str) -> None:
        models[name] = fitted(task, **(runs[name] | short))

    seconds = timed({name: partial(run, name) for name in runs}, 1 if quick else 3)
    rows = []
    for name, times in seconds.items():
        report = models[name].fit_report()
        setting = f"stopped after {len(report)} epochs, best {report.attrs['best_epoch']}"
        loss = our_loss(models[name], task)
        rows.append(row(case, name, times, log_loss=loss, setting=setting))
    return rows


def goals(rows: list[Row]) -> list[Goal]:
    """At equal log loss, by the shortest fit that is there; the whole fit beside it."""
    whole = next(row.seconds for row in rows if row.who.endswith("n_members=1"))
    found = []
    for name, times in WANTED.items():
        rival = next(row for row in rows if row.who.startswith(f"{name} "))
        own = next(row for row in rows if row.case == rival.case and row.who == OURS)
        ratio = rival.seconds / own.seconds
        reached = f"{ratio:.1f}x; our whole fit {rival.seconds / whole:.1f}x"
        text = f"fit to equal held-out log loss, against {name} AutoNormal"
        found.append(Goal(text, f"at least {times:.0f}x", reached, ratio >= times))
    return found
