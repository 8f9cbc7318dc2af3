"""Cutting a log into parts to train on and later parts to test on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from bayes_interest.errors import InputError
from bayes_interest.events.read import EventLog
from bayes_interest.events.split import split_by_time
from bayes_interest.schema import TIMESTAMP, USER_ID

ProtocolName = Literal["successive", "last", "rolling", "leave_one_out"]
FRACTION = 0.1
N_WINDOWS = 3


@dataclass(frozen=True, eq=False)
class Window:
    """A model is fitted on `train`, then scores `test`; the events in `counts` are judged.

    In both logs `row` is the position in `frame`: time order is the caller's order here.
    """

    train: EventLog
    test: EventLog
    counts: np.ndarray  # (test event,) bool


def make_windows(
    log: EventLog,
    protocol: str = "successive",
    at: object = None,
    fraction: float | None = None,
    n_windows: int | None = None,
) -> list[Window]:
    """The windows of a protocol, in time order; see `backtest`.

    Raises:
        InputError: an unknown protocol, an option that the protocol has no use for, a cut that
            leaves no event before or after it, or a log without any event to judge.
    """
    _check(protocol, at, fraction, n_windows)
    if protocol == "leave_one_out":
        return [_leave_one_out(log)]
    if at is None and fraction is None:
        fraction = FRACTION
    train, test = split_by_time(log, at, fraction=fraction)
    if protocol == "rolling":
        return _rolling(log, len(train), n_windows or N_WINDOWS)
    counts = np.ones(len(test), dtype=bool)
    if protocol == "last":
        counts = ~test.frame.duplicated(USER_ID, keep="last").to_numpy()
    return [Window(_rows(log, slice(len(train))), _rows(log, slice(len(train), None)), counts)]


def _check(protocol: str, at: object, fraction: float | None, n_windows: int | None) -> None:
    names = get_args(ProtocolName)
    if protocol not in names:
        raise InputError(f"protocol={protocol!r}: expected one of {', '.join(names)}")
    if protocol == "leave_one_out" and not (at is None and fraction is None):
        raise InputError("leave_one_out holds back each user's last event: leave out at, fraction")
    if n_windows is None:
        return
    if protocol != "rolling":
        raise InputError(f'n_windows={n_windows!r} is for protocol="rolling", not {protocol!r}')
    if not isinstance(n_windows, int) or isinstance(n_windows, bool) or n_windows < 1:
        raise InputError(f"n_windows={n_windows!r}: expected a whole number >= 1")


def _leave_one_out(log: EventLog) -> Window:
    user = log.frame[USER_ID]
    held = (~user.duplicated(keep="last") & user.duplicated(keep="first")).to_numpy()
    if not held.any():
        raise InputError("leave_one_out: no user has two events or more, so there is no test event")
    return Window(_rows(log, ~held), _rows(log, held), np.ones(held.sum(), dtype=bool))


def _rolling(log: EventLog, n_train: int, n_windows: int) -> list[Window]:
    """Windows of about equally many events; events of one moment stay together."""
    ns = log.frame[TIMESTAMP].astype("int64").to_numpy()
    starts = n_train + np.arange(n_windows) * (len(log) - n_train) // n_windows
    bounds = np.append(np.searchsorted(ns, ns[starts], side="left"), len(log))
    if (np.diff(bounds) == 0).any():
        raise InputError(
            f"n_windows={n_windows}: the {len(log) - n_train} test events cannot be cut into so "
            "many windows, for events of one moment stay together. Take fewer windows"
        )
    return [
        Window(_rows(log, slice(begin)), _rows(log, slice(begin, end)), np.ones(end - begin, bool))
        for begin, end in pairwise(bounds)
    ]


def _rows(log: EventLog, rows: slice | np.ndarray) -> EventLog:
    return in_own_order(replace(log, frame=log.frame[rows], row=log.row[rows]))


def in_own_order(log: EventLog) -> EventLog:
    """The same events; `row` and the index of `frame` are the positions in `frame`."""
    frame = log.frame.reset_index(drop=True)
    report = replace(log.report, rows_out=len(frame))
    return EventLog(frame, np.arange(len(frame), dtype=np.int64), report)
