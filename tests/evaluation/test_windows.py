"""How a log is cut into parts to train and to test on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import InputError
from bayes_interest.evaluation.windows import make_windows
from bayes_interest.events.read import EventLog, read_events
from tests.evaluation.fakes import make_log

LOG = read_events(make_log(n_events=101))


def times(log: EventLog) -> pd.Series:
    return log.frame["timestamp"]


@pytest.mark.parametrize("protocol", ["successive", "last", "rolling"])
def test_train_lies_before_test(protocol: str) -> None:
    for window in make_windows(LOG, protocol, fraction=0.3):
        assert times(window.train).max() < times(window.test).min()
        for part in (window.train, window.test):
            assert part.row.tolist() == part.frame.index.tolist() == list(range(len(part)))
            assert part.report.rows_out == len(part)


def test_the_cut_is_a_time_or_a_share() -> None:
    at = times(LOG).iloc[60]
    (window,) = make_windows(LOG, at=at)
    assert (len(window.train), len(window.test)) == (60, 41)
    assert len(make_windows(LOG)[0].test) == 10  # the last tenth by default
    assert len(make_windows(LOG, fraction=0.4)[0].test) == 40


def test_last_counts_one_event_per_user_and_keeps_the_others() -> None:
    (window,) = make_windows(LOG, "last", fraction=0.5)
    (whole,) = make_windows(LOG, "successive", fraction=0.5)
    assert len(window.test) == len(whole.test)
    assert whole.counts.all()
    counted = window.test.frame[window.counts]
    newest = window.test.frame.groupby("user_id")["timestamp"].max()
    assert counted.set_index("user_id")["timestamp"].to_dict() == newest.to_dict()


def test_rolling_windows_are_the_test_part_and_train_grows() -> None:
    windows = make_windows(LOG, "rolling", fraction=0.4, n_windows=3)
    (whole,) = make_windows(LOG, fraction=0.4)
    assert [len(w.test) for w in windows] == [13, 13, 14]
    assert [len(w.train) for w in windows] == [61, 74, 87]
    joined = pd.concat([w.test.frame for w in windows], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole.test.frame)
    assert len(make_windows(LOG, "rolling")) == 3


def test_events_of_one_moment_stay_in_one_window() -> None:
    frame = LOG.frame.copy()
    frame.loc[frame.index[70:90], "timestamp"] = frame["timestamp"].iloc[70]
    windows = make_windows(read_events(frame), "rolling", fraction=0.4, n_windows=2)
    assert [len(w.train) for w in windows] == [61, 70]
    with pytest.raises(InputError, match="n_windows=9: the 40 test events cannot"):
        make_windows(read_events(frame), "rolling", fraction=0.4, n_windows=9)


def test_leave_one_out_holds_back_the_last_event_of_users_with_two() -> None:
    frame = pd.DataFrame(
        {"user_id": list("abcabcd"), "item_id": list("1234567"), "timestamp": 1e9 + np.arange(7)}
    )
    (window,) = make_windows(read_events(frame), "leave_one_out")
    assert window.test.frame["item_id"].tolist() == ["4", "5", "6"]
    assert window.train.frame["item_id"].tolist() == ["1", "2", "3", "7"]
    with pytest.raises(InputError, match="no user has two events"):
        make_windows(read_events(frame.iloc[:3]), "leave_one_out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "random"}, "protocol='random': expected one of successive, last, rolling"),
        ({"at": "2090-01-01"}, "no event lies at or after"),
        ({"at": "1990-01-01"}, "no event lies before"),
        ({"at": "2021-01-01", "fraction": 0.1}, "not both"),
        ({"fraction": 1.5}, "fraction must lie above 0 and below 1"),
        ({"n_windows": 2}, 'n_windows=2 is for protocol="rolling"'),
        ({"protocol": "rolling", "n_windows": 0}, "n_windows=0: expected a whole number"),
        ({"protocol": "rolling", "n_windows": 1000}, "cannot be cut into so"),
        ({"protocol": "leave_one_out", "fraction": 0.1}, "leave out at, fraction"),
    ],
)
def test_impossible_cuts_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_windows(LOG, **options)
