"""Reading logs and item tables: what is kept, what is dropped and counted, what is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.errors import DataWarning, EventError, ItemError
from bayes_interest.events.read import EventLog, ItemTable, read_events, read_items

JUNE = 1_496_275_200  # 2017-06-01T00:00:00Z
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def log(**changes: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "user_id": ["u1", "u2", "u1", "u3", "u2"],
        "item_id": ["a", "b", "c", "a", "d"],
        "timestamp": [JUNE, JUNE + 1, JUNE + 2, JUNE + 3, JUNE + 4],
    }
    return pd.DataFrame({**columns, **changes})


def times(*values: Any) -> pd.DataFrame:
    n = len(values)
    column = pd.Series(list(values), dtype=object)
    return pd.DataFrame({"user_id": ["u"] * n, "item_id": [f"i{k}" for k in range(n)]}).assign(
        timestamp=column
    )


def seconds(frame: pd.DataFrame, **options: Any) -> list[float]:
    events = read_events(frame, **options)
    order = np.argsort(events.row)
    return [float(s) for s in events.seconds()[order]]


# ---------------------------------------------------------------- the result


def test_clean_log_has_final_types_and_an_empty_report() -> None:
    events = read_events(
        log(kind=["view"] * 5, value=[1, 2, 3, 4, 5], text=["x"] * 5, shop=range(5))
    )
    assert list(events.frame.columns) == [
        "user_id", "item_id", "timestamp", "kind", "value", "text", "shop",
    ]  # fmt: skip
    assert str(events.frame["timestamp"].dtype) == "datetime64[ns, UTC]"
    assert events.frame["value"].dtype == np.float64
    assert events.row.tolist() == [0, 1, 2, 3, 4]
    assert events.row.dtype == np.int64
    assert events.seconds().tolist() == [JUNE + k for k in range(5)]
    assert events.report.dropped == ()
    assert events.report.notes == ()
    assert len(events) == events.report.rows_in == events.report.rows_out == 5


def test_repr_is_readable() -> None:
    text = repr(read_events(log()))
    assert "5 events, 3 users, 4 items" in text
    assert "2017-06-01 to 2017-06-01 UTC, 0 of 5 rows dropped" in text
    assert len(text.splitlines()) == 2
    empty = read_events(log(user_id=None), allow_empty=True)
    assert "0 events" in repr(empty)
    assert "5 of 5 rows dropped" in repr(empty)


def test_unsorted_is_sorted_stably_and_noted() -> None:
    events = read_events(log(timestamp=[JUNE + 9, JUNE, JUNE + 9, JUNE, JUNE + 5]))
    assert events.row.tolist() == [1, 3, 4, 0, 2]
    assert events.frame["item_id"].tolist() == ["b", "a", "d", "a", "c"]
    assert "not in time order" in events.report.notes[0]


def test_event_log_is_returned_as_it_is_without_options() -> None:
    events = read_events(log())
    assert read_events(events) is events
    renamed = read_events(events, columns={"user_id": "item_id", "item_id": "user_id"})
    assert renamed.frame["user_id"].tolist() == events.frame["item_id"].tolist()
    empty = read_events(log(user_id=None), allow_empty=True)
    with pytest.raises(EventError, match="no event to work with"):
        read_events(empty)


def test_an_index_other_than_the_default_does_not_matter() -> None:
    frame = log()
    frame.index = pd.Index([7, 7, 3, 3, 1], name="odd")
    pd.testing.assert_frame_equal(read_events(frame).frame, read_events(log()).frame)


def test_result_does_not_share_memory_with_the_source() -> None:
    frame = log(value=[1.0, 2.0, 3.0, 4.0, 5.0], shop=[1, 2, 3, 4, 5])
    before = frame.copy(deep=True)
    events = read_events(frame)
    events.frame.loc[:, "value"] = 0.0
    events.frame.loc[:, "shop"] = 0
    pd.testing.assert_frame_equal(frame, before)


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet", "e.jsonl", "e.ndjson", "E.CSV"])
def test_every_file_kind_gives_the_same_log(tmp_path: Path, name: str) -> None:
    path, frame = tmp_path / name, log(value=[1.5, 2, 3, 4, 5], kind=["k"] * 5)
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif "json" in name or name.endswith("nd"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    expected = read_events(frame).frame
    for source in (path, str(path)):
        pd.testing.assert_frame_equal(read_events(source).frame, expected)


class InterchangeOnly:
    """A frame that speaks nothing but the interchange protocol."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __dataframe__(self, *args: Any, **options: Any) -> Any:
        return self.table.__dataframe__(*args, **options)


