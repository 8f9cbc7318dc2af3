"""Markdown of the accuracy benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmarks.tasks import TASKS, protocol_of

MAIN = {
    "log_loss": "log loss",
    "ndcg": "NDCG@10",
    "hit_rate": "HR@10",
    "mrr": "MRR",
    "auc": "AUC",
    "auc_per_user": "AUC per user",
    "brier": "Brier",
    "calibration_error": "ECE",
    "coverage": "coverage@10",
    "novelty": "novelty@10",
}
WITH_INTERVAL = ("log_loss", "ndcg")
LESS_IS_BETTER = ("log_loss", "brier", "calibration_error")
NEITHER = ("coverage", "novelty", "interval_logit_width")
HISTORY = ("0", "1-2", "3-9", "10-29", "30+")
NONE = float("nan")
WIDTH = "interval_logit_width"


# ------------------------------------------------------------------ figures


def figure_of(
    summary: pd.DataFrame, model: str, metric: str, stratum: str = "all"
) -> dict[str, float]:
    """value, lower, upper, low, high, n; NaN where there is none."""
    own = summary[
        (summary["model"] == model)
        & (summary["metric"] == metric)
        & (summary["stratum"] == stratum)
        & (summary["k"].isna() | (summary["k"] == 10))
    ]
    if metric in ("precision", "recall", "f1"):
        own = own[own["k"].notna()]
    names = ["value", "lower", "upper", "low", "high", "n"]
    if own.empty:
        return dict.fromkeys(names, NONE)
    return {name: float(own.iloc[0][name]) for name in names}


def shown(found: dict[str, float], interval: bool = False, bold: bool = False) -> str:
    """A figure with its interval and, over several seeds, their range."""
    if math.isnan(found["value"]):
        return ""
    text = number(found["value"])
    text = f"**{text}**" if bold else text
    if interval and not math.isnan(found["lower"]):
        text += f" [{number(found['lower'])}, {number(found['upper'])}]"
    if interval and found["high"] > found["low"]:
        text += f" (seeds {number(found['low'])} to {number(found['high'])})"
    return text


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 2 else f"{value:.4f}"


def best_of(summary: pd.DataFrame, models: Iterable[str], metric: str, stratum: str) -> str | None:
    """The name of the best model."""
    if metric in NEITHER:
        return None
    values = {m: figure_of(summary, m, metric, stratum)["value"] for m in models}
    values = {model: value for model, value in values.items() if not math.isnan(value)}
    if not any(values.values()):
        return None
    return (min if metric in LESS_IS_BETTER else max)(values, key=lambda model: values[model])


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every) + "\n"


# ------------------------------------------------------------------ words


def head(results: Sequence[Any], prob: float, n_boot: int) -> str:
    """The top of the page."""
    machines = {describe_machine(row) for result in results for row in result.done}
    dates = sorted(row["date"] for result in results for row in result.done)
    span = "" if not dates else " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return (
        "# Results\n\nMade by `python -m benchmarks.accuracy`; do not edit. Every test event is "
        "predicted from what came before it and then absorbed; all items are ranked, no sampled "
        "metrics; ties count against the item. Models are in order of NDCG@10, the best figure of "
        f"a column is bold. In brackets intervals of mass {prob:g}: {n_boot} resamples of users. "
        "With several seeds a figure is their mean, bounds too, and their range stands beside it. "
        "How each figure is defined: `bayes_interest.evaluation.summarize`; the tasks, the rivals "
        "and their sources: [README](README.md).\n\n"
        f"{'; '.join(sorted(machines))}. {span}.\n\n![NDCG@10 of every model](RESULTS.png)\n"
    )


def describe_machine(row: dict[str, Any]) -> str:
    machine, versions = row["machine"], row["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['system']}, {machine['cores']} cores, OMP_NUM_THREADS {machine['threads']}, "
        f"Python {machine['python']}, {named}"
    )


def about(result: Any) -> str:
    """The task in words."""
    data, spec = result.done[0]["data"], TASKS[result.task]
    cut = protocol_of(result.task)
    how = f"last {cut['fraction']:.0%} of time" if "fraction" in cut else "last event of each user"
    ranked = "unseen items" if spec["exclude_seen"] else "all items, seen ones too"
    return (
        f"## {result.task}\n\n{spec['about']} {data['users']:,} users, {data['items']:,} items, "
        f"{data['events']:,} events; test: the {how}, {data['test']:,} events of "
        f"{data['test_users']:,} users, from {data['cut']}. Of the test events "
        f"{data['cold_user_share']:.0%} are of users and {data['cold_item_share']:.0%} of items "
        f"without a train event; {data['tied_share']:.0%} of all events share user and second with "
        f"another. {data['left_out']:,} events of items without text were left out. "
        f"Ranked: {ranked}.\n{settings(result)}"
    )


def settings(result: Any) -> str:
    """What our model was set to."""
    ours = [row for row in result.done if row["model"] == "bayes_interest"]
    if not ours:
        return ""
    setting = ours[0]["setting"]
    said = [f"{key}={value}" for part in ("model", "fit") for key, value in setting[part].items()]
    return f"\n`bayes_interest`: {', '.join(said)}.\n"


def verdict(summary: pd.DataFrame, ours: str, rivals: Sequence[str]) -> str:
    """Does the model win? Against the best rival of each figure."""
    lines = []
    for metric in ("ndcg", "log_loss"):
        best = best_of(summary, rivals, metric, "all")
        own = figure_of(summary, ours, metric)
        if best is None or math.isnan(own["value"]):
            continue
        other = figure_of(summary, best, metric)
        gap = figure_of(summary, f"{best} - {ours}", metric)
        sign = -1.0 if metric in LESS_IS_BETTER else 1.0
        said = outcome(sign, gap)
        ratio = ""
        if metric == "ndcg" and other["value"] > 0:
            ratio = f", ratio {own['value'] / other['value']:.2f}"
        lines.append(
            f"- {MAIN[metric]}: `{ours}` **{said}** against the best rival, `{best}`: "
            f"{number(own['value'])} against {number(other['value'])}{ratio}."
        )
    return "\n".join(lines) + "\n" if lines else ""


def outcome(sign: float, gap: dict[str, float]) -> str:
    """From the paired difference "rival - ours"; `sign` is 1 where more is better."""
    ahead = -sign * gap["value"]
    low, high = sorted((-sign * gap["lower"], -sign * gap["upper"]))
    if low > 0:
        return "wins"
    if high < 0:
        return "loses"
    word = "ahead" if ahead > 0 else "behind"
    return f"is {word}, within the interval of the difference"


def missing(result: Any) -> str:
    """Rows that are not there, and why."""
    lost = [f"{r['model']} (seed {r['seed']}, {r['status']}: {r['reason']})" for r in result.rows
            if r not in result.done]  # fmt: skip
    lost += [f"{name} ({why})" for name, why in TASKS[result.task].get("leave_out", {}).items()]
    return f"Without a row: {'; '.join(lost)}.\n" if lost else ""


# ------------------------------------------------------------------ tables


def main_table(result: Any, models: Sequence[str]) -> str:
    """Every model and metric."""
    summary = result.summary
    metrics = [m for m in MAIN if any(figure_of(summary, one, m)["n"] > 0 for one in models)]
    best = {metric: best_of(summary, models, metric, "all") for metric in metrics}
    lines = []
    for model in models:
        cells = [
            shown(figure_of(summary, model, m), m in WITH_INTERVAL, best[m] == model)
            for m in metrics
        ]
        lines.append([f"`{model}`", *cells, *costs(result, model)])
    heads = ["model", *(MAIN[metric] for metric in metrics), "fit s", "score s", "peak MB"]
    return markdown(heads, lines)


def costs(result: Any, model: str) -> list[str]:
    """Mean seconds and memory over seeds."""
    own = pd.DataFrame([row for row in result.done if row["model"] == model])
    fit, score, peak = own[["fit_seconds", "score_seconds", "peak_mb"]].mean()
    return [f"{fit:.1f}", f"{score:.1f}", f"{peak:,.0f}"]


def difference_table(summary: pd.DataFrame, ours: str, models: Sequence[str]) -> str:
    """Paired differences against our model."""
    metrics = ("ndcg", "log_loss")
    lines = [
        [f"`{m}`", *(shown(figure_of(summary, f"{m} - {ours}", one), True) for one in metrics)]
        for m in models
    ]
    if not any(line[1] for line in lines):
        return ""
    heads = ["model", *(f"{MAIN[metric]}" for metric in metrics)]
    return f"Less `{ours}`, paired:\n\n{markdown(heads, lines)}"


def strata_tables(summary: pd.DataFrame, models: Sequence[str]) -> str:
    """Cold and warm items, and users by length of history: NDCG and log loss."""
    cold = ["item=cold", "item=warm", "user=cold", "user=warm"]
    history = [f"history={band}" for band in HISTORY]
    parts = []
    for title, strata in (
        ("Cold (no train event) and warm", cold),
        ("By number of earlier events of the user", history),
    ):
        for metric in ("ndcg", "log_loss"):
            table = stratum_table(summary, models, metric, strata)
            parts.append(f"{title}, {MAIN[metric]}:\n\n{table}" if table else "")
    sure = [model for model in models if figure_of(summary, model, WIDTH)["n"] > 0]
    table = stratum_table(summary, sure, WIDTH, cold) if sure else ""
    parts.append(f"Width of the intervals of mass 0.9, in logits:\n\n{table}" if table else "")
    return "\n".join(part for part in parts if part)


def stratum_table(
    summary: pd.DataFrame, models: Sequence[str], metric: str, strata: Sequence[str]
) -> str:
    """A column per stratum."""
    counts = {s: max(figure_of(summary, m, metric, s)["n"] for m in models) for s in strata}
    used = [s for s in strata if counts[s] > 0]
    if not used:
        return ""
    best = {s: best_of(summary, models, metric, s) for s in used}
    lines = [
        [f"`{m}`", *(shown(figure_of(summary, m, metric, s), True, best[s] == m) for s in used)]
        for m in models
    ]
    heads = ["model", *(f"{s.replace('=', ' ')} (n={counts[s]:,.0f})" for s in used)]
    return markdown(heads, lines)


def ablation_table(result: Any, ours: str, variants: Sequence[str]) -> str:
    """What the model is without a part, as differences too."""
    done = {row["model"] for row in result.done}
    models = [name for name in variants if name in done]
    if ours not in done or not models:
        return ""
    summary = result.summary
    lines = []
    for model in (ours, *models):
        cells = [shown(figure_of(summary, model, metric), True) for metric in WITH_INTERVAL]
        pair = f"{model} - {ours}"
        cells += [shown(figure_of(summary, pair, metric), True) for metric in WITH_INTERVAL]
        lines.append([f"`{model}`", *cells, *costs(result, model)])
    heads = [
        "variant",
        "log loss",
        "NDCG@10",
        "log loss, less the whole",
        "NDCG@10, less the whole",
    ]
    return "Without a part:\n\n" + markdown([*heads, "fit s", "score s", "peak MB"], lines)
