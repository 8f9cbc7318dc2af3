"""The sections that say whether the model can be trusted: checks and calibration."""

from __future__ import annotations

import pandas as pd

from bayes_interest.evaluation.verdicts import DISTRUST, GOOD, LOOK
from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Block, Column, Section, Table, Text
from bayes_interest.report.document.figures import picture
from bayes_interest.report.document.judged import Judged
from bayes_interest.report.document.words import count, listed, many, number, percent
from bayes_interest.report.reliability import plot_reliability

MIN_EVENTS = 20
FIGURES = {
    "log_loss": "log loss (lower is better)",
    "accuracy": "accuracy",
    "auc": "area under the curve",
    "ndcg": "NDCG",
    "hit_rate": "hit rate",
    "mrr": "mean reciprocal rank",
}


def verdicts(checks: pd.DataFrame) -> dict[str, int]:
    """How many checks came out how."""
    found = checks["verdict"].value_counts()
    return {name: int(found.get(name, 0)) for name in (GOOD, LOOK, DISTRUST)}


def worst_checks(checks: pd.DataFrame) -> list[str]:
    """Names of the checks of the worst verdict that came up, if any is not good."""
    for name in (DISTRUST, LOOK):
        own = checks.loc[checks["verdict"] == name, "check"]
        if len(own):
            return [str(check) for check in own]
    return []


def checks_section(checks: pd.DataFrame) -> Section:
    """Every check of `diagnose` with its limit."""
    tally = verdicts(checks)
    lead = (
        f"{many(len(checks), 'check')}: {tally[GOOD]} good, {tally[LOOK]} worth a look, "
        f"{tally[DISTRUST]} not to be trusted."
    )
    shown = (
        Column("check", "check"),
        Column("value", "value", "number"),
        Column("threshold", "limit of good", "number"),
        Column("verdict", "verdict", "verdict"),
        Column("meaning", "what it means"),
    )
    worst = {DISTRUST: 0, LOOK: 1, GOOD: 2}
    ordered = checks.sort_values("verdict", key=lambda v: v.map(worst), kind="stable")
    blocks: list[Block] = [
        Text(lead),
        Table("checks", "Checks of the fit, the worst first", ordered, shown, limit=len(checks)),
    ]
    absent = checks.attrs.get("absent", {})
    if absent:
        gone = "; ".join(f"{check} ({reason})" for check, reason in absent.items())
        blocks.append(Text(f"Not checked: {gone}.", "note"))
    return Section("checks", "Checks", tuple(blocks))


def surely_off(judged: Judged | None) -> bool:
    """Whether probabilities are off by more than chance alone shows."""
    if judged is None or judged.calibration is None:
        return False
    error, limit = judged.error(judged.best_name)
    return error > limit


def calibration_words(judged: Judged | None) -> str:
    """In one sentence whether probabilities came true."""
    if judged is None:
        return "Whether the probabilities come true was not measured: no later events were given."
    if judged.calibration is None:
        return f"Whether the probabilities come true could not be measured: {judged.reason}."
    error, limit = judged.error(judged.best_name)
    if judged.n_events < MIN_EVENTS:
        told = "too few to tell much"
    elif not surely_off(judged):
        told = "no more than chance alone shows"
    else:
        told = "more than chance alone shows"
    return (
        f"Over {many(judged.n_events, 'later event')} the probabilities are off by "
        f"{points(error)} on average; chance alone shows up to {points(limit)}: {told}."
    )


def points(value: float) -> str:
    """A distance of probabilities."""
    return f"{number(round(100.0 * value, 1))} points"


def calibration_section(asked: Asked, judged: Judged | None) -> Section:
    """Predicted against observed, where there are later events."""
    blocks: list[Block] = [Text(calibration_words(judged), "" if judged else "warn")]
    if judged is None:
        blocks.append(
            Text(
                "To measure it, hold back the last part of the log: train, test = "
                "bi.split_by_time(log, fraction=0.1), fit on train, and pass events=test to the "
                "report. Each event is then predicted from what came before it."
            )
        )
        return Section("calibration", "Calibration", tuple(blocks))
    if judged.calibration is not None:
        blocks += _curves(asked, judged)
    blocks.append(_figures(judged))
    if asked.posterior.recalibration is None and judged.calibration is not None:
        blocks.append(
            Text(
                "The model is not recalibrated. model.recalibrate(later_events) learns a map that "
                "mends what is off; judge it by events later still.",
                "note",
            )
        )
    return Section("calibration", "Calibration", tuple(blocks))


def _curves(asked: Asked, judged: Judged) -> list[Block]:
    assert judged.calibration is not None
    found = judged.calibration
    own = found.curve[found.curve["stratum"] == "all"]
    about = " The probability judged is that of the most probable item." * (
        asked.emission == "choice"
    )
    errors = [f"{name}, {points(judged.error(name)[0])}" for name in dict.fromkeys(own["model"])]
    low, high = own["mean_predicted"].min(), own["mean_predicted"].max()
    alt = (
        f"Reliability curve of {count(judged.n_events)} later events: predictions from "
        f"{percent(low)} to {percent(high)} against the share that came true; mean distance from "
        f"the diagonal: {listed(errors)}."
    )
    caption = (
        "Right probabilities lie on the diagonal. Bars are intervals from resampling users." + about
    )
    summary = found.summary
    keep = summary["metric"].isin(["calibration_error", "calibration_error_by_chance"])
    wide = summary[keep].pivot_table(
        index=["model", "stratum"], columns="metric", values=["value", "n"], sort=False
    )
    table = pd.DataFrame(
        {
            "calibration_error": wide["value", "calibration_error"],
            "by_chance": wide["value", "calibration_error_by_chance"],
            "n_events": wide["n", "calibration_error"],
        }
    ).reset_index()
    shown = (
        *_which(table),
        Column("stratum", "events of"),
        Column("calibration_error", "error", "number"),
        Column("by_chance", "by chance alone", "number"),
        Column("n_events", "events", "count"),
    )
    return [
        picture("reliability", plot_reliability(found.curve), alt, caption),
        Table("calibration", "Calibration error, by strata", table, shown),
        Text(
            "history: events of the user before; item=cold: items without an event in the log "
            "that was learned from.",
            "note",
        ),
    ]


def _which(table: pd.DataFrame) -> tuple[Column, ...]:
    """A column that says which probabilities are meant, where there are several."""
    return (Column("model", "probabilities"),) if table["model"].nunique() > 1 else ()


def _figures(judged: Judged) -> Table:
    own = judged.figures[judged.figures["metric"].isin(FIGURES)]
    own = own[own["k"].notna() | ~own["metric"].isin(["ndcg", "hit_rate"])]
    own = own[
        (own["stratum"] == "all")
        & ((own["model"] == judged.best_name) | (own["metric"] == "log_loss"))
    ]
    at = own["k"].map(lambda k: "" if pd.isna(k) else f" at {k}")
    frame = own.assign(figure=own["metric"].map(FIGURES) + at)
    frame = frame[["model", "figure", "value", "lower", "upper", "n"]].reset_index(drop=True)
    shown = (
        *_which(frame),
        Column("figure", "figure"),
        Column("value", "value", "number"),
        Column("lower", "lower", "number"),
        Column("upper", "upper", "number"),
        Column("n", "events", "count"),
    )
    return Table("quality", "How well later events were foreseen", frame, shown)