def test_foreign_frames_give_the_same_log() -> None:
    frame = log(value=[1.5, 2, 3, 4, 5])
    expected = read_events(frame).frame
    table = pa.table(frame.to_dict("list"))
    for source in (table, pl.DataFrame(frame.to_dict("list")), InterchangeOnly(table)):
        pd.testing.assert_frame_equal(read_events(source).frame, expected)


def test_polars_types() -> None:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(["u", "v"], dtype=pl.Categorical),
            "item_id": pl.Series([2**60 + 1, None], dtype=pl.Int64),
            "timestamp": [dt.date(2017, 6, 1), dt.date(2017, 6, 2)],
        }
    )
    events = read_events(frame)
    assert events.frame["user_id"].tolist() == ["u"]
    assert events.frame["item_id"].tolist() == [2**60 + 1]  # not rounded through float
    assert events.seconds().tolist() == [JUNE]


@pytest.mark.parametrize("source", [[1, 2], {"user_id": [1]}, None, pl.LazyFrame({"a": [1]}), 3])
def test_other_objects_are_refused(source: object) -> None:
    with pytest.raises(EventError, match=r"expected a path or a data frame.*pd\.DataFrame"):
        read_events(source)


def test_an_arrow_column_is_no_table() -> None:
    with pytest.raises(EventError, match="cannot read a table from Series"):
        read_events(pl.Series("a", [1]))


def test_missing_file_and_unknown_extension_name_path_and_extensions(tmp_path: Path) -> None:
    with pytest.raises(EventError, match=r"absent\.csv: no such file.*\.parquet, \.jsonl"):
        read_events(tmp_path / "absent.csv")
    (tmp_path / "log.xlsx").write_bytes(b"")
    with pytest.raises(EventError, match=r"log\.xlsx: unknown extension.*\.csv, \.csv\.gz"):
        read_events(tmp_path / "log.xlsx")
    with pytest.raises(ItemError, match="no such file"):
        read_items(tmp_path / "absent.parquet")


def truncated_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table(log().to_dict("list")), sink)
    return sink.getvalue().to_pybytes()[:-40]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", None, "arquet"),
        ("b.csv", b"user_id,item_id,timestamp\nu,a,1\nu,b,2,9\n", "line 3"),
        ("c.csv", b"user_id,item_id,timestamp\nu,a,1,9\nu,b,2,9\n", "loss of data"),
        ("d.csv", b"", "No columns"),
        ("e.csv", b"user_id,user_id,timestamp\nu,a,1\n", "'user_id' appears twice"),
        ("f.csv", b"user_id,item_id,timestamp\n\xff\xfe,a,1\n", "decode"),
        ("g.csv.gz", gzip.compress(b"user_id,item_id,timestamp\n" * 99, mtime=0)[:-12], "end"),
        ("h.csv.gz", b"not gzip at all", "gzip"),
        ("i.jsonl", b'{"user_id": "u"}\n{"user_id": \n', "line 2"),
        ("j.jsonl", b'{"user_id": "u"}\n[1]\n', "line 2: expected an object"),
    ],
)
def test_damaged_files_are_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(truncated_parquet() if content is None else content)
    with pytest.raises(EventError, match=rf"{name}: cannot be read: (?s:.*){reason}"):
        read_events(path)


