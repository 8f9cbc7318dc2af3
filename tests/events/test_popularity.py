"""Popularity, recency and age counted event by event, at any moment, from the strict past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events import popularity as module
from bayes_interest.events.popularity import HOUR, MIN_STRIDE, WINDOW_HALF_LIVES, Popularity
from tests.oracles import slow_popularity

DAY = 86_400
N_ITEMS, N_EVENTS = 11, 500
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
HALF_LIVES = pytest.mark.parametrize("half_lives", [(1.0,), (2.0, 0.1), (0.05, 0.3, 30.0)])
Log = tuple[np.ndarray, np.ndarray]


def random_log(seed: int, n_items: int = N_ITEMS, n_events: int = N_EVENTS) -> Log:
    """Items and times within 20 days, in no order; a quarter tied, many of them at one time."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 20 * DAY, n_events).astype(float)
    tied = rng.random(n_events) < 0.25
    seconds[tied] = rng.choice(seconds[:7], tied.sum())
    seconds[rng.random(n_events) < 0.2] = seconds[0]
    return rng.integers(0, n_items, n_events), seconds


def popularity(
    log: Log, half_lives: tuple[float, ...], asked: np.ndarray, n_items: int = N_ITEMS
) -> Popularity:
    return Popularity.of(*log, n_items, half_lives, asked)


def table(found: Popularity, now: np.ndarray) -> np.ndarray:
    """All entries in one array, (moment, item, covariate); no pair may come twice."""
    shape = (len(now), len(found.first))
    out, seen = np.zeros((*shape, len(found.half_lives) + 2), np.float32), np.zeros(shape, int)
    row, item, values = found.entries(now)
    np.add.at(seen, (row, item), 1)
    out[row, item] = values
    assert seen.max(initial=0) <= 1
    return out


def slow(log: Log, now: np.ndarray, half_lives: tuple[float, ...], n_items: int) -> np.ndarray:
    return np.array(
        [
            [slow_popularity(item, when, *log, half_lives) for item in range(n_items)]
            for when in now.tolist()
        ]
    )


def moments_at_marks(seconds: np.ndarray, stride: int) -> np.ndarray:
    """Times of the events around every mark, a second later, and before and after all events."""
    near = [np.arange(at - 2, at + 2) for at in range(stride, len(seconds), stride)]
    ranks = np.concatenate([[0, 1, len(seconds) - 1], *near])
    at = np.sort(seconds)[ranks[ranks < len(seconds)]]
    ends = [at.min() - 1.0, at.max() + 1.0, at.max() + 0.3 * DAY, at.max() + 400.0 * DAY]
    return np.concatenate((at, at + 1.0, ends))


@HALF_LIVES
@pytest.mark.parametrize("n_items", [N_ITEMS, 4 * MIN_STRIDE + 43])
def test_popularity_recency_and_age_are_counted_one_by_one(
    half_lives: tuple[float, ...], n_items: int
) -> None:
    log = random_log(0, n_items)
    stride = max(MIN_STRIDE, n_items // 4)
    now = moments_at_marks(log[1], stride)
    if n_items > N_ITEMS:
        assert stride > MIN_STRIDE
        now = now[::3]
    found = popularity(log, half_lives, now, n_items)
    assert found.stride == stride
    assert len(found.marks) >= N_EVENTS // stride  # all but those within a tie
    wanted = slow(log, now, half_lives, n_items)
    assert (wanted.max((0, 1)) > 0.5).all()
    np.testing.assert_allclose(table(found, now), wanted, **CLOSE)


@HALF_LIVES
def test_one_item_at_one_moment_has_the_bits_of_its_entry(half_lives: tuple[float, ...]) -> None:
    log = random_log(1)
    now = np.concatenate((log[1], log[1] + 7.0, [0.0, 21.0 * DAY, 999.0 * DAY]))
    found = popularity(log, half_lives, now)
    whole = table(found, now)
    for item in range(N_ITEMS):
        assert np.array_equal(found.of_events(np.full(len(now), item), now), whole[:, item])
    order = np.random.default_rng(0).permutation(N_EVENTS)
    own = found.of_events(log[0][order], log[1][order])
    assert np.array_equal(own, whole[order, log[0][order]])


def test_few_moments_asked_about_have_the_bits_of_all() -> None:
    log = random_log(2)
    everything = np.concatenate((log[1], [0.0, 30.0 * DAY]))
    whole = table(popularity(log, (0.5, 3.0), everything), everything)
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 40):
        some = rng.integers(0, len(everything), count)
        found = popularity(log, (0.5, 3.0), everything[some])
        assert len(found.marks) <= count
        assert np.array_equal(table(found, everything[some]), whole[some])
        assert np.array_equal(table(found, everything[some][::-1]), whole[some[::-1]])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_of_wanted_items_alone_the_entries_are_the_same(share: float) -> None:
    log = random_log(5, 60)
    now = moments_at_marks(log[1], MIN_STRIDE)
    found = popularity(log, (0.1, 2.0), now, 60)
    wanted = np.random.default_rng(1).random(60) < share
    row, item, values = found.entries(now)
    keep = wanted[item]
    some = found.entries(now, wanted)
    order, fewer = np.lexsort((item[keep], row[keep])), np.lexsort((some[1], some[0]))
    for part, whole in zip(some, (row, item, values), strict=True):
        assert np.array_equal(part[fewer], whole[keep][order])
    assert len(some[0]) == keep.sum() < len(row)


