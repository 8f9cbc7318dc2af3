"""Vectors on disk, so that no text goes through a model twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from bayes_interest.errors import DataWarning

CACHE_ENV: Final = "BAYES_INTEREST_CACHE"
_FORMAT: Final = 1  # raise it when the meaning of a stored vector changes
_INFO_KEY: Final = b"info"  # the keys of texts are 32 bytes long
_LOCK_SECONDS: Final = 30.0
_KEYS_PER_QUERY: Final = 500  # SQLite allows at least 999 parameters
_SCAN_RATIO: Final = 2
_ROWS_AT_ONCE: Final = 256
_SELECT: Final = "SELECT key, value, truncated, crc FROM vectors"
_Row = tuple[bytes, bytes, int, int]
_T = TypeVar("_T")


@dataclass(frozen=True)
class CacheInfo:
    """What must be known about a model to use its cache without loading it."""

    embed_dim: int
    max_tokens: int


@dataclass(frozen=True)
class CachedVector:
    """The vector (embed_dim,) float32 of a text, and whether the text was cut to get it."""

    vector: np.ndarray
    truncated: bool


class _CorruptCacheError(Exception):
    """A row does not carry the bytes that were written."""


def default_cache_folder() -> Path:
    """`$BAYES_INTEREST_CACHE` if set, else this platform's cache folder for the package."""
    override = os.environ.get(CACHE_ENV)
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("bayes_interest"))


class EmbeddingCache:
    """One SQLite file per encoder setting: key sha256 of the text, value float32 bytes.

    Several processes may use one file. A cache never stops the work: a damaged file is moved aside
    and begun again, a folder that cannot be used is left alone, both with a `DataWarning`.

    Args:
        folder: where the file is; made when first written to.
        name: of the model, put in the file name for people.
        settings: JSON-able; everything, besides the text, that a vector depends on.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        content = json.dumps({"format": _FORMAT, **settings}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        label = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(name).name)[:48]
        self.path = folder / f"{label}-{digest[:24]}.sqlite"
        self._usable = True

    def read_info(self) -> CacheInfo | None:
        """What the first writer stored, or None in a new cache."""
        return self._attempt(self._select_info, None, create=False)

    def read(self, texts: Sequence[str], embed_dim: int) -> dict[str, CachedVector]:
        """The vectors of those texts that are in the cache."""
        vectors = np.zeros((len(texts), embed_dim), dtype=np.float32)
        truncated = np.zeros(len(texts), dtype=bool)
        found = self.read_into(texts, vectors, truncated)
        return {
            texts[i]: CachedVector(vectors[i], bool(truncated[i]))
            for i in np.flatnonzero(found).tolist()
        }

    def read_into(
        self, texts: Sequence[str], vectors: np.ndarray, truncated: np.ndarray
    ) -> np.ndarray:
        """Write what is known of `texts` into its row, and say of which something is.

        Args:
            texts: n different texts.
            vectors: (n, embed_dim) float32, written to. Rows of unknown texts may be, too, where
                the cache proves to be damaged half-way.
            truncated: (n,) bool, written to in the same way.

        Returns:
            (n,) bool, whether the text was in the cache.
        """
        nothing = np.zeros(len(texts), dtype=bool)
        if not texts:
            return nothing
        return self._attempt(
            lambda connection: _fill(connection, texts, vectors, truncated), nothing, create=False
        )

    def write(self, info: CacheInfo, vectors: Mapping[str, CachedVector]) -> None:
        """Store vectors by text, in one transaction."""
        rows = [
            _sealed_row(_key(text), _little_endian(cached.vector), cached.truncated)
            for text, cached in vectors.items()
        ]
        rows.append(_sealed_row(_INFO_KEY, json.dumps(asdict(info)).encode(), False))
        self._attempt(lambda connection: _insert(connection, rows), None, create=True)

    def _select_info(self, connection: sqlite3.Connection) -> CacheInfo | None:
        rows = connection.execute(f"{_SELECT} WHERE key = ?", [_INFO_KEY])
        for _, values, _ in _checked(rows):
            return CacheInfo(**json.loads(values[0]))
        return None

    def _attempt(
        self, action: Callable[[sqlite3.Connection], _T], otherwise: _T, *, create: bool
    ) -> _T:
        if not self._usable:
            return otherwise
        try:
            if not create and not self.path.exists():
                return otherwise
            with closing(self._connect()) as connection:
                return action(connection)
        except (OSError, sqlite3.OperationalError) as err:  # locked, full, read-only, no folder
            self._give_up(err)
        except (sqlite3.DatabaseError, _CorruptCacheError) as err:
            self._move_aside(err)
        return otherwise

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(key BLOB PRIMARY KEY, value BLOB, truncated INTEGER, crc INTEGER)"
            )
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _give_up(self, err: Exception) -> None:
        self._usable = False
        warnings.warn(
            f"the text vector cache {self.path} cannot be used ({err}); going on without it. "
            f"Set cache= or {CACHE_ENV} to a folder that can be written, or cache=False",
            DataWarning,
            stacklevel=2,
        )

    def _move_aside(self, err: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        try:
            self.path.replace(aside)
            # a journal of the old file must not be applied to the new one
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        except FileNotFoundError:
            return  # another process was faster
        except OSError as cannot_move:
            self._give_up(cannot_move)
            return
        warnings.warn(
            f"the text vector cache {self.path} is damaged ({err}); it was moved to {aside.name} "
            "and is built again",
            DataWarning,
            stacklevel=2,
        )


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def _little_endian(vector: np.ndarray) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _sealed_row(key: bytes, value: bytes, truncated: bool) -> _Row:
    # SQLite does not notice changed bytes inside a value: the checksum does
    return key, value, int(truncated), _checksum(key, value, int(truncated))


def _checksum(key: bytes, value: bytes, truncated: int) -> int:
    return zlib.crc32(value, zlib.crc32(key + (b"\x01" if truncated else b"\x00")))


def _insert(connection: sqlite3.Connection, rows: list[_Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")  # wait for other writers now, not in the middle
    connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def _checked(rows: sqlite3.Cursor) -> Iterator[tuple[list[bytes], list[bytes], list[int]]]:
    """Keys, values and flags, some rows at a time: few enough to stay in the CPU's cache."""
    while some := rows.fetchmany(_ROWS_AT_ONCE):
        keys, values, truncated, crcs = map(list, zip(*some, strict=True))
        if {*map(type, keys), *map(type, values)} != {bytes} or not {0, 1}.issuperset(truncated):
            raise _CorruptCacheError("a row has a wrong type")
        if list(map(_checksum, keys, values, truncated)) != crcs:
            raise _CorruptCacheError("a row fails its checksum")
        yield keys, values, truncated


