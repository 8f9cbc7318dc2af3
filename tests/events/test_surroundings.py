"""What surrounds a moment: every covariate counted one by one, from the strict past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.events import succession as succession_module
from bayes_interest.events.history import History, make_history
from bayes_interest.events.own_past import KEEP, MEMORY, OwnPast
from bayes_interest.events.running_rates import CAUTION as RATE_CAUTION
from bayes_interest.events.running_rates import RATE_SHARES, Rates
from bayes_interest.events.succession import CAUTION, MAX_PAIRS, REACH, SCALE
from bayes_interest.events.surroundings import Kinds, Surroundings, surroundings_of
from tests.oracles import slow_covariates

DAY = 86_400
N_USERS, N_ITEMS, N_EVENTS = 5, 7, 61
ALL = Kinds((0.3, 2.0), repeats=True, succession=True, likeness=True)
KINDS = [
    Kinds(),
    Kinds((2.0,)),
    Kinds(repeats=True),
    Kinds(succession=True),
    Kinds(likeness=True),
    Kinds((0.5,), succession=True),
    Kinds((5.0,), repeats=True, likeness=True),
    ALL,
]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def unit_vectors(n_items: int = N_ITEMS, text_dim: int = 3) -> np.ndarray:
    """Directions of texts; the last item has none."""
    texts = np.random.default_rng(5).normal(size=(n_items, text_dim))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    texts[-1] = 0.0
    return texts.astype(np.float32)


TEXTS = unit_vectors()


def make(
    users: object, items: object, seconds: object, absorb: object = None, n_users: int = N_USERS
) -> History:
    user, item = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
    zeros = np.zeros(len(user), dtype=np.int64)
    flags = None if absorb is None else np.asarray(absorb, dtype=bool)
    return make_history(user, item, np.asarray(seconds, float), zeros, zeros, n_users, flags)


def random_history(seed: int, n_events: int = N_EVENTS, looks: float = 0.0) -> History:
    """Within 20 days, a quarter of the times tied; a share of mere looks."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 20 * DAY, n_events)
    tied = rng.random(n_events) < 0.25
    seconds[tied] = rng.choice(seconds[:3], tied.sum())
    users, items = rng.integers(0, N_USERS, n_events), rng.integers(0, N_ITEMS, n_events)
    return make(users, items, seconds, rng.random(n_events) >= looks)


def table(surroundings: Surroundings, moments: np.ndarray) -> np.ndarray:
    """All entries in one array, (moment, item, covariate); no pair may come twice."""
    shape = (len(moments), surroundings.n_items, len(surroundings.kinds.names))
    out, seen = np.zeros(shape), np.zeros(shape, dtype=int)
    for found in surroundings.entries(moments):
        np.add.at(seen[:, :, found.columns], (found.row, found.item), 1)
        out[found.row, found.item, found.columns] = found.values
    if surroundings.kinds.likeness:
        assert surroundings.texts is not None
        like = surroundings.likeness(moments)
        alike = (like[:, None] * surroundings.texts[:, None]).sum(-1)
        out[:, :, surroundings.kinds.columns("likeness")] = alike
    assert seen.max(initial=0) <= 1
    return out


def around(log: History, kinds: Kinds = ALL) -> Surroundings:
    return Surroundings(log, N_ITEMS, kinds, TEXTS)


def slow(log: History, moments: np.ndarray, kinds: Kinds = ALL) -> np.ndarray:
    return np.stack([slow_covariates(log, N_ITEMS, kinds, at, TEXTS) for at in moments])


def succession(log: History, moment: int) -> np.ndarray:
    return table(around(log, Kinds(succession=True)), np.array([moment]))[0, :, 0]


# --------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "+".join(kinds.names) or "none")
@pytest.mark.parametrize("looks", [0.0, 0.3])
def test_every_covariate_is_counted_one_by_one(kinds: Kinds, looks: float) -> None:
    log = random_history(0, looks=looks)
    found, moments = around(log, kinds), np.arange(N_EVENTS)
    wanted = slow(log, moments, kinds)
    assert wanted.shape[2] == len(kinds.names)
    assert not kinds.names or (wanted.max((0, 1)) > 0.5).all()
    np.testing.assert_allclose(table(found, moments), wanted, **CLOSE)
    own = wanted[moments, log.item_index]
    np.testing.assert_allclose(found.own(moments), own, **CLOSE)
    weight = np.random.default_rng(1).normal(size=len(kinds.names))
    np.testing.assert_allclose(found.table(moments, weight), wanted @ weight, rtol=1e-5, atol=1e-5)