def test_the_order_of_the_log_changes_nothing() -> None:
    item, seconds = random_log(3)
    order = np.random.default_rng(0).permutation(N_EVENTS)
    first, second = (
        table(popularity(log, (0.5, 3.0), seconds), seconds)
        for log in ((item, seconds), (item[order], seconds[order]))
    )
    assert np.array_equal(first, second)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_events=st.integers(1, 300),
    cut=st.integers(0, 21 * DAY),
    on_an_event=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_only_what_is_strictly_earlier_counts(
    seed: int, n_events: int, cut: int, on_an_event: bool
) -> None:
    item, seconds = random_log(seed, n_events=n_events)
    at = seconds[cut % n_events] if on_an_event else float(cut)
    rng = np.random.default_rng(seed)
    later = seconds >= at
    other = np.where(later, rng.integers(0, N_ITEMS, n_events), item)
    moved = np.where(later, seconds + rng.integers(0, DAY), seconds)
    copies = np.concatenate((np.arange(n_events), np.repeat(np.flatnonzero(later), 3)))
    rows = []
    for log in (
        (item, seconds), (other, moved), (item[~later], seconds[~later]),
        (item[copies], seconds[copies]),
    ):  # fmt: skip
        found = popularity(log, (0.2, 4.0), np.array([at]))
        rows.append(table(found, np.array([at]))[0])
        one_by_one = found.of_events(np.arange(N_ITEMS), np.full(N_ITEMS, at))
        assert np.array_equal(one_by_one, rows[-1])
    for row in rows[1:]:
        assert np.array_equal(row, rows[0])
    wanted = slow((item, seconds), np.array([at]), (0.2, 4.0), N_ITEMS)[0]
    np.testing.assert_allclose(rows[0], wanted, **CLOSE)


def test_by_hand() -> None:
    # Item 2 is met at the start and a day later; half-lives of one day and a quarter.
    log = (np.array([2, 2]), np.array([0.0, 1.0 * DAY]))
    now = np.array([0.0, 1.0, 1.0 * DAY, 2.0 * DAY])
    window = WINDOW_HALF_LIVES * DAY
    got = table(popularity(log, (1.0, 0.25), now), now)
    assert (got[0] == 0.0).all()  # an event is not its own past
    assert (got[:, [0, 1, 3]] == 0.0).all()
    since = np.log((window + HOUR) / (np.array([1.0, DAY]) + HOUR))
    np.testing.assert_allclose(got[1, 2], [np.log(2.0), np.log(2.0), *since[[0, 0]]], rtol=1e-4)
    np.testing.assert_allclose(got[2, 2, :2], np.log1p([2.0**-1, 2.0**-4]), **CLOSE)
    np.testing.assert_allclose(got[2, 2, 2:], since[[1, 1]], **CLOSE)
    counts = np.log1p([2.0**-2 + 2.0**-1, 2.0**-8 + 2.0**-4])
    np.testing.assert_allclose(got[3, 2, :2], counts, **CLOSE)
    assert got[3, 2, 2] == pytest.approx(since[1])
    assert got[3, 2, 3] == 0.0


