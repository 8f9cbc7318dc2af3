"""Parquet logs larger than memory: read in batches, ids coded as they come.

What stays of an id column are int32 codes and the list of the different ids, as a pandas
categorical; other columns stay as they are, as Arrow keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

BATCH_ROWS: Final = 1 << 17
FOLD_ROWS: Final = 1 << 22
"""Rows whose lists of ids are kept apart until they are made one."""


def parquet_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder and the folders in it, in the order of their names.

    Raises ValueError for a folder without any.
    """
    if not path.is_dir():
        return [path]
    files = [file for file in sorted(path.rglob("*.parquet")) if not _hidden(file, path)]
    if not files:
        raise ValueError("the folder holds no .parquet file")
    return files


def _hidden(file: Path, folder: Path) -> bool:
    """As Spark and Arrow have it: what is unfinished or about the data, not of them."""
    return any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)


def column_names(files: list[Path], ours: list[str]) -> list[str]:
    """Of all files, without those that were the index of a pandas frame, unless they are `ours`.

    Raises ValueError, naming the file, where they differ or a name comes twice.
    """
    import pyarrow.parquet as pq

    first: dict[str, Any] | None = None
    for file in files:
        schema = pq.read_schema(file)
        if len(set(schema.names)) < len(schema.names):
            raise ValueError(f"column names must be unique, got {schema.names}")
        stored = (schema.pandas_metadata or {}).get("index_columns", ())  # a dict is a plain range
        index = {one for one in stored if isinstance(one, str)} - set(ours)
        types = {one.name: _plain_type(one.type) for one in schema if one.name not in index}
        if first is None:
            first = types
        for name in first.keys() ^ types.keys():
            with_it, without = (files[0], file) if name in first else (file, files[0])
            raise ValueError(f"{with_it.name} has a column {name!r} and {without.name} has none")
        for name, kind in types.items():
            if kind != first[name]:
                raise ValueError(
                    f"column {name!r} holds {first[name]} in {files[0].name} but {kind} in "
                    f"{file.name}; write it with one type"
                )
    return list(first or ())


def read_parquet(
    files: list[Path], coded: Iterable[str], names: list[str]
) -> tuple[dict[str, pd.Categorical], Any]:
    """Columns `names`, batch by batch: those of `coded` that hold integers or strings as
    categoricals, and an Arrow table of the rest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {entry.name: _plain_type(entry.type) for entry in pq.read_schema(files[0])}
    coders = {name: Coder(kinds[name]) for name in coded if codable(kinds[name])}
    rest = [name for name in names if name not in coders]
    batches: list[Any] = []
    schema = pa.schema([(name, kinds[name]) for name in rest])
    for batch in _batches(files, [*coders, *rest], coders):
        for name, coder in coders.items():
            coder.add(batch.column(name))
        parts = [batch.column(name).cast(kinds[name]) for name in rest]
        batches.append(pa.RecordBatch.from_arrays(parts, schema=schema))
    table = pa.Table.from_batches(batches, schema)
    return {name: coder.categorical() for name, coder in coders.items()}, table


def release() -> None:
    """Hand memory that Arrow keeps for later batches back: there are none."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _batches(files: list[Path], names: list[str], as_codes: Iterable[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as found:
            strings = [n for n in as_codes if _is_string(found.schema_arrow.field(n).type)]
        with pq.ParquetFile(path, read_dictionary=strings) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=names)


def codable(kind: Any) -> bool:
    """Whether a column of this Arrow type is read as codes: integers within int64, and strings."""
    import pyarrow as pa

    return _is_string(kind) or (pa.types.is_integer(kind) and kind != pa.uint64())


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain_type(kind: Any) -> Any:
    """What a column holds, however it is written."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_string(kind) or str(kind) == "string_view":
        return pa.string()
    return kind


class Coder:
    """Arrow arrays of integers or of strings, one after another, as one pandas categorical."""

    def __init__(self, kind: Any) -> None:
        import pyarrow as pa

        self.kind = pa.int64() if pa.types.is_integer(kind) else pa.string()
        self.ids = pa.array([], self.kind)
        self.codes: list[npt.NDArray[np.int32]] = []
        self.waiting: list[Any] = []
        self.n_waiting = 0

    def add(self, array: Any) -> None:
        """The next values."""
        import pyarrow as pa

        wanted = pa.dictionary(pa.int32(), self.kind)
        if array.type != wanted or array.dictionary.null_count:
            if pa.types.is_dictionary(array.type):
                array = array.cast(array.type.value_type)
            array = array.cast(self.kind).dictionary_encode()
        self.waiting.append(array)
        self.n_waiting += len(array)
        if self.n_waiting >= FOLD_ROWS:
            self._fold()

    def _fold(self) -> None:
        """Code what waits by the list of all ids, to which its new ones are added."""
        import pyarrow as pa

        known = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), self.ids)
        united = pa.chunked_array([known, *self.waiting]).unify_dictionaries()
        self.ids = united.chunk(0).dictionary
        for chunk in united.chunks[1:]:
            self.codes.append(chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False))
        self.waiting, self.n_waiting = [], 0

    def categorical(self) -> pd.Categorical:
        """All values; missing ones have code -1."""
        self._fold()
        codes = np.concatenate(self.codes) if self.codes else np.zeros(0, dtype=np.int32)
        self.codes = []
        ids = pd.Index(self.ids.to_pandas())
        dtype = pd.CategoricalDtype(ids)
        return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)


def coded_series(series: pd.Series[Any]) -> pd.Series[Any]:
    """A column of strings as a categorical, any other as it is."""
    if not isinstance(series.dtype, pd.StringDtype):
        return series
    import pyarrow as pa

    array = pa.array(series.array, pa.large_string(), from_pandas=True)
    coder = Coder(pa.string())
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        coder.add(chunk)
    return pd.Series(coder.categorical(), index=series.index)
