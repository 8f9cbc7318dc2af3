"""A model that learns its map from the end of its log: in time order, and beside others."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayes_interest as bi
from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError
from bayes_interest.interest_model import InterestModel
from tests.fitted import FAMILIES, QUICK, encoder, parts, same


def wrapped(emission: EmissionName = "bernoulli", **options: Any) -> bi.RecalibratedInterest:
    chosen = bi.ModelConfig(emission=emission, state_dim=2)
    inside = InterestModel(chosen, encoder(emission))
    return bi.RecalibratedInterest(inside, **{"method": "platt", "fraction": 0.2} | options)


@cache
def fitted_wrapped(emission: EmissionName) -> bi.RecalibratedInterest:
    return wrapped(emission, method="temperature").fit(parts(emission)[0], config=QUICK)


@pytest.mark.parametrize("emission", FAMILIES)
def test_fit_cuts_in_time(emission: EmissionName) -> None:
    train, test = parts(emission)
    early, late = bi.split_by_time(train, fraction=0.2)
    by_hand = InterestModel(bi.ModelConfig(emission=emission, state_dim=2), encoder(emission))
    by_hand.fit(early, config=QUICK).recalibrate(late, method="temperature").update(late)
    same(fitted_wrapped(emission).score_events(test), by_hand.score_events(test))


def test_the_first_fit_is_not_told_of_items_that_come_late() -> None:
    train, _ = parts("choice")
    log = train.assign(item_id=np.where(np.arange(len(train)) < len(train) - 5, "i00001", "i00002"))
    log.loc[log.index[::2][:50], "item_id"] = "i00003"
    items = pd.DataFrame({"item_id": ["i00001", "i00002", "i00003", "i00004"]})
    told: list[list[str]] = []

    class Listening(InterestModel):
        def fit(self, events: Any, items: Any = None, config: Any = None) -> Listening:
            told.append(items.frame["item_id"].tolist())
            super().fit(events, items, config)
            return self

    inside = Listening(bi.ModelConfig(emission="choice", state_dim=2), encoder("choice"))
    bi.RecalibratedInterest(inside, method="temperature", fraction=0.2).fit(log, items, QUICK)
    assert told == [["i00001", "i00003", "i00004"]]


def test_scored_events_do_not_reach_the_map() -> None:
    it = wrapped().fit(parts("bernoulli")[0], config=QUICK)
    kept = it.model.posterior
    it.score_events(parts("bernoulli")[1])
    assert it.model.posterior is kept
    again = bi.RecalibratedInterest(it.model, "platt", refresh=25)
    bi.check_no_peeking(again, parts("bernoulli")[1])


def test_refresh_learns_from_earlier_blocks_only() -> None:
    test = parts("bernoulli")[1]
    first = fitted_wrapped("bernoulli")
    it = bi.RecalibratedInterest(first.model, "platt", refresh=25, memory=50)
    before = first.model.posterior
    table = it.score_events(test)
    assert first.model.posterior is before
    plain = first.score_events(test)
    same(table.iloc[:25], plain.iloc[:25])
    by_hand = InterestModel(first.config, first.encoder)
    by_hand._posterior = before
    by_hand.recalibrate(test.iloc[:25], method="platt", memory=50).update(test.iloc[:25])
    second = by_hand.score_events(test.iloc[25:50])
    same(table.iloc[25:50].reset_index(drop=True), second)
    changed = test.assign(
        value=np.where(np.arange(len(test)) >= 30, 1 - test["value"], test["value"])
    )
    columns = ["mean", "sd", "lower", "upper"]
    same(it.score_events(changed)[columns].iloc[:31], table[columns].iloc[:31])
    assert not np.allclose(it.score_events(changed)["mean"].iloc[50:], table["mean"].iloc[50:])


def test_events_of_one_moment_stay_in_one_block() -> None:
    test = parts("bernoulli")[1].copy()
    test["timestamp"] = test["timestamp"].where(np.arange(len(test)) % 40 < 20).ffill()
    it = bi.RecalibratedInterest(fitted_wrapped("bernoulli").model, "platt", refresh=21)
    # tied events in two blocks would be refused
    assert len(it.score_events(test)) == len(bi.read_events(test))


def test_it_stands_beside_others_in_a_backtest() -> None:
    events = pd.concat(parts("bernoulli"))
    raw = InterestModel(bi.ModelConfig(emission="bernoulli", state_dim=2), encoder("bernoulli"))
    models = {"raw": raw, "mapped": wrapped(refresh=30)}
    table = bi.backtest(models, events, fraction=0.2, config=QUICK, n_boot=20, progress=False)
    losses = table[table["metric"] == "log_loss"].set_index("model")["value"]
    assert set(losses.index) == {"raw", "mapped"}
    assert losses["raw"] != losses["mapped"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "none"}, "method='none': expected one of auto"),
        ({"refresh": 0}, "refresh=0: expected a whole number of events"),
        ({"memory": 1.5}, "memory=1.5: expected a whole number"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrapped(**options)
