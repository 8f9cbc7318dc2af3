"""PrecomputedVectors: given in three ways, looked up by id, errors that name the item."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import EncoderError, ItemError
from bayes_interest.text.encoder import Encoder, PrecomputedVectors, encoder_from_spec

IDS = ["i1", "i2", "i3"]
NUMBERS = np.arange(15, dtype=np.float64).reshape(3, 5)


def wide_table() -> pd.DataFrame:
    return pd.DataFrame(NUMBERS, columns=[f"v{i}" for i in range(5)]).assign(item_id=IDS)


def list_table() -> pd.DataFrame:
    return pd.DataFrame({"item_id": IDS, "vector": NUMBERS.tolist()})


@pytest.mark.parametrize(
    "vectors",
    [
        PrecomputedVectors(wide_table()),
        PrecomputedVectors(list_table()),
        PrecomputedVectors(list_table().assign(vector=list(NUMBERS))),
        PrecomputedVectors(NUMBERS, item_ids=IDS),
        PrecomputedVectors(NUMBERS.astype(int), item_ids=iter(IDS)),
    ],
)
def test_lookup_by_id(vectors: PrecomputedVectors) -> None:
    found, known = vectors.lookup(["i3", "unknown", "i1", "i3"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [NUMBERS[2], np.zeros(5), NUMBERS[0], NUMBERS[2]])
    np.testing.assert_array_equal(known, [True, False, True, True])
    assert vectors.embed_dim == 5
    assert vectors.item_ids == IDS
    found, known = vectors.lookup([])
    assert (found.shape, known.shape) == ((0, 5), (0,))


def test_ids_are_compared_as_strings() -> None:
    vectors = PrecomputedVectors(NUMBERS, item_ids=[7, 8, "9"])
    assert vectors.lookup(["7", 8, 9])[1].all()


def test_the_caller_keeps_the_table() -> None:
    table, array = list_table(), NUMBERS.astype(np.float32)
    vectors = PrecomputedVectors(array, item_ids=IDS)
    PrecomputedVectors(table)
    pd.testing.assert_frame_equal(table, list_table())
    array[:] = -1.0
    np.testing.assert_array_equal(vectors.lookup(["i2"])[0], NUMBERS[1:2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_name_the_item(bad: float) -> None:
    numbers = NUMBERS.copy()
    numbers[1, 3] = bad
    with pytest.raises(ItemError, match=r"1 item\(s\) have NaN or infinite.*'i2'"):
        PrecomputedVectors(numbers, item_ids=IDS)
    with pytest.raises(ItemError, match="first: 'i2'"):
        PrecomputedVectors(pd.DataFrame({"item_id": IDS, "vector": numbers.tolist()}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item": IDS, "v": [1, 2, 3]}, "no column 'item_id'"),
        ({"item_id": IDS}, "no column beside 'item_id'"),
        ({"item_id": ["i1", "i2", "i1"], "v": [1, 2, 3]}, "more than one vector, first: 'i1'"),
        ({"item_id": ["i1", None, "i3"], "v": [1, 2, 3]}, "row 1 is missing"),
        ({"item_id": IDS, "v": [[1, 2], [3], [4, 5]]}, "'i2' has 1 numbers, that of item 'i1' has"),
        ({"item_id": IDS, "v": [[1, 2], "red", [4, 5]]}, "'i2' is not a list of numbers: 'red'"),
        ({"item_id": IDS, "v": [[1, 2], None, [4, 5]]}, "vector of item 'i2' is None"),
        ({"item_id": IDS, "v": [1, 2, 3], "w": ["a", "b", "c"]}, "column 'w' has type"),
        ({"item_id": IDS, "v": [[], [], []]}, r"shape \(3, 0\)"),
    ],
)
def test_wrong_tables_are_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ItemError, match=message):
        PrecomputedVectors(pd.DataFrame(table))


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(ItemError, match="needs item_ids="):
        PrecomputedVectors(NUMBERS)
    with pytest.raises(ItemError, match=r"shape \(3, 5\), expected \(2, embed_dim\)"):
        PrecomputedVectors(NUMBERS, item_ids=IDS[:2])
    with pytest.raises(ItemError, match="item_ids was given beside a table"):
        PrecomputedVectors(wide_table(), item_ids=IDS)
    with pytest.raises(ItemError, match="expected real numbers"):
        PrecomputedVectors(np.full((3, 5), "red"), item_ids=IDS)


def test_missing_numbers_of_pandas_are_missing() -> None:
    table = wide_table()
    table["v2"] = pd.array([1, None, 3], dtype="Int64")
    with pytest.raises(ItemError, match=r"NaN.*'i2'"):
        PrecomputedVectors(table)


def test_a_rebuilt_one_complains_only_when_a_text_must_be_encoded() -> None:
    vectors = PrecomputedVectors(wide_table())
    assert isinstance(vectors, Encoder)
    rebuilt = encoder_from_spec(json.loads(json.dumps(vectors.spec())))
    assert isinstance(rebuilt, PrecomputedVectors)
    assert rebuilt.spec() == vectors.spec()
    assert not rebuilt.lookup(IDS)[1].any()
    with pytest.raises(EncoderError, match=r"cannot encode 1 text\(s\).*PrecomputedVectors\(tab"):
        rebuilt.encode(["a new text"])
