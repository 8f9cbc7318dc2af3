"""What a section of the speed benchmark measures: rows, goals, and interleaved timing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

OURS = "bayes_interest"


@dataclass(frozen=True)
class Row:
    """One task of one contender. A rival that did not finish has NaN seconds and says why."""

    case: str  # what is timed, with its size
    who: str  # "bayes_interest", or a rival with its version
    seconds: float  # median of the repeats
    fastest: float
    slowest: float
    repeats: int
    figures: dict[str, float | str]  # e.g. events_per_second, log_loss, times_floor


@dataclass(frozen=True)
class Goal:
    """What was wanted and what was reached."""

    text: str  # the goal in words
    wanted: str  # "at least 200x"
    reached: str  # "312x", or "not measured: why"
    met: bool


def timed(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of every task, `repeats` each, in turns: what disturbs one disturbs all.

    Warm up (compile, fill caches) before calling; the order turns round every other time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats):
        names = list(tasks) if turn % 2 == 0 else list(reversed(tasks))
        for name in names:
            began = time.perf_counter()
            tasks[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def row(case: str, who: str, seconds: list[float], **figures: float | str) -> Row:
    """A row from the seconds of its repeats."""
    middle = statistics.median(seconds)
    return Row(case, who, middle, min(seconds), max(seconds), len(seconds), figures)
