"""Checks and conversions of raw columns; whatever is dropped is counted, with examples."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayes_interest.errors import EventError, InputError
from bayes_interest.schema import TIMESTAMP, VALUE

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

NS_PER_UNIT: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "D": 86_400 * 1_000_000_000,
}
TIME_UNITS: Final = ("auto", "s", "ms", "us", "ns", "D")
# A median above the limit cannot be the unit before it: 1e11 s is the year 5138.
AUTO_UNIT_LIMITS: Final = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))

_ORDER_ONLY: Final = 1e7  # seconds: April 1970

OK, MISSING, UNREADABLE, TOO_EARLY, TOO_LATE = range(5)
TIME_REASONS: Final = {
    MISSING: "missing timestamp",
    UNREADABLE: "unreadable timestamp",
    TOO_EARLY: "timestamp too early (before mid-1678)",
    TOO_LATE: "timestamp too late (after mid-2261)",
}

# Safely inside what int64 nanoseconds can hold, in whole units and in floats alike.
_MAX_NS: Final = 9_200_000_000_000_000_000
_INT64_MAX: Final = np.iinfo(np.int64).max
_EXAMPLES: Final = 3
_QUOTE_LENGTH: Final = 60
_NUMBER: Final = re.compile(r"[+-]?\d{1,40}(\.\d*)?([eE][+-]?\d{1,3})?")
_COMPACT_DATE: Final = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True, eq=False)
class Dropped:
    """Rows left out for one reason; `examples` shows up to 3, original position in "row"."""

    reason: str
    rows: int
    examples: pd.DataFrame

    def example(self) -> str:
        """The first example on one line."""
        first: dict[Any, Any] = {k: v.iloc[0] for k, v in self.examples.items()}
        row = first.pop("row")
        return f"row {row}: " + ", ".join(f"{name}={quote(v)}" for name, v in first.items())


@dataclass(frozen=True, eq=False)
class CleaningReport:
    """What reading did to a table: rows in, rows out, what was dropped and what was assumed.

    After `split_by_time` both parts keep the report of the whole log, with their own `rows_out`
    and a note that says where the cut lies.
    """

    rows_in: int
    rows_out: int
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows_dropped(self) -> int:
        """All rows left out, over all reasons."""
        return sum(entry.rows for entry in self.dropped)

    def to_frame(self) -> pd.DataFrame:
        """One line per reason: columns reason, rows, example."""
        lines = [(entry.reason, entry.rows, entry.example()) for entry in self.dropped]
        return pd.DataFrame(lines, columns=["reason", "rows", "example"])

    def __str__(self) -> str:
        lines = [f"{self.rows_in} rows read, {self.rows_out} kept, {self.rows_dropped} dropped"]
        lines += [f"  dropped {e.rows}: {e.reason} ({e.example()})" for e in self.dropped]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(eq=False)
class Cleaning:
    """Bookkeeping while a table is cleaned: a row is dropped once, for its first reason."""

    raw: pd.DataFrame
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    keep: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        self.keep = np.ones(len(self.raw), dtype=bool)

    def drop(self, bad: BoolArray, reason: str) -> None:
        """Leave out the rows where `bad` holds, counted under `reason`."""
        bad = bad & self.keep
        if not bad.any():
            return
        self.keep &= ~bad
        rows = np.flatnonzero(bad)
        examples = _uncoded(self.raw.take(rows[:_EXAMPLES]).reset_index(drop=True))
        examples.insert(0, "row", rows[:_EXAMPLES])
        self.dropped.append(Dropped(reason, len(rows), examples))

    def drop_kept(self, bad: BoolArray, reason: str) -> None:
        """As `drop`, with `bad` given for the rows kept so far only."""
        full = np.zeros(len(self.raw), dtype=bool)
        full[np.flatnonzero(self.keep)[bad]] = True
        self.drop(full, reason)

    def drop_rows(self, rows: IntArray, reason: str) -> None:
        """As `drop`, with the positions of the rows, in any order."""
        full = np.zeros(len(self.raw), dtype=bool)
        full[rows] = True
        self.drop(full, reason)

    def warn(self, message: str) -> None:
        """Note it, and have the reader issue it as a DataWarning."""
        self.notes.append(message)
        self.warnings.append(message)

    def report(self) -> CleaningReport:
        """The finished report."""
        kept = int(self.keep.sum())
        return CleaningReport(len(self.raw), kept, tuple(self.dropped), tuple(self.notes))


def _uncoded(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of codes as what they stand for, so that a missing cell looks as it does there."""
    types: dict[Any, Any] = {}
    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            whole = pd.api.types.is_integer_dtype(dtype.categories.dtype)
            types[name] = "Int64" if whole else dtype.categories.dtype
    return frame.astype(types)