def test_csv_ids_are_kept_as_written(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,timestamp\n1,0012,1496275200\n,0013,1496275201\n3,0014,x\n")
    events = read_events(path)
    assert events.frame["user_id"].tolist() == [1]
    assert events.frame["item_id"].tolist() == ["0012"]
    assert sorted(events.report.to_frame()["reason"]) == ["missing user_id", "unreadable timestamp"]
    path.write_text("user_id,item_id,timestamp\n1.0,900719925474099301,1496275200\n,2,1496275201\n")
    events = read_events(path)
    assert events.frame["user_id"].tolist() == [1]
    assert events.frame["item_id"].tolist() == [900719925474099301]  # beyond exact floats


def test_json_lines_keep_large_integers_beside_missing_ones(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    rows = [{"user_id": 2**60 + 1, "item_id": "a", "timestamp": JUNE}, {"item_id": "b"}]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert read_events(path).frame["user_id"].tolist() == [2**60 + 1]


# ---------------------------------------------------------------- columns


def test_columns_maps_our_names_to_theirs() -> None:
    theirs = log().rename(columns={"user_id": "member", "timestamp": "when"})
    events = read_events(theirs, columns={"user_id": "member", "timestamp": "when"})
    pd.testing.assert_frame_equal(events.frame, read_events(log()).frame)
    swapped = read_events(log(), columns={"user_id": "item_id", "item_id": "user_id"})
    assert swapped.frame["user_id"].tolist() == log()["item_id"].tolist()


def test_a_shadowed_column_is_left_out_and_noted() -> None:
    events = read_events(log(member=["m"] * 5), columns={"user_id": "member"})
    assert set(events.frame["user_id"]) == {"m"}
    assert "'user_id' was left out" in events.report.notes[0]


def test_missing_column_lists_what_was_found_and_suggests() -> None:
    with pytest.raises(
        EventError,
        match=r"'user_id' is missing, found \['userid', .*mean 'userid'.*columns=\{\"user_id\"",
    ):
        read_events(log().rename(columns={"user_id": "userid"}))
    with pytest.raises(EventError, match="columns= must map our names to yours, got 'member'"):
        read_events(log(), columns="member")  # type: ignore[arg-type]
    with pytest.raises(EventError, match="'membr' is missing"):
        read_events(log(), columns={"kind": "membr"})
    with pytest.raises(EventError, match=r"in the index: pass frame\.reset_index"):
        read_events(log().set_index("timestamp"))
    with pytest.raises(EventError, match="did you mean 'user_id'"):
        read_events(log(), columns={"userid": "user_id"})


def test_duplicate_and_layered_column_names_are_refused() -> None:
    frame = log(shop=1)
    frame.columns = pd.Index(["user_id", "item_id", "timestamp", "user_id"])
    with pytest.raises(EventError, match=r"unique.*\['user_id'\]"):
        read_events(frame)
    layered = log()
    layered.columns = pd.MultiIndex.from_tuples([("a", c) for c in layered.columns])
    with pytest.raises(EventError, match="one level"):
        read_events(layered)
    table = pa.table([[1], [2]], names=["user_id", "user_id"])
    with pytest.raises(EventError, match="unique"):
        read_events(table)


# ---------------------------------------------------------------- dropping


def test_every_reason_is_counted_with_examples() -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["u", None, "", "u", "u", "u", "u", "u", "  ", "u"],
            "item_id": ["a", "a", "a", None, "a", "a", "a", "a", "a", "b"],
            "timestamp": [JUNE, JUNE, JUNE, JUNE, "soon", None, JUNE, JUNE, JUNE, JUNE],
            "value": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.inf, 1.0, 1.0, np.nan],
        },
        index=range(100, 110),
    )
    report = read_events(frame).report
    counts = dict(zip(report.to_frame()["reason"], report.to_frame()["rows"], strict=True))
    assert counts == {
        "missing user_id": 3,
        "missing item_id": 1,
        "missing timestamp": 1,
        "unreadable timestamp": 1,
        "value missing or not finite": 2,
        "duplicate event": 1,
    }
    assert (report.rows_in, report.rows_out, report.rows_dropped) == (10, 1, 9)
    by_reason = {entry.reason: entry for entry in report.dropped}
    assert by_reason["missing user_id"].examples["row"].tolist() == [1, 2, 8]
    assert by_reason["unreadable timestamp"].examples["timestamp"].tolist() == ["soon"]
    assert "row 4: user_id='u', item_id='a', timestamp='soon'" in str(report)
    assert str(report).startswith("10 rows read, 1 kept, 9 dropped")


