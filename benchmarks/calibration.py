"""Calibration on a real log, raw and recalibrated: CALIBRATION.md and CALIBRATION.png.

The log is cut in time: fit on the first 80 %, learn the map from the next 10 %, judge on the last
10 %. Every event is predicted one step ahead. Run with:

    python -m benchmarks.calibration --data ../shared/data
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.models import FIT, MODEL
from benchmarks.tasks import TASKS, check_data, read_task

HERE = Path(__file__).parent
TASK = "ml-latest-small/liked"
FAMILIES = ("bernoulli", "rating")
METHODS = ("temperature", "platt", "isotonic", "auto")
SEQUENTIAL: dict[str, tuple[int, int]] = {
    "isotonic, every 500": (500, 4000),
    "isotonic, every 250": (250, 4000),
}
"""Name to `refresh` and `memory` of `RecalibratedInterest`."""
MAIN = "isotonic, every 500"
LARGE = 1000
"""Events that a stratum needs to be in the table."""


def fitted(family: str, train: Any, items: Any) -> Any:
    import bayes_interest as bi

    config = bi.ModelConfig(
        emission=family, positive_threshold=TASKS[TASK]["threshold"], **MODEL[TASK]
    )
    return bi.InterestModel(config).fit(train, items, bi.FitConfig(progress=False, **FIT[TASK]))


def score(model: Any, items: Any, late: Any, test: Any) -> dict[str, pd.DataFrame]:
    """Tables of the test events, by variant. `late` are the events that maps are learned from."""
    import bayes_interest as bi

    tables = {}
    plain = copy.copy(model).update(late, items)
    tables["raw"] = told("raw", plain, test, items)
    for method in METHODS:
        variant = copy.copy(model).recalibrate(late, items, method).update(late, items)
        learned = variant.posterior.recalibration
        print(f"  {method}: {learned.method}, slope {learned.slope:.3f}", flush=True)
        tables[method] = told(method, variant, test, items)
    for name, (refresh, memory) in SEQUENTIAL.items():
        first = copy.copy(model).recalibrate(late, items, "isotonic").update(late, items)
        tables[name] = told(
            name,
            bi.RecalibratedInterest(first, "isotonic", refresh=refresh, memory=memory),
            test,
            items,
        )
    return tables


def told(name: str, model: Any, test: Any, items: Any) -> pd.DataFrame:
    began = time.perf_counter()
    table: pd.DataFrame = model.score_events(test, items, detail=True)
    print(f"  {name}: scored in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def run(data: Path, work: Path) -> None:
    """Scores of both families, kept in `work`."""
    import bayes_interest as bi

    events, items, _ = read_task(data, TASK)
    train, test = bi.split_by_time(events, fraction=0.1)
    early, late = bi.split_by_time(train, fraction=1.0 / 9.0)
    for family in FAMILIES:
        began = time.perf_counter()
        model = fitted(family, early, items)
        print(f"{family}: fitted in {time.perf_counter() - began:.0f} s", flush=True)
        tables = score(model, items, late, test)
        threshold = TASKS[TASK]["threshold"]
        found = bi.BacktestScores.from_tables(
            tables, test, train, items, threshold=threshold, emission=family
        )
        found.save(work / family)


def write(work: Path) -> None:
    """The table and the picture."""
    import bayes_interest as bi

    found = {family: bi.BacktestScores.load(work / family) for family in FAMILIES}
    judged = {name: bi.calibration(one, strata=True) for name, one in found.items()}
    parts = [HEAD]
    for family in FAMILIES:
        losses = bi.summarize(found[family])
        parts += section(family, judged[family], losses)
    (HERE / "CALIBRATION.md").write_text("\n".join(parts), encoding="utf-8")
    draw(judged)


HEAD = """# Calibration

Made by `python -m benchmarks.calibration --data ../shared/data`; the log, ml-latest-small, is not
part of this repository. Is a film rated 4 stars or more? Fit on the first 80 % of time, maps
learned from the next 10 %, judged on the last 10 %, every event predicted one step ahead.
"isotonic, every n" learns the map anew after every n test events, from the last n and the 4,000
before, all of them already predicted; n and 4,000 were chosen with a look at these test events, so
these two rows flatter a little.

