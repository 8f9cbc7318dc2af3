"""Text rivals by hand, and naive Bayes against a loop."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from bayes_interest.baselines import FeatureBayes, RecencyWeightedText, TextCosine, TextSoftmax
from bayes_interest.baselines.text import unit_rows
from bayes_interest.config import ModelConfig
from bayes_interest.errors import InputError, ItemError
from bayes_interest.text.hashing import HashingEncoder
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.baselines import oracle
from tests.baselines.logs import (
    ITEMS,
    RUN,
    config_of,
    cut,
    fit,
    make_frame,
    vectors_of_items,
    with_positive,
)

USER = [0.1, 0.2, 0.3, 0.4]
CHOICE = ModelConfig(emission="choice")


def by_hand(kind: type, **options: Any) -> TextSoftmax:
    """One user whose only choice so far has the vector (0.1, 0.2, 0.3, 0.4); two more items."""
    vectors = pd.DataFrame(
        {
            "item_id": ["past", "first", "second"],
            "vector": [USER, [0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5]],
        }
    )
    log = pd.DataFrame(
        {
            "user_id": ["u", "other"],
            "item_id": ["past", "second"],
            "timestamp": [1_600_000_000, 1_600_000_000],
        }
    )
    items = pd.DataFrame({"item_id": ["past", "first", "second"]})
    return kind(CHOICE, PrecomputedVectors(vectors), **options).fit(log, items, RUN)


def test_the_softmax_of_two_items_by_hand() -> None:
    """`w . v` is 0.30 and 0.40, so among the two P = 1 / (1 + e^0.1) = 0.475, not 0.4286."""
    table = by_hand(TextSoftmax, scale=1.0).rank(["u"], k=3, exclude_seen=False)
    table = table.set_index("item_id")
    assert table.loc["first", "score"] == pytest.approx(0.30)
    assert table.loc["second", "score"] == pytest.approx(0.40)
    two = table.loc[["first", "second"], "mean"]
    assert (two / two.sum()).round(3).tolist() == [0.475, 0.525]
    total = 2 * np.exp(0.30) + np.exp(0.40)  # the item of the past is known too
    assert table.loc["second", "mean"] == pytest.approx(np.exp(0.40) / total)


def test_the_threshold_list_holds_what_lies_above_it() -> None:
    rival = by_hand(TextSoftmax, scale=1.0)
    mean = rival.rank(["u"], k=3).set_index("item_id")["mean"]
    assert sorted(mean.index) == ["first", "second"]
    between = float(mean.mean())
    found = rival.threshold_list("u", between)
    assert found["item_id"].tolist() == ["second"]
    assert found.columns.tolist() == ["user_id", "item_id", "mean"]
    everything = rival.threshold_list("u", 0.0, exclude_seen=False)
    assert everything["item_id"].tolist() == ["second", "past", "first"]
    with pytest.raises(InputError, match=r"p=1\.5"):
        rival.threshold_list("u", 1.5)


def test_a_user_without_events_finds_all_items_alike() -> None:
    found = by_hand(TextSoftmax).rank(["nobody"], k=3)
    np.testing.assert_allclose(found["mean"], 1 / 3)


def test_recent_items_weigh_more() -> None:
    """Items of 4 and 1 days ago with a half-life of 3 days: weights 0.5 ** (4 / 3, 1 / 3)."""
    day, start = 86_400, 1_600_000_000
    log = pd.DataFrame(
        {
            "user_id": ["u", "u"],
            "item_id": ["old", "new"],
            "timestamp": [start, start + 3 * day],
        }
    )
    vectors = {"old": [1.0, 0.0], "new": [0.0, 1.0], "both": [0.6, 0.8]}
    table = pd.DataFrame({"item_id": list(vectors), "vector": list(vectors.values())})
    rival = RecencyWeightedText(CHOICE, PrecomputedVectors(table), half_life_days=3.0)
    rival.fit(log, pd.DataFrame({"item_id": list(vectors)}), RUN)
    found = rival.rank(["u"], k=3, at=start + 4 * day, exclude_seen=False)
    mean = np.array([0.5 ** (4 / 3), 0.5 ** (1 / 3)])
    cosine = mean / np.linalg.norm(mean)
    score = found.set_index("item_id")["score"]
    assert score["both"] == pytest.approx(cosine @ [0.6, 0.8], rel=1e-5)
    assert score["old"] == pytest.approx(cosine[0], rel=1e-5)


def test_zero_rows_stay_zero() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]])


# ---------------------------------------------------------------- naive Bayes

COLOURS = ["red", "green", "blue"]


def coloured() -> pd.DataFrame:
    colour = [COLOURS[i % 3] for i in range(len(ITEMS))]
    label = [f"only {item}" for item in ITEMS]
    size = ["big" if i < 4 else "small" for i in range(len(ITEMS))]
    frame = pd.DataFrame({"item_id": ITEMS, "colour": colour, "size": size, "label": label})
    frame.loc[5, "colour"] = None
    return frame


@cache
def features_of(item: str) -> list[tuple[str, str]]:
    row = coloured().set_index("item_id").loc[item]
    names = ["colour", "size", "label"]
    return [(name, row[name]) for name in names if isinstance(row[name], str)]


ALL_FEATURES = sorted({feature for item in ITEMS for feature in features_of(item)})


def slow_choice_scores(event: pd.Series, before: pd.DataFrame, strength: float) -> np.ndarray:
    taken = before[before["positive"]]
    mine = taken[taken["user_id"] == event["user_id"]]
    count = {f: sum(f in features_of(i) for i in taken["item_id"]) for f in ALL_FEATURES}
    own = {f: sum(f in features_of(i) for i in mine["item_id"]) for f in ALL_FEATURES}
    groups = np.mean([len(features_of(item)) for item in ITEMS])
    total = sum(count.values()) + 0.5 * len(ALL_FEATURES)
    share = {f: groups * (count[f] + 0.5) / total for f in ALL_FEATURES}
    scores = []
    for item in ITEMS:
        prior = (sum(taken["item_id"] == item) + 0.5) / (len(taken) + 0.5 * len(ITEMS))
        ratio = [
            (own[f] + strength * share[f]) / (len(mine) + strength) / share[f]
            for f in features_of(item)
        ]
        scores.append(np.log(prior) + np.log(ratio).sum())
    return np.array(scores)


def slow_rate_scores(
    event: pd.Series, before: pd.DataFrame, strength: float, item_strength: float
) -> np.ndarray:
    mine = before[before["user_id"] == event["user_id"]]
    rate_of = oracle.rate_scorer(item_strength)

    def rates(feature: tuple[str, str]) -> tuple[float, float]:
        has = [item for item in ITEMS if feature in features_of(item)]
        everybody = before[before["item_id"].isin(has)]
        own = mine[mine["item_id"].isin(has)]
        rate = (everybody["positive"].sum() + 0.5) / (len(everybody) + 1.0)
        return rate, (own["positive"].sum() + strength * rate) / (len(own) + strength)

    scores = []
    for item in ITEMS:
        both = [rates(feature) for feature in features_of(item)]
        ratio = sum(logit(own) - logit(rate) for rate, own in both)
        scores.append(logit(rate_of(event, before, item)) + ratio)
    return np.array(scores)


@pytest.mark.parametrize("family", ["choice", "bernoulli"])
def test_naive_bayes_equals_the_loop(family: str) -> None:
    train, test = cut(make_frame(family))
    rival = FeatureBayes(config_of(family), HashingEncoder(), strength=2.0)
    rival.fit(train, coloured(), RUN)
    assert rival.fitted.learned.columns == ("colour", "size", "label")
    frame = with_positive(make_frame(family), family)
    timeline = rival.fitted.known.timeline()
    ids = rival.fitted.known.catalogue.ids.tolist()
    part = timeline.in_time_order(np.arange(len(timeline.history)))[::19]
    found = rival._scores(rival.fitted.learned, timeline, part)
    for row, event in zip(found, part, strict=True):
        source = frame.iloc[timeline.history.order[event]]
        before = frame[frame["timestamp"] < source["timestamp"]]
        if family == "choice":
            slow = slow_choice_scores(source, before, 2.0)
        else:
            slow = slow_rate_scores(source, before, 2.0, rival.fitted.learned.item_strength)
        np.testing.assert_allclose(row, slow[[ITEMS.index(item) for item in ids]], atol=1e-4)
    assert len(rival.score_events(test)) == len(test)


def test_columns_of_new_items_count() -> None:
    train, test = cut(make_frame("choice"))
    rival = FeatureBayes(config_of("choice"), HashingEncoder()).fit(train, coloured(), RUN)
    fresh = pd.DataFrame({"item_id": ["fresh"], "colour": ["red"], "size": ["big"]})
    test.loc[test.index[-1], "item_id"] = "fresh"
    with_them = rival.score_events(test, fresh)["mean"].iloc[-1]
    without = rival.score_events(test)["mean"].iloc[-1]
    assert with_them > 0
    assert with_them != without


def test_features_are_needed() -> None:
    train = cut(make_frame("choice"))[0]
    with pytest.raises(ItemError, match="FeatureBayes needs item features"):
        FeatureBayes(config_of("choice"), HashingEncoder()).fit(train, config=RUN)


def test_clusters_stand_in_for_columns() -> None:
    rival = fit("choice", "feature_bayes", n_clusters=4)
    assert rival.fitted.learned.columns == ()
    assert rival.fitted.learned.centres.shape == (4, vectors_of_items().shape[1])


def test_texts_that_come_only_later_are_refused() -> None:
    """Without any text in the fit the vectors have one number, later ones have many."""
    train, test = cut(make_frame("choice"))
    rival = TextCosine(config_of("choice"), HashingEncoder()).fit(train, config=RUN)
    np.testing.assert_allclose(rival.score_events(test)["mean"], 1.0 / len(ITEMS))
    test.loc[test.index[-1], "item_id"] = "fresh"
    texts = pd.DataFrame({"item_id": ["fresh"], "text": ["a red one"]})
    with pytest.raises(ItemError, match="but the fit had 1 per item"):
        rival.score_events(test, texts)
