"""The uncertainty report: one HTML page for people, with Markdown and tables beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.events.validate import CleaningReport
from bayes_interest.posterior.predict import clock
from bayes_interest.report.document.asked import Asked, ask
from bayes_interest.report.document.blocks import Section
from bayes_interest.report.document.judged import judge
from bayes_interest.report.document.people import Person, meet, telling
from bayes_interest.report.document.render import files, html_page, markdown_page
from bayes_interest.report.document.section_data import data_section
from bayes_interest.report.document.section_fit import fit_section
from bayes_interest.report.document.section_model import limits_section, model_section
from bayes_interest.report.document.section_people import people_section
from bayes_interest.report.document.section_population import population_section
from bayes_interest.report.document.section_summary import summary_section
from bayes_interest.report.document.section_trust import calibration_section, checks_section
from bayes_interest.report.document.words import date, many, percent
from bayes_interest.report.document.write import Places, places_of, write_all
from bayes_interest.schema import USER_ID

N_THEMES = 8
CHECKED_USERS, CHECK_DRAWS = 50, 200
NEEDED = ("jinja2", "matplotlib")


@dataclass(frozen=True)
class ReportFiles:
    """What `report` wrote.

    Attributes:
        html: the page, which needs no other file.
        markdown: the same as Markdown, with the pictures from `figures`.
        folder: holds tables and figures.
        tables: CSV files, whole and unrounded, by name.
        figures: picture files by name.
    """

    html: Path
    markdown: Path
    folder: Path
    tables: Mapping[str, Path]
    figures: Mapping[str, Path]

    def __str__(self) -> str:
        return str(self.html)


def report(
    model: Any,
    path: str | Path,
    users: Iterable[Any] | None = None,
    events: object | None = None,
    items: object | None = None,
    themes: Mapping[str, object] | None = None,
    prob: float = 0.9,
    k: int = 10,
    title: str = "Interest, and how sure it is",
    seed: int = 0,
    *,
    labels: Mapping[Any, str] | None = None,
    cleaning: CleaningReport | None = None,
    since: object = None,
    n_users: int | None = 60,
) -> ReportFiles:
    """Write what a model says, how sure it is and whether to trust it, for people.

    One HTML file that needs no network: in short, the data, the model, the fit, checks,
    calibration, all users, some users one by one, limits. Beside it, under the same name, the text
    as Markdown and a folder `<name>_files` with every table as CSV and every picture. Files that
    are there are replaced when the new ones are whole.

    Args:
        model: a fitted `InterestModel`.
        path: where to write, ending in .html.
        users: whom to show one by one; by default a telling few: the surest, the least sure, the
            one that moved most, the longest and the latest history.
        events: events later than those absorbed, to measure calibration with; not absorbed.
        items: item table (anything `read_items` takes). Its column title, name or label, else the
            beginning of the text, names items; by default their ids do.
        themes: as for `InterestModel.interest`. By default found in the texts of `items`; {} leaves
            themes out, as does an item table without texts.
        prob: mass of every interval.
        k: length of the slates.
        title: heading of the page.
        seed: of everything random; the same seed gives the same report.
        labels: item_id to title, instead of those in `items`.
        cleaning: the `report` of the log that was fitted, to tell what reading it dropped.
        since: tell changes since this date until now, for all users; by default between each
            user's first and last event.
        n_users: how many users, drawn at random, the section on all users asks; None asks all. A
            user of a choice model with ten thousand items takes most of a second.

    Returns:
        The paths that were written.

    Raises:
        NotFittedError: the model is not fitted.
        ConfigError: something else than an `InterestModel`.
        InputError: an unknown user, an impossible option, a path that does not end in .html, or
            matplotlib or jinja2 is missing.
        TimeOrderError: events that are not later than those absorbed.
        ItemError: an unknown item in `labels` or `themes`.
        StorageError: the files cannot be written.
    """
    places = places_of(path)
    for library in NEEDED:
        if find_spec(library) is None:
            raise InputError(
                f'a report needs {library}, which is missing: pip install "bayes-interest[report]"'
            )
    asked = ask(
        model, users, events, items, themes, labels, cleaning, since, prob, k, seed, n_users
    )
    sections = _sections(asked)
    about = _about(asked)
    beside = files(sections)
    pages = (
        html_page(title, about, sections),
        markdown_page(title, about, sections, places.folder.name),
    )
    write_all(places, pages, beside)
    return _written(places, beside)


def _sections(asked: Asked) -> list[Section]:
    """Ask the model everything, then tell it."""
    judged = judge(asked)  # first: later events that are none are the likeliest mistake
    checks = asked.model.diagnose(n_users=CHECKED_USERS, n_draws=CHECK_DRAWS, seed=asked.seed)
    population = asked.model.population(_sample(asked), k=asked.k, seed=asked.seed)
    people = _people(asked, population)
    return [
        summary_section(asked, people, population, checks, judged),
        people_section(asked, people),
        population_section(asked, population),
        calibration_section(asked, judged),
        checks_section(checks),
        data_section(asked),
        model_section(asked),
        fit_section(asked, asked.model.fit_report(), asked.model.summary(asked.prob)),
        limits_section(asked),
    ]


def _sample(asked: Asked) -> list[Any]:
    """The users of the section on all users: those asked for, and of the rest as many as may be."""
    every = asked.posterior.vocabulary.users.ids.tolist()
    many = len(every) if asked.n_users is None else asked.n_users
    drawn = np.random.default_rng(asked.seed).permutation(len(every))[:many]
    return list(dict.fromkeys([*(asked.users or []), *(every[place] for place in np.sort(drawn))]))


def _people(asked: Asked, population: pd.DataFrame) -> list[Person]:
    reasons = telling(population)
    chosen = (
        reasons if asked.users is None else {user: reasons.get(user, "") for user in asked.users}
    )
    facts = population.set_index(population[USER_ID].astype(object))
    themes = _themes(asked)
    return [meet(asked, user, why, facts.loc[user], themes) for user, why in chosen.items()]


def _themes(asked: Asked) -> Mapping[str, object]:
    from bayes_interest.report.document.themes import found_themes

    return asked.themes if asked.themes is not None else found_themes(asked, N_THEMES)


def _about(asked: Asked) -> str:
    known = asked.posterior
    latest = pd.Timestamp(clock(known), unit="s", tz="UTC")
    told = [
        f"{many(len(known.vocabulary.users), 'user')}, "
        f"{many(len(known.vocabulary.items), 'item')}, "
        f"{many(int(known.history.absorb.sum()), 'event')}.",
        f"State at the latest event, {date(latest)}." if len(known.history) else "",
        f"Figures in brackets are {percent(asked.prob)} intervals.",
    ]
    return " ".join(part for part in told if part)


def _written(places: Places, beside: Mapping[str, bytes]) -> ReportFiles:
    by_kind: dict[str, dict[str, Path]] = {"tables": {}, "figures": {}}
    for name in beside:
        place = places.folder / name
        by_kind[name.partition("/")[0]][place.stem] = place
    return ReportFiles(
        places.html, places.markdown, places.folder, by_kind["tables"], by_kind["figures"]
    )
