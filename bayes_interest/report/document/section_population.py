"""The section on all users: of whom the model is sure, and who moves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Block, Column, Section, Table, Text
from bayes_interest.report.document.figures import picture
from bayes_interest.report.document.people import DRIFTED, FIRST_EVENT, LAST_EVENT, N_EVENTS
from bayes_interest.report.document.words import count, listed, many, number, percent
from bayes_interest.schema import SLATE_CERTAINTY, USER_ID

UNSURE = 0.3
POPULATION_SHOWN = 25


def sure_words(asked: Asked, population: pd.DataFrame) -> str:
    """How sure the lists of all users are, in a sentence."""
    sure = population[SLATE_CERTAINTY].dropna()
    if sure.empty:
        return "How sure the lists are cannot be said: no user has an item left to recommend."
    right = number(round(asked.k * float(sure.median()), 1))
    return (
        f"A typical list of {asked.k} holds about {right} of the user's true best {asked.k} "
        f"(median of {many(len(sure), 'user')})."
    )


def population_section(asked: Asked, population: pd.DataFrame) -> Section:
    """A picture of everybody and a table, the surest first."""
    from bayes_interest.report.plots import plot_population

    ordered = population.sort_values(
        SLATE_CERTAINTY, ascending=False, kind="stable", na_position="last", ignore_index=True
    )
    sure = population[SLATE_CERTAINTY].dropna()
    blocks: list[Block] = [Text(sure_words(asked, population))]
    every = len(asked.posterior.vocabulary.users)
    if len(population) < every:
        drawn = f"{count(len(population))} of {count(every)} users are looked at, drawn at random"
        blocks.append(Text(f"{drawn}; report(..., n_users=None) asks all.", "note"))
    if len(sure):
        share = float((sure < UNSURE).mean())
        blocks.append(
            Text(
                f"Of {percent(share)} of the users the list is little more than a guess (less "
                f"than {percent(UNSURE)} expected right); rank(abstain={UNSURE}) gives them the "
                "popular list instead, and says so."
            )
        )
        blocks.append(picture("population", plot_population(population), _alt(population)))
    shown = (
        Column(USER_ID, "user"),
        Column(N_EVENTS, "events", "count"),
        Column(FIRST_EVENT, "first event", "date"),
        Column(LAST_EVENT, "last event", "date"),
        Column(SLATE_CERTAINTY, "sure of the list", "percent"),
        Column("mean_sd", "mean sd (logits)", "number"),
        Column(DRIFTED, "moved", "number"),
    )
    caption = "Users, the surest list first"
    blocks.append(Table("population", caption, ordered, shown, POPULATION_SHOWN))
    blocks.append(
        Text(
            "sure of the list: expected share of the listed items that are truly among the best. "
            "mean sd: how uncertain the predictor of an item is, on average over items. moved: how "
            "far predictors went from the user's first event to the last, in logits.",
            "note",
        )
    )
    return Section("population", "All users", tuple(blocks))


def _alt(population: pd.DataFrame) -> str:
    own = population[population[SLATE_CERTAINTY].notna()]
    low, mid, high = np.quantile(own[SLATE_CERTAINTY], [0.1, 0.5, 0.9])
    told = [
        f"the certainty of lists runs from {percent(low)} (a tenth of the users is below) over "
        f"{percent(mid)} (half) to {percent(high)} (a tenth is above)"
    ]
    moved = own[DRIFTED].dropna()
    if len(moved):
        told.append(f"half of the users moved by {number(float(moved.median()))} or more")
    if len(own) > 2 and own[N_EVENTS].nunique() > 1 and own[SLATE_CERTAINTY].nunique() > 1:
        rank = float(own[N_EVENTS].rank().corr(own[SLATE_CERTAINTY].rank()))
        told.append(f"rank correlation of certainty with the number of events is {number(rank)}")
    return f"Picture of {count(len(own))} users: {listed(told)}."