def test_some_moments_in_any_order_are_those_of_the_whole() -> None:
    found = around(random_history(1, looks=0.2))
    some = np.random.default_rng(0).integers(0, N_EVENTS, 23)
    everything = np.arange(N_EVENTS)
    assert np.array_equal(table(found, some), table(found, everything)[some])
    assert np.array_equal(found.own(some), found.own(everything)[some])
    asked = replace(found, asked=some)
    assert np.array_equal(table(asked, some), table(found, some))
    assert np.array_equal(asked.own(some), found.own(some))
    assert table(found, some[:0]).shape == (0, N_ITEMS, len(ALL.names))
    assert found.own(some[:0]).shape == (0, len(ALL.names))


def test_entries_of_wanted_items_leave_none_of_them_out() -> None:
    found, moments = around(random_history(5, looks=0.2)), np.arange(N_EVENTS)
    wanted = np.array([True, False, False, True, True, False, False])
    for some, everything in zip(
        found.entries(moments, wanted), found.entries(moments), strict=True
    ):
        shape = (N_EVENTS, N_ITEMS, everything.values.shape[1])
        tables = []
        for part in (some, everything):
            tables.append(np.zeros(shape))
            tables[-1][part.row, part.item] = part.values
        assert some.columns == everything.columns
        assert tables[0][:, wanted].any()
        assert np.array_equal(tables[0][:, wanted], tables[1][:, wanted])
        assert wanted[some.item].all()


def test_entries_may_leave_a_group_out() -> None:
    found, moments = around(random_history(5)), np.arange(N_EVENTS)
    kept = [part.columns for part in found.entries(moments, without=("succession",))]
    assert kept == [ALL.columns("popularity"), ALL.columns("repeats")]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    place=st.permutations([-1, -1, 0, 1, 2, 3, -1]),
    looks=st.sampled_from([0.0, 0.3]),
)
def test_the_table_of_successions_holds_the_bits_of_its_entries(
    seed: int, place: list[int], looks: float
) -> None:
    found = around(random_history(seed, looks=looks), Kinds(succession=True))
    moments, where = np.arange(N_EVENTS)[::-1], np.array(place)
    (entries,) = found.entries(moments, where >= 0)
    wanted = np.zeros((N_EVENTS, 4), dtype=np.float32)
    wanted[entries.row, where[entries.item]] = entries.values[:, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(succession_module, "FULL", 0.0)
        got = found.succession(moments, where, 4)
    assert got is not None
    assert wanted.any()
    assert np.array_equal(got, wanted)


def test_successions_come_as_a_table_only_where_they_fill_one() -> None:
    found, moments = around(random_history(5), Kinds(succession=True)), np.arange(N_EVENTS)
    assert found.succession(moments, np.arange(N_ITEMS), N_ITEMS) is not None
    assert found.succession(moments, np.arange(N_ITEMS), 10_000 * N_ITEMS) is None
    other = around(random_history(5), Kinds(repeats=True))
    assert other.succession(moments, np.arange(N_ITEMS), N_ITEMS) is None
    empty = Surroundings(make([], [], []), N_ITEMS, Kinds(succession=True))
    assert empty.succession(moments[:0], np.arange(N_ITEMS), N_ITEMS) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_the_weighted_table_do_not_depend_on_the_place(dtype: type) -> None:
    n_items, n_events = 31, 700
    log, texts = random_history(1, n_events), unit_vectors(n_items, 13)
    rng = np.random.default_rng(2)
    found = Surroundings(log, n_items, ALL, texts)
    weight = rng.normal(size=len(ALL.names)).astype(dtype)
    whole = found.table(np.arange(n_events), weight)
    assert whole.dtype == dtype
    for count in (1, 2, 29, 500):
        some = rng.integers(0, n_events, count)
        assert np.array_equal(found.table(some, weight), whole[some])
        asked = replace(found, asked=some)
        assert np.array_equal(asked.table(some[::-1], weight), whole[some[::-1]])


def test_a_table_of_some_items_has_the_bits_of_the_whole() -> None:
    n_items, n_events = 31, 200
    log, texts = random_history(1, n_events), unit_vectors(n_items, 13)
    rng = np.random.default_rng(3)
    kinds = replace(ALL, rates=True)
    found = Surroundings(log, n_items, kinds, texts)
    weights, moments = rng.normal(size=(2, len(kinds.names))), np.arange(n_events)
    whole = found.tables(moments, weights)
    for count in (0, 1, 5, 31):
        items = rng.permutation(n_items)[:count]
        assert np.array_equal(found.tables(moments, weights, items), whole[:, :, items])


def test_rates_of_the_past_serve_looks_at_any_time() -> None:
    rng = np.random.default_rng(4)
    past, kinds = random_history(5, looks=0.2), Kinds(rates=True)
    outcome = rng.integers(0, 2, len(past)).astype(float)
    past, n = replace(past, outcome=outcome), 40
    looks = make(
        rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n), rng.integers(0, 25 * DAY, n),
        np.zeros(n),
    )  # fmt: skip
    known = Rates.of(past, OwnPast.of(past), kinds.top_outcome)
    weight = np.array([0.5, -1.0, 2.0, 0.3, 1.5], dtype=np.float32)
    tables = []
    for rates in (None, known):
        found, moments = surroundings_of(past, looks, N_ITEMS, kinds, None, rates)
        tables.append((found.table(moments, weight), found.user_terms(moments, weight)))
    for one, other in zip(*tables, strict=True):
        assert np.array_equal(one, other)
    assert np.abs(tables[0][0]).max() > 0.1


