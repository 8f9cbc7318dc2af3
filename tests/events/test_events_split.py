"""The cut: strictly before, at or after, and never through tied events."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.errors import EventError
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.events.split import split_by_time

JUNE = 1_496_275_200  # 2017-06-01T00:00:00Z


def log(steps: list[int]) -> EventLog:
    n = len(steps)
    return read_events(
        pd.DataFrame(
            {
                "user_id": np.arange(n) % 5,
                "item_id": np.arange(n),
                "timestamp": [JUNE + s for s in steps],
            }
        )
    )


@pytest.mark.parametrize(
    "at",
    [
        "2017-06-01T00:00:02",
        "2017-06-01 02:00:02+02:00",
        dt.datetime(2017, 6, 1, 0, 0, 2),
        pd.Timestamp("2017-06-01T00:00:02", tz="UTC"),
        np.datetime64("2017-06-01T00:00:02"),
        JUNE + 2,
        JUNE + 1.5,
    ],
)
def test_train_lies_strictly_before_the_cut(at: Any) -> None:
    train, test = split_by_time(log([4, 0, 2, 1, 2]), at=at)
    assert train.frame["item_id"].tolist() == [1, 3]
    assert test.frame["item_id"].tolist() == [2, 4, 0]
    assert train.row.tolist() == [1, 3]
    assert test.row.tolist() == [2, 4, 0]
    assert list(test.frame.index) == [0, 1, 2]


def test_a_date_or_a_year_is_its_first_moment() -> None:
    events = log([-1, 0])
    for at in ("2017-06-01", "2017-06", dt.date(2017, 6, 1)):
        assert [len(part) for part in split_by_time(events, at)] == [1, 1]
    assert len(split_by_time(log([-86_400 * 200, 0]), at="2017")[0]) == 1


def test_fraction_takes_the_last_events() -> None:
    train, test = split_by_time(log(list(range(20))), fraction=0.1)
    assert test.frame["item_id"].tolist() == [18, 19]
    assert len(train) == 18


def test_fraction_never_cuts_through_ties() -> None:
    train, test = split_by_time(log([0, 1, 2, 2, 2, 2, 3]), fraction=0.3)
    assert (len(train), len(test)) == (6, 1)
    train, test = split_by_time(log([0, 0, 0, 1]), fraction=0.9)
    assert (len(train), len(test)) == (3, 1)


def test_the_cut_is_stated_in_both_reports() -> None:
    events = read_events(
        pd.DataFrame(
            {"user_id": [1, 2, None], "item_id": [1, 2, 3], "timestamp": [JUNE, JUNE + 9, JUNE]}
        )
    )
    train, test = split_by_time(events, fraction=0.5)
    for part in (train, test):
        assert (
            "split at 2017-06-01T00:00:09+00:00: 1 events before it, 1 at or after"
            in (part.report.notes[-1])
        )
        assert part.report.rows_in == 3
        assert part.report.rows_dropped == 1
        assert part.report.rows_out == len(part) == 1
    assert len(events.report.notes) == len(train.report.notes) - 1


def test_a_frame_is_read_first() -> None:
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [JUNE, JUNE + 1]})
    assert [len(part) for part in split_by_time(frame, fraction=0.5)] == [1, 1]


def test_an_empty_side_is_an_error_with_the_span() -> None:
    events = log([0, 1])
    with pytest.raises(EventError, match=r"no event lies before at='2017-01-01'.*from 2017-06-01T"):
        split_by_time(events, at="2017-01-01")
    with pytest.raises(EventError, match="no event lies at or after at='2018-01-01'"):
        split_by_time(events, at="2018-01-01")
    with pytest.raises(EventError, match="same timestamp"):
        split_by_time(log([3, 3, 3]), fraction=0.5)


@pytest.mark.parametrize("options", [{}, {"at": "2017-06-01", "fraction": 0.1}])
def test_exactly_one_of_at_and_fraction(options: dict[str, Any]) -> None:
    with pytest.raises(EventError, match="either at= or fraction="):
        split_by_time(log([0, 1]), **options)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), True, "0.1"])
def test_impossible_fractions(fraction: float) -> None:
    with pytest.raises(EventError, match="above 0 and below 1"):
        split_by_time(log([0, 1]), fraction=fraction)


@pytest.mark.parametrize("at", ["June", pd.NaT, "", (1, 2), float("nan"), 1e300])
def test_a_cut_that_is_no_time(at: Any) -> None:
    with pytest.raises(EventError, match="is no time: use an ISO 8601 string"):
        split_by_time(log([0, 1]), at=at)


def test_a_bool_is_no_cut() -> None:
    with pytest.raises(EventError, match="bool"):
        split_by_time(log([0, 1]), at=True)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(0, 7), min_size=2, max_size=31).filter(lambda s: len(set(s)) > 1),
    fraction=st.floats(0.01, 0.99),
)
def test_the_two_parts_are_the_log(steps: list[int], fraction: float) -> None:
    events = log(steps)
    train, test = split_by_time(events, fraction=fraction)
    assert len(train)
    assert len(test)
    assert train.frame["timestamp"].max() < test.frame["timestamp"].min()
    both = pd.concat([train.frame, test.frame], ignore_index=True)
    pd.testing.assert_frame_equal(both, events.frame)
    assert np.concatenate([train.row, test.row]).tolist() == events.row.tolist()
