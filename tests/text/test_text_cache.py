"""The vector cache: what goes in comes out, damage is noticed, processes share a file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from bayes_interest.errors import DataWarning
from bayes_interest.text.cache import (
    CachedVector,
    CacheInfo,
    EmbeddingCache,
    default_cache_folder,
)

DIM = 7
INFO = CacheInfo(embed_dim=DIM, max_tokens=11)


def some_vectors(count: int) -> dict[str, CachedVector]:
    numbers = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    return {f"text {i} 汤": CachedVector(numbers[i], i % 3 == 0) for i in range(count)}


def open_cache(folder: Path, **settings: object) -> EmbeddingCache:
    return EmbeddingCache(folder, "org/model name", settings)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    vectors = some_vectors(1203)  # more than two queries' worth
    open_cache(tmp_path).write(INFO, vectors)
    cache = open_cache(tmp_path)
    assert cache.read_info() == INFO
    found = cache.read([*vectors, "unknown"], DIM)
    assert found.keys() == vectors.keys()
    for text, cached in vectors.items():
        assert found[text].truncated == cached.truncated
        np.testing.assert_array_equal(found[text].vector, cached.vector)
        assert found[text].vector.dtype == np.float32


@pytest.mark.parametrize("asked", [1, 5, 499, 500, 503, 1009])
def test_a_look_up_and_a_scan_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    vectors = some_vectors(1009)
    cache = open_cache(tmp_path)
    cache.write(INFO, vectors)
    rng = np.random.default_rng(asked)
    texts = [f"unknown {i}" for i in range(7)] + [*vectors][:asked]
    texts = [texts[i] for i in rng.permutation(len(texts))]
    for scan_ratio in (0, 10**6):  # never, always
        monkeypatch.setattr("bayes_interest.text.cache._SCAN_RATIO", scan_ratio)
        table, cut = np.full((len(texts), DIM), 3.0, np.float32), np.zeros(len(texts), bool)
        found = cache.read_into(texts, table, cut)
        assert found.tolist() == [text in vectors for text in texts]
        for place, text in enumerate(texts):
            expected = vectors[text].vector if found[place] else np.full(DIM, 3.0)
            np.testing.assert_array_equal(table[place], expected)
            assert cut[place] == (found[place] and vectors[text].truncated)


def test_most_of_a_cache_is_read_in_one_query_and_a_text_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = some_vectors(101)
    cache = open_cache(tmp_path)
    cache.write(INFO, vectors)
    asked: list[str] = []
    connect = EmbeddingCache._connect

    def listen(self: EmbeddingCache) -> sqlite3.Connection:
        connection = connect(self)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(EmbeddingCache, "_connect", listen)
    assert len(cache.read([*vectors][:60], DIM)) == 60
    assert not any("WHERE" in query for query in asked)
    asked.clear()
    assert len(cache.read([*vectors][:7], DIM)) == 7
    assert sum("WHERE key IN" in query for query in asked) == 1


def test_an_interrupted_write_leaves_the_cache_whole(tmp_path: Path) -> None:
    """A process is killed inside the transaction, after its rows and before their commit."""
    vectors = some_vectors(503)
    before = dict([*vectors.items()][:11])
    cache = open_cache(tmp_path)
    cache.write(INFO, before)
    script = (
        "import os, pathlib, sqlite3, sys\n"
        f"connection = sqlite3.connect({str(cache.path)!r}, isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 1')  # rows reach the file before the commit\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "rows = [(os.urandom(32), bytes(28), 0, 0) for _ in range(503)]\n"
        "connection.executemany('INSERT INTO vectors VALUES (?, ?, ?, ?)', rows)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    found = open_cache(tmp_path).read([*vectors], DIM)
    assert found.keys() == before.keys()
    open_cache(tmp_path).write(INFO, vectors)
    assert len(open_cache(tmp_path).read([*vectors], DIM)) == 503


def test_reading_an_absent_cache_makes_no_file(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "absent")
    assert cache.read_info() is None
    assert cache.read(["soup"], DIM) == {}
    assert not (tmp_path / "absent").exists()


def test_settings_and_names_give_their_own_file(tmp_path: Path) -> None:
    plain, other = open_cache(tmp_path, prefix=""), open_cache(tmp_path, prefix="query: ")
    assert plain.path != other.path
    assert plain.path == open_cache(tmp_path, prefix="").path
    assert plain.path.name.startswith("model-name-")


def test_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYES_INTEREST_CACHE", "/somewhere/else")
    assert default_cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("BAYES_INTEREST_CACHE")
    assert "bayes_interest" in default_cache_folder().parts


def damage_start(file: Path) -> None:
    file.write_bytes(b"garbage" + file.read_bytes()[7:])


def damage_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def damage_one_number(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE vectors SET value = zeroblob(28) WHERE length(key) = 32")
    connection.close()


def damage_types(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE vectors SET value = 'text'")
    connection.close()


@pytest.mark.parametrize("damage", [damage_start, damage_end, damage_one_number, damage_types])
def test_damage_is_moved_aside(tmp_path: Path, damage: object) -> None:
    vectors = some_vectors(503)
    cache = open_cache(tmp_path)
    cache.write(INFO, vectors)
    damage(cache.path)  # type: ignore[operator]
    with pytest.warns(DataWarning, match="is damaged"):
        assert cache.read(list(vectors), DIM) == {}
    assert not cache.path.exists()
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
    cache.write(INFO, vectors)
    assert len(cache.read(list(vectors), DIM)) == 503


def test_flipped_bytes_never_crash_nor_give_a_wrong_vector(tmp_path: Path) -> None:
    vectors = some_vectors(101)
    rng = np.random.default_rng(1)
    for trial in range(40):
        cache = open_cache(tmp_path / str(trial))
        cache.write(INFO, vectors)
        content = bytearray(cache.path.read_bytes())
        for place in rng.integers(0, len(content), size=5):
            content[place] ^= int(rng.integers(1, 256))
        cache.path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            assert cache.read_info() in (None, INFO)
            for text, cached in cache.read(list(vectors), DIM).items():
                np.testing.assert_array_equal(cached.vector, vectors[text].vector)
                assert cached.truncated == vectors[text].truncated
            cache.write(INFO, vectors)


def test_a_vector_of_another_length_is_damage(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.write(INFO, some_vectors(3))
    with pytest.warns(DataWarning, match=r"28 bytes, not 4 \* 5"):
        assert cache.read(list(some_vectors(3)), 5) == {}


def test_a_locked_cache_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayes_interest.text.cache._LOCK_SECONDS", 0.05)
    cache = open_cache(tmp_path)
    cache.write(INFO, some_vectors(3))
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(DataWarning, match=r"locked.*going on without it"):
        cache.write(INFO, some_vectors(3))
    cache.write(INFO, some_vectors(3))  # one warning is enough
    other.close()
    assert cache.path.exists()


def test_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, numpy as np\n"
        "from bayes_interest.text.cache import *\n"
        "from bayes_interest.text.cache import CachedVector\n"
        f"cache = EmbeddingCache(pathlib.Path({str(tmp_path)!r}), 'm', {{}})\n"
        "for i in range(30):\n"
        "    text = f'{sys.argv[1]} {i}'\n"
        "    vector = CachedVector(np.full(7, i, dtype=np.float32), False)\n"
        "    cache.write(CacheInfo(7, 11), {text: vector, f'both {i}': vector})\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", script, str(n)]) for n in range(3)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    texts = [f"{n} {i}" for n in (0, 1, 2, "both") for i in range(30)]
    found = EmbeddingCache(tmp_path, "m", {}).read(texts, DIM)
    assert len(found) == 120
    assert all(found[text].vector[0] == int(text.split()[1]) for text in texts)