def test_names_tell_the_columns() -> None:
    assert ALL.names == (
        "popularity_0.3_days", "popularity_2_days", "recency", "age",
        "repeats", "repeats_30_days", "repeats_1_days", "succession",
        "likeness_last", "likeness_recent",
    )  # fmt: skip
    assert Kinds().names == ()
    assert Kinds((7.0,)).names == ("popularity_7_days", "recency", "age")


@pytest.mark.parametrize("kinds", [*KINDS, replace(ALL, rates=True)])
def test_columns_of_the_groups_are_those_of_the_names(kinds: Kinds) -> None:
    starts = {
        "popularity": ("popularity", "recency", "age"), "repeats": ("repeats",),
        "succession": ("succession",), "likeness": ("likeness",),
        "rates": ("user_rate", "level", "item_rate"),
    }  # fmt: skip
    places = np.arange(len(kinds.names))
    for group, names in starts.items():
        wanted = [at for at, name in enumerate(kinds.names) if name.startswith(names)]
        assert places[kinds.columns(group)].tolist() == wanted


def test_a_log_without_events_surrounds_nothing() -> None:
    log = make([], [], [])
    found = around(log)
    nothing = np.zeros(0, dtype=np.int64)
    assert table(found, nothing).size == 0
    assert found.own(nothing).shape == (0, len(ALL.names))
    looks = make([0, 3], [0, 0], [9.0, 5.0], [False, False])
    assert (table(around(looks), np.arange(2)) == 0.0).all()


# ------------------------------------------------------------------------------------- repeats


def test_repeats_fade_and_ties_earlier_in_the_log_are_past() -> None:
    log = make([0, 0, 0, 1], [2, 2, 3, 2], [0.0, 2.0 * DAY, 2.0 * DAY, 2.0 * DAY])
    got = table(around(log, Kinds(repeats=True)), np.arange(4))
    later = [2.0, np.exp(-2.0 / 30.0) + 1.0, np.exp(-2.0) + 1.0]
    np.testing.assert_allclose(got[2, 2], np.log1p(later), **CLOSE)
    np.testing.assert_allclose(got[1, 2], np.log1p([1.0, np.exp(-2 / 30), np.exp(-2.0)]), **CLOSE)
    assert (got[0] == 0.0).all()
    assert (got[2, 3] == 0.0).all()  # the event itself is not its own past
    assert (got[3] == 0.0).all()  # nor is what others met


# ---------------------------------------------------------------------------------- succession


