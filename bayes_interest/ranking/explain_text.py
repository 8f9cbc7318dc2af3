"""An explanation in plain words, for readers who know no statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from bayes_interest.ranking.explain import Explanation

LARGEST = 3
"""Events, and other sources, that the paragraph names."""
LEAST_SHARE = 0.02
"""What is smaller, of all that counts or of what is unsure, is not worth a word."""
SURE, UNSURE = 0.5, 1.0
"""Standard deviations in logits: below the first, odds are known within a factor of about two."""
SOURCES = {
    "prior": "the level of anybody and any item",
    "text": "what the item's text says",
    "item": "what others' events with the item say",
    "popularity": "how much and how lately others have met it",
    "habit": "the habits that no single event makes",
    "context": "the last events taken together",
    "rest": "events that came late",
}
UNCERTAIN = {
    "state": "what the past events leave open about this person",
    "walk": "the time since the last event, in which interest may have moved",
    "item": "how little is known of the item itself",
    "text": "what texts have to do with interest",
    "globals": "the settings that all users share",
}


def titled(item_id: Any, labels: Mapping[Any, str]) -> str:
    """An item's title, or its id."""
    return str(labels.get(item_id, item_id))


def _seen(emission: str, kind: str, value: float) -> str:
    """What was seen in an event."""
    outcome = {
        "rating": f", rated {value:g}",
        "bernoulli": ", engaged" if value else ", not engaged",
    }
    return outcome.get(emission, "") + (f", {kind}" if kind else "")


def lines_of(told: Explanation, labels: Mapping[Any, str]) -> pd.DataFrame:
    """Contributions with words: a row per event, and one for each other source, largest first.

    Columns: source, words, contribution, share.
    """
    contributions, emission = told.contributions, told.emission
    event = contributions["source"] == "event"
    events = contributions[event]
    if events["kind"].nunique() < 2:  # then it says nothing
        events = events.assign(kind="")
    columns = ("item_id", "timestamp", "kind", "value")
    words = [
        f"{titled(item, labels)}, {moment.date().isoformat()}{_seen(emission, kind, value)}"
        for item, moment, kind, value in zip(*(events[name] for name in columns), strict=True)
    ]
    alone = events[["source", "contribution"]].assign(words=words)
    others = contributions[~event].groupby("source", sort=False)["contribution"].sum().reset_index()
    others["words"] = others["source"].map(SOURCES)
    both = pd.concat([part for part in (alone, others) if len(part)], ignore_index=True)
    size = both["contribution"].abs()
    both["share"] = size / size.sum()
    return both.iloc[size.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def explanation_text(told: Explanation) -> str:
    """See `Explanation.text`."""
    names = {item: f'"{title}"' for item, title in told.labels.items()}
    parts = [_answer(told, names), *_reasons(told, names), _doubts(told), _help(told, names)]
    if told.recalibrated:
        parts.append(
            "The chance has been corrected by how earlier ones came true; its parts are those from "
            "before that."
        )
    return " ".join(part for part in parts if part)


def _percent(chance: float) -> str:
    return f"{100.0 * chance:.2g} %" if chance < 0.995 else f"{100.0 * chance:.4g} %"


def _answer(told: Explanation, names: Mapping[Any, str]) -> str:
    sd = math.sqrt(told.uncertainty["variance"].sum())
    how = "fairly sure" if sd < SURE else "rather unsure" if sd < UNSURE else "very unsure"
    return (
        f"On {told.at.date().isoformat()} the chance that user {told.user_id} "
        f"{told.outcome} {titled(told.item_id, names)} is about {_percent(told.mean)}; the "
        f"model is {how} of this: with {_percent(told.prob)} certainty the chance lies between "
        f"{_percent(told.lower)} and {_percent(told.upper)}."
    )


def _reasons(told: Explanation, names: Mapping[Any, str]) -> list[str]:
    lines = lines_of(told, names)
    events = lines[lines["source"] == "event"]
    others = lines[(lines["source"] != "event") & (lines["share"] >= LEAST_SHARE)].head(LARGEST)
    if not len(events):
        said = "Nothing has been seen of this person yet: this is the answer for anybody"
        return [f"{said}, made of {_listed(others)}." if len(others) else f"{said}."]
    most = events.head(LARGEST)
    if len(events) > LARGEST:
        total = "raise" if events["contribution"].sum() > 0 else "lower"
        said = f"The {len(events)} past events together {total} it; of them these weigh most"
    else:
        said = "These past events bear on it"
    return [f"{said}: {_listed(most)}.", f"Beside them: {_listed(others)}." if len(others) else ""]


def _listed(lines: pd.DataFrame) -> str:
    """Each with what it does, in per cent of all that counts."""
    parts = [
        f"{words} ({'raises' if value > 0 else 'lowers'} it, {_percent(share)} of all that counts)"
        for words, value, share in zip(
            lines["words"], lines["contribution"], lines["share"], strict=True
        )
    ]
    return "; ".join(parts)


def _doubts(told: Explanation) -> str:
    most = told.uncertainty.iloc[0]
    if most["variance"] <= 0.0:
        return ""
    why = UNCERTAIN[most["source"]]
    if most["source"] == "state" and not (told.contributions["source"] == "event").any():
        why = "what this person's interests are"
    return f"Most of what is unsure ({_percent(most['share'])}) is {why}."


def _help(told: Explanation, names: Mapping[Any, str]) -> str:
    if not len(told.next_observations):
        return ""
    best = told.next_observations.iloc[0]
    if best["reduction"] <= 0.0:
        return "No single further event would make this surer."
    title, share = titled(best["item_id"], names), _percent(best["share"])
    if best["share"] < LEAST_SHARE:
        return (
            f"No single further event would make this much surer: the best, with {title}, takes "
            f"away {share} of what is unsure on average."
        )
    return (
        f"An event with {title} would tell most: on average it takes away {share} of what is "
        "unsure."
    )
