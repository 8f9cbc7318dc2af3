"""What the probabilities of a scored log mean: the family of each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.events.read import EventLog
from bayes_interest.model.prepare import choose_family
from bayes_interest.schema import LOG_PROB, VALUE

FAMILIES = ("bernoulli", "choice", "rating")


def families_of(
    tables: Mapping[str, pd.DataFrame],
    events: pd.DataFrame,
    whole: EventLog,
    positive: np.ndarray,
    threshold: float | None,
    emission: str | Mapping[str, str],
    configured: Mapping[str, Any],
) -> dict[str, str]:
    """bernoulli, choice or rating, by model name.

    What `emission` says, else what the model's own `ModelConfig` says of this log. Without either:
    choice where no event of the whole log is negative, or where the outcomes of positive events
    only have a `log_prob`; bernoulli where there are two values; else rating, whose figures of
    "value >= threshold" come from `mean`.

    Raises:
        InputError: an unknown family or model name in `emission`.
    """
    named = dict.fromkeys(tables, emission) if isinstance(emission, str) else dict(emission)
    for name, family in named.items():
        if name not in tables:
            raise InputError(f"emission: there is no model {name!r}, only {list(tables)}")
        if family not in (*FAMILIES, "auto"):
            raise InputError(
                f"emission={family!r}: expected auto, {', '.join(FAMILIES)}, or a mapping of "
                "model names to these"
            )
    found = {}
    for name, table in tables.items():
        family = named.get(name, "auto")
        config = configured.get(name)
        if family == "auto" and isinstance(config, ModelConfig):
            family = choose_family(whole, config).name
        if family == "auto":
            family = _guess(table, events, whole, positive)
        found[name] = family
    return found


def said_of_all(emission: object, configured: Mapping[str, Any]) -> str | None:
    """The family of all models, where it is said: by `emission`, or by each model's config."""
    if isinstance(emission, str) and emission != "auto":
        return emission
    names = {getattr(config, "emission", None) for config in configured.values()}
    return names.pop() if emission == "auto" and len(names) == 1 else None


def _guess(table: pd.DataFrame, events: pd.DataFrame, whole: EventLog, positive: np.ndarray) -> str:
    if positive.all():
        return "choice"
    said, good = table[LOG_PROB].notna().to_numpy(), events["positive"].to_numpy(dtype=bool)
    if said.any() and not said[~good].any() and (~good).any():
        return "choice"
    return "bernoulli" if whole.frame[VALUE].nunique() == 2 else "rating"
