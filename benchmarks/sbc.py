"""Simulation-based calibration of the posterior; writes SBC.md and SBC.png.

    python -m benchmarks.sbc

Finished worlds are kept in `--work` and not drawn again. `--table` writes from what there is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from bayes_interest.evaluation.sbc import Design, prior_places, sbc, sbc_table
from bayes_interest.report.plot_sbc import plot_sbc

OUT = Path(__file__).parent
WRONG = "factorised"
LARGER: dict[str, Any] = {
    "n_users": 100,
    "n_steps": 30,
    "n_items": 60,
    "state_dim": 2,
    "embed_dim": 4,
    "days": 300.0,
    "drift_centre": 0.05,
}
CASES = {
    "bernoulli": (Design("bernoulli"), "smoother"),
    "rating": (Design("rating"), "smoother"),
    "choice": (Design("choice"), "smoother"),
    "bernoulli, larger": (Design("bernoulli", **LARGER), "smoother"),
    "rating, larger": (Design("rating", **LARGER), "smoother"),
    "bernoulli, wrong guide": (Design("bernoulli"), WRONG),
}
FEW = {name for name in CASES if "larger" in name or "wrong" in name}
HEAD = """# Simulation-based calibration

Made by `make sbc` (`python -m benchmarks.sbc`). Each world has {users} users with 2 to {steps}
events, {items} items with events and one without, over {days:g} days; all globals are drawn from
the prior, states and outcomes from the Pyro program. The posterior is found from the outcomes, and
the truth ranked among its 15 draws. `mean` is the mean place (0.5 is right), `spread` the spread
of places (1 is right, more is a posterior too sure of itself), `excess` the largest distance of
the distribution functions; `inside`: the whole curve lies in the band that a right posterior
leaves in 1 of 100 cases; `prior`: the mean place of the same truths among those of 1,000 more
worlds, before any fit, which tells what is chance of the draw. States and residuals are measured
along the vector of the log's most frequent item, so that signs and rotations, which nothing
identifies, cancel out. Drift: 0.1 per sqrt day, within a factor of e^1.5 (one sd). Interest is the
linear predictor; of choice it is the log probability, the item that is cold elsewhere is a
candidate, and the rarest one is looked at in its place. The wrong guide has the right globals and
no correlation along time. Larger worlds have {larger[n_users]} users with 2 to {larger[n_steps]}
events, {larger[n_items]} items, {larger[state_dim]} state dimensions and {larger[days]:g} days.
"""


def case_file(name: str, options: argparse.Namespace) -> Path:
    """Where the ranks of a case are kept."""
    return Path(options.work) / f"{name.replace(', ', '-').replace(' ', '-')}.csv"


def case_ranks(name: str, n_runs: int, options: argparse.Namespace) -> pd.DataFrame:
    """Ranks of one case, from the file as far as they are there."""
    design, guide = CASES[name]
    file = case_file(name, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    if options.table:
        done = pd.read_csv(file)
        n_runs = int(done["run"].nunique())
    return sbc(n_runs, design, guide=guide, file=file, workers=options.workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument(
        "--few-runs", type=int, default=200, help="of larger worlds and wrong guide"
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", default="out/sbc")
    parser.add_argument("--out", default=str(OUT))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if set(options.cases) != set(CASES) and Path(options.out) == OUT:
        parser.error("a page of some cases alone would replace that of all: give --out, too")
    Path(options.out).mkdir(parents=True, exist_ok=True)
    design = Design()
    text = HEAD.format(
        users=design.n_users, steps=design.n_steps, items=design.n_items, days=design.days,
        larger=LARGER,
    )  # fmt: skip
    for name in options.cases:
        if options.table and not case_file(name, options).exists():
            text += f"\n## {name}: not run yet\n"
            continue
        n_runs = options.few_runs if name in FEW else options.runs
        ranks = case_ranks(name, n_runs, options)
        table = sbc_table(ranks)
        places = prior_places(ranks["run"].nunique(), CASES[name][0])
        table.insert(4, "prior", table["quantity"].map(places))
        shown = table.drop(columns=["level", "limit"]).round(3)
        outside = int((~table["inside"]).sum())
        text += f"\n## {name}: {ranks['run'].nunique()} worlds, {outside} quantities outside\n\n"
        text += "| " + " | ".join(shown.columns) + " |\n" + "|---" * len(shown.columns) + "|\n"
        text += "".join(f"| {' | '.join(map(str, row))} |\n" for row in shown.to_numpy())
        if name == "bernoulli":
            plot_sbc(ranks)[0].figure.savefig(Path(options.out) / "SBC.png", dpi=110)
    Path(options.out, "SBC.md").write_text(text)


if __name__ == "__main__":
    main()
