"""The machine in words, and the ceilings it sets: arithmetic and memory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numpy", "numba", "torch", "pyro-ppl", "jax", "numpyro", "dynamax", "kickscore")
SIDE = 1536
"""Of the matrices that are multiplied."""
COPIED = 256 * 2**20
"""Bytes that are copied: many times the cache."""


@dataclass(frozen=True)
class Ceiling:
    """What this machine can do at best, with one thread or all."""

    flops_per_second: float  # float32, in a large matrix product
    bytes_per_second: float  # read and written, in a copy of 256 MiB

    def seconds(self, flops: float, bytes_moved: float = 0.0) -> float:
        """The floor: no program of so much arithmetic and traffic can be faster."""
        return max(flops / self.flops_per_second, bytes_moved / self.bytes_per_second)


@cache
def ceiling(threads: int | None = None) -> Ceiling:
    """Measured now, with the given threads or all of torch's: the best of several trials."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        a, product = torch.randn(SIDE, SIDE), torch.empty(SIDE, SIDE)
        source = torch.ones(COPIED // 4)
        target = torch.zeros_like(source)
        multiply = _best(lambda: torch.mm(a, a, out=product))
        copy = _best(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)
    return Ceiling(2 * SIDE**3 / multiply, 2 * COPIED / copy)


def _best(task: Callable[[], object], repeats: int = 15) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def describe() -> str:
    """CPU, cores, threads and versions in one line."""
    versions = [f"{name} {found}" for name in LIBRARIES if (found := _version(name))]
    threads = [f"{name} {value}" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
               if (value := os.environ.get(name))]  # fmt: skip
    return ", ".join(
        [
            _cpu(),
            f"{os.cpu_count()} cores",
            f"{_memory_gib():.0f} GiB",
            *(threads or ["as many threads as cores"]),
            f"{platform.system()}, Python {platform.python_version()}",
            *versions,
        ]
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Model name and the widest vectors it knows."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line]
    known = {key.strip(): value.strip() for key, value in reversed(lines)}
    flags = known.get("flags", "").split()
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    widest += " and amx" if "amx_bf16" in flags else ""
    place = f"family {known.get('cpu family')}, model {known.get('model')}"
    return f"{known.get('model name', platform.machine())} ({place}) {widest}".strip()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
