"""The border between ids outside and positions inside: checks of id columns, and IdMap."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeGuard, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.events.columns import Coded
from bayes_interest.events.validate import Cleaning, clean_text, plain, quote

UNKNOWN: Final = -1

_INT64_MAX: Final = np.iinfo(np.int64).max
_EXACT_FLOAT: Final = 2**53  # beyond it, neighbouring integers share one float
_WRITTEN_INTEGER: Final = r"(0|-?[1-9]\d{0,17})(\.0)?"
_TYPES: Final = {"int": int, "str": str}


@dataclass(frozen=True, eq=False)
class IdMap:
    """External ids in order of first appearance; the position in `ids` is the internal index.

    Ids are integers or strings, kept exactly: 1 and "1" are two ids. Equal maps hold the same
    ids in the same order.

    Attributes:
        ids: int64 array when all ids are integers, object array otherwise; read-only.
    """

    ids: npt.NDArray[Any]

    def __post_init__(self) -> None:
        if _whole_array(self.ids):
            ids = np.array(self.ids, dtype=np.int64)
            distinct = pd.Index(ids).is_unique
        else:
            keys = [_key(value, position) for position, value in enumerate(_listed(self.ids))]
            ids, distinct = _id_array(keys), len(set(keys)) == len(keys)
        if not distinct:
            raise InputError("an IdMap needs distinct ids; IdMap.from_ids removes repeats")
        ids.setflags(write=False)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def _of_strings(cls, ids: npt.NDArray[Any]) -> IdMap:
        """From plain strings, which need no look one by one."""
        if not pd.Index(ids).is_unique:
            raise InputError("an IdMap needs distinct ids; IdMap.from_ids removes repeats")
        made, ids = object.__new__(cls), ids.copy()
        ids.setflags(write=False)
        object.__setattr__(made, "ids", ids)
        return made

    @cached_property
    def _places(self) -> pd.Index[Any]:
        """The ids as an index, where all are integers."""
        index: pd.Index[Any] = pd.Index(self.ids)
        return index

    @cached_property
    def _index(self) -> dict[int | str, int]:
        """Position of each id, where there are others than integers."""
        return {key: position for position, key in enumerate(self.ids.tolist())}

    @classmethod
    def from_ids(cls, values: Iterable[Any]) -> IdMap:
        """The distinct ids of `values`, in order of first appearance.

        Raises InputError for anything but integers and strings, naming position and value.
        """
        if _whole_array(values):
            return cls(pd.unique(np.asarray(values)))
        return cls(_id_array(_distinct(values)))

    def index_of(self, ids: Iterable[Any]) -> npt.NDArray[np.int64]:
        """Positions of `ids` as int64, UNKNOWN (-1) where an id is not in the map.

        Whole floats find their integer (pandas turns integers into floats beside NaN);
        missing values and other types are unknown.
        """
        whole = self.ids.dtype != object
        if whole and _whole_array(ids):
            found = self._places.get_indexer(pd.Index(np.asarray(ids, dtype=np.int64)))
            return np.asarray(found, dtype=np.int64)
        keys = [id_key(value) for value in _listed(ids)]
        if not whole:
            get = self._index.get
            places = (UNKNOWN if key is None else get(key, UNKNOWN) for key in keys)
            return np.fromiter(places, dtype=np.int64, count=len(keys))
        out = np.full(len(keys), UNKNOWN, dtype=np.int64)
        some = [at for at, key in enumerate(keys) if _is_int64(key)]
        out[some] = self.index_of(np.array([keys[at] for at in some], dtype=np.int64))
        return out

    def position(self, value: object) -> int:
        """Position of one id, UNKNOWN (-1) without it; what finds it is as in `index_of`."""
        key = id_key(value)
        if self.ids.dtype == object:
            return UNKNOWN if key is None else self._index.get(key, UNKNOWN)
        if not _is_int64(key):
            return UNKNOWN
        try:
            return cast(int, self._places.get_loc(key))
        except KeyError:
            return UNKNOWN

    def extend(self, new_ids: Iterable[Any]) -> IdMap:
        """A map with the unknown ones of `new_ids` added at the end; old indices stay.

        Raises InputError as `from_ids` does.
        """
        whole = _whole_array(new_ids)
        new = pd.unique(np.asarray(new_ids)) if whole else _id_array(_distinct(new_ids))
        fresh = new[self.index_of(new) == UNKNOWN]
        if not len(fresh):
            return self
        if not len(self) or fresh.dtype == self.ids.dtype == np.int64:
            return IdMap(np.concatenate((self.ids.astype(fresh.dtype), fresh)))
        return IdMap(_id_array([*self.ids.tolist(), *fresh.tolist()]))

    def to_frame(self) -> pd.DataFrame:
        """Columns id (as text), type ("int" or "str") and index: fit for one Parquet file."""
        if self.ids.dtype == np.int64:
            names, kinds = self.ids.astype(str), np.repeat("int", len(self))
        else:
            keys = self.ids.tolist()
            names = np.array([str(key) for key in keys], dtype=object)
            kinds = np.array([type(key).__name__ for key in keys], dtype=object)
        return pd.DataFrame(
            {
                "id": pd.Series(names, dtype=str),
                "type": pd.Series(kinds, dtype=str),
                "index": np.arange(len(self), dtype=np.int64),
            }
        )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> IdMap:
        """The map that `to_frame` wrote. Raises InputError for a frame it did not write."""
        if not {"id", "type", "index"} <= set(frame.columns):
            raise InputError(
                f"an IdMap frame has columns id, type and index, got {list(frame.columns)}"
            )
        ordered, count = frame, np.arange(len(frame))
        if not np.array_equal(frame["index"].to_numpy(), count):
            ordered = frame.sort_values("index", kind="stable")
        if not np.array_equal(ordered["index"].to_numpy(), count):
            raise InputError("the index column of an IdMap frame must count from 0 without gaps")
        kinds = set(ordered["type"].unique())
        if kinds == {"str"}:
            return cls._of_strings(ordered["id"].to_numpy(dtype=object))
        if kinds == {"int"}:
            import pyarrow as pa  # fifty times as fast as int() one by one

            with suppress(ValueError):  # the way below takes what is beyond int64, or names it
                texts = pa.array(ordered["id"], pa.large_string())
                return cls(texts.cast(pa.int64()).to_numpy(zero_copy_only=False))
        pairs = zip(ordered["type"], ordered["id"], strict=True)
        try:
            return cls(_id_array([_TYPES[kind](text) for kind, text in pairs]))
        except (KeyError, ValueError) as cause:
            raise InputError(
                f"an IdMap frame holds ids of type int or str only: {cause}"
            ) from cause

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: object) -> bool:
        return bool(self.index_of([value])[0] != UNKNOWN)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        return self.ids.dtype == other.ids.dtype and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash(tuple(self.ids.tolist()))

    def __repr__(self) -> str:
        shown = ", ".join(quote(key) for key in self.ids[:3].tolist())
        return f"IdMap({len(self)} ids: {shown}{', ...' if len(self) > 3 else ''})"


def _whole_array(values: object) -> TypeGuard[npt.NDArray[Any]]:
    """Whether it is an array of integers that int64 can hold: no id of it needs a look."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.dtype != "uint64"


