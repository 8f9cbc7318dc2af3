"""Absorbing events: one at a time through a stream, a day's log at once by `update`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import bayes_interest as bi
from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.posterior import Member
from benchmarks.speed.machine import ceiling
from benchmarks.speed.rows import OURS, Goal, Row, row, timed

ABOUT = """
A model of 2,000 items and 50,000 known users with 16 dimensions in single precision, fitted for
one epoch to a drawn log of 20,000 events (what it has learned does not matter to time), absorbs
drawn events of a later day, 20 a user on average, values 0 and 1.

**One event**: `InterestStream.observe`, called with plain Python numbers, forecast included, each
call on the clock; the first event warms up. `seconds` is the median. Once without covariates, once
with running rates of user and item (the default), once with them and 16 draws of the globals, each
of which keeps its own belief; ratings; and choice, which goes by the filter of logs. `update` of a
frame of one event stands beside it. Rivals get the same events in turns with ours: *river*'s
`BiasedMF.learn_one`, online matrix factorisation with as many factors, a point estimate;
*implicit*'s `partial_fit_users` with the user's last 20 items, its way to take one event more; and
a rank-one Kalman step in plain NumPy, which knows neither ids, time, kinds nor outcomes that are
not Gaussian, as the least that a program that calls NumPy could take.

**Bulk**: `InterestModel.update` of a data frame of a million events: reading and its checks, ids,
sorting, running rates, the filter, the joined log. Ids are integers, or strings. *implicit* refits
all of the day's users by `partial_fit_users`: sparse matrix given, no reading, no time.

Operations an event needs, D dimensions: `P x` (2 D²), the item's variance (4 D²), the rank-one
update (2 D²), some 10 D more: 2,200 at 16; and a mixture of 8 normal distribution functions for
the logistic outcome, about 1,600 operations' time in scalar code. Bytes: the item's covariance, 4
(D + 1)² = 1,156, its vector, 64, and, once for a user in a row, the belief in and out, 2,176; the
log's columns in and out, about 250. `times_floor` is the time an event over the larger of
operations and bytes at the measured ceiling of as many threads (`machine.py`). A single event's
floor is the same with one thread, for every setting of the globals; what stands above it is Python
and the border to compiled code.
"""
DIM, N_ITEMS, N_USERS, N_DRAWS = 16, 2_000, 50_000, 16
FIT_SPAN, DAY = (1_600_000_000, 1_608_640_000), 1_610_000_000
FLOPS = 8.0 * DIM**2 + 10.0 * DIM + 1_600.0
BYTES = 4.0 * (DIM + 1) ** 2 + 4.0 * DIM + 8.0 * (DIM**2 + DIM) + 250.0
P50, P99, BULK = 100.0, 1_000.0, 500_000.0
SINGLE, SINGLE_RATES = "one event, no covariates", "one event, running rates"
SINGLE_DRAWS = f"one event, running rates, {N_DRAWS} draws"
INTEGERS, STRINGS = "integer ids", "string ids"


def measure(quick: bool, data: Path) -> list[Row]:
    """All rows; `data` is not needed: the events are drawn."""
    n_single, n_bulk, n_users = (300, 3_000, 500) if quick else (20_000, 1_000_000, N_USERS)
    rows = single_rows(n_single, n_users)
    rows += slow_rows(3 if quick else 50)
    return rows + bulk_rows(n_bulk, n_users, 1 if quick else 5)


def goals(rows: list[Row]) -> list[Goal]:
    """The median, the slow end, and the rate of a day's log."""
    found = {one.case.split(":")[0]: one for one in rows if one.who == OURS}
    out = []
    for case in (SINGLE_RATES, SINGLE_DRAWS):
        for name, limit in (("p50", P50), ("p99", P99)):
            value = float(found[case].figures[f"{name}_microseconds"])
            text = f"{case}: {name} of a call in process"
            wanted = f"at most {limit:,.0f} microseconds"
            out.append(Goal(text, wanted, f"{value:,.0f} microseconds", value <= limit))
    bulk = next(one for one in rows if one.who == OURS and one.case.endswith(INTEGERS))
    rate = float(bulk.figures["events_per_second"])
    text = f"{bulk.case}: events a second on as many threads as the machine has cores"
    return [*out, Goal(text, f"at least {BULK:,.0f}", f"{rate:,.0f}", rate >= BULK)]


# ------------------------------------------------------------------------------ the contenders


