"""One row of the accuracy benchmark in a process of its own, and what is kept of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

DONE, FAILED, TIMED_OUT = "done", "failed", "timed out"
ENGINES = ("bayes-interest", "numpy", "scipy", "torch", "scikit-learn", "implicit", "lightfm-next")


def folder_of(work: Path, task: str, model: str, seed: int) -> Path:
    """Where a row is kept."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", model).strip("_")
    return work / task.replace("/", "--") / f"{plain}-{seed}"


def kept(work: Path, task: str, model: str, seed: int) -> dict[str, Any] | None:
    """What is known of a row."""
    path = folder_of(work, task, model, seed) / "row.json"
    return json.loads(path.read_text()) if path.exists() else None


def all_kept(work: Path) -> list[dict[str, Any]]:
    """Every kept row, with its folder."""
    paths = sorted(work.glob("*/*/row.json"))
    return [json.loads(path.read_text()) | {"folder": path.parent} for path in paths]


def run_row(row: Any, data: Path, work: Path, timeout: float) -> dict[str, Any]:
    """Run it apart; what went wrong is kept as its result."""
    folder = folder_of(work, row.task, row.model, row.seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "row.json").unlink(missing_ok=True)
    status, reason = run_apart(
        work_on, (row.task, row.model, row.seed, row.setting, data, folder),
        folder / "log.txt", timeout,
    )  # fmt: skip
    if status != DONE:
        failed = described(row.task, row.model, row.seed, row.setting)
        write(folder, failed | {"status": status, "reason": reason, "timeout": timeout})
    return json.loads((folder / "row.json").read_text())


def run_apart(
    work: Callable[..., None], args: tuple[Any, ...], log: Path, timeout: float | None
) -> tuple[str, str]:
    """Call in a fresh process that writes to `log`: status, and why if it did not succeed."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=logged, args=(work, args, log))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        return TIMED_OUT, f"not done after {timeout:.0f} s"
    if process.exitcode == 0:
        return DONE, ""
    if process.exitcode is not None and process.exitcode < 0:
        return FAILED, f"ended by signal {-process.exitcode} (memory?)"
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {process.exitcode}"
    return FAILED, re.sub(r"(?<![\w.])/[\w./-]+", "...", last)[:300]


def logged(work: Callable[..., None], args: tuple[Any, ...], log: Path) -> None:
    """What the process says goes to a file. It ends with the one that waits for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    work(*args)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def encode_texts(data: Path, task: str) -> None:
    """Vectors of all texts into the cache."""
    from bayes_interest.text.encoder import TextEncoder
    from benchmarks.tasks import read_task

    _, items, _ = read_task(data, task)
    TextEncoder().encode(items.frame["text"].tolist(), progress=False)


def work_on(
    task: str, model: str, seed: int, setting: dict[str, Any], data: Path, folder: Path
) -> None:
    """Fit, predict, keep."""
    from bayes_interest.config import FitConfig
    from bayes_interest.evaluation.backtest import score_backtest
    from benchmarks.models import make_model
    from benchmarks.tasks import read_task, sizes

    events, items, left_out = read_task(data, task)
    scores = score_backtest(
        {model: make_model(model, setting)},
        events,
        items,
        **setting["cut"],
        exclude_seen=setting["exclude_seen"],
        config=FitConfig(**setting["fit"], seed=seed, progress=False),
        vectors=no_vectors(items),
        progress=False,
    )
    peak = peak_mb()
    scores = replace(scores, vectors=None)
    scores.save(folder)
    run = scores.runs.loc[model]
    done = {
        "status": DONE,
        "fit_seconds": round(float(run["fit_seconds"]), 2),
        "score_seconds": round(float(run["score_seconds"]), 2),
        "peak_mb": round(peak),
        "brief": brief(scores, model),
        "data": sizes(events, items, scores.events, left_out),
    }
    write(folder, described(task, model, seed, setting) | done)


def no_vectors(items: Any) -> dict[str, tuple[float, ...]]:
    """One vector, so that the diversity of slates, which is not asked for, costs nothing."""
    return {items.frame["item_id"].iloc[0]: (0.0,)}


def brief(scores: Any, model: str) -> str:
    """The two main figures, for the progress."""
    from bayes_interest.evaluation.summarize import summarize

    table = summarize(scores, n_boot=0).set_index("metric")["value"]
    loss = table.get("log_loss", float("nan"))
    return f"log loss {loss:.4f}, NDCG@10 {table['ndcg']:.4f}"


def described(task: str, model: str, seed: int, setting: dict[str, Any]) -> dict[str, Any]:
    """What every row says of itself."""
    return {
        "task": task,
        "model": model,
        "seed": seed,
        "setting": setting,
        "machine": {
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ENGINES},
        "date": time.strftime("%Y-%m-%d"),
    }


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def write(folder: Path, what: dict[str, Any]) -> None:
    """In one step: a row is there whole or not at all."""
    part = folder / "row.json.part"
    part.write_text(json.dumps(what, indent=1) + "\n")
    part.replace(folder / "row.json")


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
