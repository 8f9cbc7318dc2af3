"""Section: seconds to a given accuracy on sequences, against SASRec of RecTools.

    RECTOOLS_PYTHON=/path/to/python python -m benchmarks.speed --only sequence

RECTOOLS_PYTHON is the interpreter of an environment with `pip install "rectools[torch]"`, which
needs an older NumPy than ours may have. Without it the rows measured last are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.speed.machine import ceiling
from benchmarks.speed.rows import OURS, Goal, Row, row

GOAL = 0.12
KEPT = Path("out/speed/sequence.json")
MODEL: dict[str, Any] = {
    "emission": "choice",
    "state_dim": 32,
    "popularity_days": None,  # its timestamps are places in a sequence
    "context_layers": 1,
    "n_candidates": 1000,
}
FIT: dict[str, Any] = {"batch_events": 1024}
QUICK_USERS, QUICK_EVENTS = 120, 25
MAX_EPOCHS, QUICK_EPOCHS = 6, 2
RIVAL_EPOCHS, RIVAL_TIMES = 40, 6.0
CASE = "NDCG@10 = 0.12 on ml-1m-order"
EPOCH = "epochs: "

ABOUT = f"""\
ml-1m-order: 6,040 people, 3,416 films, who watched what in which order. Of everybody the last
event is set aside, the one before it is held out, and NDCG@10 is that of the held-out events among
all films that a person has not met. The other 987,531 events are learned from. How long until it
is {GOAL}?

Ours: `InterestModel.fit`, from reading the log to a posterior that answers, once with one epoch,
once with two, and so on, each a complete fit with its own schedule and its pass of the filter over
the whole log; the first that reaches the goal counts. emission=choice, state_dim=32,
context_layers=1, n_candidates=1000, batch_events={FIT["batch_events"]}, holdout=0, and texts as
vectors of `HashingEncoder`, made inside the clock. Compiled loops come from numba's cache.

RecTools' SASRec: softmax loss and the other settings of its documentation (2 blocks, 4 heads, 256
factors, the last 100 events of a person, dropout 0.2, Adam at 0.001, batches of 128), with which
its authors ran their MovieLens-1M benchmark. Its learning rate is constant, so one run gives every
epoch; it begins none after {RIVAL_TIMES:.0f} times our time. It reads no texts. The clock of both
stands still while the held-out events are ranked; both have the threads that OMP_NUM_THREADS
gives, or all. Where RECTOOLS_PYTHON is not set, SASRec's rows are those of the last run that had
it.

Operations of ours. A step's 1,000 draws are about 825 different films. Scores take 32 + 64
multiplications with each (state, text), moments 64, gradients and curvature 130: 580 operations
with each, 0.48 MFLOP an event; the context network, its attention and their gradients 0.3 MFLOP.
Succession reads up to 5 * 400 pairs of 8 bytes: 16 kB. The filter's pass at the end does scores and
moments with all 3,416 films: 1.1 MFLOP and 16 kB. An epoch is 0.8 TFLOP and 16 GB, the pass 1.2
TFLOP and 16 GB; `times_floor` is the time over what this CPU needs for them at the pace of a large
matrix product and of a copy, both measured beside. An epoch of SASRec, for comparison: 604,000
places, padding included, each 6 * (256 * 3417 + 2 * 6 * 256^2) = 10 MFLOP, 6 TFLOP.
"""


def measure(quick: bool, data: Path) -> list[Row]:
    """Both contenders' curves."""
    with tempfile.TemporaryDirectory() as folder:
        work, ours = Path(folder), []
        write_logs(data, work, quick)
        for epochs in range(1, (QUICK_EPOCHS if quick else MAX_EPOCHS) + 1):
            ours.append(run_ours(work, epochs))
            ours[-1]["times_floor"] = ours[-1]["wall_s"] / floor(work / "train.csv", epochs)
            if ours[-1]["ndcg"] >= GOAL:
                break
        rows, python = rows_of(OURS, ours), os.environ.get("RECTOOLS_PYTHON")
        if python is None:
            return rows if quick else rows + kept_rivals()
        epochs = QUICK_EPOCHS if quick else RIVAL_EPOCHS
        theirs = run_rectools(python, work, epochs, RIVAL_TIMES * ours[-1]["wall_s"])
    return rows + rows_of(theirs[0]["who"], theirs)