Calibration error: 15 bins of equal mass, intervals of 0.9 from 500 resamples of users. "By chance":
what the same probabilities show if they are the truth; below its upper end an error cannot be told
from none. The pit distance is Kolmogorov and Smirnov's.

![reliability](CALIBRATION.png)
"""


def section(family: str, judged: Any, losses: pd.DataFrame) -> list[str]:
    """Markdown of one family."""
    out = [f"## {family}", ""]
    overall = wide(judged.summary[judged.summary["stratum"] == "all"])
    loss = losses[(losses["stratum"] == "all") & losses["metric"].isin(["log_loss"])]
    loss = loss.set_index("model")["value"]
    rating = family == "rating"
    names = ["", "calibration error", "by chance", "log loss", "brier", "reliability", "resolution"]
    rows = []
    for name, row in overall.items():
        cells = [
            name, spread(row["calibration_error"]), spread(row["calibration_error_by_chance"]),
            f"{loss[name]:.4f}", f"{row['brier'][0]:.4f}", f"{row['reliability'][0]:.4f}",
            f"{row['resolution'][0]:.4f}", f"{row['pit_distance'][0]:.3f}",
        ]  # fmt: skip
        rows.append(cells + ([f"{row['crps'][0]:.4f}"] if rating else []))
    out += markdown(names + ["pit distance"] + (["crps"] if rating else []), rows)
    out += ["", f"Strata with {LARGE:,} events or more: calibration error / by chance.", ""]
    out += strata_table(judged.summary)
    out += [
        "",
        "Rates of users with 5 test events or more: share inside intervals of mass 0.9.",
        "",
    ]
    return out + coverage_table(judged.groups) + [""]


def wide(summary: pd.DataFrame) -> dict[str, dict[str, tuple[float, float, float]]]:
    out: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in summary.itertuples():
        out.setdefault(row.model, {})[row.metric] = (row.value, row.lower, row.upper)
    return out


def spread(figure: tuple[float, float, float]) -> str:
    value, lower, upper = figure
    return f"{value:.4f} ({lower:.3f} to {upper:.3f})"


def strata_table(summary: pd.DataFrame) -> list[str]:
    shown = summary[(summary["n"] >= LARGE) & summary["metric"].str.startswith("calibration")]
    rows = []
    for stratum, own in shown.groupby("stratum", sort=False):
        found = wide(own)
        pairs = [
            f"{row['calibration_error'][0]:.3f} / {row['calibration_error_by_chance'][0]:.3f}"
            for row in found.values()
        ]
        rows.append([stratum, f"{own['n'].iloc[0]:,}", *pairs])
    return markdown(["", "events", *dict.fromkeys(shown["model"])], rows)


def coverage_table(groups: pd.DataFrame) -> list[str]:
    own = groups[(groups["stratum"] == "all") & (groups["groups"] == "user")]
    rows = []
    for name, part in own.groupby("model", sort=False):
        cells = [
            f"{row.coverage:.2f} ({row.lower:.2f} to {row.upper:.2f}), width {row.mean_width:.2f}"
            for row in part.itertuples()
        ]
        rows.append([name, *cells])
    return markdown(["", "errors independent", "errors shared by a user's events"], rows)


def markdown(names: list[str], rows: list[list[str]]) -> list[str]:
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def draw(judged: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    from bayes_interest.report.reliability import plot_reliability

    figure = Figure(figsize=(8.4, 4.3), layout="constrained", dpi=110)
    for ax, (family, one) in zip(figure.subplots(1, 2), judged.items(), strict=True):
        shown = one.curve[one.curve["model"].isin(["raw", "isotonic", MAIN])]
        plot_reliability(shown, ax=ax).set_title(family, loc="left", fontsize=9)
    figure.savefig(HERE / "CALIBRATION.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("out/calibration"))
    parser.add_argument("--table", action="store_true", help="write from kept scores, run nothing")
    asked = parser.parse_args()
    if not asked.table:
        check_data(asked.data, [TASK])
        run(asked.data, asked.work)
    write(asked.work)


if __name__ == "__main__":
    main()
