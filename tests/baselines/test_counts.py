"""Counting rivals against a loop over data frames."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from bayes_interest.baselines.counts import HALF_LIVES, decayed_counts
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.evaluation.metrics import ndcg
from tests.baselines.logs import ITEMS, cut, fit, make_frame, with_positive

DAY = 86_400.0


def decayed(before: pd.DataFrame, now: float, days: float) -> np.ndarray:
    """(item,), an event at a time."""
    level = np.zeros(len(ITEMS))
    for _, event in before[before["positive"]].iterrows():
        level[ITEMS.index(event["item_id"])] += 0.5 ** ((now - event["timestamp"]) / DAY / days)
    return level


@pytest.mark.parametrize("family", ["choice", "bernoulli"])
def test_decayed_counts_equal_the_loop(family: str) -> None:
    rival = fit(family, "popular_decayed", half_life_days=2.5)
    frame = with_positive(make_frame(family), family)
    _, test = cut(make_frame(family))
    ids = rival.fitted.known.catalogue.ids.tolist()
    scores = rival.score_events(test, exclude_seen=False, k=len(ITEMS))
    share = rival.fitted.link
    for row, event in enumerate(test.itertuples()):
        level = decayed(frame[frame["timestamp"] < event.timestamp], event.timestamp, 2.5)
        own = level[ITEMS.index(event.item_id)]
        assert scores["rank"][row] == (level >= own * (1 - 1e-6)).sum()
        best = sorted(ids, key=lambda item: -round(level[ITEMS.index(item)], 6))
        assert scores["slate"][row] == best
        if family == "choice":
            a = share.smoothing  # type: ignore[attr-defined]
            expected = (own + a) / (level + a).sum()
            assert scores["mean"][row] == pytest.approx(expected, rel=1e-5)


def test_the_half_life_has_the_best_loss_on_late_train() -> None:
    chosen = fit("choice", "popular_decayed").fitted.learned
    train = with_positive(cut(make_frame("choice"))[0], "choice")
    late = train[train["timestamp"] >= train["timestamp"].iloc[int(len(train) * 0.9)]]
    late = late[late["positive"]]

    def loss(days: float) -> float:
        found = []
        for event in late.itertuples():
            past = train[train["timestamp"] < event.timestamp]
            found.append(decayed(past, event.timestamp, days))
        level = np.array(found)
        own = level[np.arange(len(late)), [ITEMS.index(item) for item in late["item_id"]]]
        total = level.sum(1)
        grid = np.geomspace(1e-4, 100.0, 37)
        return min(-np.log((own + a) / (total + a * len(ITEMS))).mean() for a in grid)

    assert loss(chosen) <= min(loss(days) for days in HALF_LIVES) + 1e-7


def test_a_long_half_life_counts_everything() -> None:
    rival = fit("choice", "popular_all_time")
    timeline = rival.fitted.known.timeline()
    part = timeline.in_time_order(np.arange(len(timeline.history)))
    counts = timeline.counts().rows(timeline.history.seconds[part])
    np.testing.assert_allclose(decayed_counts(timeline, part, 1e9), counts, rtol=1e-5)


def test_own_most_frequent_is_the_dirichlet_predictive() -> None:
    rival = fit("choice", "own_most_frequent", prior_events=2.0)
    smoothing = rival.fitted.learned.smoothing
    frame = with_positive(make_frame("choice"), "choice")
    test = cut(make_frame("choice"))[1]
    scores = rival.score_events(test, exclude_seen=False)
    for row, event in enumerate(test.itertuples()):
        past = frame[(frame["timestamp"] < event.timestamp) & frame["positive"]]
        mine = Counter(past["item_id"][past["user_id"] == event.user_id])
        everybody = Counter(past["item_id"])
        share = {
            item: (everybody[item] + smoothing) / (len(past) + smoothing * len(ITEMS))
            for item in ITEMS
        }
        chance = {item: (mine[item] + 2.0 * share[item]) / (mine.total() + 2.0) for item in ITEMS}
        own = chance[event.item_id]
        assert scores["mean"][row] == pytest.approx(own, rel=1e-5)
        assert scores["rank"][row] == sum(p >= own * (1 - 1e-6) for p in chance.values())


def habits(seed: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Everybody takes three own items again and again; train and test."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user:02d}", f"i{item:02d}", 1_600_000_000 + 3_600 * (40 * step + user))
        for user in range(31)
        for step, item in enumerate(rng.choice(rng.choice(43, 3, replace=False), 23))
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    frame = frame.sort_values("timestamp", ignore_index=True)
    return frame.iloc[:500], frame.iloc[500:].reset_index(drop=True)


def test_on_habits_the_own_items_beat_popularity() -> None:
    from bayes_interest.baselines import OwnMostFrequent, Popularity
    from bayes_interest.text.hashing import HashingEncoder

    train, test = habits()
    run = FitConfig(progress=False, device="cpu")
    found = {}
    for kind in (OwnMostFrequent, Popularity):
        rival = kind(ModelConfig(emission="choice"), HashingEncoder()).fit(train, config=run)
        scores = rival.score_events(test, exclude_seen=False)
        found[kind] = -scores["log_prob"].mean(), ndcg(scores["rank"].to_numpy(), 10)
    assert found[OwnMostFrequent][0] < found[Popularity][0] - 1.5
    assert found[OwnMostFrequent][1] > found[Popularity][1] + 0.4
