"""Slates with intervals against the price of a product of means and a top-k."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import clock
from bayes_interest.ranking.asked import each_user
from bayes_interest.ranking.moments_slates import all_slates
from bayes_interest.ranking.scores import RankOptions, top_k_probability
from benchmarks.speed.rank_world import big_posterior, with_rates_off
from benchmarks.speed.rows import OURS, Goal, Row, row, timed

K, REPEATS, CHECKED = 10, 5, 20
FULL, QUICK = (10_000, 50_000, 64), (300, 2_000, 16)
DRAWS, DRAWN_USERS, DRAWN_REPEATS = 200, (1, 50), 3
EVERY_DRAW = "every draw of every item"
STATES, ITEMS = 51, 12
LEFT, READ = (STATES * 8.2 + ITEMS * 8.5) / 100.0, ITEMS * 0.17
IMPLICIT = "implicit 0.7 topk, means alone"
TORCH = "torch matmul + topk, means alone"

ABOUT = f"""\
**What is compared.** `model.rank(users, k=10, n_draws=0)`: ids in, a data frame out, with mean, sd
and 90 % interval of P(engaged) for the ten best unseen items of every user, full covariances of
states and items, beliefs moved forward to the moment asked about. Beside it what a point-estimate
recommender does: `implicit.cpu.topk.topk` (which `recommend` calls) and torch's matmul with `topk`
in blocks of 512 users, both on the same means, filtering nothing and making no table. The model is
drawn, not fitted: bernoulli, 50 events a user, filtered; a tenth of the items has no event. Timed
in turns in one process, threads as the machine has them, caches of the item side warm.

**Why it is fair.** Both rivals get arrays in float32 and give arrays; ours pays for ids, time,
exclusion of what was seen, running rates and the table.

