"""The three rivals of `compare` against a loop over single events, and what they must not see."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from bayes_interest.baselines.base import Baseline
from bayes_interest.baselines.compare import first_rivals
from bayes_interest.baselines.counts import SMOOTHINGS, Popularity
from bayes_interest.baselines.links import LogisticCurve, Share, Softmax, softmax_log_prob
from bayes_interest.baselines.rates import STRENGTHS, ItemMean
from bayes_interest.baselines.text import texts_of
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.baselines.windows import Evidence, Stretches, windows_before
from tests.baselines import oracle
from tests.baselines.logs import (
    FAMILIES,
    ITEMS,
    N_ITEMS,
    RUN,
    config_of,
    cut,
    encoder,
    fit,
    make_frame,
    vectors_of_items,
    with_positive,
)


@cache
def fitted(family: str) -> dict[str, Baseline[Any]]:
    train = cut(make_frame(family))[0]
    return {
        name: make(config_of(family), encoder()).fit(train, config=RUN)
        for name, make in first_rivals(family).items()
    }


def timeline_of(family: str) -> Timeline:
    """Train and test."""
    from bayes_interest.events.read import read_events

    known = fitted(family)["text_cosine"].fitted.known
    return known.timeline_with(read_events(cut(make_frame(family))[1]))


def scorers(family: str) -> dict[str, oracle.Scorer]:
    """The slow versions, with the parameters that the fast ones chose."""
    vectors = dict(zip(ITEMS, vectors_of_items().astype(float), strict=True))
    cosine = oracle.cosine_scorer(vectors)
    if family == "choice":
        names = ("popular_all_time", "popular_7_days")
        return {
            names[0]: oracle.count_scorer(None),
            names[1]: oracle.count_scorer(7.0),
            "text_cosine": cosine,
        }
    return {
        "item_mean": oracle.rate_scorer(fitted(family)["item_mean"].fitted.learned),
        "popular_7_days": oracle.count_scorer(7.0),
        "text_cosine": cosine,
    }


@cache
def slow_table(family: str, name: str) -> np.ndarray:
    """Scores of a rival (event, item), by the loop."""
    frame = with_positive(make_frame(family), family)
    events = frame.iloc[len(cut(frame)[0]) :]
    return oracle.score_table(frame, events, ITEMS, scorers(family)[name])


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_equal_those_of_the_loop(family: str, exclude_seen: bool) -> None:
    frame = with_positive(make_frame(family), family)
    train, test = cut(make_frame(family))
    events = frame.iloc[len(train) :]
    for name, rival in fitted(family).items():
        found = rival.score_events(test, exclude_seen=exclude_seen)
        table = slow_table(family, name)
        ranks = oracle.pessimistic_ranks(frame, events, ITEMS, table, exclude_seen)
        assert found["rank"].tolist() == ranks, name


def slow_chances(rival: Baseline[Any], table: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The stated formula of each link."""
    link = rival.fitted.link
    if isinstance(link, Share):
        return (own + link.smoothing) / (table + link.smoothing).sum(1)
    if isinstance(rival, ItemMean):
        return own
    if isinstance(link, Softmax):
        return np.exp(link.scale * own - logsumexp(link.scale * table, axis=1))
    assert isinstance(link, LogisticCurve)
    own = np.log1p(own) if isinstance(rival, Popularity) else own
    return 1.0 / (1.0 + np.exp(-(link.intercept + link.slope * own)))


@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_equal_those_of_the_loop(family: str) -> None:
    frame = with_positive(make_frame(family), family)
    train, test = cut(make_frame(family))
    events = frame.iloc[len(train) :]
    item = np.array([ITEMS.index(name) for name in events["item_id"]])
    for name, rival in fitted(family).items():
        table = slow_table(family, name)
        chance = slow_chances(rival, table, table[np.arange(len(item)), item])
        mine, positive = rival.score_events(test), events["positive"].to_numpy()
        np.testing.assert_allclose(mine["mean"], chance, rtol=2e-5)
        if family == "rating":
            assert mine["log_prob"].isna().all()
        elif family == "choice":
            assert (mine["log_prob"].isna().to_numpy() == ~positive).all()
            np.testing.assert_allclose(mine["log_prob"][positive], np.log(chance[positive]), 2e-5)
        else:
            expected = np.log(np.where(positive, chance, 1.0 - chance))
            np.testing.assert_allclose(mine["log_prob"], expected, rtol=1e-3)


@pytest.mark.parametrize("family", ["bernoulli", "choice"])
def test_smoothing_is_the_best_on_the_last_tenth_of_train(family: str) -> None:
    train = with_positive(cut(make_frame(family))[0], family)
    late = train[train["timestamp"] >= train["timestamp"].iloc[int(len(train) * 0.9)]]
    late = late[late["positive"]] if family == "choice" else late
    own = [ITEMS.index(item) for item in late["item_id"]]

    def loss(parameter: float) -> float:
        if family == "choice":
            table = oracle.score_table(train, late, ITEMS, oracle.count_scorer(None)) + parameter
            chance = (table / table.sum(1, keepdims=True))[np.arange(len(own)), own]
            return -float(np.log(chance).mean())
        table = oracle.score_table(train, late, ITEMS, oracle.rate_scorer(parameter))
        chance = table[np.arange(len(own)), own]
        return -float(np.log(np.where(late["positive"], chance, 1.0 - chance)).mean())

    if family == "choice":
        link = fitted(family)["popular_all_time"].fitted.link
        chosen, grid = link.smoothing, SMOOTHINGS  # type: ignore[attr-defined]
    else:
        chosen, grid = fitted(family)["item_mean"].fitted.learned, STRENGTHS
    assert loss(chosen) <= min(loss(value) for value in grid[::6]) + 1e-12


