"""The page of the speed benchmark, from the kept rows of all sections."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.rows import OURS, Goal, Row

HEAD = """# Speed

Made by `make bench-speed` (`python -m benchmarks.speed`); do not edit. Seconds of the wall clock:
the median of the repeats, in brackets the fastest and the slowest. What is compared is run in one
process or side by side, in turns. How to run it again: [README](README.md#speed).
"""
GPU = """## GPU

Not measured: no GPU was at hand. One test (`tests/posterior/test_learn.py`) fits every family on
CUDA and compares its answers with the CPU's; it is skipped where there is no GPU, so here it was.
On CUDA the compiled CPU loops are replaced by their eager equivalents; tests on the CPU hold both
to the same numbers. No claim is made about their speed.
"""


@dataclass(frozen=True)
class Kept:
    """What is known of a section: its rows, or why there are none."""

    section: str
    about: str
    rows: list[Row]
    goals: list[Goal]
    failed: str | None
    machine: str
    date: str
    seconds: float


def page(kept: Sequence[Kept]) -> str:
    """Machine, goals, sections."""
    parts = [HEAD, machines(kept), "## Goals\n\n" + goal_table(kept)]
    parts += [section(one) for one in kept]
    return "\n".join([*parts, GPU])


def machines(kept: Sequence[Kept]) -> str:
    """Which machine made which section; one line where it is the same for all."""
    made: dict[str, list[str]] = {}
    for one in kept:
        if one.machine:
            made.setdefault(one.machine, []).append(one.section)
    if len(made) == 1:
        return f"Machine: {next(iter(made))}.\n"
    return "".join(f"- {', '.join(names)}: {machine}.\n" for machine, names in made.items())


def goal_table(kept: Sequence[Kept]) -> str:
    lines = []
    for one in kept:
        for goal in one.goals:
            met = "yes" if goal.met else "**no**"
            lines.append([one.section, goal.text, goal.wanted, goal.reached, met])
        if one.failed is not None:
            lines.append([one.section, "", "", f"not measured: {one.failed}", "**no**"])
    return markdown(["section", "goal", "wanted", "reached", "met"], lines)


def section(one: Kept) -> str:
    """What is compared, and its rows."""
    parts = [f"## {one.section}\n", one.about.strip() + "\n"]
    if one.failed is not None:
        parts.append(f"Not measured: {one.failed}.\n")
    if one.rows:
        parts.append(row_table(one.rows))
        parts.append(f"{one.date}, {one.seconds / 60:.1f} minutes in all.\n")
    return "\n".join(parts)


def row_table(rows: Sequence[Row]) -> str:
    """A line per row, and beside it how many times as long as ours it takes."""
    ours: dict[str, float] = {}
    for row in rows:
        if row.who.startswith(OURS):
            ours.setdefault(row.case, row.seconds)
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines, last = [], None
    for row in rows:
        cells = [row.case if row.case != last else "", row.who, span(row), ratio(row, ours)]
        lines.append([*cells, *(cell(row.figures.get(name)) for name in names)])
        last = row.case
    heads = ["case", "who", "seconds", "times ours", *(name.replace("_", " ") for name in names)]
    return markdown(heads, lines)


def span(row: Row) -> str:
    if math.isnan(row.seconds):
        return "did not finish"
    middle = duration(row.seconds)
    if row.repeats < 2:
        return f"{middle} (once)"
    return f"{middle} [{duration(row.fastest)}, {duration(row.slowest)}]"


def ratio(row: Row, ours: dict[str, float]) -> str:
    own = ours.get(row.case, math.nan)
    if row.who == OURS or math.isnan(own) or math.isnan(row.seconds) or own <= 0.0:
        return ""
    return number(row.seconds / own)


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{number(seconds / scale)} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else number(float(value))


def number(value: float) -> str:
    """About three figures."""
    if math.isnan(value):
        return ""
    if value == 0.0 or math.isinf(value) or abs(value) < 1e-3:
        return f"{value:.2g}"
    if abs(value) >= 100.0:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [
        heads,
        ["---"] * len(heads),
        *([c.replace("|", "\\|") for c in line] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in every) + "\n"
