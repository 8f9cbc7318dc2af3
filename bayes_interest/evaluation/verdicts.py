"""A diagnostic check and how its figure becomes a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "look", "do not trust"]
GOOD: Verdict = "good"
LOOK: Verdict = "look"
DISTRUST: Verdict = "do not trust"


@dataclass(frozen=True)
class Check:
    """One row: the figure, the limit of what is good, and what it means."""

    check: str
    value: float
    threshold: float
    verdict: Verdict
    meaning: str


def at_most(
    name: str, value: float, limit: float, worst: float, what: str, otherwise: str
) -> Check:
    """Good up to `limit`, not to be trusted above `worst`; NaN is never good."""
    verdict = GOOD if value <= limit else LOOK if value <= worst else DISTRUST
    return _worded(name, value, limit, verdict, what, otherwise)


def at_least(
    name: str, value: float, limit: float, worst: float, what: str, otherwise: str
) -> Check:
    """Good from `limit` on, not to be trusted below `worst`; NaN is never good."""
    verdict = GOOD if value >= limit else LOOK if value >= worst else DISTRUST
    return _worded(name, value, limit, verdict, what, otherwise)


def _worded(
    name: str, value: float, limit: float, verdict: Verdict, what: str, otherwise: str
) -> Check:
    meaning = what if verdict == GOOD else f"{what[:-1]}: {otherwise}"
    return Check(name, float(value), float(limit), verdict, meaning)
