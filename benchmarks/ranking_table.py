"""RANKING.md from the kept figures of `benchmarks/ranking.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """# Rankings that know how sure they are

Made by `python -m benchmarks.ranking --data ../shared/data`; see the head of that script.
"""
SHOWN = (1.0, 0.75, 0.5, 0.25, 0.1)


def write_table(work: Path, out: Path) -> None:
    """All parts that have been run so far."""
    parts = [HEAD]
    calibration, changes = kept(work, "calibration"), kept(work, "changes")
    if calibration:
        parts += [
            "## p_top_k on drawn logs\n",
            "1,500 users, 60 items, 40 events each, k = 10, at each user's last event, 1,000 joint "
            "draws. Of all (user, item) pairs given p_top_k within 0.05 of the head of a column: "
            "how many truly are among the user's 10 best, and what was said of them in the mean, "
            "in percent (true / said).\n",
            *near_table(calibration),
        ]
    if changes:
        parts += [
            "## p_risen on drawn logs\n",
            "The same logs, 400 users of each: from the first third of a user's events to the "
            "last one (true / said, percent). Pairs of one user move together, so the figures are "
            "rougher than the counts suggest.\n",
            *near_table(changes),
        ]
    curves = kept(work, "selective")
    if curves:
        parts += ["## Selective ranking on real logs\n", *curve_table(curves)]
    out.write_text("\n".join(parts) + "\n")


def kept(work: Path, part: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, seed, figures) of each kept file."""
    found = []
    for path in sorted(work.glob(f"{part}--*.json")):
        name, seed = path.stem.removeprefix(f"{part}--").rsplit("-", 1)
        found.append((name.replace("--", "/"), seed, json.loads(path.read_text())))
    return found


def near_table(found: list[tuple[str, str, dict[str, Any]]]) -> Iterator[str]:
    heads = [f"{row['about']:.1f}" for row in found[0][2]["rows"]]
    yield "| family | seed | " + " | ".join(heads) + " | pairs at 0.8 |"
    yield "|---|---|" + "---:|" * (len(heads) + 1)
    families = dict.fromkeys(name for name, _, _ in found)
    for family in families:
        own = [(seed, figures["rows"]) for name, seed, figures in found if name == family]
        for seed, rows in [*own, ("all", pooled([rows for _, rows in own]))]:
            count = next(row["n"] for row in rows if row["about"] == 0.8)
            cells = [
                f"{100 * row['true']:.1f} / {100 * row['said']:.1f}" if row["n"] else ""
                for row in rows
            ]
            yield f"| {family} | {seed} | " + " | ".join(cells) + f" | {count:,} |"
    yield ""


def pooled(tables: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Several seeds as one."""
    out = []
    for rows in zip(*tables, strict=True):
        count = sum(row["n"] for row in rows)
        one = {"about": rows[0]["about"], "n": count}
        for key in ("said", "true"):
            total = sum(row["n"] * row[key] for row in rows if row["n"])
            one |= {key: total / count} if count else {}
        out.append(one)
    return out


def curve_table(found: list[tuple[str, str, dict[str, Any]]]) -> Iterator[str]:
    yield (
        "Last tenth of time, each event predicted from its past. Events in order of a figure of "
        "their slate, the lowest dropped: NDCG@10 of those kept, with 90 % bounds from resamples "
        "of users, and what was gained over all events.\n"
    )
    yield "| log | sorted by | " + " | ".join(f"{share:.0%} kept" for share in SHOWN) + " |"
    yield "|---|---|" + "---:|" * len(SHOWN)
    for name, _, figures in found:
        for by, curve in figures["curves"].items():
            rows = {round(row["coverage"], 2): row for row in curve}
            cells = [cell(rows[share]) for share in SHOWN]
            yield f"| {name} ({figures['events']:,} events) | {by} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        "How far the curve by `expected_hits` lies above those by length of history, on average "
        "over all shares from 5 to 100 %: difference of NDCG@10, both curves from the same "
        "resamples of users.\n"
    )
    yield "| log | above history | above history, reversed |"
    yield "|---|---:|---:|"
    for name, _, figures in found:
        cells = [f"{a:+.4f} [{b:+.4f}, {c:+.4f}]" for a, b, c in figures["above"].values()]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def cell(row: dict[str, float]) -> str:
    gain = "" if row["coverage"] == 1.0 else f", {row['gain']:+.0%}"
    return f"{row['ndcg']:.4f} [{row['lower']:.4f}, {row['upper']:.4f}]{gain}"
