"""How long does the report take? ml-latest-small, liked (4 stars or more), ten users, after a fit.

python -m benchmarks.report_time --data ../shared/data
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

import bayes_interest as bi

LOG, N_USERS, EPOCHS = "ml-latest-small", 10, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real logs")
    parser.add_argument("--out", type=Path, default=Path("out/report_time/report.html"))
    options = parser.parse_args()
    folder = options.data / LOG
    log = bi.read_events(pd.read_parquet(folder / "interactions.parquet"))
    items = bi.read_items(pd.read_parquet(folder / "items.parquet"))
    train, _ = bi.split_by_time(log, fraction=0.1)
    config = bi.ModelConfig(emission="bernoulli", positive_threshold=4.0, state_dim=8)
    model = bi.InterestModel(config, bi.HashingEncoder())
    model.fit(train, items, bi.FitConfig(max_epochs=EPOCHS, n_members=1, progress=False))
    users = sorted(train.frame["user_id"].unique())[:N_USERS]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began, cpu = time.perf_counter(), time.process_time()
    files = bi.report(model, options.out, users=users, items=items)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = files.html.stat().st_size / 1e6
    print(f"{N_USERS} users: {seconds:.1f} s ({cpu:.1f} s of CPU), {size:.1f} MB")


if __name__ == "__main__":
    main()
