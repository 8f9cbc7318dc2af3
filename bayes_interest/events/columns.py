"""A log as arrays: ids and labels as int32 positions in the list of the different ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayes_interest.schema import EVENT_REQUIRED, ITEM_ID, KIND, TEXT, TIMESTAMP, USER_ID, VALUE

TIES_AT_ONCE: Final = 1_000_000  # events looked through together for repeats


@dataclass(frozen=True, eq=False)
class Coded:
    """A column of ids or labels: `ids[codes]`, ids in order of first appearance, each in use."""

    codes: npt.NDArray[np.int32]  # (event,)
    ids: npt.NDArray[Any]  # int64, or object where they are strings

    @classmethod
    def of(cls, values: pd.Series[Any]) -> Coded:
        """From clean ids, int64 or strings."""
        codes, ids = pd.factorize(values)
        whole = pd.api.types.is_integer_dtype(values.dtype)
        return cls(codes.astype(np.int32), np.asarray(ids, dtype=np.int64 if whole else object))

    @classmethod
    def numbered(cls, codes: npt.NDArray[Any], ids: npt.NDArray[Any]) -> Coded:
        """From positions in a list that may be in any order and hold ids that are not in use."""
        used = pd.unique(codes)
        place = np.zeros(len(ids), dtype=np.int32)
        place[used] = np.arange(len(used), dtype=np.int32)
        return cls(place[codes], ids[used])

    def take(self, rows: slice | npt.NDArray[Any]) -> Coded:
        """Those of some events, numbered anew."""
        return Coded.numbered(self.codes[rows], self.ids)

    def series(self) -> pd.Series[Any]:
        """The ids of all events, int64 or str."""
        if self.ids.dtype != object:
            return pd.Series(self.ids[self.codes])
        return pd.Series(self.ids, dtype=str).take(self.codes).reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class EventColumns:
    """The columns of a clean log in time order, (event,) each: 24 bytes an event with a value."""

    user: Coded
    item: Coded
    ns: npt.NDArray[np.int64]  # nanoseconds since 1970-01-01 UTC
    kind: Coded | None
    value: npt.NDArray[np.float64] | None
    text: Coded | None
    extra: pd.DataFrame
    """The source's other columns, rows 0 to n - 1."""

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> EventColumns:
        """From the `frame` of an EventLog."""
        coded = {name: Coded.of(frame[name]) for name in (KIND, TEXT) if name in frame}
        ours = [name for name in (*EVENT_REQUIRED, KIND, VALUE, TEXT) if name in frame]
        return cls(
            Coded.of(frame[USER_ID]),
            Coded.of(frame[ITEM_ID]),
            np.asarray(frame[TIMESTAMP].astype("int64"), dtype=np.int64),
            coded.get(KIND),
            frame[VALUE].to_numpy(dtype=np.float64) if VALUE in frame else None,
            coded.get(TEXT),
            frame.drop(columns=ours).reset_index(drop=True),
        )

    def take(self, rows: slice | npt.NDArray[Any]) -> EventColumns:
        """Those of some events."""
        return EventColumns(
            self.user.take(rows),
            self.item.take(rows),
            self.ns[rows],
            None if self.kind is None else self.kind.take(rows),
            None if self.value is None else self.value[rows],
            None if self.text is None else self.text.take(rows),
            self.extra.iloc[rows].reset_index(drop=True),
        )

    def frame(self) -> pd.DataFrame:
        """As the table that people see, in memory of its own."""
        times = pd.DatetimeIndex(self.ns.view("datetime64[ns]")).tz_localize("UTC")
        table: dict[str, Any] = {
            USER_ID: self.user.series(), ITEM_ID: self.item.series(), TIMESTAMP: times,
        }  # fmt: skip
        if self.kind is not None:
            table[KIND] = self.kind.series()
        if self.value is not None:
            table[VALUE] = self.value
        if self.text is not None:
            table[TEXT] = self.text.series()
        ours = pd.DataFrame(table)
        return pd.concat([ours, self.extra], axis=1) if self.extra.shape[1] else ours

    def repeated(self) -> npt.NDArray[np.bool_]:
        """True for events equal to an earlier one in all but text and other columns, (event,).

        The events must be in time order: only those of one moment are compared.
        """
        found = np.zeros(len(self.ns), dtype=bool)
        begin = 0
        while begin < len(found):
            end = min(begin + TIES_AT_ONCE, len(found))
            end = int(np.searchsorted(self.ns, self.ns[end - 1], side="right"))
            found[begin:end] = self._repeated(slice(begin, end))
            begin = end
        return found

    def _repeated(self, rows: slice) -> npt.NDArray[np.bool_]:
        parts = {"user": self.user.codes[rows], "item": self.item.codes[rows], "ns": self.ns[rows]}
        if self.kind is not None:
            parts["kind"] = self.kind.codes[rows]
        if self.value is not None:
            parts["value"] = self.value[rows]
        return pd.DataFrame(parts, copy=False).duplicated().to_numpy()

    def levels(self) -> npt.NDArray[np.float64]:
        """The different values, increasing."""
        if self.value is None:
            return np.zeros(0)
        return np.sort(pd.unique(self.value))

    def with_extra(self, extra: pd.DataFrame) -> EventColumns:
        """With other columns beside ours."""
        return replace(self, extra=extra)