def _is_int64(key: object) -> bool:
    return isinstance(key, int) and abs(key) <= _INT64_MAX


def _listed(values: Iterable[Any]) -> list[Any]:
    if isinstance(values, (str, bytes)):
        raise InputError(f"expected several ids, got one {type(values).__name__}: {quote(values)}")
    if isinstance(values, (np.ndarray, pd.Series, pd.Index)):
        return values.tolist()
    return list(values)


def _distinct(values: Iterable[Any]) -> list[int | str]:
    listed = _listed(values)
    return list(dict.fromkeys(_key(value, position) for position, value in enumerate(listed)))


def _key(value: object, position: int) -> int | str:
    key = id_key(value)
    if key is None or isinstance(value, (float, np.floating)):
        raise InputError(
            f"ids must be integers or strings, got {type(value).__name__} {quote(value)} "
            f"at position {position}"
        )
    return key


def id_key(value: object) -> int | str | None:
    """The exact key of an id, None for what can be no id."""
    if type(value) is int or type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)) and value == np.floor(value) and np.isfinite(value):
        return int(value)
    return None


def _id_array(keys: list[int | str]) -> npt.NDArray[Any]:
    whole = bool(keys) and all(map(_is_int64, keys))
    ids = np.empty(len(keys), dtype=np.int64 if whole else object)
    ids[:] = keys
    ids.setflags(write=False)
    return ids


def clean_ids(
    series: pd.Series[Any], name: str, cleaning: Cleaning, error: type[InputError]
) -> pd.Series[Any]:
    """Ids without missing values as int64 or as strings, never a mixture.

    The index of `series` holds original row positions, for messages.
    Raises `error` for bool, fractional, mixed or nested ids and integers beyond int64.
    """
    series = plain(series)
    kind = pd.api.types.infer_dtype(series, skipna=False) if len(series) else "empty"
    if kind in ("string", "empty"):
        return series.astype(str)
    if kind in ("integer", "integer-na"):
        return _int64_ids(series, name, error)
    if kind in ("floating", "mixed-integer-float"):
        return _int64_ids(_integral_floats(series, name, cleaning, error), name, error)
    _refuse_ids(series, name, error)
    return series.astype(str)  # strings in disguise (np.str_ in odd containers)


