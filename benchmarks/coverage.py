"""How often 90 % intervals of interest hold the truth, on drawn worlds; writes COVERAGE.md.

    python -m benchmarks.coverage

Finished worlds are kept in `--work` and not fitted again. `--table` writes from what there is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from bayes_interest.schema import LOWER, PROBABILITY, UPPER
from benchmarks.coverage_worlds import (
    CASES,
    HISTORIES,
    LATER_DAYS,
    POINTS,
    PROB,
    SIZES,
    SKEW,
    pairs,
)

OUT = Path(__file__).parent
WORLDS = {"small": 40, "prior": 100, "middle": 10, "large": 5, "wide": 10, "deep": 40}
GOAL, GOAL_OF_STRATA = (0.89, 0.91), (0.87, 0.93)
N_BOOT, BAND = 2000, 0.9
ALL = "all"
MOST_LISTED = 3


def strata(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Which pairs are in each stratum; all of them known without the truth."""
    user, item, mean = table["user_events"], table["item_events"], table["mean"]
    offered = ~table["cold"]
    found = {ALL: user >= 0}
    for name, (low, high) in HISTORIES.items():
        found[name if low == 0 else f"{name} events"] = user.between(low, high)
    return found | {
        "cold items": ~offered,
        "cold items, 2 events": ~offered & (user == 2),
        "offered, no event": offered & (item == 0),
        "1-4 events of the item": offered & item.between(1, 4),
        "5-19 events of the item": offered & item.between(5, 19),
        "20+ events of the item": offered & (item >= 20),
        "at the last event": ~table["later"] & (user > 0),
        f"{LATER_DAYS:g} days later": table["later"] & (user > 0),
        "mean below 0.1": mean < 0.1,
        "mean above 0.9": mean > 0.9,
    }


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Of one world: stratum, n, inside, width (sum), error (sum of squares)."""
    inside = table[PROBABILITY].between(table[LOWER], table[UPPER])
    width, error = table[UPPER] - table[LOWER], (table["mean"] - table[PROBABILITY]) ** 2
    rows = [
        (name, int(own.sum()), int(inside[own].sum()), width[own].sum(), error[own].sum())
        for name, own in strata(table).items()
    ]
    return pd.DataFrame(rows, columns=["stratum", "n", "inside", "width", "error"])


def summary(worlds: list[pd.DataFrame], seed: int = 0) -> pd.DataFrame:
    """Share inside per stratum over worlds, its bounds by resampling worlds, and the verdict."""
    n, inside = (np.stack([one[name] for one in worlds]) for name in ("n", "inside"))
    width, error = (np.stack([one[name] for one in worlds]).sum(0) for name in ("width", "error"))
    drawn = np.random.default_rng(seed).integers(0, len(worlds), (N_BOOT, len(worlds)))
    total = n.sum(0)
    some = total > 0
    n, inside, total = n[:, some], inside[:, some], total[some]
    with np.errstate(invalid="ignore"):  # a resample may miss a rare stratum
        shares = inside[drawn].sum(1) / n[drawn].sum(1)
    lower, upper = np.nanquantile(shares, [0.5 - BAND / 2, 0.5 + BAND / 2], axis=0)
    table = pd.DataFrame(
        {
            "stratum": worlds[0]["stratum"][some].to_numpy(),
            "share": inside.sum(0) / total,
            "lower": lower,
            "upper": upper,
            "width": width[some] / total,
            "error": np.sqrt(error[some] / total),
            "n": total,
        }
    )
    goals = [GOAL if name == ALL else GOAL_OF_STRATA for name in table["stratum"]]
    table["goal"] = [
        low <= share <= high for share, (low, high) in zip(table["share"], goals, strict=True)
    ]
    return table


def file_of(work: Path, size: str, case: str, seed: int) -> Path:
    """Where the counts of a world are kept."""
    return work / f"{size}-{case.replace(', ', '-').replace(' ', '-')}-{seed}.csv"


def run(work: Path, size: str, case: str, seed: int) -> None:
    """Do one world, unless it is kept."""
    file = file_of(work, size, case, seed)
    if file.exists():
        return
    began = time.perf_counter()
    table = pairs(case, size, seed)
    half = file.with_suffix(".part")  # whole or not at all
    counts(table).assign(members=table.attrs["members"]).to_csv(half, index=False)
    half.replace(file)
    print(f"{file.stem}: {time.perf_counter() - began:.0f} s", flush=True)


HEAD = """# Do 90 % intervals hold the truth 90 % of the time?

