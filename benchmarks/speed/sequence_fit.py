"""One fit of the sequence section in a process of its own; prints a JSON line.

The clock runs from reading the log to a posterior that answers; ranking the held-out events comes
after it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayes_interest as bi

TEXT = {"user_id": str, "item_id": str}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.csv, held_out.csv, items.csv")
    parser.add_argument("epochs", type=int)
    parser.add_argument("--model", type=json.loads, default={}, help="fields of ModelConfig")
    parser.add_argument("--fit", type=json.loads, default={}, help="fields of FitConfig")
    options = parser.parse_args()
    print(json.dumps(run(options.folder, options.epochs, options.model, options.fit)))


def run(folder: Path, epochs: int, model: dict[str, Any], fit: dict[str, Any]) -> dict[str, Any]:
    """Fit, then rank each held-out item among all that its user has not met."""
    began, began_cpu = time.perf_counter(), time.process_time()
    log = bi.read_events(pd.read_csv(folder / "train.csv", dtype=TEXT), time_unit="s")
    items = bi.read_items(pd.read_csv(folder / "items.csv", dtype=str))
    fitted = bi.InterestModel(bi.ModelConfig(**model), encoder=bi.HashingEncoder())
    config = {"max_epochs": epochs, "holdout": 0.0, "progress": False} | fit
    fitted.fit(log, items, bi.FitConfig(**config))
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    held_out = pd.read_csv(folder / "held_out.csv", dtype=TEXT)
    scores = fitted.score_events(bi.read_events(held_out, time_unit="s"), exclude_seen=True)
    rank = scores["rank"].to_numpy(dtype=float)
    ndcg = float((1.0 / np.log2(1.0 + rank[rank <= 10])).sum() / len(held_out))
    learning = sum(record["seconds"] for record in fitted.posterior.summary.epochs)
    return {"epoch": epochs, "wall_s": wall, "cpu_s": cpu, "ndcg": ndcg, "peak_mib": peak,
            "log_loss": -float(scores["log_prob"].mean()), "epochs_s": learning}  # fmt: skip


if __name__ == "__main__":
    main()
