"""Parquet logs read in batches: the same log, report and messages as from a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import EventError
from bayes_interest.events import parquet
from bayes_interest.events.columns import Coded, EventColumns
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from tests.fitted import encoder, parts

JUNE = 1_496_275_200
N_EVENTS = 97


def events(strings: bool, seed: int = 0) -> pd.DataFrame:
    """Out of order, with repeats, blanks and missing cells."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 7, N_EVENTS), rng.integers(0, 11, N_EVENTS)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{one}" for one in user] if strings else user + 2**40,
            "item_id": [f"i{one}" for one in item] if strings else item,
            "timestamp": JUNE + rng.integers(0, 13, N_EVENTS),
            "kind": rng.choice(["view", "buy"], N_EVENTS),
            "value": rng.integers(0, 2, N_EVENTS).astype(float),
            "text": rng.choice(["red", "blue", ""], N_EVENTS),
            "shop": np.arange(N_EVENTS),
        }
    )
    if strings:
        frame.loc[[3, 50], "user_id"] = [None, "  "]
    frame.loc[[5, 96], "value"] = np.nan
    frame.loc[[8], "kind"] = None
    return frame


def assert_same_log(first: EventLog, second: EventLog) -> None:
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.row.tolist() == second.row.tolist()
    assert str(first.report) == str(second.report)
    for one, other in zip(first.report.dropped, second.report.dropped, strict=True):
        assert one.examples.astype(object).equals(other.examples.astype(object))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, and several lists of ids that become one."""
    monkeypatch.setattr(parquet, "BATCH_ROWS", 13)
    monkeypatch.setattr(parquet, "FOLD_ROWS", 29)


@pytest.mark.parametrize("strings", [True, False])
@pytest.mark.parametrize("row_group", [1, 10, 1000])
@pytest.mark.usefixtures("small_batches")
def test_a_file_in_row_groups_is_the_frame(strings: bool, row_group: int, tmp_path: Path) -> None:
    frame = events(strings)
    frame.to_parquet(tmp_path / "e.parquet", row_group_size=row_group)
    assert_same_log(read_events(tmp_path / "e.parquet"), read_events(frame))


@pytest.mark.parametrize("strings", [True, False])
@pytest.mark.usefixtures("small_batches")
def test_a_folder_is_its_files_one_after_another(strings: bool, tmp_path: Path) -> None:
    frame = events(strings)
    (tmp_path / "log" / "later").mkdir(parents=True)
    for number, begin in enumerate(range(0, N_EVENTS, 31)):
        place = tmp_path / "log" / ("later" if number == 3 else "")
        frame.iloc[begin : begin + 31].to_parquet(place / f"part-{number}.parquet")
    (tmp_path / "log" / "_SUCCESS").write_text("")
    (tmp_path / "log" / ".part-9.parquet").write_text("unfinished")
    found = read_events(str(tmp_path / "log"))
    pieces = [pd.read_parquet(path) for path in sorted((tmp_path / "log").rglob("part-*.parquet"))]
    assert_same_log(found, read_events(pd.concat(pieces, ignore_index=True)))
    assert len(pieces) == 4


@pytest.mark.parametrize("kind", ["dictionary", "large_string", "string_view"])
def test_every_way_to_write_strings(kind: str, tmp_path: Path) -> None:
    frame = events(strings=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    column = pa.array(frame["user_id"], pa.string(), from_pandas=True)
    types = {"large_string": pa.large_string(), "string_view": pa.string_view()}
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(types[kind])
    table = table.set_column(table.schema.get_field_index("user_id"), "user_id", column)
    pq.write_table(table, tmp_path / "e.parquet")
    assert_same_log(read_events(tmp_path / "e.parquet"), read_events(frame))


def test_the_index_of_a_saved_frame_is_no_column(tmp_path: Path) -> None:
    frame = events(strings=True)
    some = frame.iloc[[0, 1, 3, 8, 13, 50]]
    some.to_parquet(tmp_path / "e.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "e.parquet").names
    assert_same_log(read_events(tmp_path / "e.parquet"), read_events(some))
    frame.set_index("shop").to_parquet(tmp_path / "e.parquet")
    assert_same_log(read_events(tmp_path / "e.parquet"), read_events(frame.drop(columns="shop")))


CELLS = {
    "user_id": st.sampled_from(["u", "v", "", None]),
    "item_id": st.sampled_from([3, 1, None]),
    "timestamp": st.sampled_from([JUNE, JUNE + 1, None]),
    "value": st.sampled_from([0.0, 1.0, None]),
    "kind": st.sampled_from(["view", "", None]),
}
TYPES = {
    "user_id": "str", "item_id": "Int64", "timestamp": "Int64", "value": "float64", "kind": "str",
}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=17), group=st.integers(1, 5)
)
def test_any_file_is_the_frame(
    rows: list[Any], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = pd.DataFrame(rows, columns=[*CELLS]).astype(TYPES)
    path = tmp_path_factory.mktemp("any") / "e.parquet"
    frame.to_parquet(path, row_group_size=group)
    found = read_events(path, allow_empty=True)
    assert_same_log(found, read_events(frame, allow_empty=True))
    counted = frame.astype(object).drop_duplicates().dropna(subset=[*CELLS][:4])
    assert len(found) == len(counted[counted["user_id"] != ""].fillna("").drop_duplicates())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": pa.array([1.5] * 5)}, r"user_id must hold integers or strings, got 1\.5"),
        ({"user_id": pa.array([True] * 5)}, "got bool: True in row 0"),
        ({"item_id": pa.array([[1]] * 5)}, "got ndarray"),
        ({"item_id": pa.array([2**64 - 1] * 5, pa.uint64())}, "beyond 64 bits"),
        ({"user_id": pa.nulls(5, pa.string())}, "dropped 5: missing user_id"),
        ({"timestamp": pa.array([True] * 5)}, "timestamp must hold numbers"),
        ({"value": pa.array(["good"] * 5)}, "value must hold numbers, got 'good' in row 0"),
    ],
)
def test_unusable_columns_are_refused_as_in_a_frame(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    columns = {
        "user_id": pa.array(["u"] * 5), "item_id": pa.array(["a"] * 5),
        "timestamp": pa.array([JUNE] * 5), "value": pa.array([1.0] * 5),
    }  # fmt: skip
    table = pa.table(columns | change)
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(EventError, match=message) as from_file:
        read_events(tmp_path / "e.parquet")
    with pytest.raises(EventError) as from_table:
        read_events(table)
    assert str(from_file.value) == str(from_table.value)


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    frame = events(strings=True).rename(columns={"user_id": "userid"})
    frame.to_parquet(tmp_path / "e.parquet")
    with pytest.raises(EventError, match=r"'user_id' is missing, found \['userid', .*did you mean"):
        read_events(tmp_path / "e.parquet")
    named = read_events(tmp_path / "e.parquet", columns={"user_id": "userid"})
    assert_same_log(named, read_events(events(strings=True)))


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    frame = events(strings=False)
    (tmp_path / "log").mkdir()
    with pytest.raises(EventError, match=r"log: cannot be read: the folder holds no \.parquet"):
        read_events(tmp_path / "log")
    frame.to_parquet(tmp_path / "log" / "a.parquet")
    frame.drop(columns="kind").to_parquet(tmp_path / "log" / "b.parquet")
    with pytest.raises(EventError, match=r"a\.parquet has a column 'kind' and b\.parquet has none"):
        read_events(tmp_path / "log")
    frame.astype({"user_id": str}).to_parquet(tmp_path / "log" / "b.parquet")
    with pytest.raises(EventError, match=r"'user_id' holds int64 in a\.parquet but string in b"):
        read_events(tmp_path / "log")


def test_fit_and_update_take_a_path_and_make_no_table(tmp_path: Path) -> None:
    train, test = parts("bernoulli")
    train.to_parquet(tmp_path / "train.parquet", row_group_size=17)
    test.to_parquet(tmp_path / "test.parquet")
    log = read_events(tmp_path / "train.parquet")
    config = ModelConfig(emission="bernoulli", state_dim=3)
    run = FitConfig(max_epochs=1, n_members=1, holdout=0.0, progress=False)
    door = InterestModel(config, encoder("bernoulli")).fit(log, config=run)
    door.update(tmp_path / "test.parquet")
    assert "frame" not in vars(log)
    plain = InterestModel(config, encoder("bernoulli")).fit(train, config=run).update(test)
    pd.testing.assert_frame_equal(door.interest(), plain.interest(), check_exact=True)


# ---------------------------------------------------------------- a log as codes


def test_codes_stand_for_ids_in_order_of_appearance() -> None:
    log = read_events(events(strings=True))
    assert log.columns.user.codes.dtype == log.columns.item.codes.dtype == np.int32
    kept = log.columns
    table = kept.frame()
    assert table["user_id"].drop_duplicates().tolist() == kept.user.ids.tolist()
    again = EventColumns.of_frame(table)
    for first, second in ((kept.user, again.user), (kept.item, again.item)):
        assert first.codes.tolist() == second.codes.tolist()
        assert first.ids.tolist() == second.ids.tolist()


def test_a_part_of_a_log_numbers_its_ids_anew() -> None:
    whole = Coded(np.array([0, 1, 0, 2, 1], dtype=np.int32), np.array([7, 8, 9]))
    part = whole.take(slice(2, 4))
    assert part.codes.tolist() == [0, 1]
    assert part.ids.tolist() == [7, 9]
    assert whole.take(np.array([4, 3])).series().tolist() == [8, 9]
    train, test = split_by_time(events(strings=False), fraction=0.3)
    both = pd.concat([train.frame, test.frame], ignore_index=True)
    pd.testing.assert_frame_equal(both, read_events(events(strings=False)).frame)


def test_a_change_of_the_table_is_a_change_of_the_log() -> None:
    log = read_events(events(strings=True))
    log.frame.loc[0, "user_id"] = "somebody"
    assert log.columns.user.ids[0] == "somebody"


def test_repeats_are_found_across_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.concat([events(strings=False)] * 2, ignore_index=True)
    whole = read_events(frame)
    monkeypatch.setattr("bayes_interest.events.columns.TIES_AT_ONCE", 3)
    assert_same_log(read_events(frame), whole)
    assert len(whole) < N_EVENTS