def test_succession_by_hand() -> None:
    # User 0 met 1, then 2, then 3; later user 1 has met 1 and asks what comes next.
    log = make([0, 0, 0, 1, 1], [1, 2, 3, 1, 0], np.array([0, 1, 2, 5, 6]) * DAY)
    count = 1.0 + 1.0 / 2.0
    share = np.array([1.0, 0.5]) / (CAUTION + count)
    wanted = np.zeros(N_ITEMS)
    wanted[[2, 3]] = np.log1p(share / SCALE)
    np.testing.assert_allclose(succession(log, 4), wanted, **CLOSE)
    assert (succession(log, 3) == 0.0).all()  # nothing met yet


def test_caution_lets_one_succession_count_for_less_than_many() -> None:
    def shown(times: int) -> float:
        users = np.repeat(np.arange(times), 2)
        log = make(
            [*users, times, times], [*([1, 2] * times), 1, 0],
            [*(np.arange(2 * times) * 60.0), DAY, 2.0 * DAY], n_users=times + 1,
        )  # fmt: skip
        return float(np.expm1(succession(log, len(log) - 1)[2]) * SCALE)

    for times in (1, 4, 20):
        assert shown(times) == pytest.approx(times / (times + CAUTION), rel=1e-5)


def test_succession_reaches_so_far_ahead_and_so_far_back_and_no_further() -> None:
    # User 0: item 0 and then others; item j follows item 0 at distance j.
    ahead = make([*([0] * N_ITEMS), 1, 1], [*range(N_ITEMS), 0, 0], np.arange(N_ITEMS + 2) * DAY)
    got = succession(ahead, len(ahead) - 1)
    assert (got[1 : REACH + 1] > 0.0).all()
    assert (np.diff(got[1 : REACH + 1]) < 0.0).all()
    assert (got[REACH + 1 :] == 0.0).all()
    assert got[0] == 0.0
    # User 1 meets item 0, which 6 follows, and then others that nothing follows.
    for others in range(REACH + 2):
        items = [0, 6, 0, *([5] * others), 1]
        users = [0, 0, *([1] * (others + 2))]
        back = make(users, items, np.arange(len(items)) * DAY)
        # Among the others 5 follows 5 and 0, but never 6.
        got = succession(back, len(back) - 1)[6]
        assert (got > 0.0) == (others < REACH)


def test_only_what_followed_strictly_earlier_counts() -> None:
    for second, counts in ((0.9, True), (1.0, False), (1.1, False)):
        log = make([0, 0, 1, 1], [1, 2, 1, 0], np.array([0.0, second, 0.5, 1.0]) * DAY)
        assert bool(succession(log, 3)[2] > 0.0) is counts


