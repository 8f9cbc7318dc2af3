"""The section of the chosen users: what each is interested in, what changed, and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import (
    Block,
    Column,
    Facts,
    Figure,
    Section,
    Table,
    Text,
)
from bayes_interest.report.document.figures import picture
from bayes_interest.report.document.people import FIRST_EVENT, LAST_EVENT, N_EVENTS, Person
from bayes_interest.report.document.words import (
    change,
    count,
    date,
    listed,
    missing,
    number,
    percent,
    plain,
    quoted,
    short,
    span,
)
from bayes_interest.schema import (
    ITEM_ID,
    LOWER,
    MEAN,
    P_TOP_K,
    RANK,
    SLATE_CERTAINTY,
    TIMESTAMP,
    UPPER,
    USER_ID,
)

THEME, TITLE = "theme", "title"
THEMES_SHOWN, CHANGES_SHOWN = 8, 8
FOUND_THEMES = (
    "No themes were given. These are groups of items that the same people are drawn to, named by "
    "the words that are typical of their texts; report(..., themes=...) takes better ones."
)


def people_section(asked: Asked, people: list[Person]) -> Section:
    """An overview, then a part for each user."""
    lead = Text(
        "Chosen because they stand at an end of the population; pass users=[...] for others."
        if asked.users is None
        else f"The {count(len(people))} users asked for."
    )
    leads: list[Block] = [lead]
    if asked.themes is None and any(person.themes is not None for person in people):
        leads.append(Text(FOUND_THEMES, "note"))
    frame = pd.DataFrame([_overview(asked, person) for person in people])
    reasons = (Column("reason", "shown as"),) if any(frame["reason"]) else ()
    shown = (
        Column(USER_ID, "user"),
        *reasons,
        Column(N_EVENTS, "events", "count"),
        Column("likes_most", "likes most"),
        Column(MEAN, "interest", "interval"),
        Column(SLATE_CERTAINTY, "sure of the list", "percent"),
        Column("n_changes", "changes", "count"),
    )
    table = Table("users", "The users at a glance", frame, shown, limit=len(frame))
    parts = tuple(_part(asked, place, person) for place, person in enumerate(people, start=1))
    return Section("users", "Users", (*leads, table), parts)


def likes_most(asked: Asked, person: Person) -> tuple[str, pd.Series[Any] | None]:
    """The strongest theme, or the first item of the slate, with its row."""
    if person.themes is not None and len(person.themes):
        row = person.themes.iloc[0]
        return plain(row[THEME]), row
    if len(person.slate):
        row = person.slate.iloc[0]
        return asked.title(row[ITEM_ID]), row
    return "–", None


def _overview(asked: Asked, person: Person) -> dict[str, Any]:
    name, row = likes_most(asked, person)
    figures = {
        key: float("nan") if row is None else float(row[key]) for key in (MEAN, LOWER, UPPER)
    }
    return {
        USER_ID: person.user_id,
        "reason": person.reason,
        N_EVENTS: int(person.facts[N_EVENTS]),
        "likes_most": name,
        **figures,
        SLATE_CERTAINTY: float(person.facts[SLATE_CERTAINTY]),
        "n_changes": len(person.credible),
    }


def _part(asked: Asked, place: int, person: Person) -> Section:
    blocks: list[Block] = [Facts(tuple(_facts(person)))]
    if person.themes is not None:
        blocks.append(_themes(person, place))
    if person.path is not None:
        blocks.append(_path(asked, person, place))
    blocks += _changes(asked, person, place)
    blocks += _slate(asked, person, place)
    blocks += _explanation(asked, person, place)
    title = f"User {short(person.user_id)}" + (f", {person.reason}" if person.reason else "")
    return Section(f"user-{place}", title, tuple(blocks))


def _facts(person: Person) -> list[tuple[str, str]]:
    first, last = person.facts[FIRST_EVENT], person.facts[LAST_EVENT]
    sure = person.facts[SLATE_CERTAINTY]
    return [
        ("events", count(person.facts[N_EVENTS])),
        ("first event", "–" if missing(first) else date(first)),
        ("last event", "–" if missing(last) else date(last)),
        ("sure of the list", "–" if missing(sure) else percent(sure)),
    ]


def _themes(person: Person, place: int) -> Table:
    assert person.themes is not None
    shown = (Column(THEME, "theme"), Column(MEAN, "interest", "interval"))
    caption = f"Interest of user {short(person.user_id)} in themes now"
    name = f"themes-{place}"
    return Table(name, caption, person.themes, shown, limit=THEMES_SHOWN, file="user_themes")


def _path(asked: Asked, person: Person, place: int) -> Figure:
    from bayes_interest.report.plots import plot_themes, plot_trajectory

    path = person.path
    assert path is not None
    ends = path.sort_values(TIMESTAMP, kind="stable").groupby(person.column, sort=False)[MEAN]
    told = [
        f"{_name(asked, person, key)} from {percent(own.iloc[0])} to {percent(own.iloc[-1])}"
        for key, own in ends
    ]
    when = span(path[TIMESTAMP].min(), path[TIMESTAMP].max())
    alt = f"Interest of user {short(person.user_id)} over time, {when}: {listed(told)}."
    caption = (
        f"Until the user's last event: mean and {percent(asked.prob)} interval, seen with "
        "hindsight, from all events together."
    )
    if asked.emission == "choice":
        caption += " Habits (repeats, what follows what, likeness) are left out here."
    if person.themes is None:
        axes: Any = plot_trajectory(path, labels=_labels(asked, path[ITEM_ID]))
    else:
        axes = plot_themes(path, labels={name: plain(name) for name in path[THEME].unique()})
    return picture(f"interest-{place}", axes, alt, caption)


def _labels(asked: Asked, items: Any) -> dict[Any, str]:
    return {item: asked.title(item) for item in dict.fromkeys(items)}


def _name(asked: Asked, person: Person, key: object) -> str:
    return quoted(asked.title(key) if person.column == ITEM_ID else plain(key))


def change_words(asked: Asked, person: Person, row: Any) -> str:
    """A change in words, with how sure it is."""
    risen = float(row["change"]) > 0
    sure = float(row["p_risen"] if risen else row["p_fallen"])
    word = "rose" if risen else "fell"
    moved = change(round(100.0 * float(row["probability_change"]), 1))
    name = _name(asked, person, row[person.column])
    return f"interest in {name} {word} ({moved} points, {percent(sure)} sure)"


def _changes(asked: Asked, person: Person, place: int) -> list[Block]:
    if person.changes is None:
        return [Text("All events lie at one moment: there is no time in which to change.", "note")]
    when = span(person.changes["since"].iloc[0], person.changes["at"].iloc[0])
    sure = person.credible
    if len(sure):
        told = [change_words(asked, person, row) for _, row in sure.head(3).iterrows()]
        text = f"{when}: {listed(told)}."
    else:
        text = f"{when}: no change is sure enough to be named."
    frame = person.changes
    order = frame["change"].abs().sort_values(ascending=False, kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    if person.column == ITEM_ID:
        frame = frame.assign(**{TITLE: frame[ITEM_ID].map(asked.title)})
    frame = frame.assign(points=100.0 * frame["probability_change"])
    what = Column(TITLE, "item") if person.column == ITEM_ID else Column(THEME, "theme")
    unit = "log odds" if asked.emission != "choice" else "log probability"
    shown = (
        what,
        Column("change", f"change ({unit})", "interval", as_percent=False),
        Column("points", "in points", "change"),
        Column("p_risen", "chance of a rise", "percent"),
    )
    caption = f"Changes of user {short(person.user_id)}, {when}"
    table = Table(f"changes-{place}", caption, frame, shown, CHANGES_SHOWN, "user_changes")
    return [Text(text), table]


def _slate(asked: Asked, person: Person, place: int) -> list[Block]:
    if not len(person.slate):
        return [Text("The user has met every item: nothing is left to recommend.", "note")]
    frame = person.slate.assign(**{TITLE: person.slate[ITEM_ID].map(asked.title)})
    shown = (
        Column(RANK, "rank", "count"),
        Column(TITLE, "item"),
        Column(MEAN, "interest", "interval"),
        Column(P_TOP_K, f"chance to be in the best {asked.k}", "percent"),
    )
    caption = f"What to show user {short(person.user_id)} first"
    return [Table(f"slate-{place}", caption, frame, shown, asked.k, "user_slates")]


def _explanation(asked: Asked, person: Person, place: int) -> list[Block]:
    from bayes_interest.report.plots import plot_explanation

    found = person.explanation
    if found is None:
        return []
    item = person.slate[ITEM_ID].iloc[0]
    parts = found.contributions
    size = parts["contribution"]
    top = parts.loc[size.abs().sort_values(ascending=False, kind="stable").index].head(3)
    told = [f"{_source(asked, row)} {change(row['contribution'])}" for _, row in top.iterrows()]
    user, title = short(person.user_id), quoted(asked.title(item))
    alt = (
        f"What the score of {title} for user {user} is made of, {number(size.sum())} logits in "
        f"all; most of it: {listed(told)}."
    )
    labels = _labels(asked, [*parts[ITEM_ID].dropna(), item])
    axes = plot_explanation(found, labels=labels)
    caption = f"Why {title} comes first: what adds to the score and what takes from it."
    frame = parts.assign(**{USER_ID: person.user_id, "explained_item_id": item})
    frame = frame.assign(
        **{TITLE: [None if missing(i) else asked.title(i) for i in frame[ITEM_ID]]}
    )
    shown = (
        Column("source", "source"),
        Column("name", "what"),
        Column(TITLE, "item"),
        Column(TIMESTAMP, "when", "date"),
        Column("contribution", "contribution (logits)", "change"),
        Column("share", "share", "percent"),
    )
    table = Table(
        f"explanation-{place}", f"The largest parts of the score of {title}", frame, shown, 6,
        "user_explanations",
    )  # fmt: skip
    return [Text(plain(found.text)), picture(f"explanation-{place}", axes, alt, caption), table]


def _source(asked: Asked, row: Any) -> str:
    item = row[ITEM_ID]
    source = plain(row["source"])
    return source if missing(item) else f"{source} of {quoted(asked.title(item))}"