def fitted(n_users: int, emission: str = "bernoulli", **config: Any) -> bi.InterestModel:
    """A model that knows all users and items, fitted to a log of few of them."""
    rng, n = np.random.default_rng(0), 20_000
    vectors = list(rng.normal(size=(N_ITEMS, 12)).astype(np.float32))
    items = pd.DataFrame({"item_id": np.arange(N_ITEMS), "vector": vectors})
    log = drawn(rng, n, 300, *FIT_SPAN)
    if emission == "rating":
        log["value"] = rng.integers(1, 6, n).astype(float)
    model = bi.InterestModel(
        bi.ModelConfig(emission=emission, state_dim=DIM, **config),  # type: ignore[arg-type]
        bi.PrecomputedVectors(items),
    )
    model.fit(log, items[["item_id"]], bi.FitConfig(max_epochs=1, n_members=1, progress=False))
    model._posterior = model.posterior.with_users(np.arange(n_users))
    return model


def drawn(rng: np.random.Generator, n: int, n_users: int, first: int, last: int) -> pd.DataFrame:
    """Events in the order of time."""
    return pd.DataFrame(
        {
            "user_id": rng.integers(0, n_users, n),
            "item_id": rng.integers(0, N_ITEMS, n),
            "timestamp": np.sort(rng.integers(first, last, n)),
            "value": (rng.random(n) < 0.4).astype(float),
        }
    )


def with_draws(model: bi.InterestModel) -> bi.InterestModel:
    """With draws of the globals; what they are makes no difference to time."""
    posterior, rng = model.posterior, torch.Generator().manual_seed(0)
    members = []
    for _ in range(N_DRAWS):
        noise = 0.1 * torch.randn(DIM, generator=rng)
        values = posterior.values | {"mean": posterior.values["mean"] + noise}
        members.append(Member(values, posterior.item_cov))
    belief = Belief(posterior.belief.mean, posterior.belief.cov)
    wider = replace(
        posterior, members=tuple(members), belief=replace(belief, members=(belief,) * N_DRAWS)
    )
    return model._with(wider)


def kalman_in_numpy(events: pd.DataFrame, vectors: np.ndarray, n_users: int) -> Callable[..., None]:
    """A rank-one Kalman step, Gaussian outcomes, by positions."""
    dim = vectors.shape[1]
    mean = np.zeros((n_users, dim), np.float32)
    cov = np.tile(np.eye(dim, dtype=np.float32), (n_users, 1, 1))
    noise, drift = np.float32(4.0), np.float32(0.01) * np.eye(dim, dtype=np.float32)

    def observe(user: int, item: int, at: float, value: float) -> None:
        x, m, p = vectors[item], mean[user], cov[user]
        p += drift
        along = p @ x
        gain = along / (x @ along + noise)
        m += gain * (value - x @ m)
        p -= np.outer(gain, along)

    return observe


def river_step() -> tuple[str, Callable[..., object]] | None:
    """Online matrix factorisation, where river is installed."""
    try:
        from river import reco

        name = f"river {version('river')}"
    except (ImportError, PackageNotFoundError):
        return None
    model = reco.BiasedMF(n_factors=DIM)
    return name, lambda user, item, at, value: model.learn_one(user, item, value)