def test_at_most_three_examples() -> None:
    events = read_events(log(item_id=[None, None, None, None, "d"]))
    assert events.report.dropped[0].rows == 4
    assert len(events.report.dropped[0].examples) == 3


def test_duplicates_keep_the_first_and_regard_kind_and_value() -> None:
    twice = pd.concat([log(), log()], ignore_index=True)
    assert read_events(twice).row.tolist() == [0, 1, 2, 3, 4]
    kinds = twice.assign(kind=["view"] * 5 + ["buy"] * 5)
    assert len(read_events(kinds)) == 10
    assert len(read_events(twice.assign(value=range(10)))) == 10
    assert len(read_events(twice.assign(text=[str(k) for k in range(10)]))) == 5


def test_nothing_left_is_an_error_with_the_report() -> None:
    with pytest.raises(EventError, match=r"no event to work with(?s:.*)dropped 5: missing user_id"):
        read_events(log(user_id=[None] * 5))
    empty = read_events(log(user_id=[None] * 5), allow_empty=True)
    assert len(empty) == 0
    assert empty.seconds().shape == (0,)
    assert str(empty.frame["timestamp"].dtype) == "datetime64[ns, UTC]"


def test_empty_source_is_an_error() -> None:
    with pytest.raises(EventError, match="0 rows read"):
        read_events(log().iloc[:0])
    assert len(read_events(log().iloc[:0], allow_empty=True)) == 0


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "dtype", ["int32", "int64", "uint64", "Int64", "int64[pyarrow]", "uint8[pyarrow]", "category"]
)
def test_integer_ids_become_int64(dtype: str) -> None:
    events = read_events(log(user_id=pd.Series([1, 2, 1, 3, 2]).astype(dtype)))
    assert events.frame["user_id"].dtype == np.int64
    assert events.frame["user_id"].tolist() == [1, 2, 1, 3, 2]


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category", "str"])
def test_string_ids_become_plain_strings(dtype: str) -> None:
    events = read_events(log(user_id=pd.Series(["01", "b", "01", "c", "b"], dtype=dtype)))
    assert events.frame["user_id"].dtype == pd.Series(["x"]).astype(str).dtype
    assert events.frame["user_id"].tolist() == ["01", "b", "01", "c", "b"]
    assert type(events.frame["user_id"].iloc[0]) is str


@pytest.mark.parametrize("dtype", ["float64", "Int64", "float64[pyarrow]", "Float64", "object"])
def test_integer_ids_beside_missing_ones(dtype: str) -> None:
    events = read_events(log(user_id=pd.Series([1, 2, None, 3, 2], dtype=dtype)))
    assert events.frame["user_id"].dtype == np.int64
    assert events.frame["user_id"].tolist() == [1, 2, 3, 2]
    assert any("int64" in note for note in events.report.notes) == ("loat" in dtype)


