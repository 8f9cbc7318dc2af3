"""Interaction logs and item tables from files or frames, checked, sorted and accounted for."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayes_interest.errors import DataWarning, EventError, InputError, ItemError
from bayes_interest.events.columns import EventColumns
from bayes_interest.events.event_log import EventLog as EventLog
from bayes_interest.events.id_map import (
    clean_ids,
    coded_ids,
    coded_text,
    exact_repeats,
    read_csv,
)
from bayes_interest.events.parquet import (
    coded_series,
    column_names,
    parquet_files,
    read_parquet,
    release,
)
from bayes_interest.events.validate import (
    TIME_REASONS,
    TIME_UNITS,
    Cleaning,
    CleaningReport,
    Times,
    check_not_future,
    clean_text,
    clean_values,
    closest,
    is_blank,
    quote,
    read_times,
    require_column,
)
from bayes_interest.schema import (
    EVENT_OPTIONAL,
    EVENT_REQUIRED,
    ITEM_ID,
    ITEM_REQUIRED,
    KIND,
    TEXT,
    TIMESTAMP,
    USER_ID,
    VALUE,
)

_ARROW_INTEGERS: Final = {
    f"{sign.lower()}int{bits}": f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}
EXTENSIONS: Final = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True, eq=False)
class ItemTable:
    """One row per item, in the order of the source.

    Attributes:
        frame: item_id (int64 or str), text (str, "" where there is none), other columns.
        report: what reading dropped and assumed.
    """

    frame: pd.DataFrame
    report: CleaningReport

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        with_text = int((self.frame[TEXT] != "").sum())
        dropped = f"{self.report.rows_dropped:,} of {self.report.rows_in:,} rows dropped in reading"
        return f"ItemTable: {len(self):,} items, {with_text:,} with text\n  {dropped}"


def read_events(
    source: object,
    *,
    columns: Mapping[str, Hashable] | None = None,
    time_unit: str = "auto",
    allow_future: bool = False,
    allow_empty: bool = False,
) -> EventLog:
    """Read an interaction log; every row that is left out is counted in `.report`.

    Parquet is read in batches and ids are coded as they come: memory stays within some 130 bytes an
    event while reading and 32 afterwards, whatever the ids, as long as there are no other columns.

    Args:
        source: path (.csv, .csv.gz, .parquet, .jsonl, .ndjson, or a folder of .parquet files,
            taken in the order of their names), pandas frame, any frame that speaks Arrow or the
            interchange protocol, or an EventLog (returned as it is when no option is given).
            Never changed.
        columns: our name to the source's name, e.g. {"user_id": "member"}.
        time_unit: unit of numeric timestamps since 1970-01-01 UTC: "s", "ms", "us", "ns", "D"
            (days), or "auto": seconds unless the median is too large for them. ISO 8601 strings
            and datetimes need no unit; without a zone they are UTC.
        allow_future: accept timestamps more than one day after now.
        allow_empty: return an empty log instead of an error when no event is left.

    Raises:
        EventError: unreadable source, missing or unusable column, future times, nothing left.

    Warns:
        DataWarning: the unit of the timestamps was guessed, or ids may have been rounded.
    """
    if time_unit not in TIME_UNITS:
        raise EventError(f"time_unit must be one of {', '.join(TIME_UNITS)}, got {time_unit!r}")
    if isinstance(source, EventLog) and columns is None and (len(source) or allow_empty):
        return source
    table = _load(source, columns, _EVENT_COLUMNS)
    log, messages = _clean_events(table, time_unit, allow_future), table.cleaning.warnings
    if isinstance(source, (str, Path)):
        del table
        release()
    for message in messages:
        warnings.warn(message, DataWarning, stacklevel=2)
    if not len(log) and not allow_empty:
        raise EventError(f"no event to work with.\n{log.report}")
    return log


def read_items(
    source: object,
    *,
    columns: Mapping[str, Hashable] | None = None,
    text_columns: Sequence[Hashable] | None = None,
) -> ItemTable:
    """Read an item table: item_id, optionally text, and any more columns.

    Args:
        source: as for `read_events`.
        columns: our name (item_id, text) to the source's name.
        text_columns: columns of the source to join into `text` with ". ", blanks skipped.

    Raises:
        ItemError: unreadable source, missing or unusable column, nothing left.

    Warns:
        DataWarning: item ids may have been rounded.
    """
    if isinstance(source, ItemTable) and columns is None and text_columns is None:
        return source
    table = _load(source, columns, _ITEM_COLUMNS)
    if text_columns is not None and len(text_columns):
        if columns is not None and TEXT in columns:
            raise ItemError("give text_columns or a text entry in columns, not both")
        _join_text(table, (text_columns,) if isinstance(text_columns, str) else text_columns)
    items = _clean_items(table)
    for message in table.cleaning.warnings:
        warnings.warn(message, DataWarning, stacklevel=2)
    if not len(items):
        raise ItemError(f"no item to work with.\n{items.report}")
    return items


@dataclass(frozen=True)
class _Columns:
    """The column names a table may have, and the exception for its troubles."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    error: type[InputError]
    coded: tuple[str, ...] = ()  # those that are kept as codes where they are strings

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)


