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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        if not texts:
            return {}
        return self._attempt(
            lambda connection: _select(connection, texts, embed_dim), {}, create=False
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
        for _, value, _ in _checked_rows(connection, [_INFO_KEY]):
            return CacheInfo(**json.loads(value))
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


def _sealed_row(key: bytes, value: bytes, truncated: bool) -> tuple[bytes, bytes, int, int]:
    # SQLite does not notice changed bytes inside a value: the checksum does
    return key, value, int(truncated), _checksum(key, value, int(truncated))


def _checksum(key: bytes, value: bytes, truncated: int) -> int:
    return zlib.crc32(value, zlib.crc32(key + bytes([truncated])))


def _insert(connection: sqlite3.Connection, rows: list[tuple[bytes, bytes, int, int]]) -> None:
    connection.execute("BEGIN IMMEDIATE")  # wait for other writers now, not in the middle
    connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def _checked_rows(
    connection: sqlite3.Connection, keys: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes, bool]]:
    wanted = list(keys)
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        some = wanted[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(some))
        query = f"SELECT key, value, truncated, crc FROM vectors WHERE key IN ({marks})"
        for key, value, truncated, crc in connection.execute(query, some):
            if not isinstance(value, bytes) or truncated not in (0, 1):
                raise _CorruptCacheError("a row has a wrong type")
            if _checksum(key, value, truncated) != crc:
                raise _CorruptCacheError("a row fails its checksum")
            yield key, value, bool(truncated)


def _select(
    connection: sqlite3.Connection, texts: Sequence[str], embed_dim: int
) -> dict[str, CachedVector]:
    text_of = {_key(text): text for text in texts}
    found = {}
    for key, value, truncated in _checked_rows(connection, text_of):
        if len(value) != 4 * embed_dim:
            raise _CorruptCacheError(f"a vector has {len(value)} bytes, not 4 * {embed_dim}")
        vector = np.frombuffer(value, dtype="<f4").astype(np.float32)
        found[text_of[key]] = CachedVector(vector, truncated)
    return found
