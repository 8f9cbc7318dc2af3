"""Runs the sections one after another, keeps their rows, and writes SPEED.md from all of them.

python -m benchmarks.speed [--only SECTION ...] [--quick] [--table] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from benchmarks.speed.page import page
from benchmarks.speed.sections import SECTIONS, has_rows, kept, measure

PAGE = Path(__file__).parents[1] / "SPEED.md"


def main() -> None:
    options = read_options()
    work = Path("out/speed-quick" if options.quick else "out/speed")
    work.mkdir(parents=True, exist_ok=True)
    there = [name for name in SECTIONS if find_spec(f"benchmarks.speed.{name}") is not None]
    if not options.table:
        for name in options.only or there:
            if options.only or options.again or not has_rows(work / f"{name}.json"):
                measure(name, options.quick, options.data, work)
    target = work / "SPEED.md" if options.quick else PAGE
    target.write_text(page([kept(name, work) for name in there]), encoding="utf-8")
    print(f"{target} is written")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", default=None,
                        help="these, even if kept: " + ", ".join(SECTIONS))  # fmt: skip
    parser.add_argument("--again", action="store_true", help="run sections with kept rows, too")
    parser.add_argument("--quick", action="store_true",
                        help="proves that everything runs; out/speed-quick/SPEED.md")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="run nothing, write the page")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"),
                        help="folder of the real logs")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