_EVENT_COLUMNS: Final = _Columns(
    EVENT_REQUIRED, EVENT_OPTIONAL, EventError, (USER_ID, ITEM_ID, KIND, TEXT)
)
_ITEM_COLUMNS: Final = _Columns(ITEM_REQUIRED, (TEXT,), ItemError)


@dataclass
class _Table:
    """A loaded table: our columns under our names, the others as they were, rows 0 to n - 1."""

    source: pd.DataFrame
    ours: pd.DataFrame
    extra: pd.DataFrame
    cleaning: Cleaning = field(init=False)

    def __post_init__(self) -> None:
        self.cleaning = Cleaning(self.ours)


def _clean_events(table: _Table, time_unit: str, allow_future: bool) -> EventLog:
    raw, cleaning = table.ours, table.cleaning
    for name in (USER_ID, ITEM_ID):
        cleaning.drop(is_blank(raw[name]), f"missing {name}")
    times = read_times(raw[TIMESTAMP], time_unit, cleaning)
    if not allow_future:
        check_not_future(times, raw[TIMESTAMP])
    for code, reason in TIME_REASONS.items():
        cleaning.drop(times.code == code, reason)
    values = clean_values(raw[VALUE]) if VALUE in raw else None
    if values is not None:
        cleaning.drop(~np.isfinite(values), "value missing or not finite")
    columns = _event_columns(raw, times, values, cleaning)
    order: slice | npt.NDArray[np.int64] = slice(None)
    if (columns.ns[1:] < columns.ns[:-1]).any():
        order = np.argsort(columns.ns, kind="stable")
        columns = columns.take(order)
    kept, repeated = np.flatnonzero(cleaning.keep)[order], columns.repeated()
    if repeated.any():
        cleaning.drop_rows(kept[repeated], "duplicate event")
        kept, columns = kept[~repeated], columns.take(~repeated)
    if (np.diff(kept) < 0).any():
        cleaning.notes.append("events were not in time order: sorted, ties keep their order")
    if table.extra.shape[1]:
        columns = columns.with_extra(table.extra.take(kept).reset_index(drop=True))
    return EventLog.of(columns, kept.astype(np.int64, copy=False), cleaning.report())


