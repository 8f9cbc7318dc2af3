"""SASRec of RecTools on the sequences of ml-1m-order: seconds and NDCG@10 after every epoch.

Runs in an environment of its own (`pip install "rectools[torch]"`), without bayes_interest; see
`benchmarks/speed/sequence.py`. Prints a JSON line per epoch. The clock stands still while the
validation events are ranked.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

SETTINGS = {
    "n_blocks": 2, "n_heads": 4, "n_factors": 256, "dropout_rate": 0.2, "session_max_len": 100,
    "loss": "softmax", "lr": 0.001, "batch_size": 128,
}  # fmt: skip
"""Those that the documentation of RecTools 0.19 gives, spelled out."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("train", type=Path, help="CSV: user_id, item_id, timestamp")
    add("held_out", type=Path, help="CSV: one later event of each user, user_id and item_id")
    add("--max-epochs", type=int, default=60)
    add("--goal", type=float, default=0.12, help="stop two epochs after this NDCG@10")
    add("--max-seconds", type=float, default=float("inf"), help="begin no epoch after these")
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=0)
    add("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings, for tests")
    return parser.parse_args()


def dataset_of(path: Path) -> Dataset:
    frame = pd.read_csv(path, dtype={"user_id": str, "item_id": str})
    frame[Columns.Datetime] = pd.to_datetime(frame.pop("timestamp"), unit="s")
    return Dataset.construct(frame.assign(weight=1.0))


def ndcg(model: SASRecModel, dataset: Dataset, held_out: pd.DataFrame) -> float:
    """Mean over all users of `1 / log2(1 + rank)` in the first ten unseen items."""
    ranked = model.recommend(held_out["user_id"].to_numpy(), dataset, k=10, filter_viewed=True)
    found = ranked.merge(held_out, on=["user_id", "item_id"])
    return float((1.0 / np.log2(1.0 + found["rank"])).sum() / len(held_out))


def trainer(max_epochs: int) -> Trainer:
    return Trainer(
        max_epochs=max_epochs, min_epochs=max_epochs, accelerator="cpu", devices=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    settings = SETTINGS | {name: type(SETTINGS[name])(value) for name, _, value in
                           (one.partition("=") for one in options.set)}  # fmt: skip
    held_out = pd.read_csv(options.held_out, dtype=str)[["user_id", "item_id"]]
    wall, cpu, after = 0.0, 0.0, 0
    began, began_cpu = time.perf_counter(), time.process_time()
    dataset = dataset_of(options.train)
    model = SASRecModel(**settings, epochs=options.max_epochs, get_trainer_func=trainer,
                        get_trainer_func_kwargs={"max_epochs": options.max_epochs})  # fmt: skip
    for epoch in range(1, options.max_epochs + 1):
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
        reached = ndcg(model, dataset, held_out)
        print(json.dumps({
            "who": f"RecTools {version('rectools')} SASRec", "epoch": epoch, "wall_s": wall,
            "cpu_s": cpu, "ndcg": reached, "peak_mib": peak, "settings": settings,
        }), flush=True)  # fmt: skip
        after += reached >= options.goal
        if after > 2 or wall > options.max_seconds:
            break
        began, began_cpu = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
