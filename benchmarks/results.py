"""RESULTS.md, RESULTS.csv and RESULTS.png from the kept rows of the accuracy benchmark."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import rows, tables
from benchmarks.models import ABLATIONS, EXPOSED, OURS, is_ours, variant
from benchmarks.tasks import TASKS

N_BOOT, PROB = 500, 0.9
STRATA = ("user", "item", "history")
KEYS = ["model", "metric", "k", "stratum"]
SUMMARY_VERSION = 1


@dataclass(frozen=True)
class TaskResult:
    """All that is kept of a task."""

    task: str
    rows: list[dict[str, Any]]  # done, failed and timed out
    summary: pd.DataFrame  # means over seeds: KEYS, value, lower, upper, low, high, n

    @property
    def done(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["status"] == rows.DONE]


def write_results(work: Path, out: Path) -> None:
    """All three files, whole."""
    found = rows.all_kept(work)
    results = []
    for task in TASKS:
        own = [row for row in found if row["task"] == task]
        if any(row["status"] == rows.DONE for row in own):
            results.append(TaskResult(task, own, summary_of(own, work)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join([tables.head(results, PROB, N_BOOT), *map(section, results)]))
    if not results:
        return
    parts = [result.summary.assign(task=result.task) for result in results]
    whole = pd.concat(parts, ignore_index=True)
    whole = whole[["task", *whole.columns.drop("task")]]
    whole.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6g")
    draw(results, out.with_suffix(".png"))


def section(result: TaskResult) -> str:
    """One task in words and tables."""
    ranked = by_ndcg(result)
    rivals = [name for name in ranked if not is_ours(name)]
    ours = EXPOSED if EXPOSED in ranked else OURS
    own = [name for name in (ours, OURS) if name in ranked]
    shown = [*dict.fromkeys(own), *rivals[:3]]
    parts = [
        tables.about(result),
        tables.verdict(result.summary, ours, rivals),
        tables.main_table(result, main_models(ranked)),
        tables.difference_table(result.summary, ours, rivals),
        tables.strata_tables(result.summary, shown),
        tables.ablation_table(result, OURS, [variant(name) for name in ABLATIONS]),
        tables.missing(result),
    ]
    return "\n".join(part for part in parts if part)


def main_models(ranked: list[str]) -> list[str]:
    """Without the ablations."""
    return [name for name in ranked if name in (OURS, EXPOSED) or not is_ours(name)]


def by_ndcg(result: TaskResult) -> list[str]:
    """Names of the models, best first."""
    own = result.summary.query("metric == 'ndcg' and stratum == 'all'")
    names = {row["model"] for row in result.done}
    ordered = own[own["model"].isin(names)].sort_values("value", ascending=False)
    return ordered["model"].tolist()


# ------------------------------------------------------------------ figures over seeds


def summary_of(own: list[dict[str, Any]], work: Path) -> pd.DataFrame:
    """Figures of a task; kept beside its rows until one of them changes."""
    done = [row for row in own if row["status"] == rows.DONE]
    said = [{key: row[key] for key in row if key != "folder"} for row in done]
    stamps = [(row["folder"] / "row.json").stat().st_mtime_ns for row in done]
    text = json.dumps([said, stamps, N_BOOT, PROB, STRATA, SUMMARY_VERSION], sort_keys=True)
    place = work / done[0]["task"].replace("/", "--")
    path = place / f"summary-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
    if not path.exists():
        for old in place.glob("summary-*.parquet"):
            old.unlink()
        summarize_seeds(done).to_parquet(path)
    return pd.read_parquet(path)


def summarize_seeds(done: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean over the seeds of figures and bounds; low and high are the range of the figures.

    Seed by seed, so that differences are between runs of one seed; a model without a run of a
    seed takes part with its first one.
    """
    first = {row["model"]: row for row in sorted(done, key=lambda row: -row["seed"])}
    parts = []
    for seed in sorted({row["seed"] for row in done}):
        own = first | {row["model"]: row for row in done if row["seed"] == seed}
        parts.append(summarize_one(list(own.values())).assign(seed=seed))
    every = pd.concat(parts, ignore_index=True)
    grouped = every.groupby(KEYS, sort=False, dropna=False)
    found = grouped.agg(
        value=("value", "mean"),
        lower=("lower", "mean"),
        upper=("upper", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        n=("n", "max"),
    )
    return found.reset_index()


def summarize_one(used: list[dict[str, Any]]) -> pd.DataFrame:
    """Of one row per model."""
    from bayes_interest.evaluation.scores import BacktestScores
    from bayes_interest.evaluation.summarize import summarize

    loaded = [BacktestScores.load(row["folder"]) for row in used]
    scores = loaded[0].merged(*loaded[1:])
    known = [name for name in (EXPOSED, OURS) if name in scores.tables]
    reference = known[0] if known else None
    return summarize(scores, strata=STRATA, prob=PROB, n_boot=N_BOOT, reference=reference)


# ------------------------------------------------------------------ the figure


def draw(results: list[TaskResult], path: Path) -> None:
    """NDCG@10 of every model, a panel per task."""
    from matplotlib.figure import Figure

    from bayes_interest.report.plots import plot_backtest

    columns = min(2, len(results))
    lines = -(-len(results) // columns)
    most = max(len(by_ndcg(result)) for result in results)
    size = (5.2 * columns, (0.24 * most + 0.9) * lines)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, result in zip(panels, results, strict=False):
        order = main_models(by_ndcg(result))
        own = result.summary[result.summary["stratum"] == "all"]
        own = own[own["model"].isin(order)].astype({"k": "Int64"})
        own = own.sort_values("model", key=lambda names: names.map(order.index), kind="stable")
        plot_backtest(own, "ndcg", 10, ax=panel)
        panel.set_title(result.task, loc="left", fontsize=9)
        panel.tick_params(labelsize=7)
    for spare in panels[len(results) :]:
        spare.remove()
    figure.savefig(path)