def _event_columns(
    raw: pd.DataFrame, times: Times, values: npt.NDArray[np.float64] | None, cleaning: Cleaning
) -> EventColumns:
    """The kept rows with final types, in the order of the source; other columns left out."""
    keep: slice | npt.NDArray[np.bool_] = cleaning.keep.copy()
    if cleaning.keep.all():
        keep = slice(None)  # no copies

    def kept(name: str) -> pd.Series[Any]:
        return raw[name][keep]

    user, item = (coded_ids(kept(name), name, cleaning, EventError) for name in (USER_ID, ITEM_ID))
    ns = times.ns[keep]
    kind = coded_text(kept(KIND), KIND, cleaning, EventError) if KIND in raw else None
    value = None if values is None else values[keep]
    text = coded_text(kept(TEXT), TEXT, cleaning, EventError) if TEXT in raw else None
    nothing = pd.DataFrame(index=pd.RangeIndex(len(ns)))
    return EventColumns(user, item, ns, kind, value, text, nothing)


def _clean_items(table: _Table) -> ItemTable:
    raw, cleaning = table.ours, table.cleaning
    cleaning.drop(is_blank(raw[ITEM_ID]), f"missing {ITEM_ID}")
    keep = cleaning.keep.copy()
    frame = pd.DataFrame({ITEM_ID: clean_ids(raw[ITEM_ID][keep], ITEM_ID, cleaning, ItemError)})
    if TEXT in raw:
        frame[TEXT] = clean_text(raw[TEXT][keep], TEXT, cleaning, ItemError)
    else:
        cleaning.notes.append('there is no text column: text is "" for every item')
        frame[TEXT] = pd.Series("", index=frame.index, dtype=str)
    repeated = frame.duplicated(ITEM_ID).to_numpy()
    exact = exact_repeats(table.source[keep], frame[ITEM_ID])
    cleaning.drop_kept(exact, "duplicate row")
    cleaning.drop_kept((repeated & ~exact)[~exact], f"{ITEM_ID} repeated")
    row = np.flatnonzero(cleaning.keep)
    return ItemTable(_joined(frame[~repeated], table.extra.take(row)), cleaning.report())


def _joined(ours: pd.DataFrame, extra: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([ours.reset_index(drop=True), extra.reset_index(drop=True)], axis=1)


def _join_text(table: _Table, text_columns: Sequence[Hashable]) -> None:
    """Replace `text` by the columns joined, blanks skipped."""
    parts = []
    for name in text_columns:
        require_column(table.source, name, None, ItemError)
        texts = clean_text(table.source[name], str(name), Cleaning(table.source), ItemError)
        parts.append([text.strip() for text in texts])
    joined = [". ".join(filter(None, row)) for row in zip(*parts, strict=True)]
    if TEXT in table.ours and TEXT not in text_columns:
        table.cleaning.notes.append("the source's own text column was replaced by text_columns")
    missing = joined.count("")
    if missing:
        table.cleaning.notes.append(f'text is blank in {missing} rows: read as ""')
    table.ours[TEXT] = pd.Series(joined, index=table.ours.index, dtype=str)


def _load(source: object, columns: Mapping[str, Hashable] | None, wanted: _Columns) -> _Table:
    if not isinstance(columns or {}, Mapping):
        raise wanted.error(f"columns= must map our names to yours, got {quote(columns)}")
    mapping = dict(columns or {})
    for name in mapping:
        if name not in wanted.names:
            raise wanted.error(
                f"columns= maps our names {list(wanted.names)} to yours, and has no "
                f"{name!r}{closest(name, wanted.names)}"
            )
    frame = _as_frame(source, mapping, wanted)
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise wanted.error(f"column names must be unique and of one level, repeated: {twice}")
    return _choose(frame, mapping, wanted)


def _choose(frame: pd.DataFrame, mapping: dict[str, Hashable], wanted: _Columns) -> _Table:
    chosen: dict[str, Hashable] = {}
    for name in wanted.names:
        if name in wanted.required or name in mapping:
            require_column(frame, mapping.get(name, name), name, wanted.error)
        if mapping.get(name, name) in frame.columns:
            chosen[name] = mapping.get(name, name)
    source = frame.reset_index(drop=True)
    columns = {name: source[theirs] for name, theirs in chosen.items()}
    for name in wanted.coded:
        if name in columns:
            columns[name] = coded_series(columns[name])
    ours = pd.DataFrame(columns, index=source.index, copy=False)
    used = {*chosen.values()}
    shadowed = [c for c in frame.columns if c not in used and c in chosen]
    table = _Table(source, ours, source.drop(columns=[*used, *shadowed]))
    for name in shadowed:
        table.cleaning.notes.append(
            f"the source's column {name!r} was left out: columns= takes {mapping[name]!r} for it"
        )
    return table


def _as_frame(source: object, mapping: dict[str, Hashable], wanted: _Columns) -> pd.DataFrame:
    error = wanted.error
    if isinstance(source, (EventLog, ItemTable)):
        return source.frame
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, (str, Path)):
        return _from_file(Path(source), mapping, wanted)
    kind = type(source).__name__
    import pyarrow as pa  # slow to import, and not needed for CSV
    from pyarrow import interchange

    try:
        if hasattr(source, "__arrow_c_stream__"):
            return _from_arrow(pa.table(source))
        if hasattr(source, "__dataframe__"):
            return _from_arrow(interchange.from_dataframe(source))
    except (ValueError, TypeError, NotImplementedError) as cause:
        raise error(f"cannot read a table from {kind}: {cause}") from cause
    raise error(f"expected a path or a data frame, got {kind}; wrap plain data in pd.DataFrame")


