"""A clean interaction log: held as arrays, shown as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayes_interest.events.columns import EventColumns
from bayes_interest.events.validate import CleaningReport

NS_PER_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, eq=False)
class EventLog:
    """A clean interaction log in time order; ties keep the order of the source.

    A log that was read holds its columns as arrays, with ids as codes; the table is made of them
    when it is first asked for.

    Attributes:
        frame: user_id and item_id (int64 or str), timestamp (datetime64[ns, UTC]), then kind
            (str), value (float64) and text (str) where given, and the source's other columns.
        row: (n_events,) int64, the position in the source of each row of `frame`.
        report: what reading dropped and assumed.
    """

    frame: pd.DataFrame
    row: npt.NDArray[np.int64]
    report: CleaningReport

    @classmethod
    def of(
        cls, columns: EventColumns, row: npt.NDArray[np.int64], report: CleaningReport
    ) -> EventLog:
        """A log that has its columns and no table yet."""
        log = object.__new__(cls)
        log.__dict__.update(row=row, report=report, _columns=columns)
        return log

    def __getattr__(self, name: str) -> Any:
        """The table, when it is first asked for; from then on it alone is the log."""
        if name != "frame" or "_columns" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__["frame"] = frame = self.__dict__["_columns"].frame()
        del self.__dict__["_columns"]
        return frame

    @property
    def columns(self) -> EventColumns:
        """The columns as arrays, ids as codes."""
        held: EventColumns | None = self.__dict__.get("_columns")
        return EventColumns.of_frame(self.frame) if held is None else held

    def __len__(self) -> int:
        return len(self.__dict__.get("frame", self.row))

    def seconds(self) -> npt.NDArray[np.float64]:
        """(n_events,) seconds since 1970-01-01 UTC."""
        ns = self.columns.ns
        # Whole seconds first: float64 cannot hold a nanosecond count exactly.
        return ns // NS_PER_SECOND + (ns % NS_PER_SECOND) / NS_PER_SECOND

    def __repr__(self) -> str:
        known = self.columns
        users, items = len(known.user.ids), len(known.item.ids)
        head = f"EventLog: {len(self):,} events, {users:,} users, {items:,} items"
        dropped = f"{self.report.rows_dropped:,} of {self.report.rows_in:,} rows dropped in reading"
        if not len(self):
            return f"{head}\n  {dropped}"
        first, last = pd.to_datetime(known.ns[[0, -1]], unit="ns")
        return f"{head}\n  {first:%Y-%m-%d} to {last:%Y-%m-%d} UTC, {dropped}"