Made by `make coverage` (`python -m benchmarks.coverage`; needs no data). Worlds are drawn by
`simulate`, globals anew in each: weights, effects and states from the prior of the model; bias, cut
points and scales of effects at the centre of theirs; drift scales given, per sqrt day:
{drift}.
In the worlds called prior and deep these too are drawn from the prior, drift scales around those
given: over such worlds a posterior without error holds 90 %, at fixed values it need not. The deep
ones have as many state dimensions as a model has by default.
A fifth of the users each has no event, 2, 3 to 9, 10 to 29 and 30 to 50, whatever the outcomes.
Item k is shown with a chance in proportion to k^-{skew:g}. Cold items have a vector and are
never shown, for choice are no candidates in the log, and come to the catalogue after the fit; all
others are in it from the start.
Fits are those of the README: below 2,000 events `FitConfig(holdout=0.0, max_epochs=40)`, above
the defaults. `choice` is fitted without covariates and drift by events, of which the drawn log
has none; beside it with all defaults. "Points" is a fit without draws of the globals. Every user is
asked about every item, at the user's last event and {later:g} days later.

`share`: of true interest probabilities inside the {prob:.0%} interval of `InterestModel.interest`.
Bounds (90 %) by resampling worlds. `width`: mean width; `error`: root mean square of truth less
mean. Goal: {goal[0]:.0%} to {goal[1]:.0%} of all, {strata[0]:.0%} to {strata[1]:.0%} in each
stratum.
"""


def text(work: Path, sizes: Iterable[str]) -> str:
    """COVERAGE.md from the kept worlds."""
    drift = ", ".join(f"{name} {_listed(SIZES[name].drift_scales)}" for name in sizes)
    parts = [
        HEAD.format(
            drift=drift, skew=SKEW, later=LATER_DAYS, prob=PROB, goal=GOAL,
            strata=GOAL_OF_STRATA,
        )
    ]  # fmt: skip
    for size in sizes:
        for case in CASES:
            files = sorted(work.glob(file_of(work, size, case, 0).name.replace("-0.", "-[0-9]*.")))
            worlds = [pd.read_csv(file) for file in files]
            if worlds:
                parts.append(section(size, case, worlds))
    return "\n".join(parts)


def _listed(scales: tuple[float, ...]) -> str:
    if len(scales) <= MOST_LISTED:
        return str(scales)
    return f"({len(scales)} from {scales[0]:g} to {scales[-1]:g})"


def section(size: str, case: str, worlds: list[pd.DataFrame]) -> str:
    """One table."""
    about, table, members = SIZES[size], summary(worlds), int(worlds[0]["members"][0])
    lines = [
        f"## {case}, {size}: {len(worlds)} worlds\n",
        f"{about.users * len(HISTORIES)} users, {about.items} items, {about.cold} of them cold, "
        f"{about.embed_dim} text dimensions; "
        + (f"{members} draws of all globals.\n" if members else "globals are points.\n"),
        "| stratum | share | 90 % | width | error | pairs | goal |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for row in table.itertuples():
        lines.append(
            f"| {row.stratum} | {row.share:.3f} | {row.lower:.3f} to {row.upper:.3f} | "
            f"{row.width:.3f} | {row.error:.3f} | {row.n:,} | {'yes' if row.goal else '**no**'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/coverage"))
    parser.add_argument("--out", type=Path, default=OUT / "COVERAGE.md")
    parser.add_argument("--sizes", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--worlds", type=int, help="at most, of each size and case")
    parser.add_argument("--table", action="store_true", help="write from what is kept")
    parser.add_argument("--quick", action="store_true", help="prove that it runs")
    options = parser.parse_args()
    sizes = {"quick": 2} if options.quick else WORLDS
    for folder in (options.work, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for size, most in sizes.items():
        if size in WORLDS and size not in options.sizes:
            continue
        for seed in range(0 if options.table else min(most, options.worlds or most)):
            for case in options.cases:
                if case == POINTS and size != "large":
                    continue
                run(options.work, size, case, seed)
    options.out.write_text(text(options.work, sizes))


if __name__ == "__main__":
    main()
