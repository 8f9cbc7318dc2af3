"""Running rates of single events: those of a whole log gone through again before each of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events import rate_stream
from bayes_interest.events.history import History, join_histories, make_history
from bayes_interest.events.rate_stream import RateStream
from bayes_interest.events.running_rates import rates_of_events

N_ITEMS, TOP = 5, 2.0
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, N_ITEMS - 1), st.integers(0, 9), st.integers(0, 2)),
    min_size=1, max_size=30,
)  # fmt: skip


def history(events: list[tuple[int, int, int, int]], n_users: int) -> History:
    columns = np.array(events, dtype=np.int64).reshape(-1, 4).T
    user, item, seconds, outcome = columns
    return make_history(user, item, seconds.astype(float), outcome, 0 * user, n_users)


def in_own_order(events: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """As they come, but no user's events before that user's last: late for others only."""
    last: dict[int, int] = {}
    out = []
    for user, item, seconds, outcome in events:
        last[user] = max(seconds, last.get(user, 0))
        out.append((user, item, last[user], outcome))
    return out


@settings(max_examples=25, deadline=None)
@given(before=EVENTS, events=EVENTS, remembered=st.sampled_from((1, 3, 4096)))
def test_rates_are_those_of_the_log_with_the_event_in_its_place(
    before: list[tuple[int, int, int, int]],
    events: list[tuple[int, int, int, int]],
    remembered: int,
) -> None:
    both = in_own_order(before + events)
    first, rest = both[: len(before)], both[len(before) :]
    log = history(first, 3 if max(e[0] for e in first) < 3 else 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_stream, "REMEMBERED", remembered)
        stream = RateStream(log, N_ITEMS, TOP)
        for event in rest:
            past = log
            found = stream.observe(event[0], event[1], event[2], event[3], lambda: past).copy()  # noqa: B023
            one = history([event], 7)
            log = join_histories(past, one, 7)
            place = int(np.flatnonzero(log.order == len(past))[0])
            np.testing.assert_allclose(
                found, rates_of_events(log, N_ITEMS, TOP)[place], rtol=1e-5, atol=1e-6
            )


def test_a_late_event_changes_what_later_ones_meet() -> None:
    stream = RateStream(history([(0, 0, 1, 2), (1, 0, 9, 0)], 2), N_ITEMS, TOP)
    plain = RateStream(history([(0, 0, 1, 2), (1, 0, 9, 0)], 2), N_ITEMS, TOP)
    late = stream.observe(2, 0, 5, 2, lambda: pytest.fail("it is remembered")).copy()
    assert late[:3].tolist() == [0.0, 0.0, 0.0]
    assert late[-1] > 0.0  # the item's rate from the first event alone
    after = stream.observe(1, 0, 10, 2, lambda: pytest.fail("nothing is late")).copy()
    assert (after != plain.observe(1, 0, 10, 2, lambda: pytest.fail("nothing is late"))).any()