def test_the_windows_of_early_events_are_empty() -> None:
    """A window of 7 days of the log's first week holds nothing but that week."""
    counts = timeline_of("choice").counts("positive", 7.0)
    assert counts.totals(np.array([counts.seconds[0]])) == 0
    assert counts.rows(np.array([counts.seconds[0]])).sum() == 0.0


def test_items_with_one_text_tie_exactly() -> None:
    rival, timeline = fitted("choice")["text_cosine"], timeline_of("choice")
    known = timeline.catalogue.ids.tolist()
    scores = rival._scores(None, timeline, np.flatnonzero(timeline.is_test)[:7])
    assert (scores[:, known.index(ITEMS[7])] == scores[:, known.index(ITEMS[2])]).all()
    assert len(texts_of(timeline).unit) == N_ITEMS - 1


def test_counts_of_single_events_equal_the_table() -> None:
    timeline = timeline_of("bernoulli")
    moments = np.sort(timeline.history.seconds) + 0.5
    item = np.random.default_rng(6).integers(0, N_ITEMS, len(moments))
    for days in (None, 7.0, 0.5):
        counts = timeline.counts("positive", days)
        table = counts.rows(moments)
        own = table[np.arange(len(item)), item]
        np.testing.assert_array_equal(counts.of_events(item, moments), own)
        np.testing.assert_array_equal(counts.totals(moments), table.sum(1))


def test_a_curve_through_equal_outcomes_is_flat() -> None:
    curve = LogisticCurve.fit(np.arange(9.0), np.ones(9, dtype=bool))
    assert curve.at(np.array([0.0, 5.0])) == pytest.approx(9.5 / 10.0)


def test_a_curve_takes_minus_infinity_for_the_smallest_score() -> None:
    x = np.array([-np.inf, 1.0, 2.0, 3.0, 4.0])
    outcome = np.array([False, False, True, False, True])
    curve = LogisticCurve.fit(x, outcome)
    assert curve == LogisticCurve.fit(np.maximum(x, 1.0), outcome)
    assert curve.at(x)[0] == curve.at(x)[1]


def test_the_softmax_is_safe_for_large_scores() -> None:
    scores = np.random.default_rng(8).normal(size=(5, 7)).astype(np.float32) * 100.0
    found = softmax_log_prob(scores, scores[:, 2], 3.0)
    logits = 3.0 * scores.astype(np.float64)
    np.testing.assert_allclose(found, logits[:, 2] - logsumexp(logits, axis=1), rtol=1e-5)
    chances = Softmax(3.0).chances(scores, scores)
    np.testing.assert_allclose(chances.sum(1), 1.0, rtol=1e-5)


def test_the_last_share_of_train_falls_back_to_all_of_it() -> None:
    timeline = timeline_of("choice")
    none = np.zeros_like(timeline.positive)
    none[np.flatnonzero(~timeline.is_test & timeline.positive)[0]] = True
    late = SimpleNamespace(history=timeline.history, positive=none, is_test=timeline.is_test)
    assert len(Timeline.last_of_train(late, 0.1, positive_only=True)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["bernoulli", "choice"])
def test_windows_hold_the_strict_past(family: str) -> None:
    timeline, history = timeline_of(family), timeline_of(family).history
    part = np.arange(len(history))
    windows = windows_before(timeline, part, 3)
    for event in part:
        mine = (history.user_index == history.user_index[event]) & (
            history.seconds < history.seconds[event]
        )
        mine &= timeline.positive | (family == "bernoulli")
        read = int(windows.read[event])
        assert windows.item[event, :read].tolist() == history.item_index[mine][-3:].tolist()
        assert windows.outcome[event, :read].tolist() == timeline.positive[mine][-3:].tolist()


@pytest.mark.parametrize("max_len", [2, 3, 7, 100])
def test_every_event_is_a_target_once_and_sees_half_a_window(max_len: int) -> None:
    timeline = fit("bernoulli", "item_mean").fitted.known.timeline()
    cut_up, evidence = Stretches.of(timeline, max_len), Evidence.of(timeline)
    rows = zip(cut_up.begin, cut_up.end, cut_up.first, cut_up.last, strict=True)
    targets = []
    for begin, end, first, last in rows:
        targets.extend(range(first, last))
        assert end - begin <= max_len
        assert end >= last - 1
        user = timeline.history.user_index[evidence.event[first]]
        low = evidence.before[timeline.history.start[user]]
        assert first - begin >= min(max_len // 2, first - low)
    assert targets == list(range(len(evidence.item)))
