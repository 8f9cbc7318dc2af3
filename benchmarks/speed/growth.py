"""Growth: time and memory of a fit from a hundred thousand to fifty million events."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.speed.growth_log import N_ITEMS, write_log
from benchmarks.speed.rows import OURS, Goal, Row, row

SIZES, QUICK_SIZES = (100_000, 1_000_000, 10_000_000, 50_000_000), (2_000, 20_000)
STRINGS, QUICK_STRINGS = 10_000_000, 20_000
MOST_PER_DECADE, MOST_GIB, MOST_OPEN_SECONDS = 1.05, 8.0, 1.0
FIT, OPEN = "read and fit", "open"

ABOUT = f"""
Each case runs in a process of its own. The log is drawn (`growth_log.py`): 50 events a user,
{N_ITEMS:,} items with 16 numbers of text each, in time order, a Parquet file in row groups of half
a million events. Bernoulli, 16 state dimensions, one epoch, no held-back slice, point globals. A
fit of 20,000 events before compiles every loop and is not part of the time; its memory is part of
the peak, as is all of the process (`VmHWM`). "Per decade" is the growth of the time over the
growth of the log, to the power that makes the step tenfold: 1 is linear.

What a fit keeps, in bytes an event: the log 24 (two int32 codes, time, value) and its source row
8; the history 37 (user, item and kind 12, time and outcome 16, place 8, a flag); the sites 8. That
is 77, and 3.6 GiB for 50 million. A user has 1,088 bytes of state (mean and covariance, float32),
of which one copy is made, at the end: 1.0 GiB for a million. Everything else is of a block of 4,096
events, or of 250,000 events in the last filter. Floor of the memory: these sums. Floor of
the time: the arithmetic of the section on states; reading, coding, sorting and gathering touch
about 300 bytes an event once, some 0.03 microseconds at 10 GB/s.

"read" is of string ids, beside `pandas.read_parquet`, which checks, sorts and codes nothing.
"open" maps the model of the largest fit, whose files were just written, and asks for the interest
of 3 users in 100 items and for their ten best of all items.
"""


def measure(quick: bool, data: Path) -> list[Row]:
    """Every size once; `data` is not needed. About 25 minutes, two thirds of it the last size."""
    del data
    sizes, strings = (QUICK_SIZES, QUICK_STRINGS) if quick else (SIZES, STRINGS)
    rows = []
    with TemporaryDirectory() as place:
        for size in sizes:
            rows.append(_fit(Path(place), size, keep=size == sizes[-1]))
        rows.append(_open(Path(place) / "model"))
        rows += _read(Path(place), strings)
    return rows


def _fit(place: Path, size: int, keep: bool) -> Row:
    log, vectors = place / f"{size}.parquet", place / f"{size}-vectors.parquet"
    write_log(log, size).to_parquet(vectors)
    found = _worker("fit", str(log), str(vectors), str(place / "model") if keep else "")
    log.unlink()
    return _row(f"{FIT}, {size:,} events", OURS, found["read"] + found["fit"], found)


def _open(folder: Path) -> Row:
    found = _worker("open", str(folder))
    return _row(f"{OPEN}, {found['users']:,.0f} users", OURS, found["open"], found)


def _read(place: Path, size: int) -> list[Row]:
    log = place / "strings.parquet"
    write_log(log, size, strings=True)
    case, who = f"read string ids, {size:,} events", f"pandas {pd.__version__}"
    found = {OURS: _worker("read", str(log)), who: _worker("pandas", str(log))}
    return [_row(case, name, one["read"], one) for name, one in found.items()]


def _worker(*arguments: str) -> dict[str, float]:
    """What a process of its own measured."""
    command = [sys.executable, "-m", "benchmarks.speed.growth_worker", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=dict(os.environ))
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(case: str, who: str, seconds: float, found: dict[str, float]) -> Row:
    figures = {name: round(value, 3) for name, value in found.items()}
    return row(case, who, [seconds], **figures)


def per_decade(rows: list[Row]) -> list[float]:
    """From size to size: growth of the time over growth of the log, for a tenfold step."""
    fits = [one for one in rows if one.case.startswith(FIT)]
    steps = []
    for small, large in pairwise(fits):
        size = float(large.figures["events"]) / float(small.figures["events"])
        steps.append((large.seconds / small.seconds / size) ** (1.0 / math.log10(size)))
    return steps


def goals(rows: list[Row]) -> list[Goal]:
    """Linear in time, bounded in memory, quick to open."""
    fits = [one for one in rows if one.case.startswith(FIT)]
    steps, largest = per_decade(rows), fits[-1]
    gib = float(largest.figures["peak_mib"]) / 1024.0
    opened = next(one for one in rows if one.case.startswith(OPEN))
    held = float(opened.figures["asked_mib"]) - float(opened.figures["rest_mib"])
    shown = ", ".join(f"{step:.2f}" for step in steps)
    full = largest.figures["events"] == SIZES[-1]
    quick = "" if full else "not measured: a quick run; "
    return [
        Goal("time of a fit grows linearly with the log, per decade of events",
             f"at most {MOST_PER_DECADE}", quick + shown,
             full and max(steps) <= MOST_PER_DECADE),
        Goal(f"peak memory of the whole process, {SIZES[-1]:,} events",
             f"less than {MOST_GIB:g} GiB", f"{quick}{gib:.2f} GiB", full and gib < MOST_GIB),
        Goal("opening a saved model of a million users",
             f"less than {MOST_OPEN_SECONDS:g} s",
             f"{quick}{opened.seconds:.2f} s, {held:.0f} MiB more in memory after questions",
             full and opened.seconds < MOST_OPEN_SECONDS),
    ]  # fmt: skip