def quote(value: object) -> str:
    """A value for a message: short, and numpy scalars shown as plain ones."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _QUOTE_LENGTH else text[: _QUOTE_LENGTH - 3] + "..."


def plain(series: pd.Series[Any]) -> pd.Series[Any]:
    """Categorical, sparse and Arrow-backed columns as numpy, nullable or object ones."""
    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        return plain(pd.Series(np.asarray(series.array), index=series.index))
    if isinstance(dtype, pd.ArrowDtype):
        for check, target in _ARROW_TARGETS:
            if check(dtype):
                return series.astype(target)
        return series.astype(object)
    if isinstance(dtype, pd.CategoricalDtype):
        return series.astype(object)
    if pd.api.types.is_float_dtype(dtype) and not isinstance(dtype, np.dtype):
        return pd.Series(series.to_numpy(np.float64, na_value=np.nan), index=series.index)
    return series


_ARROW_TARGETS: Final[tuple[tuple[Callable[[Any], bool], Any], ...]] = (
    (pd.api.types.is_bool_dtype, "boolean"),
    (pd.api.types.is_unsigned_integer_dtype, "UInt64"),
    (pd.api.types.is_integer_dtype, "Int64"),
    (pd.api.types.is_float_dtype, np.float64),
)


def is_blank(series: pd.Series[Any]) -> BoolArray:
    """True where the value is missing or a string of nothing but spaces."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        blank = is_blank(pd.Series(series.cat.categories))
        return np.append(blank, True)[codes]  # a missing value has code -1
    series = plain(series)
    blank = series.isna().to_numpy(dtype=bool, copy=True)
    if series.dtype == object or pd.api.types.is_string_dtype(series.dtype):
        values = series.to_numpy(dtype=object)
        blank |= np.fromiter(
            (isinstance(v, str) and not v.strip() for v in values), bool, len(blank)
        )
    return blank


