"""Filter and smoother at given sites: ours, kickscore and dynamax on the same observations."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bayes_interest.statespace.kalman import (
    ScalarSites,
    filter_and_smooth,
    filter_states,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition
from benchmarks.speed.machine import SIDE, ceiling
from benchmarks.speed.rows import OURS, Goal, Row, row, timed

PATIENCE = 120
"""Seconds for compiling and all repeats of one dynamax smoother."""
ABOUT = f"""
Users' chains of 50 events, every event one scalar observation of the state along its own item
vector; a walk with the gaps' own variances; standard normal start. All get the same arrays and
give the smoothed mean of every state and the mean and variance of every event's predictor; before
the clock starts their answers are compared (within 0.0002; float64 1e-8), and everything is
compiled. Single precision against dynamax. kickscore knows double precision, one dimension and a
whole observation of it (vectors of 1) only: our rows of these cases are the same, with one thread
like kickscore. Its fitter is called with sites set, user by user, and once on a single long
history, where a call costs nothing. dynamax runs `lgssm_smoother` under `jit` and `vmap` over
users, with a row of emission weights, an emission variance and a walk variance per event; only
what is asked for leaves the compiled function; `parallel` is its associative scan, which may wait
for ever inside XLA on two cores, so that each has a process of its own and {PATIENCE} seconds. Ours
runs before and after each. XLA takes all cores, ours as many threads as torch.

