"""The section on the data: how much there is, of what kinds, and what reading dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.events.validate import CleaningReport
from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Block, Column, Facts, Section, Table, Text
from bayes_interest.report.document.words import count, date, many, number, percent
from bayes_interest.schema import KIND


def data_section(asked: Asked) -> Section:
    """What the model has absorbed."""
    blocks: list[Block] = [Facts(tuple(_facts(asked))), Text(_events_per_user(asked))]
    kinds = kinds_table(asked)
    if len(kinds) > 1:
        shown = (
            Column(KIND, "kind"),
            Column("n_events", "events", "count"),
            Column("share", "share", "percent"),
            Column("mean_outcome", "mean outcome", "number"),
        )
        blocks.append(Table("kinds", "Kinds of events", kinds, shown))
    blocks += _cleaning(asked)
    return Section("data", "The data", tuple(blocks))


def _facts(asked: Asked) -> list[tuple[str, str]]:
    posterior = asked.posterior
    history = posterior.history
    absorbed = history.take(history.absorb)
    facts = [
        ("users", count(len(posterior.vocabulary.users))),
        ("items", count(len(posterior.vocabulary.items))),
        ("items with text", count(int(posterior.has_text.sum()))),
        ("events learned from", count(len(absorbed))),
    ]
    if len(absorbed):
        first, last = (pd.Timestamp(s, unit="s", tz="UTC") for s in _span(absorbed.seconds))
        facts += [("first event", date(first)), ("last event", date(last))]
    if asked.emission == "bernoulli" and len(absorbed):
        facts.append(("share of positive outcomes", percent(float(absorbed.outcome.mean()))))
    if asked.emission == "rating" and len(absorbed):
        levels = np.asarray(posterior.vocabulary.levels)
        mean = levels[absorbed.outcome.astype(int)].mean()
        facts.append(("mean rating", number(float(mean))))
    if len(absorbed) < len(history):
        facts.append(("events seen only", count(len(history) - len(absorbed))))
    return facts


def _span(seconds: np.ndarray) -> tuple[float, float]:
    return float(seconds.min()), float(seconds.max())


def _events_per_user(asked: Asked) -> str:
    lengths = asked.posterior.history.lengths
    some = lengths[lengths > 0]
    if not len(some):
        return "The model has absorbed no event: everything below is its prior."
    low, mid, high = np.quantile(some, [0.1, 0.5, 0.9])
    text = (
        f"Half of the users have {number(round(mid))} events or more; one in ten has "
        f"{number(round(low))} or fewer, one in ten {number(round(high))} or more."
    )
    few = float((some < 5).mean())
    if few > 0.0:
        text += (
            f" {percent(few)} of the users have fewer than 5 events: of them little can be said."
        )
    items = np.bincount(
        asked.posterior.history.item_index, minlength=asked.posterior.layout.n_items
    )
    bare = float((items == 0).mean())
    if bare > 0.0:
        text += f" {percent(bare)} of the items have no event and are known by their text at most."
    return text


def kinds_table(asked: Asked) -> pd.DataFrame:
    """kind, n_events, share, mean_outcome of the absorbed events."""
    history = asked.posterior.history
    absorbed = history.take(history.absorb)
    frame = pd.DataFrame(
        {
            KIND: np.asarray(asked.posterior.vocabulary.kinds, dtype=object)[absorbed.kind_index],
            "outcome": absorbed.outcome,
        }
    )
    found = frame.groupby(KIND, sort=False)["outcome"].agg(n_events="size", mean_outcome="mean")
    found.insert(1, "share", found["n_events"] / max(len(frame), 1))
    order = np.argsort(-found["n_events"].to_numpy(), kind="stable")
    return found.iloc[order].reset_index()


def _cleaning(asked: Asked) -> list[Block]:
    reports = {
        "log": asked.cleaning,
        "later_events": None if asked.events is None else asked.events.report,
        "items": None if asked.items is None else asked.items.report,
    }
    blocks: list[Block] = []
    for name, report in reports.items():
        if report is not None:
            blocks += _cleaned(name, report)
    if asked.cleaning is None:
        blocks.append(
            Text(
                "What reading the log dropped is not known here: pass cleaning=log.report, where "
                "log is what read_events returned.",
                "note",
            )
        )
    return blocks


def _cleaned(name: str, report: CleaningReport) -> list[Block]:
    words = name.replace("_", " ")
    dropped = "none was dropped" if not report.rows_dropped else f"{report.rows_dropped:,} dropped"
    text = (
        f"Reading the {words}: {many(report.rows_in, 'row')} read, {report.rows_out:,} kept, "
        f"{dropped}."
    )
    blocks: list[Block] = [Text(" ".join([text, *(f"{note}." for note in report.notes)]), "note")]
    if report.dropped:
        shown = (
            Column("reason", "reason"),
            Column("rows", "rows", "count"),
            Column("example", "example"),
        )
        caption = f"What reading the {words} dropped"
        blocks.append(Table(f"dropped_{name}", caption, report.to_frame(), shown))
    return blocks
