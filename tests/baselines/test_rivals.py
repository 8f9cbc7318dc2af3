"""Rivals against a loop over single events, and what they must not see."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from bayes_interest.baselines import compare as compare_module
from bayes_interest.baselines.compare import raw_vectors, score_rivals
from bayes_interest.baselines.rivals import (
    SMOOTHINGS,
    STRENGTHS,
    CountShare,
    ItemRate,
    LogisticCurve,
    RecentCount,
    TextCosine,
    make_rivals,
)
from bayes_interest.baselines.timeline import PastCounts, Timeline, make_timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.events.read import read_events
from bayes_interest.interest_model import InterestModel
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.baselines import oracle

N_USERS, N_ITEMS, N_EVENTS, N_TRAIN = 5, 11, 127, 103
ITEMS = [f"i{i:02d}" for i in range(N_ITEMS)]
FAST = FitConfig(max_epochs=1, holdout=0, progress=False, device="cpu")


def make_frame(family: str, seed: int = 3) -> pd.DataFrame:
    """Whole days, so many ties in and between users; items come again."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in rng.integers(0, N_USERS, N_EVENTS)],
            "item_id": [ITEMS[i] for i in rng.integers(0, N_ITEMS, N_EVENTS)],
            "timestamp": 1_600_000_000 + 86_400 * np.sort(rng.integers(0, 60, N_EVENTS)),
            "value": rng.integers(0, 2 if family == "bernoulli" else 5, N_EVENTS).astype(float),
        }
    )
    return frame.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)


def vectors_of_items() -> np.ndarray:
    """Two items share a vector."""
    vectors = np.random.default_rng(4).normal(size=(N_ITEMS, 3)).astype(np.float32)
    vectors[7] = vectors[2]
    return vectors


def config_of(family: str) -> ModelConfig:
    threshold = None if family == "bernoulli" else 3.0
    return ModelConfig(emission=family, state_dim=2, positive_threshold=threshold)


@cache
def fitted(family: str) -> InterestModel:
    encoder = PrecomputedVectors(vectors_of_items(), item_ids=ITEMS)
    return InterestModel(config_of(family), encoder).fit(cut(make_frame(family))[0], config=FAST)