Operations an event needs, D dimensions, both passes, symmetric matrices kept by half: four
products of a matrix with a vector (2 D² each), a rank-one update of the covariance (D²) and a
rank-two update of the curvature (2 D²): 11 D², and some 30 D. So does
`statespace/lanes.py`, with decay beside; fewer than ten users go by `compiled.py`, which updates
whole matrices: 16 D². Bytes that must pass through memory: the item vector and the walk's
variance in,
three vectors out, five numbers: 4 (5 D + 5) in single precision; covariances stay in the cache.
`times floor` is the time over the larger of the two at the measured ceiling of as many threads
(`machine.py`: a large float32 matrix product, a copy of 256 MiB). A pass is one direction:
`events per second a pass` counts two passes over every event.
"""
DIMS = (1, 4, 16, 32)
STEPS = 50
FLOPS, BYTES = (11.0, 30.0), (20.0, 20.0)
"""Per event: D² and D times; D times and once."""
TIMES, PER_PASS = 10.0, 1_000_000.0


@dataclass(frozen=True)
class Chains:
    """What everybody gets."""

    x: torch.Tensor  # (user, step, dim)
    sites: ScalarSites
    walk: Transition

    @property
    def n_events(self) -> int:
        return self.x.shape[0] * self.x.shape[1]


def draw(n_users: int, steps: int, dim: int, dtype: torch.dtype, ones: bool = False) -> Chains:
    """Random vectors, gaps, and sites as a Bernoulli model has them."""
    rng = np.random.default_rng(dim)
    x = np.ones((n_users, steps, dim)) if ones else rng.normal(size=(n_users, steps, dim))
    gap = rng.exponential(7.0, (n_users, steps, 1))
    gap[:, 0] = 0.0
    variance = gap * np.geomspace(0.01, 0.1, dim) ** 2
    linear, precision = rng.normal(0.0, 0.4, gap.shape[:2]), rng.uniform(0.05, 0.25, gap.shape[:2])
    parts = [torch.as_tensor(part, dtype=dtype) for part in (x, linear, precision, variance)]
    decay = torch.ones(n_users, steps, 1, dtype=dtype)
    return Chains(parts[0], ScalarSites(parts[1], parts[2]), Transition(decay, parts[3]))


def measure(quick: bool, data: Path) -> list[Row]:
    repeats = 3 if quick else 9
    rows = [ceiling_row(threads) for threads in (1, None)]
    for dim in (4,) if quick else DIMS:
        users = 20 if quick else 2000 if dim <= 4 else 400
        rows += against_dynamax(draw(users, STEPS, dim, torch.float32), repeats)
    for users, steps in ((20, STEPS), (1, 500)) if quick else ((1000, STEPS), (1, 20_000)):
        rows += against_kickscore(draw(users, steps, 1, torch.float64, ones=True), repeats)
    rows += alone(draw(20 if quick else 4000, STEPS, 16, torch.float32), repeats)
    return rows


def ceiling_row(threads: int | None) -> Row:
    """What the floor is taken from."""
    found = ceiling(threads)
    case = f"ceiling, {'one thread' if threads == 1 else 'all threads'}: a matrix product"
    giga = {"gflop_s": found.flops_per_second / 1e9, "copy_gb_s": found.bytes_per_second / 1e9}
    return row(case, f"torch {torch.__version__}", [found.seconds(2.0 * SIDE**3)], **giga)


def against_dynamax(chains: Chains, repeats: int) -> list[Row]:
    """Ours before and after each of its smoothers, which have a process of their own."""
    users, steps, dim = chains.x.shape
    case = f"{dim} dimensions, {users:,} users x {steps}, float32"
    first, ours, rows = both_passes(chains), [], []
    for variant in ((), ("--parallel",)):
        who = " ".join((f"dynamax {version('dynamax')}", *(name[2:] for name in variant)))
        ours += timed({OURS: lambda: both_passes(chains)}, repeats)[OURS]
        times = dynamax_seconds(chains, first, repeats, variant)
        if times is None:
            rows.append(row(case, who, [math.nan], ended=f"not within {PATIENCE} s"))
        else:
            rows.append(row(case, who, times, **figures(chains, times)))
    ours += timed({OURS: lambda: both_passes(chains)}, repeats)[OURS]
    return [row(case, OURS, ours, **figures(chains, ours)), *rows]


def dynamax_seconds(
    chains: Chains, first: list[np.ndarray], repeats: int, variant: tuple[str, ...]
) -> list[float] | None:
    """Seconds of its calls, with the answers compared; none where it does not end."""
    with TemporaryDirectory() as place:
        file = Path(place) / "input.npz"
        sites, moves = chains.sites, chains.walk.variance.numpy()
        np.savez(file, x=chains.x, linear=sites.linear, precision=sites.precision, variance=moves)
        command = [sys.executable, "-m", "benchmarks.speed.states_dynamax", str(file)]
        try:
            done = subprocess.run([*command, str(repeats), *variant], check=True,
                                  stdout=subprocess.PIPE, timeout=PATIENCE)  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        found = np.load(file.with_name("OUTPUT.npz"))
        compare(first, [found[name] for name in found.files], 2e-4, "dynamax")
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def against_kickscore(chains: Chains, repeats: int) -> list[Row]:
    tasks: dict[str, Callable[[], list[np.ndarray]]] = {OURS: lambda: one_thread(chains)}
    tasks[f"kickscore {version('kickscore')}"] = kickscore_task(chains)
    first, other = (task() for task in tasks.values())
    compare(first, other, 1e-8, "kickscore")
    users, steps, dim = chains.x.shape
    case = f"{dim} dimension, {users:,} users x {steps:,}, float64, one thread"
    seconds = timed(tasks, repeats)
    return [row(case, who, times, **figures(chains, times, 1)) for who, times in seconds.items()]


def alone(chains: Chains, repeats: int) -> list[Row]:
    """Our three ways at the size of a log, and what a second thread brings."""
    users, steps, dim = chains.x.shape

    def kept() -> None:
        smooth_states(chains.x, chains.sites, chains.walk, forward)

    forward = filter_states(chains.x, chains.sites, chains.walk)
    tasks: dict[str, Callable[[], object]] = {
        "both passes in one": lambda: both_passes(chains),
        "both passes in one, one thread": lambda: one_thread(chains),
        "filter, covariances kept": lambda: filter_states(chains.x, chains.sites, chains.walk),
        "smoother after it": kept,
    }
    for task in tasks.values():
        task()
    rows = []
    for name, times in timed(tasks, repeats).items():
        case = f"{dim} dimensions, {users:,} users x {steps}, float32: {name}"
        passes = 2 if "both" in name else 1
        threads = 1 if "one thread" in name else None
        rows.append(row(case, OURS, times, **figures(chains, times, threads, passes)))
    return rows


def figures(
    chains: Chains, times: list[float], threads: int | None = None, passes: int = 2
) -> dict[str, float]:
    """Speed per event, and over the floor where both passes are run in single precision."""
    middle, dim = float(np.median(times)), chains.x.shape[2]
    per_pass = passes * chains.n_events / middle
    found = {"events_per_second_a_pass": per_pass, "ns_per_event": 1e9 * middle / chains.n_events}
    if passes == 2 and chains.x.dtype == torch.float32:
        flops = chains.n_events * (FLOPS[0] * dim**2 + FLOPS[1] * dim)
        moved = chains.n_events * (BYTES[0] * dim + BYTES[1])
        found["times_floor"] = middle / ceiling(threads).seconds(flops, moved)
    return found


def both_passes(chains: Chains) -> list[np.ndarray]:
    """Smoothed states, predictors' means and variances."""
    _, smoothed = filter_and_smooth(chains.x, chains.sites, chains.walk)
    parts = (smoothed.mean, smoothed.predictor_mean, smoothed.predictor_var)
    return [part.numpy() for part in parts]


