"""What is known of events and items without a model, and the groups made of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import (
    describe_events,
    describe_items,
    popularity_bands,
    positive_events,
)
from bayes_interest.evaluation.strata import STRATA, stratum_masks
from bayes_interest.evaluation.windows import make_windows
from bayes_interest.events.read import read_events, read_items

HOUR = 3_600
START = 1_600_000_000

FRAME = pd.DataFrame(
    [
        # train
        ("ann", "a", 0, 1.0, "web"),
        ("ann", "b", 10, 0.0, "web"),
        ("bob", "a", 20, 1.0, "app"),
        ("bob", "c", 30, 1.0, "web"),
        # test
        ("ann", "c", 30.5, 1.0, "web"),
        ("cat", "d", 40, 0.0, "web"),
        ("cat", "a", 60, 1.0, "app"),
        ("ann", "a", 31.5 + 24 * 30, 1.0, "app"),
    ],
    columns=["user_id", "item_id", "timestamp", "value", "source"],
)
FRAME["timestamp"] = START + FRAME["timestamp"] * HOUR


def described() -> tuple[pd.DataFrame, pd.DataFrame]:
    log = read_events(FRAME.assign(text="words"))
    (window,) = make_windows(log, at=START + 30.5 * HOUR)
    items = describe_items(window.train, window.test, read_items(pd.DataFrame({"item_id": ["e"]})))
    positive = positive_events(window.test, None)
    return describe_events(window, items, positive), items


def test_items_by_hand() -> None:
    _, items = described()
    table = items.set_index("item_id")
    assert table["n_train"].to_dict() == {"a": 2, "b": 1, "c": 1, "d": 0, "e": 0}
    assert table["user_share"].to_dict() == pytest.approx(
        {"a": 3 / 3, "b": 2 / 3, "c": 2 / 3, "d": 1 / 3, "e": 1 / 3}
    )
    # a begins at 0 of 4 events, b and c at 2 of 4: the second third
    assert table["popularity"].to_dict() == {
        "a": "head", "b": "mid", "c": "mid", "d": "tail", "e": "tail",
    }  # fmt: skip


def test_bands_hold_about_a_third_each_and_ties_stay_together() -> None:
    counts = np.array([30, 20, 10, 10, 5, 5, 5, 5, 0])
    # starts: 0, 30 (a third of 90), 50, 50, 70, ...
    bands = ["head", "mid", "mid", "mid", "tail", "tail", "tail", "tail", "tail"]
    assert popularity_bands(counts).tolist() == bands
    assert popularity_bands(counts[::-1]).tolist() == bands[::-1]
    assert popularity_bands(np.zeros(2)).tolist() == ["tail", "tail"]


def test_events_by_hand() -> None:
    events, _ = described()
    assert events["n_before"].tolist() == [2, 0, 1, 3]
    expected = [20.5 / 24, np.nan, 20 / 24, 1 / 24 + 30]
    np.testing.assert_allclose(events["gap_days"], expected, rtol=1e-12)
    assert events["user_n_train"].tolist() == [2, 0, 0, 2]
    assert events["item_n_train"].tolist() == [1, 0, 2, 2]
    assert events["positive"].tolist() == [True, False, True, True]
    assert "text" not in events
    assert "source" in events


def test_strata_by_hand() -> None:
    events, _ = described()
    found = {
        name: np.flatnonzero(mask).tolist() for name, mask in stratum_masks(events, True).items()
    }
    assert found == {
        "all": [0, 1, 2, 3],
        "user=cold": [1, 2],
        "user=warm": [0, 3],
        "item=cold": [1],
        "item=warm": [0, 2, 3],
        "history=0": [1],
        "history=1-2": [0, 2],
        "history=3-9": [3],
        "gap=none": [1],
        "gap=<1d": [0, 2],
        "gap=30d+": [3],
        "popularity=head": [2, 3],
        "popularity=mid": [0],
        "popularity=tail": [1],
    }


def test_bounds_of_history_and_gap_belong_to_the_upper_band() -> None:
    before = [0, 1, 2, 3, 9, 10, 29, 30, 1000]
    days = [0.0, 1 / 24, 0.99, 1.0, 6.9, 7.0, 29.0, 30.0, np.nan]
    events = pd.DataFrame({"n_before": before, "gap_days": days})
    masks = stratum_masks(events, ("history", "gap"))
    label = {i: [n for n, m in masks.items() if m[i] and n != "all"] for i in range(9)}
    assert [label[i][0].removeprefix("history=") for i in range(9)] == [
        "0", "1-2", "1-2", "3-9", "3-9", "10-29", "10-29", "30+", "30+",
    ]  # fmt: skip
    assert [label[i][1].removeprefix("gap=") for i in range(9)] == [
        "<1h", "<1d", "<1d", "<7d", "<7d", "<30d", "<30d", "30d+", "none",
    ]  # fmt: skip


@pytest.mark.parametrize("name", STRATA)
def test_each_stratum_is_a_partition(name: str) -> None:
    events, _ = described()
    masks = stratum_masks(events, name)
    assert sum(mask.astype(int) for mask in list(masks.values())[1:]).tolist() == [1] * 4


def test_a_column_of_the_log_is_a_stratum() -> None:
    events, _ = described()
    masks = stratum_masks(events, ("source",))
    assert list(masks) == ["all", "source=app", "source=web"]
    assert masks["source=app"].tolist() == [False, False, True, True]
    assert list(stratum_masks(events)) == list(stratum_masks(events, False)) == ["all"]


def test_an_unknown_stratum_is_named() -> None:
    events, _ = described()
    with pytest.raises(InputError, match="strata: 'age' is neither one of user, item, history"):
        stratum_masks(events, ("age",))


def test_positive_events_by_the_values() -> None:
    log = read_events(FRAME)
    assert positive_events(log, None).tolist() == (FRAME["value"] == 1.0).tolist()
    stars = read_events(FRAME.assign(value=[1, 2, 3, 4, 5, 4, 3, 2]))
    assert positive_events(stars, 4.0).sum() == 3
    assert positive_events(stars, None, "choice").all()
    with pytest.raises(InputError, match=r"threshold=.*5 levels, from 1 to 5"):
        positive_events(stars, None)
    assert positive_events(read_events(FRAME.assign(value=3.0)), None).all()
    assert positive_events(read_events(FRAME.drop(columns="value")), None).all()
