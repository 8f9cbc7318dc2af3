"""Every model x data set x metric: fit, predict each test event from its past, compare.

    python -m benchmarks.accuracy --data ../shared/data
    python -m benchmarks.accuracy --only completejourney/choice --models ease item_knn

Each (task, model, seed) runs in a process of its own and leaves its predictions and a JSON file in
--work; a kept result of the same setting is not run again, so a broken run goes on where it was.
RESULTS.md, RESULTS.csv and RESULTS.png are written anew from what is kept. What runs is said in
`benchmarks/tasks.py` (tasks) and `benchmarks/models.py` (settings, ablations, seeds).
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import models, rows
from benchmarks.results import write_results
from benchmarks.tasks import TASKS, check_data, protocol_of


@dataclass(frozen=True)
class Row:
    """One run: a model with a seed on a task."""

    task: str
    model: str
    seed: int
    setting: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.task}  {self.model}  seed {self.seed}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="a folder per log")
    add("--out", type=Path, default=Path("benchmarks/RESULTS.md"))
    add("--work", type=Path, default=Path("out/accuracy"), help="kept results")
    add("--only", nargs="+", choices=list(TASKS), metavar="TASK", help=str([*TASKS]))
    add("--models", nargs="+", metavar="MODEL", help="only these, by name")
    add("--seeds", nargs="+", type=int, default=[0], help="for models with randomness")
    add("--no-ablations", action="store_true", help="leave the variants of the model out")
    add("--timeout", type=float, default=3600.0, help="seconds per row")
    add("--jobs", type=int, default=1, help="rows at a time")
    add("--device", default="auto")
    add("--again", action="store_true", help="run rows that have a kept result")
    add("--table", action="store_true", help="write the tables, run nothing")
    add("--quick", action="store_true", help="prove that the path works: one small task, one epoch")
    options = parser.parse_args()
    if options.quick:  # figures that mean nothing do not go where the others are
        options.only = [models.QUICK_TASK]
        options.models = options.models or models.quick_models()
        if options.work == parser.get_default("work"):
            options.work = Path("out/accuracy-quick")
        if options.out == parser.get_default("out"):
            options.out = options.work / "RESULTS.md"
    return options


def main() -> None:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    tasks = options.only or [name for name, spec in TASKS.items() if "only_by_name" not in spec]
    check_models(options)
    if not options.table:
        check_data(options.data, tasks)
        for task in tasks:
            run_task(task, options)
            write_results(options.work, options.out)
    write_results(options.work, options.out)
    print(f"wrote {options.out}, and a CSV and a figure beside it")


def check_models(options: argparse.Namespace) -> None:
    """Leave with a clear message for a model that no task has."""
    known = dict.fromkeys(
        name
        for task, spec in TASKS.items()
        for name in models.model_names(task, spec["emission"], True)
    )
    for name in options.models or ():
        if name not in known:
            sys.exit(f"--models: {name!r} is none of {', '.join(known)}")


def rows_of(task: str, options: argparse.Namespace) -> list[Row]:
    spec = TASKS[task]
    found = []
    names = models.model_names(task, spec["emission"], not options.no_ablations)
    for model in names:
        if model in spec.get("leave_out", {}) or model not in (options.models or names):
            continue
        config = models.configured(model, task, spec, options.quick)
        config["fit"] = config["fit"] | {"device": options.device}
        setting = config | {
            "read": spec["read"],
            "exclude_seen": spec["exclude_seen"],
            "cut": protocol_of(task),
        }
        for seed in models.seeds_of(model, options.seeds):
            found.append(Row(task, model, seed, setting))
    return found


def run_task(task: str, options: argparse.Namespace) -> None:
    """All rows of a task; texts are encoded before, so that no row pays for them."""
    every = rows_of(task, options)
    todo = [row for row in every if options.again or not is_kept(row, options)]
    print(f"{task}: {len(every)} rows, {len(every) - len(todo)} kept", flush=True)
    if not todo:
        return
    began = time.perf_counter()
    rows.run_apart(rows.encode_texts, (options.data, task), options.work / "texts.log", None)
    print(f"{task}: texts encoded in {time.perf_counter() - began:.0f} s", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        numbered = [(place, len(todo), row) for place, row in enumerate(todo, 1)]
        list(pool.map(lambda one: run_one(*one, options), numbered))


def is_kept(row: Row, options: argparse.Namespace) -> bool:
    """Whether a result of this setting lies there: a good one, or no better for this timeout."""
    known = rows.kept(options.work, row.task, row.model, row.seed)
    if known is None or known["setting"] != row.setting:
        return False
    timed_out = known["status"] == rows.TIMED_OUT and known["timeout"] >= options.timeout
    return known["status"] == rows.DONE or timed_out


def run_one(place: int, count: int, row: Row, options: argparse.Namespace) -> None:
    print(f"[{place}/{count}] {row.label}: running", flush=True)
    known = rows.run_row(row, options.data, options.work, options.timeout)
    if known["status"] == rows.DONE:
        told = (
            f"fit {known['fit_seconds']:.1f} s, score {known['score_seconds']:.1f} s, "
            f"{known['peak_mb']:,.0f} MB, {known['brief']}"
        )
    else:
        told = f"{known['status']}: {known['reason']}"
    print(f"[{place}/{count}] {row.label}: {told}", flush=True)


if __name__ == "__main__":
    main()