def test_float_ids_beyond_exact_integers_warn() -> None:
    with pytest.warns(DataWarning, match=r"user_id: float ids beyond 2\*\*53"):
        read_events(log(user_id=[1.0, 2.0**60, 1.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, "b", 1, 3, 2], r"user_id mixes types \(int: 1 in row 0; str: 'b' in row 1\).*astype"),
        ([1.5, 2, 1, 3, 2], r"integers or strings, got 1\.5 in row 0"),
        ([[1], "b", "c", "d", "e"], r"got list: \[1\] in row 0"),
        ([{"a": 1}] * 5, "got dict"),
        ([True, False, True, True, False], "got bool: True in row 0"),
        ([1, True, 2, 3, 4], "got bool: True in row 1"),
        ([b"a"] * 5, "got bytes"),
        ([2**64, 1, 2, 3, 4], "beyond 64 bits"),
        (np.array([2**63, 1, 2, 3, 4], dtype=np.uint64), "beyond 64 bits"),
        (pd.to_datetime(["2020-01-01"] * 5), "got Timestamp"),
        ([np.inf, 1.0, 2.0, 3.0, 4.0], "got inf in row 0"),
    ],
)
def test_unusable_ids_are_refused(ids: Any, message: str) -> None:
    with pytest.raises(EventError, match=message):
        read_events(log(user_id=ids))


def test_messages_count_rows_from_the_source() -> None:
    frame = log(user_id=[None, "a", "b", [1], "c"])
    frame.index = pd.Index(range(50, 55))
    with pytest.raises(EventError, match=r"got list: \[1\] in row 3"):
        read_events(frame)


# ---------------------------------------------------------------- time


def test_iso_strings_dates_and_datetimes_agree() -> None:
    paris = dt.timezone(dt.timedelta(hours=2))
    frame = times(
        "2017-06-01",
        "2017-06-01T00:00:00Z",
        "2017-06-01 02:00:00+02:00",
        " 2017-06-01 00:00:00 UTC",
        "20170601",
        dt.date(2017, 6, 1),
        dt.datetime(2017, 6, 1),
        dt.datetime(2017, 6, 1, 2, tzinfo=paris),
        pd.Timestamp("2017-06-01 02:00", tz="Europe/Paris"),
        np.datetime64("2017-06-01"),
        JUNE,
        float(JUNE),
        str(JUNE),
        np.int32(JUNE),
    )
    assert seconds(frame) == [JUNE] * 14


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["2017-06-01"] * 5),
        pd.Series(["2017-06-01"] * 5, dtype="category"),
        pd.Series(["2017-06-01"] * 5, dtype="string[pyarrow]"),
        pd.Series(pd.to_datetime(["2017-06-01"] * 5)),
        pd.Series(pd.to_datetime(["2017-06-01"] * 5)).astype("datetime64[s]"),
        pd.Series(pd.to_datetime(["2017-06-01"] * 5)).astype("category"),
        pd.Series(pd.to_datetime(["2017-05-31 20:00"] * 5).tz_localize("America/New_York")),
        pd.Series([dt.datetime(2017, 6, 1)] * 5, dtype=pd.ArrowDtype(pa.timestamp("ms"))),
        pd.Series([dt.date(2017, 6, 1)] * 5, dtype=pd.ArrowDtype(pa.date32())),
        pd.Series([JUNE] * 5, dtype="Int64"),
        pd.Series([JUNE] * 5, dtype="uint64"),
        pd.Series([JUNE] * 5, dtype="int64[pyarrow]"),
        pd.Series([JUNE] * 5, dtype="Float64"),
        pd.Series([JUNE] * 5, dtype=object),
    ],
    ids=lambda s: str(s.dtype),
)
def test_every_column_type_of_time(column: pd.Series[Any]) -> None:
    assert seconds(log(timestamp=column)) == [JUNE] * 5


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "Int64", "float64", "object"])
def test_missing_times_are_counted(dtype: str) -> None:
    raw = pd.Series([JUNE, None, JUNE, JUNE, JUNE], dtype="Int64")
    column = pd.to_datetime(raw, unit="s") if dtype.startswith("date") else raw.astype(dtype)
    report = read_events(log(timestamp=column)).report
    assert [(d.reason, d.rows) for d in report.dropped] == [("missing timestamp", 1)]


