"""The border for ids: exact, stable, reversible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.errors import InputError
from bayes_interest.events.id_map import IdMap

IDS = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=3)), max_size=11)


def test_first_appearance_gives_the_order() -> None:
    ids = IdMap.from_ids(["b", "a", "b", "c", "a"])
    assert ids.ids.tolist() == ["b", "a", "c"]
    assert ids.index_of(["c", "b", "x"]).tolist() == [2, 0, -1]
    assert ids.index_of([]).shape == (0,)
    assert ids.index_of(["a"]).dtype == np.int64
    assert len(ids) == 3
    assert "a" in ids
    assert "x" not in ids


def test_integers_and_strings_are_different_ids() -> None:
    ids = IdMap.from_ids([1, "1", 2])
    assert len(ids) == 3
    assert ids.index_of([1, "1", "2"]).tolist() == [0, 1, -1]
    assert [type(v) for v in ids.ids] == [int, str, int]
    assert IdMap.from_ids([1]) != IdMap.from_ids(["1"])


def test_array_type_follows_the_ids() -> None:
    assert IdMap.from_ids([3, 1]).ids.dtype == np.int64
    assert IdMap.from_ids(["a"]).ids.dtype == object
    assert IdMap.from_ids([2**70]).ids.tolist() == [2**70]
    assert len(IdMap.from_ids([])) == 0


@pytest.mark.parametrize(
    "values",
    [
        np.array([5, 7, 5]),
        np.array([5, 7], dtype=np.uint8),
        pd.Series([5, 7], dtype="Int64"),
        pd.Series([5, 7], dtype="int64[pyarrow]"),
        pd.Series([5, 7], dtype="category"),
        pd.Index([5, 7]),
        (v for v in [5, 7]),
        [np.int64(5), np.int16(7)],
    ],
)
def test_containers_of_integers(values: Any) -> None:
    assert IdMap.from_ids(values) == IdMap.from_ids([5, 7])


def test_lookup_is_exact_about_types() -> None:
    ids = IdMap.from_ids([1, 0])
    found = ids.index_of([True, False, None, float("nan"), pd.NA, 1.0, 1.5, float("inf"), [1]])
    assert found.tolist() == [-1, -1, -1, -1, -1, 0, -1, -1, -1]
    assert ids.index_of(np.array([0.0, np.nan, 1.0])).tolist() == [1, -1, 0]
    assert [1] not in ids


def test_extend_keeps_old_indices_and_the_old_map() -> None:
    old = IdMap.from_ids(["a", "b"])
    new = old.extend(["c", "a", "d", "c"])
    assert new.ids.tolist() == ["a", "b", "c", "d"]
    assert old.ids.tolist() == ["a", "b"]
    assert IdMap.from_ids([1]).extend(["x"]).ids.tolist() == [1, "x"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, True], "got bool True at position 1"),
        (["a", None], "got NoneType None at position 1"),
        ([1.0], r"got float 1\.0 at position 0"),
        ([b"a"], "got bytes"),
        ("abc", "expected several ids, got one str: 'abc'"),
    ],
)
def test_what_is_no_id_is_refused(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        IdMap.from_ids(values)


def test_a_single_string_is_no_list_of_ids() -> None:
    with pytest.raises(InputError, match="expected several ids"):
        IdMap.from_ids(["a"]).index_of("a")


def test_frozen() -> None:
    ids = IdMap.from_ids([1, 2])
    with pytest.raises(AttributeError):
        ids.ids = np.array([1])  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        ids.ids[0] = 9
    with pytest.raises(InputError, match="distinct"):
        IdMap(np.array([1, 1]))


def test_the_constructor_leaves_its_array_alone() -> None:
    array = np.array([1, 2])
    ids = IdMap(array)
    array[0] = 9
    assert ids.ids.tolist() == [1, 2]


def test_equality_hash_and_repr() -> None:
    one, two = IdMap.from_ids(["a", "b"]), IdMap.from_ids(["a", "b", "a"])
    assert one == two
    assert hash(one) == hash(two)
    assert one != IdMap.from_ids(["b", "a"])
    assert one != ["a", "b"]
    assert repr(IdMap.from_ids(range(9))) == "IdMap(9 ids: 0, 1, 2, ...)"


def test_frame_survives_parquet(tmp_path: Path) -> None:
    ids = IdMap.from_ids([7, "7", "007", "", 2**70, -3])
    ids.to_frame().to_parquet(tmp_path / "ids.parquet")
    assert IdMap.from_frame(pd.read_parquet(tmp_path / "ids.parquet")) == ids
    shuffled = ids.to_frame().iloc[::-1]
    assert IdMap.from_frame(shuffled) == ids


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": ["1"]}, "columns id, type and index"),
        ({"id": ["1", "2"], "type": ["int", "int"], "index": [0, 2]}, "without gaps"),
        ({"id": ["1"], "type": ["uuid"], "index": [0]}, "type int or str only"),
        ({"id": ["x"], "type": ["int"], "index": [0]}, "type int or str only"),
        ({"id": ["1", "1"], "type": ["int", "int"], "index": [0, 1]}, "distinct"),
    ],
)
def test_frames_of_another_origin_are_refused(frame: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        IdMap.from_frame(pd.DataFrame(frame))


@settings(max_examples=60, deadline=None)
@given(first=IDS, second=IDS)
def test_index_and_id_are_inverse(first: list[Any], second: list[Any]) -> None:
    ids = IdMap.from_ids(first)
    assert ids.index_of(ids.ids).tolist() == list(range(len(ids)))
    assert [ids.ids[i] for i in ids.index_of(first)] == first
    grown = ids.extend(second)
    assert grown == IdMap.from_ids([*first, *second])
    assert grown.ids.tolist()[: len(ids)] == ids.ids.tolist()
    assert IdMap.from_frame(grown.to_frame()) == grown


LONG = 1_500
INTEGERS = np.arange(LONG, dtype=np.int64) % 701 * 3
STRINGS = np.array([f"u{n}" for n in INTEGERS], dtype=object)
MIXED = np.array([*INTEGERS[:-1].tolist(), "5"], dtype=object)
WITH_BOOL = np.array([*INTEGERS[:-1].tolist(), True], dtype=object)


@pytest.mark.parametrize("known", [[], [6, 3, -1], ["u6", "u3", "x"], [6, "u3", "6"]], ids=repr)
@pytest.mark.parametrize("long", [INTEGERS, STRINGS, MIXED], ids=["int", "str", "mixed"])
def test_long_arrays_are_looked_up_as_short_ones(known: list[Any], long: Any) -> None:
    ids = IdMap.from_ids(known)
    assert ids.index_of(long).tolist() == [int(ids.index_of([one])[0]) for one in long.tolist()]
    wider = ids.extend(long)
    assert wider.ids.tolist() == list(dict.fromkeys([*known, *long.tolist()]))
    assert IdMap.from_ids(long).ids.tolist() == list(dict.fromkeys(long.tolist()))
    assert wider.extend(long) is wider
    with pytest.raises(InputError, match="got bool True at position 1499"):
        ids.extend(WITH_BOOL)


def test_position_of_one_id() -> None:
    ids = IdMap.from_ids([7, "7"])
    assert [ids.position(one) for one in (7, "7", np.int64(7), 7.0, True, None, "x")] == [
        0, 1, 0, 0, -1, -1, -1,
    ]  # fmt: skip