def _rows_of(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[sqlite3.Cursor]:
    """Rows, some at a time, with those keys among them; all rows where most are wanted anyway."""
    (highest,) = connection.execute("SELECT max(rowid) FROM vectors").fetchone()
    if (highest or 0) <= _SCAN_RATIO * len(keys):  # a row costs a third of a look-up
        yield connection.execute(_SELECT)
        return
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(some))
        yield connection.execute(f"{_SELECT} WHERE key IN ({marks})", some)


def _fill(
    connection: sqlite3.Connection,
    texts: Sequence[str],
    vectors: np.ndarray,
    truncated: np.ndarray,
) -> np.ndarray:
    """Which texts were found, (n,) bool; their rows of `vectors` and `truncated` are filled."""
    keys = [_key(text) for text in texts]
    place_of = {key: place for place, key in enumerate(keys)}
    found = np.zeros(len(texts), dtype=bool)
    for rows in _rows_of(connection, keys):
        for row_keys, values, cuts in _checked(rows):
            places = [place_of.get(key, -1) for key in row_keys]
            wanted = [i for i, place in enumerate(places) if place >= 0]
            if wanted:
                at = np.array([places[i] for i in wanted])
                vectors[at] = _stack([values[i] for i in wanted], vectors.shape[1])
                truncated[at], found[at] = [cuts[i] for i in wanted], True
    return found


def _stack(values: list[bytes], embed_dim: int) -> np.ndarray:
    for value in values:
        if len(value) != 4 * embed_dim:
            raise _CorruptCacheError(f"a vector has {len(value)} bytes, not 4 * {embed_dim}")
    return np.frombuffer(b"".join(values), dtype="<f4").reshape(-1, embed_dim)
