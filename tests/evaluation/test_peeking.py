"""A model that looks at the future is caught; an honest one is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import InputError
from bayes_interest.evaluation.leaks import PeekingError, check_no_peeking, find_peeking
from bayes_interest.events.split import split_by_time
from tests.evaluation.fakes import Fake, Rates, make_log
from tests.fitted import model, parts

TRAIN, TEST = split_by_time(make_log(n_events=200), fraction=0.4)


class SeesTheFuture(Rates):
    """Starts from the counts of the whole test log."""

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        super().start(test, ids)
        for event in test.itertuples(index=False):
            self.absorb(event)


class SeesItsOutcome(Rates):
    """Absorbs an event before it predicts it."""

    def predict(self, event: Any, ids: np.ndarray) -> tuple[float, np.ndarray]:
        chance, scores = super().predict(event, ids)
        return 0.9 * chance + 0.1 * event.value, scores


class SeesHowMuchIsLeft(Rates):
    """Knows only the number of events to come."""

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        super().start(test, ids)
        self.likes += 1e-3 * len(test)


class SeesInSlates(Rates):
    """Honest in every number, but shows the last item of the log first."""

    def start(self, test: pd.DataFrame, ids: np.ndarray) -> None:
        super().start(test, ids)
        self.last = test["item_id"].iloc[-1]

    def row(self, event: Any, ids: np.ndarray, met: set[str], k: int | None) -> dict[str, Any]:
        row = super().row(event, ids, met, k)
        if k is not None:
            row["slate"] = [self.last, *(i for i in row["slate"] if i != self.last)][:k]
        return row


def test_an_honest_model_passes() -> None:
    honest = Rates().fit(TRAIN)
    assert find_peeking(honest, TEST, n_cuts=9).empty
    check_no_peeking(honest, TEST)


@pytest.mark.parametrize("liar", [SeesTheFuture, SeesItsOutcome, SeesHowMuchIsLeft, SeesInSlates])
def test_a_peeking_model_is_caught(liar: type[Fake]) -> None:
    with pytest.raises(PeekingError, match="depends on what came later"):
        check_no_peeking(liar().fit(TRAIN), TEST)


def test_the_first_event_that_changes_is_named() -> None:
    found = find_peeking(SeesItsOutcome().fit(TRAIN), TEST, n_cuts=3)
    assert found["change"].tolist() == ["altered"] * 3
    assert set(found["column"]) == {"mean"}
    for row in found.itertuples():
        event = TEST.frame.iloc[row.cut]
        assert (row.user_id, row.item_id) == (event["user_id"], event["item_id"])
        assert abs(row.before - row.after) == pytest.approx(0.1)


def test_slates_are_compared_only_with_k() -> None:
    liar = SeesInSlates().fit(TRAIN)
    assert find_peeking(liar, TEST, k=None).empty
    assert set(find_peeking(liar, TEST, k=3)["column"]) == {"slate"}


def test_a_tolerance_lets_small_differences_pass() -> None:
    liar = SeesItsOutcome().fit(TRAIN)
    assert len(find_peeking(liar, TEST, k=None))
    assert find_peeking(liar, TEST, k=None, tolerance=0.2).empty


def test_more_cuts_and_another_seed_look_elsewhere() -> None:
    liar = SeesItsOutcome().fit(TRAIN)
    assert len(find_peeking(liar, TEST, n_cuts=7)) == 7
    first, second = (find_peeking(liar, TEST, seed=seed)["cut"].tolist() for seed in (0, 1))
    assert first != second


def test_exclude_seen_reaches_the_model() -> None:
    class SeesWhenAll(Rates):
        def score_events(self, *args: Any, exclude_seen: bool = True, **more: Any) -> pd.DataFrame:
            liar = Rates if exclude_seen else SeesItsOutcome
            return liar.score_events(liar().fit(self.train), *args, **more)

    twofaced = SeesWhenAll().fit(TRAIN)
    assert find_peeking(twofaced, TEST).empty
    assert len(find_peeking(twofaced, TEST, exclude_seen=False))


def test_impossible_options_are_named() -> None:
    honest = Rates().fit(TRAIN)
    with pytest.raises(InputError, match="two events or more, got 1"):
        find_peeking(honest, TEST.frame.iloc[:1])
    with pytest.raises(InputError, match="n_cuts=0"):
        find_peeking(honest, TEST, n_cuts=0)
    with pytest.raises(InputError, match="no method fit"):
        find_peeking(object(), TEST)  # type: ignore[arg-type]


@pytest.mark.parametrize("emission", ["bernoulli", "rating", "choice"])
def test_the_interest_model_does_not_peek(emission: Any) -> None:
    _, test = parts(emission)
    check_no_peeking(model(emission), test, n_cuts=3)