@pytest.mark.parametrize(("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", [int, float, str])
def test_unit_is_found_noted_and_warned_about(unit: str, factor: int, kind: type) -> None:
    column = [kind((JUNE + k) * factor) for k in range(5)]
    with pytest.warns(
        DataWarning, match=rf'median is 1\.496e\+\d+.*pass time_unit="{unit}"'
    ) as got:
        events = read_events(log(timestamp=column))
    assert got[0].filename == __file__
    assert any(f'time_unit="{unit}"' in note for note in events.report.notes)
    np.testing.assert_allclose(events.seconds(), [JUNE + k for k in range(5)], rtol=0, atol=1e-6)
    assert read_events(log(timestamp=column), time_unit=unit).report.notes == ()


def test_days_and_order_only_logs() -> None:
    assert seconds(log(timestamp=[0, 1, 2, 3, 4]), time_unit="D") == [
        86_400.0 * k for k in range(5)
    ]
    assert seconds(log(timestamp=[0.5] * 5), time_unit="D") == [43_200.0] * 5
    assert 'time_unit="D"' in read_events(log(timestamp=[0, 1, 2, 3, 4])).report.notes[0]


def test_integer_nanoseconds_and_fractions_are_exact() -> None:
    exact = JUNE * 10**9 + 123_456_789
    frame = read_events(log(timestamp=[exact] * 5), time_unit="ns").frame
    assert frame["timestamp"].astype("int64").tolist() == [exact] * 5
    frame = read_events(log(timestamp=[JUNE + 0.123456] * 5)).frame
    assert frame["timestamp"].iloc[0] == pd.Timestamp(JUNE * 10**9 + 123_456_000, tz="UTC")


def test_times_before_1970() -> None:
    assert seconds(log(timestamp=[-1.5, -2, 0, 1, 2])) == [-1.5, -2, 0, 1, 2]


def test_numbers_that_look_like_dates_warn() -> None:
    with pytest.warns(DataWarning, match="20170601 look like dates"):
        read_events(log(timestamp=[20170601 + k for k in range(5)]))


def test_impossible_times_are_dropped() -> None:
    frame = times(
        JUNE, "1492-10-12", np.inf, "2017-13-01", "01/02/2017", dt.time(1), (1, 2), -1e300
    )
    counts = {d.reason: d.rows for d in read_events(frame, time_unit="s").report.dropped}
    assert counts == {
        "timestamp too early (before mid-1678)": 2,
        "unreadable timestamp": 5,
    }
    late = read_events(times(JUNE, "9999-12-31"), allow_future=True)
    assert late.report.dropped[0].reason == "timestamp too late (after mid-2261)"


def test_future_times_are_refused_unless_allowed() -> None:
    now = pd.Timestamp.now("UTC")
    frame = times(JUNE, now + pd.Timedelta(days=2), "9999-12-31")
    with pytest.raises(
        EventError, match=r"2 timestamps lie more.*row 1: Timestamp.*allow_future=True"
    ):
        read_events(frame)
    assert len(read_events(frame, allow_future=True)) == 2
    assert len(read_events(times(now + pd.Timedelta(hours=20)))) == 1
    with pytest.raises(EventError, match=r"5 timestamps.*time_unit"):
        read_events(log(timestamp=[JUNE * 1000] * 5), time_unit="s")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([True, False, True, True, False], "got a column of bool"),
        (pd.Series([True] * 5, dtype="boolean"), "got a column of boolean"),
        ([1j] * 5, "got a column of complex128"),
        (pd.to_timedelta([1, 2, 3, 4, 5], unit="s"), "got a column of timedelta"),
        (pd.Series([JUNE, True, "x", 1, 2], dtype=object), "got bool True in row 1"),
        (pd.Series([JUNE, 1, 1j, 1, 2], dtype=object), "got complex 1j in row 2"),
    ],
)
def test_types_that_are_no_time_are_refused(column: Any, message: str) -> None:
    with pytest.raises(EventError, match=message):
        read_events(log(timestamp=column))


