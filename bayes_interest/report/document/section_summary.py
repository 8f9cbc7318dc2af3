"""The first screen: four questions, answered in words and a few numbers."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from bayes_interest.evaluation.verdicts import DISTRUST, GOOD, LOOK
from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Card, Cards, Section
from bayes_interest.report.document.judged import Judged
from bayes_interest.report.document.people import Person
from bayes_interest.report.document.section_model import meaning
from bayes_interest.report.document.section_people import change_words, likes_most
from bayes_interest.report.document.section_population import UNSURE, sure_words
from bayes_interest.report.document.section_trust import (
    calibration_words,
    surely_off,
    verdicts,
    worst_checks,
)
from bayes_interest.report.document.words import count, listed, many, percent, quoted, short
from bayes_interest.schema import LOWER, MEAN, SLATE_CERTAINTY, UPPER

LINES = 4
TRUST = {
    GOOD: "Yes, as far as was checked.",
    LOOK: "With care: something needs a look.",
    DISTRUST: "Not as it stands: at least one check failed.",
}


def summary_section(
    asked: Asked,
    people: list[Person],
    population: pd.DataFrame,
    checks: pd.DataFrame,
    judged: Judged | None,
) -> Section:
    """Who is interested in what, how sure, what changed, can it be trusted."""
    cards = (
        _who(asked, people),
        _sure(asked, people, population),
        _changed(asked, people),
        _trust(checks, judged),
    )
    return Section("summary", "In short", (Cards(cards),))


def _who(asked: Asked, people: list[Person]) -> Card:
    answer, lines = _favourite(asked, people), []
    for person in people[:LINES]:
        name, row = likes_most(asked, person)
        if row is None:
            lines.append(f"User {short(person.user_id)}: nothing is left to recommend.")
            continue
        span = f"{percent(row[LOWER])} to {percent(row[UPPER])}"
        about = f" ({person.reason})" if person.reason else ""
        lines.append(
            f"User {short(person.user_id)}{about}: most of all {quoted(name)}, "
            f"{percent(row[MEAN])} ({span})."
        )
    lines.append(f"Interest is {meaning(asked)}.")
    return Card("Who is interested in what?", answer, tuple(lines))


def _favourite(asked: Asked, people: list[Person]) -> str:
    """What comes first for most of the users shown."""
    first = Counter(name for name, row in (likes_most(asked, p) for p in people) if row is not None)
    if not first:
        return "Nobody shown has an item left to recommend."
    name, times = first.most_common(1)[0]
    if len(people) == 1:
        return f"{quoted(name)} comes first."
    if times == 1:
        return f"Each of the {len(people)} users shown has another favourite."
    return f"{quoted(name)} comes first for {times} of the {len(people)} users shown."


def _sure(asked: Asked, people: list[Person], population: pd.DataFrame) -> Card:
    sure = population[SLATE_CERTAINTY].dropna()
    lines = []
    if len(sure):
        unsure = int((sure < UNSURE).sum())
        lines.append(
            f"Of {count(unsure)} of {many(len(sure), 'user')} the list is little more than a guess "
            f"(less than {percent(UNSURE)} of it expected right)."
        )
    widths = pd.concat([person.slate[UPPER] - person.slate[LOWER] for person in people])
    if len(widths):
        lines.append(
            f"A {percent(asked.prob)} interval of the items listed here is "
            f"{percent(float(widths.median()))} wide (median)."
        )
    members = len(asked.posterior.members)
    lines.append(
        "Intervals hold what is unknown of users, items and the global parameters "
        f"({members} draws)."
        if members
        else "Intervals hold what is unknown of users and items, not of the global parameters."
    )
    return Card("How sure is that?", sure_words(asked, population), tuple(lines))


def _changed(asked: Asked, people: list[Person]) -> Card:
    found = [(person, row) for person in people for _, row in person.credible.head(2).iterrows()]
    n_changes = sum(len(person.credible) for person in people)
    moved = sum(bool(len(person.credible)) for person in people)
    if not n_changes:
        answer = (
            f"Nothing that is sure enough to name, among the {many(len(people), 'user')} shown."
        )
    else:
        shown = f"{moved} of the {many(len(people), 'user')} shown"
        answer = f"{many(n_changes, 'change')} sure enough to name, of {shown}."
    found.sort(key=lambda one: -abs(float(one[1]["change"])))
    lines = [
        f"User {short(person.user_id)}: {change_words(asked, person, row)}."
        for person, row in found[:LINES]
    ]
    span = (
        "between the user's first and last event" if asked.since is None else f"since {asked.since}"
    )
    lines.append(f"Named is a change {span} whose {percent(asked.prob)} interval leaves out zero.")
    return Card("What changed?", answer, tuple(lines))


def _trust(checks: pd.DataFrame, judged: Judged | None) -> Card:
    tally = verdicts(checks)
    verdict = next(name for name in (DISTRUST, LOOK, GOOD) if tally[name] or name == GOOD)
    lines = [
        f"{many(len(checks), 'check')} of the fit: {tally[GOOD]} good, {tally[LOOK]} worth a look, "
        f"{tally[DISTRUST]} not to be trusted."
    ]
    if worst := worst_checks(checks):
        what = "Not to be trusted" if verdict == DISTRUST else "Look at"
        lines.append(f"{what}: {listed(worst[:LINES])}.")
    lines.append(calibration_words(judged))
    if verdict == GOOD and surely_off(judged):
        verdict = LOOK
    answer = TRUST[verdict]
    if verdict == GOOD and (judged is None or judged.calibration is None):
        answer = "The checks are good; whether probabilities come true was not measured."
    return Card("Can I trust this?", answer, tuple(lines), verdict)