def _from_file(path: Path, mapping: dict[str, Hashable], wanted: _Columns) -> pd.DataFrame:
    name, error = path.name.lower(), wanted.error
    folder = path.is_dir()
    if not folder and not name.endswith(EXTENSIONS):
        raise error(
            f"{path}: unknown extension, supported are {', '.join(EXTENSIONS)} and a folder of "
            ".parquet files"
        )
    if not path.exists():
        raise error(f"{path}: no such file (supported: {', '.join(EXTENSIONS)})")
    try:
        if folder or name.endswith(".parquet"):
            return _from_parquet(path, mapping, wanted)
        id_columns = [mapping.get(column, column) for column in (USER_ID, ITEM_ID)]
        return read_csv(path, id_columns) if ".csv" in name else _from_json_lines(path)
    # ValueError holds pandas', json's, unicode's and (with OSError) Arrow's own errors.
    except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserWarning) as cause:
        raise error(f"{path}: cannot be read: {cause}") from cause


def _from_parquet(path: Path, mapping: dict[str, Hashable], wanted: _Columns) -> pd.DataFrame:
    """All columns; ids, kinds and texts of events as categoricals."""
    files = parquet_files(path)
    coded = [str(mapping.get(column, column)) for column in wanted.coded]
    ours = [str(mapping.get(column, column)) for column in wanted.names]
    names = column_names(files, ours)
    categories, rest = read_parquet(files, [name for name in coded if name in names], names)
    frame = _from_arrow(rest)
    return pd.DataFrame(
        {name: categories[name] if name in categories else frame[name] for name in names},
        copy=False,
    )


def _from_arrow(table: Any) -> pd.DataFrame:
    """An Arrow table as pandas, integers with nulls as Int64: as floats they would be rounded."""
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError(f"column names must be unique, got {table.column_names}")
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    for entry in table.schema:
        whole = _ARROW_INTEGERS.get(str(entry.type))
        if whole and entry.name in frame and frame[entry.name].dtype == object:
            frame[entry.name] = frame[entry.name].astype(whole)
    return frame


def _from_json_lines(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as cause:
                raise ValueError(f"line {number}: {cause}") from cause
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: expected an object, got {quote(row)}")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object).apply(_inferred)


def _inferred(column: pd.Series[Any]) -> pd.Series[Any]:
    # Beside missing values pandas would turn integers into rounded floats.
    whole = pd.api.types.infer_dtype(column, skipna=True) == "integer"
    return column if whole and column.isna().any() else column.infer_objects()