def implicit_model(n_users: int) -> tuple[str, Any] | None:
    """Alternating least squares with as many factors, where implicit is installed."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy import sparse

        name = f"implicit {version('implicit')}"
    except (ImportError, PackageNotFoundError):
        return None
    rng = np.random.default_rng(1)
    log = drawn(rng, 20 * n_users, n_users, *FIT_SPAN)
    ones = np.ones(len(log), np.float32)
    shape = (n_users, N_ITEMS)
    table = sparse.csr_matrix((ones, (log["user_id"], log["item_id"])), shape=shape)
    model = AlternatingLeastSquares(factors=DIM, iterations=1, random_state=0)
    model.fit(table, show_progress=False)
    return name, (model, table)


# ------------------------------------------------------------------------------------ the rows


def single_rows(n_events: int, n_users: int) -> list[Row]:
    """One event a call: everybody takes each event before the next."""
    bare, rates = fitted(n_users, rates=False), fitted(n_users)
    events = drawn(np.random.default_rng(2), n_events + 1, n_users, DAY, DAY + 86_400)
    models = {SINGLE: bare, SINGLE_RATES: rates, SINGLE_DRAWS: with_draws(rates)}
    models["one rating, running rates"] = fitted(n_users, "rating")
    streams = {case: model.stream() for case, model in models.items()}
    steps = {(case, OURS): stream.observe for case, stream in streams.items()}
    vectors = bare.posterior.items.vectors.numpy()
    steps["one event", f"NumPy {np.__version__}"] = kalman_in_numpy(events, vectors, n_users)
    rival, als = river_step(), implicit_model(n_users)
    if rival is not None:
        steps["one event", rival[0]] = rival[1]
    if als is not None:
        model, table = als[1]
        steps["one event", als[0]] = lambda user, item, at, value: model.partial_fit_users(
            [user], table[user]
        )
    seconds = {name: np.empty(n_events) for name in steps}
    for place, event in enumerate(events.itertuples(index=False)):
        given = (int(event.user_id), int(event.item_id), int(event.timestamp), float(event.value))
        for name, step in steps.items():
            told = given
            if "rating" in name[0]:
                told = (*given[:3], 1.0 + 4.0 * given[3])
            began = time.perf_counter()
            step(*told)
            took = time.perf_counter() - began
            if place:
                seconds[name][place - 1] = took
    found = [single_row(*name, taken, steps) for name, taken in seconds.items()]
    far = furthest(streams[SINGLE_RATES].model(), rates, events)
    found[1].figures["largest_difference_from_update"] = far
    return found


def single_row(case: str, who: str, seconds: np.ndarray, steps: dict[Any, Any]) -> Row:
    """With quantiles of the time of a call, in microseconds."""
    names = ("p50", "p90", "p99", "p999")
    at = 1e6 * np.quantile(seconds, (0.5, 0.9, 0.99, 0.999))
    figures: dict[str, float | str] = {
        f"{name}_microseconds": float(value) for name, value in zip(names, at, strict=True)
    }
    if who == OURS:
        settings = N_DRAWS + 1 if "draws" in case else 1
        floor = ceiling(1).seconds(settings * FLOPS, settings * BYTES)
        figures["times_floor"] = float(np.median(seconds) / floor)
    return row(case, who, seconds.tolist(), **figures)


def furthest(streamed: bi.InterestModel, model: bi.InterestModel, events: pd.DataFrame) -> float:
    """Largest difference between beliefs after a stream and after `update`."""
    after = model._with(model.posterior).update(events).posterior.belief
    found = streamed.posterior.belief
    return float(max((found.mean - after.mean).abs().max(), (found.cov - after.cov).abs().max()))


def slow_rows(repeats: int) -> list[Row]:
    """What goes by the filter of logs: choice, and a frame of one event."""
    events = drawn(np.random.default_rng(3), repeats + 1, 300, DAY, DAY + 86_400)
    choice, plain = fitted(300, "choice"), fitted(300)
    stream = choice.stream()
    names = (
        "one choice, all covariates, a log of 20,000: stream",
        "one event, running rates, a log of 20,000: update of a frame",
    )
    calls: dict[str, list[float]] = {name: [] for name in names}
    for place in range(repeats + 1):
        one = events[place : place + 1]
        given = one[["user_id", "item_id", "timestamp"]].iloc[0].tolist()
        steps = (partial(stream.observe, *given), partial(plain.update, one))
        tasks = dict(zip(names, steps, strict=True))
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if place:
                calls[name].append(time.perf_counter() - began)
    return [row(name, OURS, taken) for name, taken in calls.items()]


def bulk_rows(n_events: int, n_users: int, repeats: int) -> list[Row]:
    """A day's log at once."""
    events = drawn(np.random.default_rng(4), n_events, n_users, DAY, DAY + 86_400)
    names = events.assign(user_id="u" + events["user_id"].astype(str))
    plain, bare = fitted(n_users), fitted(n_users, rates=False)
    named = plain._with(plain.posterior.with_users(names["user_id"].to_numpy(dtype=object)))
    size = f"update, {n_events:,} events of {n_users:,} users"
    tasks: dict[tuple[str, str], Callable[[], object]] = {
        (f"{size}, running rates: {INTEGERS}", OURS): lambda: again(plain, events),
        (f"{size}, running rates: {STRINGS}", OURS): lambda: again(named, names),
        (f"{size}, no covariates: integer ids, bare", OURS): lambda: again(bare, events),
    }
    als = implicit_model(n_users)
    if als is not None:
        model, table = als[1]
        users = np.arange(n_users)
        tasks[size, als[0]] = lambda: model.partial_fit_users(users, table)
    for task in tasks.values():
        task()
    numbered = {str(place): task for place, task in enumerate(tasks.values())}
    seconds = timed(numbered, repeats)
    floor = ceiling().seconds(n_events * FLOPS, n_events * BYTES)
    out = []
    for name, taken in zip(tasks, seconds.values(), strict=True):
        figures: dict[str, float | str] = {"events_per_second": n_events / float(np.median(taken))}
        if name[1] == OURS:
            figures |= {"times_floor": float(np.median(taken)) / floor}
            figures |= {"threads": float(torch.get_num_threads())}
        out.append(row(*name, taken, **figures))
    return out


def again(model: bi.InterestModel, events: pd.DataFrame) -> bi.InterestModel:
    """The update of a model that stays as it is."""
    return model._with(model.posterior).update(events)
