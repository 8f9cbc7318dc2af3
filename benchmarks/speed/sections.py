"""Runs one section in a process of its own, keeps its rows, and reads them again."""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.speed.machine import describe
from benchmarks.speed.page import Kept
from benchmarks.speed.rows import Row

SECTIONS = ("fit", "states", "sequence", "growth", "update", "rank", "encode")


def measure(name: str, quick: bool, data: Path, work: Path) -> None:
    """Run one section in a process of its own; keep its rows, or why there are none.

    Rows of an earlier run stay where the new one fails: the reason stands beside them.
    """
    print(f"{name} ...", flush=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        future = pool.submit(measured, name, quick, data)
        error = future.exception()
    seconds = time.perf_counter() - began
    if error is not None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        record: dict[str, Any] = read(work / f"{name}.json") | {"failed": reason}
    else:
        record = future.result() | {"seconds": seconds, "date": date.today().isoformat()}
    (work / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: {record.get('failed') or f'{seconds:.0f} s'}", flush=True)


def measured(name: str, quick: bool, data: Path) -> dict[str, Any]:
    """The rows of a section, with the machine that made them."""
    rows = import_module(f"benchmarks.speed.{name}").measure(quick, data)
    return {"rows": [asdict(row) for row in rows], "machine": describe()}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def has_rows(path: Path) -> bool:
    """Kept, and not of a run that failed."""
    record = read(path)
    return bool(record.get("rows")) and "failed" not in record


def kept(name: str, work: Path) -> Kept:
    """What is known of a section; its goals are judged anew from its rows."""
    section, record = import_module(f"benchmarks.speed.{name}"), read(work / f"{name}.json")
    rows = [Row(**row) for row in record.get("rows", [])]
    return Kept(
        name,
        section.ABOUT,
        rows,
        section.goals(rows) if rows else [],
        record.get("failed") or (None if rows else "not run yet"),
        record.get("machine", ""),
        record.get("date", ""),
        record.get("seconds", 0.0),
    )