def clean_values(series: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """The value column as float64, missing ones as NaN.

    Raises EventError that names the first row whose value is not a number.
    """
    series = plain(series)
    if (dtype := series.dtype).kind in "mMc":
        raise EventError(f"{VALUE} must hold numbers, got a column of {dtype}")
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    blank = is_blank(series)
    numbers = np.full(len(series), np.nan)
    for position in np.flatnonzero(~blank):
        value = series.iloc[position]
        try:
            numbers[position] = float(value)
        except (TypeError, ValueError):
            raise EventError(
                f"{VALUE} must hold numbers, got {quote(value)} in row {position}"
            ) from None
    return numbers


def clean_text(
    series: pd.Series[Any], name: str, cleaning: Cleaning, error: type[InputError]
) -> pd.Series[Any]:
    """Text or labels as strings, "" where missing (counted in the notes).

    Raises `error` for nested values such as lists.
    """
    series = plain(series)
    missing = series.isna().to_numpy(dtype=bool)
    values = series.to_numpy(dtype=object)
    for position, value in enumerate(values):
        if isinstance(value, (list, dict, set, tuple, np.ndarray, bytes)):
            raise error(
                f"{name} must hold strings, got {type(value).__name__} {quote(value)} "
                f"in row {series.index[position]}"
            )
    if missing.any():
        cleaning.notes.append(f'{name} is missing in {int(missing.sum())} rows: read as ""')
    texts = ["" if gone else str(v) for gone, v in zip(missing, values, strict=True)]
    return pd.Series(texts, index=series.index, dtype=str)


@dataclass(frozen=True, eq=False)
class Times:
    """Nanoseconds since 1970 (UTC), and per row a code: OK or why there is no such number."""

    ns: IntArray
    code: npt.NDArray[np.int8]


def read_times(series: pd.Series[Any], time_unit: str, cleaning: Cleaning) -> Times:
    """Numbers, ISO 8601 strings, dates and datetimes as nanoseconds; no zone means UTC.

    `time_unit` applies to numbers. Raises EventError for bool, complex and timedelta columns.
    """
    series = plain(series)
    dtype = series.dtype
    if pd.api.types.is_bool_dtype(dtype) or dtype.kind in "mc":
        raise EventError(
            f"{TIMESTAMP} must hold numbers, ISO 8601 strings or datetimes, got a column of {dtype}"
        )
    if dtype.kind == "M":
        return _from_datetimes(series)
    if pd.api.types.is_numeric_dtype(dtype):
        return _from_numbers(series, time_unit, cleaning)
    return _from_objects(series, time_unit, cleaning)


def check_not_future(times: Times, raw: pd.Series[Any]) -> None:
    """Raises EventError when a timestamp lies more than one day after now."""
    limit = time.time_ns() + NS_PER_UNIT["D"]
    late = (times.code == TOO_LATE) | ((times.code == OK) & (times.ns > limit))
    if late.any():
        row = int(np.flatnonzero(late)[0])
        raise EventError(
            f"{int(late.sum())} timestamps lie more than 1 day in the future, the first in row "
            f"{row}: {quote(raw.iloc[row])}. Pass allow_future=True if that is intended, or "
            'time_unit="ms" (or "us", "ns", "D") if the unit of the numbers was misread'
        )


def _from_datetimes(series: pd.Series[Any]) -> Times:
    zoned = series.dt.tz_localize("UTC") if series.dt.tz is None else series.dt.tz_convert("UTC")
    naive = zoned.dt.tz_localize(None).to_numpy()
    unit, count = np.datetime_data(naive.dtype)
    times = _scale(naive.view(np.int64), NS_PER_UNIT[unit] * count)
    times.code[np.isnat(naive)] = MISSING
    return times


def _from_numbers(series: pd.Series[Any], time_unit: str, cleaning: Cleaning) -> Times:
    missing = series.isna().to_numpy(dtype=bool)
    values: npt.NDArray[Any] = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if series.dtype.kind == "i" or (series.dtype.kind == "u" and series.max() <= _INT64_MAX):
        values = series.fillna(0).to_numpy(dtype=np.int64)
    usable = values[~missing & np.isfinite(values)]
    unit = _unit(usable, time_unit, cleaning) if len(usable) else "s"
    times = _scale(values, NS_PER_UNIT[unit])
    times.code[missing] = MISSING
    return times


def _unit(values: npt.NDArray[Any], time_unit: str, cleaning: Cleaning) -> str:
    if time_unit != "auto":
        return time_unit
    median = float(np.median(np.abs(values)))
    for limit, unit in AUTO_UNIT_LIMITS:
        if median > limit:
            cleaning.warn(
                f"{TIMESTAMP}: the median is {median:.4g}, read as {unit} since 1970-01-01; "
                f'pass time_unit="{unit}" to silence this'
            )
            return unit
    if median < _ORDER_ONLY:
        order = 'numbers near 0 were read as seconds; pass time_unit="D" if they are days or steps'
        cleaning.notes.append(f"{TIMESTAMP}: {order}")
    if all(_COMPACT_DATE.fullmatch(f"{v:.0f}") for v in values[:1000]):
        cleaning.warn(
            f"{TIMESTAMP}: numbers like {values[0]:.0f} look like dates but were read as seconds "
            'since 1970-01-01; pass them as strings, or time_unit="s" to silence this'
        )
    return "s"


def _scale(values: npt.NDArray[Any], ns_per_unit: int) -> Times:
    """Numbers times their unit, with the fraction kept to the microsecond."""
    code = np.zeros(len(values), dtype=np.int8)
    finite = np.isfinite(values)
    bound = _MAX_NS // ns_per_unit
    code[values > bound] = TOO_LATE
    code[values < -bound] = TOO_EARLY
    code[~finite] = UNREADABLE
    safe = np.where(code == OK, values, 0)
    whole = np.floor(safe) if safe.dtype.kind == "f" else safe
    step = min(ns_per_unit, NS_PER_UNIT["us"])
    # Rounded: the float nearest to a time in seconds is off by up to a tenth of a microsecond.
    fraction = np.rint((safe - whole) * (ns_per_unit / step)).astype(np.int64) * step
    return Times(whole.astype(np.int64) * ns_per_unit + fraction, code)


def _from_objects(series: pd.Series[Any], time_unit: str, cleaning: Cleaning) -> Times:
    """A column of strings or of mixed objects: numbers one way, dates the other."""
    values = series.to_numpy(dtype=object)
    missing = is_blank(series)
    numbers = np.full(len(values), None, dtype=object)
    dates = np.full(len(values), None, dtype=object)
    for row in np.flatnonzero(~missing).tolist():
        parsed = _date_or_number(values[row], row, time_unit)
        target = numbers if isinstance(parsed, (int, float)) else dates
        target[row] = parsed
    times = _from_date_objects(pd.Series(dates, dtype=object))
    numeric = np.array([v is not None for v in numbers], dtype=bool)
    if numeric.any():
        found = _from_numbers(_numbers(numbers[numeric]), time_unit, cleaning)
        times.ns[numeric], times.code[numeric] = found.ns, found.code
    times.code[missing] = MISSING
    return times


def _numbers(values: npt.NDArray[Any]) -> pd.Series[Any]:
    # int64 where it fits: a float cannot hold a nanosecond time exactly.
    exact = all(isinstance(v, int) and abs(v) <= _INT64_MAX for v in values)
    return pd.Series(values.astype(np.int64 if exact else np.float64))


def _date_or_number(value: object, row: int, time_unit: str) -> object:
    """A Python number, or something for `pd.to_datetime`, or None when it can be neither."""
    if isinstance(value, (bool, np.bool_, complex, np.complexfloating)):
        raise EventError(
            f"{TIMESTAMP} must hold numbers, ISO 8601 strings or datetimes, "
            f"got {type(value).__name__} {quote(value)} in row {row}"
        )
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if isinstance(value, str):
        text = value.strip()
        compact = time_unit == "auto" and _COMPACT_DATE.fullmatch(text)
        if _NUMBER.fullmatch(text) and not compact:
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        return re.sub(r"\s*(UTC|GMT)$", "Z", text)
    return float(value) if isinstance(value, Decimal) else value


def _from_date_objects(dates: pd.Series[Any]) -> Times:
    """Strings, dates and datetimes, None elsewhere; what is no date becomes UNREADABLE."""
    known = dates.map(lambda v: isinstance(v, (str, dt.date, np.datetime64)))
    parsed = pd.to_datetime(dates.where(known), format="ISO8601", utc=True, errors="coerce")
    times = _from_datetimes(parsed)
    times.code[times.code == MISSING] = UNREADABLE
    return times


def require_column(
    frame: pd.DataFrame, theirs: Hashable, ours: str | None, error: type[InputError]
) -> None:
    """Raises `error` when column `theirs` is missing; `ours` is our name for it, if any."""
    if theirs in frame.columns:
        return
    found = [str(column) for column in frame.columns]
    hint = closest(str(theirs), found)
    if theirs in frame.index.names:
        hint = "; it is in the index: pass frame.reset_index()"
    elif ours is not None:
        hint += f'; name it with columns={{"{ours}": "<your column>"}}'
    raise error(f"column {theirs!r} is missing, found {found}{hint}")


def closest(name: str, choices: Sequence[str]) -> str:
    """A hint at the choice most like `name`, or nothing."""
    match = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