**Operations.** A mean takes 2 D flops for each pair: 10,000 x 50,000 x 2 x 66 = 66 Gflop (two
columns are the offset and the user's own term), and that is the floor, for nothing can be left out
without looking at it. A variance takes 2 D^2 for the state and 2 (D + 1)^2 for the item, 130 times
as much: 8.3 Tflop and, at 17 kB an item, a stream of all item covariances for each block of users.
Bounds leave about {STATES} variances of the state and {ITEMS} of the item a user (counted with
20,000 items): 10,000 x ({STATES} x 8.2 + {ITEMS} x 8.5) kflop = {LEFT:.1f} Gflop and {READ:.1f} GB
of item covariances. Bounds of eigenvalues: two products of 64 x 64 a user, 10 Gflop. Means are made
4,096 items at a time, and the greatest of every 64 are found while they are in the cache (3 MB for
each thread); of all means of some users (32 MB for each thread) a part is read once more.

**With joint draws.** `model.rank(users, k=10)`, as people call it: {DRAWS} joint draws of all items
and the share of them in which an entry is among the ten best, `p_top_k`. Beside it the plain way
(`draws.draw_predictors`, then torch's `topk`), which makes no table. The floor is the product of
the drawn states with all items, 2 D flops for each draw, user and item. Noise of an item's own
takes a variance for each pair, too; bounds leave few of them. `differing_entries` are those whose
share is not the same.

**Identity.** For 20 users, evenly spaced, the slate is made again from the moments of
all items; items and numbers must agree (`differing_entries`, `largest_difference`).

**Memory.** `peak_growth_mib` is what the process' peak grows by during the call, in a process of
its own, for a tenth of the users and for all: what grows is the table and the beliefs asked about,
not users x items (2 GB here)."""


def measure(quick: bool, data: Path) -> list[Row]:
    n_users, n_items, dim = QUICK if quick else FULL
    posterior = big_posterior(n_users, n_items, dim)
    case = f"{n_users:,} users x {n_items:,} items x {dim} dimensions, k={K}"
    floor, rows = _floor_seconds(n_users, n_items, dim), []
    for about, one in (("", posterior), (", no running rates", with_rates_off(posterior))):
        rows += _compared(case + about, one, 2 if quick else REPEATS, floor)
    rows += _memory(case, QUICK if quick else FULL)
    for count in (2,) if quick else DRAWN_USERS:
        text = f"{count:,} of {case}, {DRAWS} draws"
        rows += _drawn(text, posterior, count, 2 if quick else DRAWN_REPEATS, floor / n_users)
    return rows


def _compared(case: str, posterior: Posterior, repeats: int, floor: float) -> list[Row]:
    model = _door(posterior)
    users = posterior.vocabulary.users.ids.tolist()
    means = posterior.belief.mean.numpy()
    left = np.ascontiguousarray(np.column_stack((means, np.ones(len(means)))), dtype=np.float32)
    known = posterior.items
    right = torch.cat((known.vectors, known.offsets[:, None]), 1).contiguous()
    began = time.perf_counter()
    model.rank(users[:1], k=K, n_draws=0)
    first = time.perf_counter() - began
    tasks = {
        OURS: lambda: model.rank(users, k=K, n_draws=0),
        IMPLICIT: lambda: _implicit(left, right.numpy()),
        TORCH: lambda: _torch(torch.from_numpy(left), right),
    }
    for task in tasks.values():
        task()
    seconds, same = timed(tasks, repeats), _identity(model, users)
    ratio = {name: float(np.median(times)) / floor for name, times in seconds.items()}
    more = {OURS: {"first_call_seconds": first, **same}}
    return [
        row(case, name, seconds[name], times_floor=ratio[name], **more.get(name, {}))
        for name in tasks
    ]


def _drawn(case: str, posterior: Posterior, count: int, repeats: int, floor: float) -> list[Row]:
    """Slates with p_top_k; `floor` is that of one user's means."""
    model, users = _door(posterior), posterior.vocabulary.users.ids[:count].tolist()
    tasks = {OURS: lambda: model.rank(users, k=K), EVERY_DRAW: lambda: _shares(posterior, count)}
    table, shares = tasks[OURS](), tasks[EVERY_DRAW]()
    item = posterior.vocabulary.items.index_of(table["item_id"].tolist())
    plain = shares[np.repeat(np.arange(count), K), item]
    same = {"differing_entries": float((np.abs(table["p_top_k"] - plain) > 1e-6).sum())}
    seconds = timed(tasks, repeats)
    return [
        row(
            case, name, seconds[name],
            times_floor=float(np.median(seconds[name])) / (floor * count * DRAWS),
            **(same if name == OURS else {}),
        )
        for name in tasks
    ]  # fmt: skip


def _shares(posterior: Posterior, count: int) -> np.ndarray:
    """The share of the draws in which each item is among the k best, (user, item)."""
    seconds = np.full(count, clock(posterior))
    asked = each_user(
        posterior, np.arange(count), seconds, np.arange(posterior.layout.n_items), True
    )
    found = []
    for one in asked:
        drawn = draw_predictors(posterior, one.belief, one.extra, DRAWS, 0)[0]
        found.append(top_k_probability(drawn, one.allowed, K).numpy())
    return np.stack(found)


def _door(posterior: Posterior) -> InterestModel:
    model = InterestModel(posterior.config)
    model._posterior = posterior
    return model


def _implicit(left: np.ndarray, right: np.ndarray) -> None:
    from implicit.cpu.topk import topk

    topk(right, left, K, num_threads=0)


def _torch(left: torch.Tensor, right: torch.Tensor) -> None:
    for begin in range(0, len(left), 512):
        torch.topk(left[begin : begin + 512] @ right.T, K)


def _floor_seconds(n_users: int, n_items: int, dim: int) -> float:
    """The flops of the means over what a float32 product that stays in the cache reaches here."""
    a, b = np.ones((512, 66), np.float32), np.ones((66, 4096), np.float32)
    out, best = np.empty((512, 4096), np.float32), np.inf
    for _ in range(30):
        began = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return best / a.size / b.shape[1] * n_users * n_items * (dim + 2)


def _identity(model: InterestModel, users: list[int]) -> dict[str, float]:
    """Against the moments of all items."""
    posterior, some = model.posterior, np.linspace(0, len(users) - 1, CHECKED).astype(int)
    seconds = np.full(len(some), clock(posterior))
    ask = RankOptions(K, "mean", True, 0.9, 0, 0)
    found = model.rank([users[i] for i in some], k=K, n_draws=0)
    every = np.arange(posterior.layout.n_items)
    parts = list(all_slates(posterior, some, seconds, every, ask))
    item = posterior.vocabulary.items.ids[np.concatenate([part.item for part in parts])]
    numbers = np.concatenate([part.interval for part in parts], 1).T
    mine = found[["mean", "sd", "lower", "upper"]].to_numpy()
    return {
        "differing_entries": float((found["item_id"].to_numpy() != item).sum()),
        "largest_difference": float(np.abs(mine - numbers).max()),
    }


def _memory(case: str, size: tuple[int, int, int]) -> list[Row]:
    out = []
    for n_users in (max(1, size[0] // 10), size[0]):
        command = [sys.executable, "-m", "benchmarks.speed.rank", *map(str, size), str(n_users)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        figures = json.loads(done.stdout.splitlines()[-1])
        seconds = figures.pop("seconds")
        out.append(row(f"{case}: memory, {n_users:,} users asked", OURS, [seconds], **figures))
    return out


def memory_of(size: tuple[int, int, int], n_users: int) -> None:
    """Print the growth of the peak while `n_users` are ranked."""
    posterior = big_posterior(*size)
    model, users = _door(posterior), posterior.vocabulary.users.ids[:n_users].tolist()
    model.rank(users[:1], k=K, n_draws=0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before, began = _status("VmRSS"), time.perf_counter()
    model.rank(users, k=K, n_draws=0)
    seconds = time.perf_counter() - began
    grown = _status("VmHWM") - before
    print(json.dumps({"seconds": seconds, "peak_growth_mib": grown}))


def _status(name: str) -> float:
    """A line of the kernel's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) / 1024.0 for line in lines if line.startswith(name))


def goals(rows: list[Row]) -> list[Goal]:
    out = []
    drawn = [one for one in rows if one.who == EVERY_DRAW]
    plain = {one.case for one in rows} - {one.case for one in drawn}
    for case in dict.fromkeys(one.case for one in rows if one.case in plain):
        if "memory" in case:
            continue
        seconds = {one.who: one.seconds for one in rows if one.case == case}
        for rival in (IMPLICIT, TORCH):
            ratio = seconds[OURS] / seconds[rival]
            text = f"{case}: slates with intervals against {rival}"
            out.append(Goal(text, "at most 1.5 times", f"{ratio:.2f} times", ratio <= 1.5))
        differing = next(one for one in rows if one.case == case).figures["differing_entries"]
        text = f"{case}: the same items in the same order as from the moments of all items"
        out.append(Goal(text, "0 differ", f"{differing:g} differ", differing == 0))
    for other in drawn:
        own = next(one for one in rows if one.case == other.case and one.who == OURS)
        differing = own.figures["differing_entries"]
        text = f"{other.case}: the same p_top_k as from every draw of every item"
        out.append(Goal(text, "0 differ", f"{differing:g} differ", differing == 0))
    grown = [one.figures["peak_growth_mib"] for one in rows if "memory" in one.case]
    if grown:
        text = "memory: what the peak grows by for ten times the users"
        more = float(grown[1]) - float(grown[0])
        out.append(Goal(text, "less than 200 MiB more", f"{more:.0f} MiB more", more < 200))
    return out


if __name__ == "__main__":
    *world, asked = (int(part) for part in sys.argv[1:])
    memory_of((world[0], world[1], world[2]), asked)