def one_thread(chains: Chains) -> list[np.ndarray]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return both_passes(chains)
    finally:
        torch.set_num_threads(before)


def kickscore_task(chains: Chains) -> Callable[[], list[np.ndarray]]:
    """A fitter per user, with its sites set; a call runs both passes of all of them."""
    from kickscore.fitter import RecursiveFitter
    from kickscore.kernel import Wiener

    fitters = []
    moves = chains.walk.variance[..., 0].numpy()
    for variance, linear, precision in zip(
        moves, chains.sites.linear.numpy(), chains.sites.precision.numpy(), strict=True
    ):
        fitter = RecursiveFitter(Wiener(1.0, 0.0, 1.0))  # a unit of time is a unit of variance
        for moment in np.cumsum(variance):
            fitter.add_sample(moment)
        fitter.allocate()
        fitter.ns[:], fitter.xs[:] = linear, precision
        fitters.append(fitter)

    def run() -> list[np.ndarray]:
        for fitter in fitters:
            fitter.fit()
        mean = np.stack([fitter.ms for fitter in fitters])
        return [mean[..., None], mean, np.stack([fitter.vs for fitter in fitters])]

    return run


def compare(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float, who: str) -> None:
    """The same answers."""
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance, rtol=0.0, err_msg=who)


def goals(rows: list[Row]) -> list[Goal]:
    found = [times_faster(rows, rival) for rival in ("kickscore", "dynamax")]
    wanted = [row for row in rows if row.case.startswith("16 ") and row.case.endswith("in one")]
    text = f"{PER_PASS:,.0f} events a second a pass at 16 dimensions, all cores"
    if not wanted:
        return [*found, Goal(text, f"at least {PER_PASS:,.0f}", "not measured: quick", False)]
    reached = float(wanted[0].figures["events_per_second_a_pass"])
    goal = Goal(text, f"at least {PER_PASS:,.0f}", f"{reached:,.0f}", reached >= PER_PASS)
    return [*found, goal]


def times_faster(rows: list[Row], rival: str) -> Goal:
    """Over all its cases, variants counted each."""
    own = {row.case: row.seconds for row in rows if row.who == OURS}
    there = [row for row in rows if row.who.startswith(rival) and not math.isnan(row.seconds)]
    ratios = [row.seconds / own[row.case] for row in there]
    text, wanted = f"filter and smoother against {rival}, every case", f"at least {TIMES:.0f}x"
    if not ratios:
        return Goal(text, wanted, "not measured: no row", False)
    reached = f"{min(ratios):.1f}x to {max(ratios):.1f}x"
    return Goal(text, wanted, reached, min(ratios) >= TIMES)