def test_unknown_time_unit() -> None:
    with pytest.raises(
        EventError, match="time_unit must be one of auto, s, ms, us, ns, D, got 'h'"
    ):
        read_events(log(), time_unit="h")


# ---------------------------------------------------------------- value, kind, text


@pytest.mark.parametrize(
    "column",
    [
        ["1", " 2 ", "3.0", "4e0", 5],
        pd.Series([1, 2, 3, 4, 5], dtype="Int64"),
        pd.Series([1, 2, 3, 4, 5], dtype="float[pyarrow]"),
        pd.Series(["1", "2", "3", "4", "5"], dtype="category"),
    ],
)
def test_values_that_are_numbers(column: Any) -> None:
    assert read_events(log(value=column)).frame["value"].tolist() == [1, 2, 3, 4, 5]


def test_bool_values_count_as_numbers() -> None:
    assert read_events(log(value=[True, False] * 2 + [True])).frame["value"].sum() == 3


@pytest.mark.parametrize(
    "column", [["1", "", "inf", "nan", None], pd.Series([1, None, None, None, None], dtype="Int64")]
)
def test_values_that_are_missing_or_not_finite_are_dropped(column: Any) -> None:
    report = read_events(log(value=column)).report
    assert [(d.reason, d.rows) for d in report.dropped] == [("value missing or not finite", 4)]


def test_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(EventError, match="value must hold numbers, got 'good' in row 1"):
        read_events(log(value=["1", "good", "bad", "4", "5"]))
    with pytest.raises(EventError, match=r"got \[1\] in row 0"):
        read_events(log(value=[[1]] * 5))
    with pytest.raises(EventError, match="value must hold numbers, got a column of datetime"):
        read_events(log(value=pd.to_datetime(["2017-06-01"] * 5)))


def test_kind_and_text_become_strings_and_missing_ones_are_noted() -> None:
    kind = pd.Series(["view", None, "buy", "view", "view"], dtype="category")
    events = read_events(log(kind=kind, text=[None, "b", "c", "d", 5]))
    assert events.frame["kind"].tolist() == ["view", "", "buy", "view", "view"]
    assert events.frame["text"].tolist() == ["", "b", "c", "d", "5"]
    assert 'kind is missing in 1 rows: read as ""' in events.report.notes
    with pytest.raises(EventError, match=r"kind must hold strings, got list \['x'\] in row 0"):
        read_events(log(kind=[["x"]] * 5))


# ---------------------------------------------------------------- items


def test_items_are_read_with_other_columns() -> None:
    frame = pd.DataFrame(
        {"item_id": [3, 1], "price": [1.5, 2.5], "text": ["x", None]}, index=[9, 9]
    )
    items = read_items(frame)
    assert list(items.frame.columns) == ["item_id", "text", "price"]
    assert items.frame["item_id"].tolist() == [3, 1]
    assert items.frame["text"].tolist() == ["x", ""]
    assert 'text is missing in 1 rows: read as ""' in items.report.notes
    assert len(items) == 2
    assert repr(items).startswith("ItemTable: 2 items, 1 with text")
    assert read_items(items) is items
    assert len(read_items(items, columns={"text": "price"})) == 2


def test_items_without_text() -> None:
    items = read_items(pd.DataFrame({"item_id": ["a"]}))
    assert items.frame["text"].tolist() == [""]
    assert "no text column" in items.report.notes[0]


def test_repeated_items_keep_the_first_and_are_counted() -> None:
    frame = pd.DataFrame(
        {
            "item_id": ["a", "b", "a", "a", None, "b"],
            "text": ["x", "y", "x", "z", "n", "y"],
            "tags": [[1], [2], [1], [1], [0], [3]],
        }
    )
    items = read_items(frame)
    assert items.frame["text"].tolist() == ["x", "y"]
    assert [(d.reason, d.examples["row"].tolist()) for d in items.report.dropped] == [
        ("missing item_id", [4]),
        ("duplicate row", [2]),
        ("item_id repeated", [3, 5]),
    ]


