"""The users that a report shows one by one, and what the model says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.report.document.asked import Asked
from bayes_interest.schema import ITEM_ID, MEAN, SECONDS_PER_DAY, SLATE_CERTAINTY, USER_ID

FIRST_EVENT, LAST_EVENT, N_EVENTS, DRIFTED = "first_event", "last_event", "n_events", "drifted"
POINTS_IN_TIME = 24
PATHS = 4
ITEMS_COMPARED = 5
N_DRAWS = 200


@dataclass(frozen=True)
class Person:
    """One user.

    Attributes:
        user_id: the user.
        reason: why this one is shown.
        facts: the user's row of `population`.
        slate: see `rank`.
        themes: see `interest`, with a column theme; None without themes.
        path: see `trajectory`, of some themes or of the best items; None without two moments.
        changes: see `changes`, of all themes or of the best items; None without two moments.
        explanation: of the first item of the slate; None where the slate is empty.
    """

    user_id: Any
    reason: str
    facts: pd.Series[Any]
    slate: pd.DataFrame
    themes: pd.DataFrame | None
    path: pd.DataFrame | None
    changes: pd.DataFrame | None
    explanation: Any

    @property
    def column(self) -> str:
        """What `path` and `changes` are of: theme or item_id."""
        return ITEM_ID if self.themes is None else "theme"

    @property
    def credible(self) -> pd.DataFrame:
        """The changes whose interval leaves out zero, the largest first."""
        if self.changes is None:
            return pd.DataFrame(columns=[USER_ID, self.column, "change", "lower", "upper"])
        own = self.changes
        inner = np.maximum(own["lower"], -own["upper"])
        kept = own[inner > 0]
        return kept.loc[kept["change"].abs().sort_values(ascending=False, kind="stable").index]


REASONS = (
    (SLATE_CERTAINTY, False, "surest"),
    (SLATE_CERTAINTY, True, "least sure"),
    (DRIFTED, False, "moved most"),
    (N_EVENTS, False, "most events"),
    (LAST_EVENT, False, "latest active"),
)


def telling(population: pd.DataFrame) -> dict[Any, str]:
    """A few users with the reason for each: the extremes of the population."""
    own = population[population[N_EVENTS] > 0]
    chosen: dict[Any, str] = {}
    for column, ascending, reason in REASONS:
        order = own.sort_values(column, ascending=ascending, kind="stable", na_position="last")
        fresh = [user for user in order[USER_ID] if user not in chosen]
        if fresh:
            chosen[fresh[0]] = reason
    return chosen


def meet(
    asked: Asked, user: Any, reason: str, facts: pd.Series[Any], themes: Mapping[str, object]
) -> Person:
    """Everything that the report says of one user."""
    model = asked.model
    slate = model.rank(
        [user], asked.k, prob=asked.prob, seed=asked.seed, n_draws=N_DRAWS, abstain=0.0
    )
    now = None
    if themes:
        now = model.interest([user], themes=themes, prob=asked.prob, n_draws=N_DRAWS)
        now = now.sort_values(MEAN, ascending=False, kind="stable", ignore_index=True)
    targets: dict[str, Any] = {"themes": themes}
    best = slate[ITEM_ID].head(ITEMS_COMPARED).tolist()
    if not themes:
        targets = {"items": best or asked.posterior.vocabulary.items.ids[:ITEMS_COMPARED].tolist()}
    changes = _changes(asked, user, facts, targets)
    path = _path(asked, user, facts, _few(targets, now, changes))
    explanation = None
    if best:
        explanation = model.explain(
            user, best[0], prob=asked.prob, seed=asked.seed, labels=asked.titles
        )
    return Person(user, reason, facts, slate, now, path, changes, explanation)


def _changes(
    asked: Asked, user: Any, facts: pd.Series[Any], targets: dict[str, Any]
) -> pd.DataFrame | None:
    """Between the user's first and last event, or since the asked date until now."""
    since, at = asked.since, None
    if since is None:
        since, at = facts[FIRST_EVENT], facts[LAST_EVENT]
        if pd.isna(since) or not since < at:
            return None
    return asked.model.changes(
        [user], since=since, at=at, prob=asked.prob, n_draws=N_DRAWS, seed=asked.seed, **targets
    )


def _few(
    targets: dict[str, Any], now: pd.DataFrame | None, changes: pd.DataFrame | None
) -> dict[str, Any]:
    """The themes that a picture has room for: the strongest, and the most moved."""
    if now is None:
        return {"items": targets["items"][:PATHS]}
    wanted = list(now["theme"])
    if changes is not None:
        moved = changes.set_index("theme")["change"].abs().sort_values(ascending=False)
        wanted = [*wanted[: PATHS // 2], *moved.index, *wanted]
    kept = list(dict.fromkeys(wanted))[:PATHS]
    return {"themes": {name: targets["themes"][name] for name in kept}}


def _path(
    asked: Asked, user: Any, facts: pd.Series[Any], targets: dict[str, Any]
) -> pd.DataFrame | None:
    """At the user's events, or on a grid where they are many."""
    if pd.isna(facts[FIRST_EVENT]) or not facts[FIRST_EVENT] < facts[LAST_EVENT]:
        return None
    days = (facts[LAST_EVENT] - facts[FIRST_EVENT]).total_seconds() / SECONDS_PER_DAY
    every = days / POINTS_IN_TIME if facts[N_EVENTS] > POINTS_IN_TIME else None
    return asked.model.trajectory([user], every_days=every, prob=asked.prob, **targets)