def write_logs(data: Path, work: Path, quick: bool) -> None:
    """train.csv, held_out.csv and items.csv; an item that nobody met is left out."""
    folder = data / "ml-1m-order"
    log = pd.read_parquet(
        folder / "interactions.parquet", columns=["user_id", "item_id", "timestamp"]
    )
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    if quick:
        log = log[log["user_id"].isin(log["user_id"].unique()[:QUICK_USERS])]
        log = log.groupby("user_id").tail(QUICK_EVENTS)
    left = log.groupby("user_id").cumcount(ascending=False)
    train, held_out = log[left >= 2], log[left == 1]
    items = pd.read_parquet(folder / "items.parquet", columns=["item_id", "text_basic", "plot"])
    items = items[items["item_id"].isin(train["item_id"])]
    items["text"] = items.pop("text_basic").fillna("") + " " + items.pop("plot").fillna("")
    train.to_csv(work / "train.csv", index=False)
    held_out[held_out["item_id"].isin(train["item_id"])].to_csv(work / "held_out.csv", index=False)
    items.to_csv(work / "items.csv", index=False)


def run_ours(work: Path, epochs: int) -> dict[str, Any]:
    """A complete fit with so many epochs, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.sequence_fit", str(work), str(epochs)]
    return _lines([*command, "--model", json.dumps(MODEL), "--fit", json.dumps(FIT)])[-1]


def floor(train: Path, epochs: int) -> float:
    """Seconds that the operations and bytes in `ABOUT` take here at best."""
    log = pd.read_csv(train, usecols=["item_id"])
    share = log["item_id"].value_counts(normalize=True).to_numpy()
    drawn = 0.5 / len(share) + 0.5 * share
    different = float((1.0 - (1.0 - drawn) ** MODEL["n_candidates"]).sum())
    flops = epochs * (580.0 * different + 0.3e6) + 320.0 * len(share) + 0.1e6
    return ceiling().seconds(len(log) * flops, len(log) * (epochs + 1) * 16e3)


def run_rectools(python: str, work: Path, epochs: int, seconds: float) -> list[dict[str, Any]]:
    """Every epoch of one fit, until two epochs after the goal or so many seconds."""
    script = Path(__file__).with_name("rectools_sasrec.py")
    files = [str(work / "train.csv"), str(work / "held_out.csv")]
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    ends = ["--max-epochs", str(epochs), "--goal", str(GOAL), "--threads", threads]
    ends += ["--max-seconds", str(seconds)]
    return _lines([python, str(script), *files, *ends])


def _lines(command: list[str]) -> list[dict[str, Any]]:
    """The JSON lines that a program prints; its errors are shown, and are ours."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def rows_of(who: str, curve: list[dict[str, Any]]) -> list[Row]:
    """The first point that reaches the goal, and every point."""
    reached = [point for point in curve if point["ndcg"] >= GOAL]
    out = [] if not reached else [_row(CASE, who, reached[0])]
    return out + [_row(f"{EPOCH}{point['epoch']}", who, point) for point in curve]


def _row(case: str, who: str, point: dict[str, Any]) -> Row:
    names = {"cpu_s": "cpu_seconds", "ndcg": "ndcg_10", "peak_mib": "peak_mib",
             "log_loss": "log_loss", "times_floor": "times_floor"}  # fmt: skip
    figures = {name: point[key] for key, name in names.items() if key in point}
    return row(case, who, [point["wall_s"]], epochs=point["epoch"], **figures)


def kept_rivals() -> list[Row]:
    """Rows of SASRec from an earlier run."""
    if not KEPT.exists():
        return []
    rows = json.loads(KEPT.read_text(encoding="utf-8")).get("rows", [])
    return [Row(**kept) for kept in rows if kept["who"] != OURS]


def goals(rows: list[Row]) -> list[Goal]:
    """At most a fifth of SASRec's time; while it has not got there, of its time so far."""
    text = f"time to validation NDCG@10 {GOAL} on ml-1m-order, over that of RecTools' SASRec"
    wanted = "at most 0.2"
    ours = [one for one in rows if one.who == OURS and one.case == CASE]
    rivals = [one for one in rows if one.who != OURS]
    if not ours or not rivals:
        missing = "ours did not reach it" if not ours else "RECTOOLS_PYTHON is not set"
        return [Goal(text, wanted, f"not measured: {missing}", met=False)]
    there = [one for one in rivals if one.case == CASE]
    last = there[0] if there else max(rivals, key=lambda one: one.seconds)
    share = ours[0].seconds / last.seconds
    note = "" if there else f", or less: SASRec is not there after {last.figures['epochs']} epochs"
    reached = f"{share:.2f} ({ours[0].seconds:.0f} s against {last.seconds:.0f} s){note}"
    return [Goal(text, wanted, reached, met=share <= 0.2)]