@pytest.mark.parametrize("n_before", [0, 3 * MIN_STRIDE])
def test_beyond_the_window_all_is_zero_and_within_it_nothing_is_cut(n_before: int) -> None:
    """Others' events, `n_before` of them, have the moments after a mark."""
    window = WINDOW_HALF_LIVES * 5.0 * DAY
    start = 1.7e9
    others = start + np.linspace(1.0, window - 1.0, n_before).round()
    log = (
        np.concatenate(([4, 4], np.full(n_before, 3))),
        np.concatenate(([start - 3.0 * DAY, start], others)),
    )
    now = start + window + np.array([-1.0, 0.0, 1.0, DAY, 500.0 * DAY])
    found = popularity(log, (0.1, 5.0), now)
    got = table(found, now)[:, 4]
    np.testing.assert_allclose(got[:2], slow(log, now, (0.1, 5.0), 5)[:2, 4], **CLOSE)
    assert (got[:2, 1] > 0.2).all()  # the event before it is older than the window and counts
    assert got[1, 2] == 0.0
    assert (got[:, 3] == 0.0).all()  # age is no less than zero
    assert (got[2:] == 0.0).all()
    assert np.array_equal(found.of_events(np.full(5, 4), now), got)
    # A mark keeps what may still count, not every item ever met.
    row, item, _ = found.entries(now)
    assert 4 in item[row == 0]
    assert not n_before or found.start[-1] <= 2 * len(found.marks)


@pytest.mark.parametrize("past", [-1.0, 0.0, 1.0, 5.0, 40.0])
def test_a_window_of_years_is_cut_to_the_second(past: float) -> None:
    """With others' events in its last second, after the mark or before it."""
    half_life, start = 1000.0, 1.3e9
    now = np.array([start + WINDOW_HALF_LIVES * half_life * DAY + past])
    for n_after in (MIN_STRIDE - 1, MIN_STRIDE):
        others = now[0] - np.linspace(0.5, 0.1, n_after)
        log = (np.array([4] + [3] * n_after), np.array([start, *others]))
        found = popularity(log, (half_life,), now)
        got = table(found, now)[0, 4]
        np.testing.assert_allclose(got, slow(log, now, (half_life,), 5)[0, 4], **CLOSE)
        assert np.array_equal(found.of_events(np.array([4]), now)[0], got)
        assert got.any() == (past <= 0.0)


def test_pieces_of_the_work_have_the_bits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(6)
    found = popularity(log, (0.1, 2.0), log[1])
    whole, own = table(found, log[1]), found.of_events(*log)
    monkeypatch.setattr(module, "BLOCK", 13)
    assert np.array_equal(table(found, log[1]), whole)
    assert np.array_equal(found.of_events(*log), own)


def test_marks_forget_items_that_nobody_meets_any_longer() -> None:
    n_items = 50
    item = np.concatenate((np.arange(n_items), np.zeros(1000, dtype=int)))
    seconds = np.arange(len(item)) * 0.01 * DAY
    found = popularity((item, seconds), (0.5,), seconds, n_items)
    kept = np.diff(found.start)
    assert kept[0] == 0  # before the first event
    assert kept[1] == n_items
    assert (kept[4:] == 1).all()
    np.testing.assert_allclose(
        table(found, seconds[60::97]), slow((item, seconds), seconds[60::97], (0.5,), n_items),
        **CLOSE,
    )  # fmt: skip


def test_no_events_no_popularity() -> None:
    now = np.array([1.0, 2.0])
    nothing = popularity((np.zeros(0, dtype=int), np.zeros(0)), (7.0, 1.0), now)
    assert (table(nothing, now) == 0.0).all()
    assert len(nothing.entries(now)[0]) == 0
    assert nothing.of_events(np.array([3, 4]), now).tolist() == [[0.0] * 4] * 2
    some = popularity(random_log(4), (7.0,), now[:0])
    assert [len(part) for part in some.entries(now[:0])] == [0, 0, 0]
    assert some.of_events(np.zeros(0, dtype=int), now[:0]).shape == (0, 3)


def test_a_moment_not_asked_for_is_refused() -> None:
    item, seconds = np.zeros(3 * MIN_STRIDE, dtype=np.int64), np.arange(3.0 * MIN_STRIDE)
    found = Popularity.of(item, seconds, 1, (1.0,), np.array([1.0]))
    assert len(found.entries(np.array([2.0]))[0]) == 1  # within the same mark
    with pytest.raises(ValueError, match="not among those asked for"):
        found.entries(seconds[-1:])