def coded_ids(
    series: pd.Series[Any], name: str, cleaning: Cleaning, error: type[InputError]
) -> Coded:
    """As `clean_ids`, as codes."""
    if isinstance(series.dtype, pd.CategoricalDtype) and len(series):
        ids, codes = series.cat.categories, series.cat.codes.to_numpy()
        if isinstance(ids.dtype, pd.StringDtype):
            return Coded.numbered(codes, ids.to_numpy(dtype=object))
        if ids.dtype == np.int64 and not (ids == np.iinfo(np.int64).min).any():
            return Coded.numbered(codes, ids.to_numpy())
    return Coded.of(clean_ids(series, name, cleaning, error))


def coded_text(
    series: pd.Series[Any], name: str, cleaning: Cleaning, error: type[InputError]
) -> Coded:
    """As `clean_text`, as codes."""
    if not isinstance(series.dtype, pd.CategoricalDtype):
        return Coded.of(clean_text(series, name, cleaning, error))
    texts, codes = series.cat.categories, series.cat.codes.to_numpy()
    if not isinstance(texts.dtype, pd.StringDtype):
        return Coded.of(clean_text(series, name, cleaning, error))
    missing = int((codes < 0).sum())
    if missing:
        cleaning.notes.append(f'{name} is missing in {missing} rows: read as ""')
    labels, place = texts.to_numpy(dtype=object), np.arange(len(texts) + 1)
    blank = np.flatnonzero(labels == "")
    if len(blank):  # a missing one is the same text as a blank one
        place[-1] = blank[0]
    return Coded.numbered(place[codes], np.append(labels, ""))


def _int64_ids(series: pd.Series[Any], name: str, error: type[InputError]) -> pd.Series[Any]:
    top, low = series.max(), series.min()
    if top > _INT64_MAX or low < -_INT64_MAX:
        raise error(
            f"{name} holds integers beyond 64 bits (signed), for example {quote(top)}; "
            f"pass them as strings: frame[{name!r}].astype(str)"
        )
    return series.astype(np.int64)


def _integral_floats(
    series: pd.Series[Any], name: str, cleaning: Cleaning, error: type[InputError]
) -> pd.Series[Any]:
    values = series.to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    if len(wrong):
        raise error(
            f"{name} must hold integers or strings, got {quote(series.iloc[wrong[0]])} "
            f"in row {series.index[wrong[0]]}"
        )
    cleaning.notes.append(f"{name}: whole numbers stored as floats were converted to int64")
    if len(values) and np.abs(values).max() > _EXACT_FLOAT:
        cleaning.warn(
            f"{name}: float ids beyond 2**53 may have been rounded before they got here; "
            "read the column as integers or strings at the source"
        )
    return series.map(int).astype(object)


def _refuse_ids(series: pd.Series[Any], name: str, error: type[InputError]) -> None:
    seen: dict[str, str] = {}
    for row, value in zip(series.index, series.to_numpy(dtype=object), strict=True):
        seen.setdefault(type(value).__name__, f"{quote(value)} in row {row}")
    plain_types = {"str", "str_", "int", "float"}
    strange = [name_ for name_ in seen if name_ not in plain_types and not name_.startswith("int")]
    if strange:
        raise error(f"{name} must hold integers or strings, got {strange[0]}: {seen[strange[0]]}")
    if len(seen) > 1 and not set(seen) <= {"str", "str_"}:
        shown = "; ".join(f"{kind}: {example}" for kind, example in seen.items())
        raise error(
            f"{name} mixes types ({shown}); convert the column to one type, "
            f"for example frame[{name!r}].astype(str)"
        )


def read_csv(path: Path, id_columns: Sequence[Hashable]) -> pd.DataFrame:
    """A CSV file with its ids as written. Raises ValueError or ParserWarning when malformed."""
    header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0]
    if header.duplicated().any():
        # pandas would rename the second one in silence.
        raise ValueError(f"column {header[header.duplicated()].iloc[0]!r} appears twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        as_text = dict.fromkeys(id_columns, str)
        frame = pd.read_csv(path, index_col=False, low_memory=False, dtype=as_text)
    for name in set(id_columns) & set(frame.columns):
        frame[name] = _csv_ids(frame[name])
    return frame


def _csv_ids(series: pd.Series[Any]) -> pd.Series[Any]:
    """Ids read from CSV as text, as integers where that loses nothing ("007" stays text)."""
    texts = series.dropna()
    if not texts.str.fullmatch(_WRITTEN_INTEGER).all():
        return series
    if texts.str.endswith(".0").any():
        return series.astype(np.float64)  # pandas wrote integers beside NaN as floats
    return series.astype("Int64")


def exact_repeats(source: pd.DataFrame, item_id: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """True for rows equal in every column to an earlier row of the same item."""
    suspects = item_id.duplicated(keep=False).to_numpy()
    # As text, because cells may be lists or arrays, which cannot be hashed.
    cells = source[suspects].astype(object).map(_cell_text)
    exact = np.zeros(len(source), dtype=bool)
    exact[np.flatnonzero(suspects)[cells.duplicated().to_numpy()]] = True
    return exact


def _cell_text(cell: object) -> str:
    return repr(cell.tolist() if isinstance(cell, (np.ndarray, np.generic)) else cell)
