"""One measurement in a process of its own; prints a JSON line of what it took.

python -m benchmarks.speed.growth_worker TASK ...: fit LOG VECTORS FOLDER, read LOG, pandas LOG,
open FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.speed.growth_log import write_log

EPOCHS, STATE_DIM, WARM_UP = 1, 16, 20_000


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return _status("VmHWM")  # `ru_maxrss` would begin with that of the process that started this


def resident_mib() -> float:
    """Resident memory of this process now; of files mapped, the pages that were read."""
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1]) / 1024.0


class Stages:
    """Wall and CPU seconds of named steps."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def run(self, name: str, task: Callable[[], Any]) -> Any:
        """Do it, and keep how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        out = task()
        self.found[name] = time.perf_counter() - wall
        self.found[f"{name}_cpu"] = time.process_time() - cpu
        return out


def fit(log: str, vectors: str, folder: str) -> dict[str, float]:
    """Read a log and fit it; a small fit before compiles every loop."""
    import bayes_interest as bi

    config = bi.ModelConfig(emission="bernoulli", state_dim=STATE_DIM)
    run = bi.FitConfig(max_epochs=EPOCHS, holdout=0.0, n_members=1, progress=False)
    with TemporaryDirectory() as place:
        small = Path(place) / "small.parquet"
        encoder = bi.PrecomputedVectors(write_log(small, WARM_UP))
        bi.InterestModel(config, encoder).fit(small, config=run)
    stages = Stages()
    stages.found["rest_mib"] = resident_mib()
    encoder = bi.PrecomputedVectors(pd.read_parquet(vectors))
    events = stages.run("read", lambda: bi.read_events(log))
    model = stages.run("fit", lambda: bi.InterestModel(config, encoder).fit(events, config=run))
    stages.found |= {"events": len(events), "peak_mib": peak_mib()}
    epochs = model.fit_report()
    stages.found |= {"epochs": epochs["seconds"].sum(), "loss": epochs["loss"].iloc[-1]}
    if folder:
        stages.run("save", lambda: model.save(folder))
    return stages.found


def read(log: str) -> dict[str, float]:
    """Read a log as this package does."""
    import bayes_interest as bi

    with TemporaryDirectory() as place:
        write_log(Path(place) / "small.parquet", WARM_UP)
        bi.read_events(Path(place) / "small.parquet")
    stages = Stages()
    stages.found["rest_mib"] = resident_mib()
    events = stages.run("read", lambda: bi.read_events(log))
    return stages.found | {"events": len(events), "peak_mib": peak_mib(), "now_mib": resident_mib()}


def pandas(log: str) -> dict[str, float]:
    """Read a log as a plain pandas frame, nothing checked."""
    import pyarrow.parquet  # noqa: F401  (not part of the time)

    stages = Stages()
    stages.found["rest_mib"] = resident_mib()
    frame = stages.run("read", lambda: pd.read_parquet(log))
    return stages.found | {"events": len(frame), "peak_mib": peak_mib(), "now_mib": resident_mib()}


def opened(folder: str) -> dict[str, float]:
    """Open a saved model and ask it about a few users."""
    import bayes_interest as bi

    stages, door = Stages(), bi.InterestModel  # loads what it needs: no part of the time
    stages.found["rest_mib"] = resident_mib()
    model = stages.run("open", lambda: door.load(folder))
    stages.found["opened_mib"] = resident_mib()
    ids = model.posterior.vocabulary
    users, items = ids.users.ids[:3].tolist(), ids.items.ids[:100].tolist()
    stages.run("interest", lambda: model.interest(users, items))
    stages.run("rank", lambda: model.rank(users, k=10))
    stages.found |= {"asked_mib": resident_mib(), "users": len(ids.users)}
    files = sum(path.stat().st_size for path in Path(folder).iterdir())
    return stages.found | {"files_mib": files / 2**20}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    task = {"fit": fit, "read": read, "pandas": pandas, "open": opened}[what]
    print(json.dumps(task(*arguments)))  # type: ignore[operator]
