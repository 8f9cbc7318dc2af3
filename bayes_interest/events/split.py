"""Cutting a log in two at one moment, so that the past never sees the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bayes_interest.errors import EventError
from bayes_interest.events.read import EventLog, ItemTable, read_events
from bayes_interest.events.validate import OK, Cleaning, IntArray, quote, read_times
from bayes_interest.schema import ITEM_ID

NS_PER_SECOND = 1_000_000_000


def split_by_time(
    events: object, at: object = None, *, fraction: float | None = None
) -> tuple[EventLog, EventLog]:
    """Train: the events strictly before the cut. Test: the events at the cut or after it.

    Both parts keep the report of the whole log, with their own `rows_out` and a last note that
    states the cut; their `row` still points into the source.

    Args:
        events: an EventLog, or any source that `read_events` takes.
        at: the cut: ISO 8601 string, date, datetime (no zone means UTC), or unix seconds.
        fraction: instead of `at`, the share of events wanted in test, above 0 and below 1. The
            cut is the timestamp that comes closest, so tied events are never separated.

    Raises:
        EventError: both or neither of `at` and `fraction`, one that cannot be read, or a part
            that would be empty.
    """
    log = read_events(events)
    if (at is None) == (fraction is None):
        raise EventError("split_by_time needs either at= or fraction=, not both")
    ns = log.columns.ns
    start = _start_of(at, log, ns) if fraction is None else _start_of_last(fraction, ns)
    cut = pd.Timestamp(moment_ns(at) if fraction is None else int(ns[start]), unit="ns", tz="UTC")
    where = f"split at {cut.isoformat()}: {start} events before it, {len(ns) - start} at or after"
    return (
        _part(log, slice(0, start), f"{where}; this is the part before"),
        _part(log, slice(start, None), f"{where}; this is the part at or after"),
    )


def items_before(items: ItemTable, train: EventLog, log: EventLog) -> ItemTable:
    """A table without the items that `log` first meets after `train`: they come later.

    A model would else be told of them early, and take them for items that nobody wants.
    """
    ids = items.frame[ITEM_ID]
    coming = ids.isin(log.frame[ITEM_ID]) & ~ids.isin(train.frame[ITEM_ID])
    return replace(items, frame=items.frame[~coming].reset_index(drop=True))


def _start_of(at: object, log: EventLog, ns: IntArray) -> int:
    """Position of the first test event for a cut at `at`."""
    start = int(np.searchsorted(ns, moment_ns(at), side="left"))
    if start in (0, len(ns)):
        first, last = pd.to_datetime(ns[[0, -1]], unit="ns", utc=True)
        side = "before" if start == 0 else "at or after"
        raise EventError(
            f"no event lies {side} at={quote(at)}: the log runs from {first.isoformat()} "
            f"to {last.isoformat()}"
        )
    return start


def _start_of_last(fraction: float, ns: IntArray) -> int:
    """Position where the last `fraction` begins, moved to the nearest change of timestamp."""
    if isinstance(fraction, bool | str) or not 0.0 < fraction < 1.0:
        raise EventError(f"fraction must lie above 0 and below 1, got {quote(fraction)}")
    starts = np.flatnonzero(np.diff(ns)) + 1
    if not len(starts):
        raise EventError("all events have the same timestamp: no cut leaves events on both sides")
    return int(starts[np.argmin(np.abs(len(ns) - starts - fraction * len(ns)))])


def moment_ns(at: object) -> int:
    """Nanoseconds since 1970 (UTC)."""
    # A string is never a count of seconds here: "2017" is a year.
    if isinstance(at, str):
        series = pd.Series(pd.to_datetime([at], format="ISO8601", utc=True, errors="coerce"))
    else:
        series = pd.Series([at], dtype=object)
    times = read_times(series, "s", Cleaning(pd.DataFrame(index=series.index)))
    if times.code[0] != OK:
        raise EventError(
            f"at={quote(at)} is no time: use an ISO 8601 string, a datetime or unix seconds"
        )
    return int(times.ns[0])


def _part(log: EventLog, rows: slice, note: str) -> EventLog:
    row = log.row[rows].copy()
    report = replace(log.report, rows_out=len(row), notes=(*log.report.notes, note))
    return EventLog.of(log.columns.take(rows), row, report)


def moment_seconds(at: object) -> float:
    """Unix seconds of a time given as ISO string, datetime or seconds. Raises EventError."""
    return moment_ns(at) / NS_PER_SECOND
