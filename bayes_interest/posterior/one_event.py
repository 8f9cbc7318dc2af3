"""One event as a caller gives it, checked as `read_events` checks a log, without a table."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bayes_interest.config import ModelConfig
from bayes_interest.errors import DataWarning, EventError
from bayes_interest.events.id_map import id_key
from bayes_interest.events.validate import (
    AUTO_UNIT_LIMITS,
    NS_PER_UNIT,
    OK,
    TIME_REASONS,
    Cleaning,
    quote,
    read_times,
)
from bayes_interest.model.prepare import Vocabulary
from bayes_interest.schema import SECONDS_PER_DAY, TIMESTAMP, VALUE

NS: Final = NS_PER_UNIT["s"]
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST_YEAR, LAST_YEAR = 1678, 2261  # whole years within 64 bits of nanoseconds
EARLIEST: Final = -9_200_000_000.0
LATEST: Final = AUTO_UNIT_LIMITS[-1][0]
PLAIN_ISO: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{3}|\.\d{6})?)?(Z|[+-]\d\d:\d\d)?)?"
)
INT64_MAX: Final = np.iinfo(np.int64).max


def event_id(value: object, name: str) -> int | str:
    """The exact key of an id. Raises EventError for what can be none."""
    key = id_key(value)
    if key is None:
        given = f"{type(value).__name__} {quote(value)}"
        raise EventError(f"{name} must be an integer or a string, got {given}")
    if isinstance(key, str):
        if not key.strip():
            raise EventError(f"{name} is missing: got {key!r}")
    elif isinstance(key, int) and abs(key) > INT64_MAX:
        raise EventError(f"{name}={key} is beyond 64 bits (signed); pass it as a string")
    return key


def event_seconds(value: object, allow_future: bool) -> float:
    """Unix seconds, to the microsecond, as an EventLog has them. Raises EventError."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if isinstance(value, str) and PLAIN_ISO.fullmatch(value):
        with suppress(ValueError):  # no such day: said below
            value = dt.datetime.fromisoformat(value)
    if isinstance(value, (float, int)) and not isinstance(value, bool):
        seconds = _of_number(value)
    elif type(value) is dt.datetime and FIRST_YEAR < value.year < LAST_YEAR:
        moment = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        gap = moment - EPOCH
        seconds = gap.days * 86_400 + gap.seconds + gap.microseconds / 1e6
    elif isinstance(value, pd.Timestamp) and FIRST_YEAR < value.year < LAST_YEAR:
        seconds = _of_ns(value.value)
    else:
        seconds = _of_anything(value)
    if not allow_future and seconds > time.time() + SECONDS_PER_DAY:
        raise EventError(
            f"{TIMESTAMP}={quote(value)} lies more than 1 day in the future. Open the stream with "
            "allow_future=True if that is intended"
        )
    return seconds


def _of_number(value: float) -> float:
    if not EARLIEST <= value <= LATEST:  # also of NaN
        raise EventError(
            f"{TIMESTAMP}={quote(value)}: expected unix seconds, up to {LATEST:.0e}. Divide "
            "milliseconds by 1,000, or pass a datetime"
        )
    whole = math.floor(value)
    return whole + round((value - whole) * 1e6) / 1e6


def _of_anything(value: object) -> float:
    """Strings, dates, Timestamps: by the reader of logs."""
    series = pd.Series([value], dtype=object)
    cleaning = Cleaning(pd.DataFrame({TIMESTAMP: series}))
    times = read_times(series, "auto", cleaning)
    if times.code[0] != OK or cleaning.warnings:
        why = cleaning.warnings[0] if cleaning.warnings else TIME_REASONS[int(times.code[0])]
        raise EventError(
            f"{TIMESTAMP}={quote(value)}: expected unix seconds, an ISO 8601 string or a datetime "
            f"({why})"
        )
    return _of_ns(int(times.ns[0]))


def _of_ns(ns: int) -> float:
    return ns // NS + (ns % NS) / NS


@dataclass(frozen=True)
class OutcomeReader:
    """Values and kinds of single events in a family's coding, see `prepare.code_outcomes`."""

    family: str
    threshold: float | None
    levels: dict[float, int]
    kinds: dict[str, int]

    @classmethod
    def of(cls, config: ModelConfig, vocabulary: Vocabulary) -> OutcomeReader:
        """That of a fitted model."""
        levels = {level: place for place, level in enumerate(vocabulary.levels)}
        kinds = {kind: place for place, kind in enumerate(vocabulary.kinds)}
        return cls(config.emission, config.positive_threshold, levels, kinds)

    def outcome(self, value: object) -> tuple[float, bool]:
        """The outcome, and whether it is learned from. Raises EventError."""
        if value is None:
            if self.family != "choice":
                raise EventError(f'emission="{self.family}" needs a {VALUE} with every event')
            return 1.0, True
        number = _number(value)
        if self.family == "choice":
            chosen = self.threshold is None or number >= self.threshold
            return float(chosen), chosen
        if self.family == "bernoulli":
            if self.threshold is not None:
                return float(number >= self.threshold), True
            if number in (0.0, 1.0):
                return number, True
            self._refuse(value, "0 or 1 (or fit with positive_threshold=)")
        if number not in self.levels:
            known = ", ".join(f"{level:g}" for level in self.levels)
            self._refuse(value, f"one of the levels {known}")
        return float(self.levels[number]), True

    def _refuse(self, value: object, wanted: str) -> None:
        raise EventError(
            f'{VALUE}={quote(value)} does not fit emission="{self.family}": expected {wanted}'
        )

    def kind(self, kind: str | None) -> int:
        """Position of a kind; None is the reference, an unknown one counts as it and warns."""
        if kind is None or len(self.kinds) < 2:
            return 0
        found = self.kinds.get(str(kind))
        if found is None:
            names = list(self.kinds)
            warnings.warn(
                f"kind {kind!r} was not in the training log: taken as {names[0]!r}. Rename it to a "
                f"kind of that log ({', '.join(names[:5])}), or fit again with events of it",
                DataWarning,
                stacklevel=4,
            )
            return 0
        return found


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise EventError(f"{VALUE} must be a finite number, got {quote(value)}")
    return number