def cut(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    at = frame["timestamp"].iloc[N_TRAIN]
    early = frame["timestamp"] < at
    return frame[early].reset_index(drop=True), frame[~early].reset_index(drop=True)


def with_positive(frame: pd.DataFrame, family: str) -> pd.DataFrame:
    least = 1.0 if family == "bernoulli" else 3.0
    return frame.assign(positive=frame["value"] >= least)


def timeline_of(family: str) -> tuple[Timeline, np.ndarray]:
    train, test = (read_events(part) for part in cut(make_frame(family)))
    posterior = fitted(family).posterior
    return make_timeline(posterior, train, test), raw_vectors(posterior)


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
    rate = ItemRate.fit(timeline_of(family)[0])
    return {
        "item_mean": oracle.rate_scorer(rate.strength),
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
@pytest.mark.parametrize("family", ["bernoulli", "rating", "choice"])
def test_ranks_equal_those_of_the_loop(family: str, exclude_seen: bool) -> None:
    frame = with_positive(make_frame(family), family)
    train, test = cut(make_frame(family))
    events = frame.iloc[len(train) :]
    found = score_rivals(fitted(family), train, test, exclude_seen=exclude_seen)
    for name in found:
        table = slow_table(family, name)
        ranks = oracle.pessimistic_ranks(frame, events, ITEMS, table, exclude_seen)
        assert found[name]["rank"].tolist() == ranks, name


def slow_chances(rival: object, table: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The stated formula of each link."""
    if isinstance(rival, CountShare):
        a = rival.smoothing
        return (own + a) / (table + a).sum(1)
    if isinstance(rival, ItemRate):
        return own
    if isinstance(rival, RecentCount):
        curve, own = rival.curve, np.log1p(own)
    else:
        assert isinstance(rival, TextCosine)
        if not isinstance(rival.link, LogisticCurve):
            logits = rival.link * table
            return np.exp(rival.link * own - logsumexp(logits, axis=1))
        curve = rival.link
    return 1.0 / (1.0 + np.exp(-(curve.intercept + curve.slope * own)))


@pytest.mark.parametrize("family", ["bernoulli", "rating", "choice"])
def test_probabilities_equal_those_of_the_loop(family: str) -> None:
    frame = with_positive(make_frame(family), family)
    train, test = cut(make_frame(family))
    events = frame.iloc[len(train) :]
    found = score_rivals(fitted(family), train, test)
    item = np.array([ITEMS.index(name) for name in events["item_id"]])
    for rival in make_rivals(*timeline_of(family)):
        table = slow_table(family, rival.name)
        chance = slow_chances(rival, table, table[np.arange(len(item)), item])
        mine, positive = found[rival.name], events["positive"].to_numpy()
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

    timeline = timeline_of(family)[0]
    if family == "choice":
        chosen, grid = CountShare.fit(timeline, "x", None).smoothing, SMOOTHINGS
    else:
        chosen, grid = ItemRate.fit(timeline).strength, STRENGTHS
    assert loss(chosen) <= min(loss(value) for value in grid[::6]) + 1e-12


@pytest.mark.parametrize("family", ["bernoulli", "choice"])
def test_a_rival_sees_nothing_of_its_own_moment_or_later(family: str) -> None:
    """Other items, users and values from some moment on leave earlier scores bit-equal."""
    train, test = cut(make_frame(family))
    at = test["timestamp"].iloc[len(test) // 2]
    late = (test["timestamp"] >= at).to_numpy()
    other = test.copy()
    other.loc[late, "value"] = 4.0 - other.loc[late, "value"] if family == "choice" else 1.0
    other.loc[late, "item_id"] = ITEMS[0]
    other.loc[late, "user_id"] = [f"u{i % N_USERS}" for i in range(late.sum())]
    other["timestamp"] += np.where(late, np.arange(len(test)), 0)  # no duplicates
    first = score_rivals(fitted(family), train, test)
    second = score_rivals(fitted(family), train, other)
    assert late.any()
    assert not late.all()
    for name, scores in first.items():
        pd.testing.assert_frame_equal(scores[~late], second[name][~late], check_exact=True)


@pytest.mark.parametrize("family", ["bernoulli", "choice"])
def test_tied_events_do_not_see_one_another(family: str) -> None:
    """With all test events at one moment, each is scored as if it were alone."""
    train, test = cut(make_frame(family))
    tied = test.drop_duplicates(["user_id", "item_id"]).head(13).reset_index(drop=True)
    tied["timestamp"] = test["timestamp"].max()
    together = score_rivals(fitted(family), train, tied, exclude_seen=False)
    for row in range(len(tied)):
        alone = score_rivals(fitted(family), train, tied.iloc[[row]], exclude_seen=False)
        for name, scores in alone.items():
            pd.testing.assert_series_equal(
                scores.iloc[0], together[name].iloc[row], check_names=False, rtol=1e-6
            )


def test_rows_stand_in_the_callers_order() -> None:
    train, test = cut(make_frame("choice"))
    order = np.random.default_rng(5).permutation(len(test))
    test = test.drop_duplicates(["user_id", "timestamp"], ignore_index=True)
    order = order[order < len(test)]
    sorted_scores = score_rivals(fitted("choice"), train, test)
    shuffled = score_rivals(fitted("choice"), train, test.iloc[order].reset_index(drop=True))
    for name, scores in sorted_scores.items():
        expected = scores.iloc[order].reset_index(drop=True)
        pd.testing.assert_frame_equal(shuffled[name], expected)
        assert shuffled[name]["item_id"].tolist() == test["item_id"].iloc[order].tolist()


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = cut(make_frame("choice"))
    whole = score_rivals(fitted("choice"), train, test)
    monkeypatch.setattr(compare_module, "CELLS", 3 * N_ITEMS)
    for name, scores in score_rivals(fitted("choice"), train, test).items():
        pd.testing.assert_frame_equal(scores, whole[name], rtol=1e-6)


def test_items_with_one_text_tie_exactly() -> None:
    timeline, vectors = timeline_of("choice")
    known = fitted("choice").posterior.vocabulary.items.ids.tolist()
    scores = TextCosine.fit(timeline, vectors).scores(np.flatnonzero(timeline.is_test)[:7])
    assert (scores[:, known.index(ITEMS[7])] == scores[:, known.index(ITEMS[2])]).all()


def test_counts_of_single_events_equal_the_table() -> None:
    timeline, _ = timeline_of("bernoulli")
    moments = np.sort(timeline.history.seconds) + 0.5
    item = np.random.default_rng(6).integers(0, N_ITEMS, len(moments))
    for days in (None, 7.0, 0.5):
        counts = PastCounts.of(timeline, timeline.positive, days)
        table = counts.rows(moments)
        own = table[np.arange(len(item)), item]
        np.testing.assert_array_equal(counts.of_events(item, moments), own)
        np.testing.assert_array_equal(counts.totals(moments), table.sum(1))


def test_raw_vectors_are_the_encoders() -> None:
    _, vectors = timeline_of("bernoulli")
    ids = fitted("bernoulli").posterior.vocabulary.items.ids
    expected, _ = fitted("bernoulli").encoder.lookup(ids.tolist())  # type: ignore[attr-defined]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_curve_through_equal_outcomes_is_flat() -> None:
    curve = LogisticCurve.fit(np.arange(9.0), np.ones(9, dtype=bool))
    assert curve.at(np.array([0.0, 5.0])) == pytest.approx(9.5 / 10.0)


def test_another_train_log_is_refused() -> None:
    train, test = cut(make_frame("choice"))
    with pytest.raises(InputError, match="but the model has absorbed"):
        score_rivals(fitted("choice"), train.iloc[:-2], test)


def test_the_last_share_of_train_falls_back_to_all_of_it() -> None:
    timeline, _ = timeline_of("choice")
    none = np.zeros_like(timeline.positive)
    none[np.flatnonzero(~timeline.is_test & timeline.positive)[0]] = True
    late = SimpleNamespace(**{**vars(timeline), "positive": none, "is_test": timeline.is_test})
    assert len(Timeline.last_of_train(late, 0.1, positive_only=True)) == 1  # type: ignore[arg-type]