def test_of_one_item_only_the_latest_successions_count() -> None:
    rng = np.random.default_rng(0)
    n_events = 2 * MAX_PAIRS
    users, items = rng.integers(0, 2, n_events), rng.integers(0, 3, n_events)
    items[: MAX_PAIRS // 2] += 2  # other items early on
    log = make(users, items, np.arange(n_events) * 60.0)
    moments = np.array([700, n_events // 2 - 1, n_events - 1])
    got = table(around(log, Kinds(succession=True)), moments)
    wanted = slow(log, moments, Kinds(succession=True))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_old_successions_are_forgotten_once_there_are_enough_new_ones() -> None:
    old, new = 4, 2 * MAX_PAIRS // REACH
    # One user alternates 0 and 5, then 0 and 6 until every succession of 0 that counts is new.
    items = [*([0, 5] * old), *([0, 6] * new)]
    log = make([0] * len(items), items, np.arange(len(items)) * 60.0, n_users=1)
    early, late = succession(log, 2 * old + 2), succession(log, len(log) - 1)
    assert early[5] > 0.0
    assert late[5] == 0.0
    assert late[6] > 0.0


# ------------------------------------------------------------------------------------ likeness


def test_likeness_by_hand() -> None:
    # Items 0 and 1 are at right angles, 2 lies between them and 3 opposite to 0; 4 has no text.
    half = np.sqrt(0.5)
    texts = np.array([[1, 0], [0, 1], [half, half], [-1, 0], [0, 0]], dtype=np.float32)
    log = make([0, 0, 0, 1, 0], [0, 1, 4, 2, 0], [0.0, 1.0, 2.0, 3.0, 3.0])
    got = table(Surroundings(log, 5, Kinds(likeness=True), texts), np.arange(5))
    assert (got[0] == 0.0).all()  # nothing met yet
    assert (got[4] == 0.0).all()  # others' items are not the own ones
    np.testing.assert_allclose(got[1], [[1, 1], [0, 0], [half, half], [-1, -1], [0, 0]], **CLOSE)
    last, before = np.array([1.0, KEEP]) / (1.0 + KEEP)
    wanted = [[0, before], [1, last], [half, half], [0, -before], [0, 0]]
    np.testing.assert_allclose(got[2], wanted, **CLOSE)
    # The last item has no text: it is like nothing, and counts among the recent ones all the same.
    share = np.array([KEEP**2, KEEP]) / (1.0 + KEEP + KEEP**2)
    wanted = [[0, share[0]], [0, share[1]], [0, half * share.sum()], [0, -share[0]], [0, 0]]
    np.testing.assert_allclose(got[3], wanted, **CLOSE)


def test_likeness_remembers_so_many_items_and_no_more() -> None:
    texts = np.eye(2, dtype=np.float32)
    for others in range(MEMORY + 2):
        items = [0, *([1] * others), 0]
        log = make([0] * len(items), items, np.arange(len(items)) * 60.0, n_users=1)
        got = table(Surroundings(log, 2, Kinds(likeness=True), texts), np.array([len(log) - 1]))
        assert got[0, 0, 0] == (others == 0)
        assert (got[0, 0, 1] > 0.0) == (others < MEMORY)
        assert got[0, :, 1].sum() == pytest.approx(1.0)


def test_likeness_of_a_long_history_is_that_of_each_event() -> None:
    """With events by the hundred, one long user among short ones, and looks."""
    rng = np.random.default_rng(3)
    users = np.concatenate((np.zeros(300, dtype=int), rng.integers(0, N_USERS, 100)))
    items, seconds = rng.integers(0, N_ITEMS, 400), rng.integers(0, 9 * DAY, 400)
    log = make(users, items, seconds, rng.random(400) < 0.7)
    moments = rng.integers(0, 400, 40)
    kinds = Kinds(likeness=True)
    wanted = slow(log, moments, kinds)
    found = around(log, kinds)
    np.testing.assert_allclose(table(found, moments), wanted, **CLOSE)
    own = wanted[np.arange(40), log.item_index[moments]]
    np.testing.assert_allclose(found.own(moments), own, **CLOSE)


# --------------------------------------------------------------------- looks, future, past


def test_looks_are_not_counted_but_see_what_events_see() -> None:
    log = random_history(3, looks=0.4)
    found = around(log)
    lean = around(log.take(log.absorb))
    kept = np.flatnonzero(log.absorb)
    got, wanted = table(found, kept), table(lean, np.arange(len(kept)))
    np.testing.assert_array_equal(got, wanted)
    everything = replace(log, absorb=np.ones(N_EVENTS, dtype=bool))
    assert not np.array_equal(table(around(everything), kept), got)


def future(seed: int, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and times of events at `at` or after it."""
    rng = np.random.default_rng(seed)
    n_events = int(rng.integers(0, 40))
    seconds = at + rng.integers(0, 3 * DAY, n_events) * rng.integers(0, 2, n_events)
    return rng.integers(0, N_USERS, n_events), rng.integers(0, N_ITEMS, n_events), seconds


@given(
    seed=st.integers(0, 2**32 - 1),
    seeds=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    at=st.integers(0, 21 * DAY),
)
@settings(max_examples=40, deadline=None)
def test_events_of_the_future_change_nothing(seed: int, seeds: tuple[int, int], at: int) -> None:
    """Looks of all users at a moment, first in the log of their time, before other futures."""
    past = random_history(seed)
    past = past.take(past.seconds < at)
    tables = []
    for other in seeds:
        users, items, seconds = future(other, float(at))
        later = make(
            [*range(N_USERS), *users],
            [*range(N_USERS), *items],
            [*([float(at)] * N_USERS), *seconds],
            [*([False] * N_USERS), *([True] * len(users))],
        )
        found, moment = surroundings_of(past, later, N_ITEMS, ALL, TEXTS)
        look = moment[np.argsort(later.order)[:N_USERS]]
        assert not found.log.absorb[look].any()
        tables.append((table(found, look), found.own(look)))
    for first, second in zip(*tables, strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("cut_days", [0.0, 6.0, 14.0, 21.0])
def test_continuing_from_a_past_history_equals_the_whole(cut_days: float) -> None:
    log = random_history(4, looks=0.2)
    early = log.seconds < cut_days * DAY
    past, later = log.take(early), log.take(~early)
    found, moment = surroundings_of(past, later, N_ITEMS, ALL, TEXTS)
    whole, place = around(log), np.flatnonzero(~early)
    np.testing.assert_array_equal(table(found, moment), table(whole, place))
    np.testing.assert_array_equal(found.own(moment), whole.own(place))
    np.testing.assert_array_equal(found.log.item_index[moment], later.item_index)
    assert len(found.log) == len(log)


def test_a_later_history_may_know_more_users() -> None:
    past, later = make([0, 1], [1, 2], [0.0, 1.0], n_users=2), make([4], [1], [DAY], n_users=5)
    found, moment = surroundings_of(past, later, N_ITEMS, ALL, TEXTS)
    assert found.log.n_users == 5
    wanted = slow_covariates(found.log, N_ITEMS, ALL, int(moment[0]), TEXTS)
    np.testing.assert_allclose(table(found, moment)[0], wanted, **CLOSE)


def test_where_times_tie_the_past_history_comes_first() -> None:
    past, later = make([0], [1], [5.0]), make([0], [1], [5.0])
    found, moment = surroundings_of(past, later, N_ITEMS, Kinds(repeats=True), TEXTS)
    np.testing.assert_allclose(found.own(moment), [[np.log(2.0)] * 3], **CLOSE)


def slow_rates(log: History, moment: int, top: float) -> list[float]:
    """The user's running rates, the level, and the rate of the moment's own item, one by one."""
    use = np.flatnonzero(log.absorb)

    def excess(event: int) -> float:
        earlier = use[log.seconds[use] < log.seconds[event]]
        mean = (log.outcome[earlier].sum() / top + 0.5) / (len(earlier) + 1.0)
        return float(log.outcome[event] / top - mean)

    mine = [e for e in use if e < moment and log.user_index[e] == log.user_index[moment]]
    rates = []
    for share in RATE_SHARES:
        average = 0.0
        for event in mine:
            average += share * (excess(event) - average)
        rates.append(average)
    same = log.item_index[use] == log.item_index[moment]
    of_item = use[same & (log.seconds[use] < log.seconds[moment])]
    total = sum(excess(event) for event in of_item)
    return [*rates, 1.0, total / (RATE_CAUTION + len(of_item))]


@pytest.mark.parametrize("top", [1.0, 4.0])
def test_rates_are_those_counted_one_by_one(top: float) -> None:
    rng = np.random.default_rng(8)
    n = 60
    log = make_history(
        rng.integers(0, 4, n), rng.integers(0, 6, n), rng.integers(0, 20, n) * 3600.0,
        rng.integers(0, int(top) + 1, n).astype(float), np.zeros(n, dtype=int), 4,
        rng.random(n) < 0.8,
    )  # fmt: skip
    found = Surroundings(log, 6, Kinds(rates=True, top_outcome=top))
    assert found.kinds.names == (
        "user_rate_0.3", "user_rate_0.1", "user_rate_0.02", "level", "item_rate",
    )  # fmt: skip
    wanted = np.array([slow_rates(log, moment, top) for moment in range(n)])
    own = found.own(np.arange(n))
    np.testing.assert_allclose(own, wanted, atol=1e-6)
    weight = np.array([0.5, -1.0, 2.0, 0.3, 1.5], dtype=np.float32)
    table = found.table(np.arange(n), weight)
    np.testing.assert_allclose(table[np.arange(n), log.item_index], wanted @ weight, atol=1e-5)


def test_rates_ignore_what_comes_later() -> None:
    rng = np.random.default_rng(9)
    n, seconds = 50, np.arange(50) * 60.0
    user, item = rng.integers(0, 3, n), rng.integers(0, 5, n)
    outcome = rng.integers(0, 2, n).astype(float)
    later = np.where(np.arange(n) >= 30, 1.0 - outcome, outcome)
    rows = []
    for values in (outcome, later):
        log = make_history(user, item, seconds, values, np.zeros(n, dtype=int), 3)
        own = Surroundings(log, 5, Kinds(rates=True)).own(np.arange(n))
        rows.append(own[log.seconds <= seconds[30]])
    np.testing.assert_array_equal(*rows)
    assert np.abs(rows[0][:, :3]).max() > 0.1