def test_text_columns_are_joined_and_blanks_skipped() -> None:
    frame = pd.DataFrame(
        {"item_id": [1, 2, 3], "title": ["A", None, " "], "genre": ["g", "h", None], "text": "old"}
    )
    items = read_items(frame, text_columns=["title", "genre"])
    assert items.frame["text"].tolist() == ["A. g", "h", ""]
    assert list(items.frame.columns) == ["item_id", "text", "title", "genre"]
    assert any("replaced" in note for note in items.report.notes)
    assert any("blank in 1 rows" in note for note in items.report.notes)
    assert read_items(frame, text_columns="title").frame["text"].tolist() == ["A", "", ""]
    assert read_items(frame, text_columns=["title", "text"]).frame["text"][0] == "A. old"
    with pytest.raises(ItemError, match=r"'titel' is missing.*did you mean 'title'"):
        read_items(frame, text_columns=["titel"])
    assert read_items(frame, text_columns=[]).frame["text"].tolist() == ["old"] * 3
    with pytest.raises(ItemError, match="not both"):
        read_items(frame, text_columns=["title"], columns={"text": "genre"})


def test_item_errors() -> None:
    with pytest.raises(ItemError, match="'item_id' is missing"):
        read_items(pd.DataFrame({"id": [1]}))
    with pytest.raises(ItemError, match="mixes types"):
        read_items(pd.DataFrame({"item_id": [1, "a"]}))
    with pytest.raises(ItemError, match=r"text must hold strings, got list \['x'\] in row 0"):
        read_items(pd.DataFrame({"item_id": [1], "text": [["x"]]}))
    with pytest.raises(ItemError, match=r"no item to work with(?s:.*)missing item_id"):
        read_items(pd.DataFrame({"item_id": [None], "text": ["x"]}))
    with pytest.raises(ItemError, match="no item to work with"):
        read_items(pd.DataFrame({"item_id": [], "text": []}))


# ---------------------------------------------------------------- properties

MESSY = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u1", "u2", "", None]),
        "item_id": st.sampled_from(["a", "b", "c", None, " "]),
        "timestamp": st.sampled_from([JUNE, JUNE + 1, JUNE + 2, "2017-06-01", "soon", None]),
        "value": st.sampled_from([0.0, 1.0, np.nan, np.inf]),
        "shop": st.integers(0, 10**6),
    }
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(MESSY, min_size=1, max_size=23), shift=st.integers(0, 5))
def test_cleaning_keeps_the_source_and_maps_back_to_it(rows: list[Any], shift: int) -> None:
    frame = pd.DataFrame(rows)
    frame.index = pd.Index(range(len(frame))) // 2 + shift
    before = frame.copy(deep=True)
    events = read_events(frame, allow_empty=True)
    pd.testing.assert_frame_equal(frame, before)
    kept = frame.iloc[events.row]
    for name in ("user_id", "item_id", "value", "shop"):
        assert events.frame[name].tolist() == kept[name].tolist()
    ns = events.frame["timestamp"].astype("int64").to_numpy()
    tied = np.diff(ns) == 0
    assert (np.diff(ns) >= 0).all()
    assert (np.diff(events.row)[tied] > 0).all()
    report = events.report
    assert report.rows_in == len(frame) == len(events) + report.rows_dropped
    assert not events.frame.duplicated(["user_id", "item_id", "timestamp", "value"]).any()


@pytest.mark.parametrize("name", ["ml-latest-small", "movietweetings-100k", "stackexchange-small"])
def test_real_logs_are_clean(name: str) -> None:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"{folder} is not on this machine")
    events = read_events(folder / "interactions.parquet", columns={"kind": "event"})
    items = read_items(folder / "items.parquet")
    assert isinstance(events, EventLog)
    assert isinstance(items, ItemTable)
    assert events.report.dropped == ()
    assert items.report.dropped == ()
    assert events.frame["timestamp"].is_monotonic_increasing
