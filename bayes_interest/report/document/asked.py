"""What a report is asked about, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.windows import in_own_order
from bayes_interest.events.read import EventLog, ItemTable, read_events, read_items
from bayes_interest.events.validate import CleaningReport
from bayes_interest.posterior.answers import find_items, listed
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_prob
from bayes_interest.posterior.themes import make_targets
from bayes_interest.report.document.words import plain, short
from bayes_interest.schema import ITEM_ID, TEXT

if TYPE_CHECKING:
    from bayes_interest.report.document.door import Door

TITLE_COLUMNS = ("title", "name", "label")


@dataclass(frozen=True)
class Asked:
    """A model, and what the report shall show of it."""

    model: Door
    posterior: Posterior
    users: list[Any] | None
    events: EventLog | None
    items: ItemTable | None
    themes: Mapping[str, object] | None
    titles: Mapping[Any, str]
    cleaning: CleaningReport | None
    since: object
    prob: float
    k: int
    seed: int
    n_users: int | None

    @property
    def emission(self) -> str:
        """The family."""
        return self.posterior.config.emission

    def title(self, item: object) -> str:
        """An item in words, on one line."""
        return short(self.titles.get(item, item))


def ask(
    model: Any,
    users: Iterable[Any] | None,
    events: object | None,
    items: object | None,
    themes: Mapping[str, object] | None,
    labels: Mapping[Any, str] | None,
    cleaning: CleaningReport | None,
    since: object,
    prob: float,
    k: int,
    seed: int,
    n_users: int | None,
) -> Asked:
    """Check every argument. Raises what `report` says."""
    for part in ("outcome", "model"):
        if not hasattr(model, "posterior") and hasattr(getattr(model, part, None), "posterior"):
            raise ConfigError(
                f"report takes an InterestModel, got {type(model).__name__}: pass its .{part}"
            )
    if not hasattr(model, "diagnose"):
        raise ConfigError(f"report takes an InterestModel, got {type(model).__name__}")
    posterior: Posterior = model.posterior
    check_prob(prob)
    for name, value, least in (("k", k, 1), ("seed", seed, 0), ("n_users", n_users, 1)):
        if value is None and name == "n_users":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InputError(f"{name}={value!r}: expected a whole number >= {least}")
    table = None if items is None else read_items(items)
    find_items(posterior, labels, "labels")
    if themes:
        make_targets(posterior, None, themes, model.encoder)
    return Asked(
        model,
        posterior,
        _known_users(posterior, users),
        None if events is None else in_own_order(read_events(events)),
        table,
        themes,
        dict(labels) if labels is not None else titles_of(table),
        cleaning,
        since,
        prob,
        int(k),
        int(seed),
        n_users,
    )


def _known_users(posterior: Posterior, users: Iterable[Any] | None) -> list[Any] | None:
    wanted = listed(users, "users")
    if wanted is None:
        return None
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise InputError("users=[]: give at least one user id, or None for a telling few")
    at = posterior.vocabulary.users.index_of(wanted)
    if (at < 0).any():
        first = wanted[int(np.flatnonzero(at < 0)[0])]
        some = ", ".join(repr(user) for user in posterior.vocabulary.users.ids[:3].tolist())
        raise InputError(
            f"users: {first!r} is unknown to the model ({int((at < 0).sum())} such); it knows "
            f"{len(posterior.vocabulary.users):,} users, for example {some}"
        )
    return wanted


def titles_of(table: ItemTable | None) -> dict[Any, str]:
    """What items are called: a column of titles, else the beginning of their text."""
    if table is None:
        return {}
    frame = table.frame
    columns: Sequence[str] = [c for c in TITLE_COLUMNS if c in frame] or [TEXT]
    names = frame[columns[0]]
    known = {
        item: plain(name)
        for item, name in zip(frame[ITEM_ID], names, strict=True)
        if not pd.isna(name)
    }
    return {item: name for item, name in known.items() if name}
