"""The search of configurations: on a model whose best configuration is known."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.protocol import Recommender
from bayes_interest.evaluation.space import check_space
from bayes_interest.evaluation.tune import search
from bayes_interest.evaluation.windows import make_windows
from bayes_interest.events.read import read_events
from bayes_interest.tuning import tune
from tests.evaluation.fakes import Rates, make_log

pytest.importorskip("optuna")
LOG = make_log(n_events=200)
SPACE = {"state_dim": (1, 30), "learning_rate": (1e-4, 1.0, "log")}


class Bowl(Rates):
    """Log loss (state_dim - 7)^2 / 100 + log10(learning_rate / 0.01)^2 + 0.1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def fit(self, events: Any, items: Any = None, config: FitConfig | None = None) -> Bowl:
        assert config is not None
        self.rate = config.learning_rate
        super().fit(events, items, config)
        return self

    def score_events(self, events: Any, *args: Any, **more: Any) -> pd.DataFrame:
        loss = (self.config.state_dim - 7) ** 2 / 100 + np.log10(self.rate / 0.01) ** 2 + 0.1
        table = pd.DataFrame({"log_prob": -loss}, index=range(len(events)))
        table.loc[0, "log_prob"] = np.nan  # what a model does not say does not count
        return table


def find(make: Any = Bowl, space: Any = SPACE, **options: Any) -> Any:
    settings: dict[str, Any] = {"n_trials": 12, "progress": False, "fraction": 0.3}
    return search(make, LOG, space=space, **(settings | options))


def test_the_best_trial_is_near_the_known_optimum() -> None:
    result = find(n_trials=40)
    assert abs(result.best.state_dim - 7) <= 4
    assert 1e-3 < result.best_fit.learning_rate < 1e-1
    trials = result.trials
    columns = ["trial", "state", "log_loss", "state_dim", "learning_rate", "seconds", "error"]
    assert trials.columns.tolist() == columns
    assert set(trials["state"]) == {"complete"}
    best = trials.loc[trials["log_loss"].idxmin()]
    assert best["state_dim"] == result.best.state_dim
    assert best["learning_rate"] == result.best_fit.learning_rate
    loss = (best["state_dim"] - 7) ** 2 / 100 + np.log10(best["learning_rate"] / 0.01) ** 2 + 0.1
    assert best["log_loss"] == pytest.approx(loss)


def test_the_seed_decides_the_trials() -> None:
    first, again, other = find(), find(), find(seed=1)
    timeless = first.trials.drop(columns="seconds")
    pd.testing.assert_frame_equal(timeless, again.trials.drop(columns="seconds"))
    assert first.trials["state_dim"].tolist() != other.trials["state_dim"].tolist()


def test_other_fields_are_those_of_the_bases() -> None:
    base, config = ModelConfig(item_residuals=False), FitConfig(max_epochs=3)
    result = find(space={"state_dim": [4]}, base=base, config=config, n_trials=1)
    assert result.best == ModelConfig(state_dim=4, item_residuals=False)
    assert result.best_fit == config


def test_lists_are_choices_and_whole_ends_give_whole_numbers() -> None:
    space = {"half_life_days": [None, 30.0], "state_dim": (2, 3), "popularity_days": (1.0, 9.0)}
    trials = find(space=space).trials
    assert set(trials["state_dim"]) == {2, 3}
    assert trials["half_life_days"].isna().any()
    assert trials["popularity_days"].between(1.0, 9.0).all()


def test_every_window_is_fitted_before_it_and_scored() -> None:
    fitted: list[tuple[int, int]] = []

    class Watched(Bowl):
        def score_events(self, events: Any, *args: Any, **more: Any) -> pd.DataFrame:
            fitted.append((len(self.train), len(events)))
            return super().score_events(events, *args, **more)

    find(Watched, n_trials=1, n_windows=3, fraction=0.3)
    windows = make_windows(read_events(LOG), "rolling", fraction=0.3, n_windows=3)
    assert fitted == [(len(w.train), len(w.test)) for w in windows]
    fitted.clear()
    find(Watched, n_trials=1, n_windows=1, fraction=0.2)
    assert fitted == [(160, 40)]


def test_a_failing_trial_says_why_and_the_search_goes_on() -> None:
    class Fragile(Bowl):
        def fit(self, *args: Any, **more: Any) -> Bowl:
            if self.config.state_dim > 15:
                raise RuntimeError("the matrix cannot be factorised")
            return super().fit(*args, **more)

    result = find(Fragile)
    failed = result.trials["state"] == "fail"
    assert 0 < failed.sum() < len(failed)
    assert (result.trials["state_dim"] > 15).tolist() == failed.tolist()
    assert set(result.trials.loc[failed, "error"]) == {
        "RuntimeError: the matrix cannot be factorised"
    }
    assert result.trials.loc[failed, "log_loss"].isna().all()
    assert result.best.state_dim <= 15


def test_nothing_to_choose_from_is_an_error_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"no trial succeeded.*ConfigError: state_dim=-3"):
        find(space={"state_dim": [-3]}, n_trials=2)

    class Mute(Bowl):
        def score_events(self, events: Any, *args: Any, **more: Any) -> pd.DataFrame:
            return super().score_events(events).drop(columns="log_prob")

    with pytest.raises(ConfigError, match="gives no log_prob"):
        find(Mute, n_trials=1)


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_a_second_call_continues(tmp_path: Path, name: str) -> None:
    storage = tmp_path / name
    first = find(storage=storage, n_trials=5)
    second = find(storage=storage, n_trials=9)
    pd.testing.assert_frame_equal(second.trials.iloc[:5], first.trials)
    assert len(second.trials) == 9
    assert len(find(storage=storage, n_trials=9).trials) == 9
    assert len(find(storage=storage, n_trials=2, study_name="other").trials) == 2
    points = second.trials["learning_rate"]
    assert not points.duplicated().any()  # the first random points are not drawn again


def test_a_stored_study_of_another_setting_is_refused(tmp_path: Path) -> None:
    storage = tmp_path / "study.log"
    find(storage=storage, n_trials=1)
    for other in ({"base": ModelConfig(repeats=True)}, {"fraction": 0.4}, {"n_windows": 1}):
        with pytest.raises(InputError, match="made with other events, space or configurations"):
            find(storage=storage, n_trials=2, **other)


def test_time_runs_out_before_the_trials() -> None:
    result = find(n_trials=10_000, timeout=0.5)
    assert 1 <= len(result.trials) < 10_000


def test_optuna_keeps_its_own_loudness_and_says_nothing(caplog: Any) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    with caplog.at_level(logging.INFO):
        find(n_trials=2)
    assert optuna.logging.get_verbosity() == before
    assert not caplog.records


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space is empty"),
        ({"depth": [1]}, "'depth' is no field of ModelConfig"),
        ({"emission": ["choice"]}, "'emission' cannot be searched"),
        ({"state_dim": 5}, "'state_dim' is 5, expected a list"),
        ({"state_dim": []}, "lists nothing"),
        ({"state_dim": [(1, 2)]}, "expected plain values"),
        ({"state_dim": (9, 3)}, "with low < high"),
        ({"state_dim": (1,)}, "with low < high"),
        ({"learning_rate": (0.0, 1.0, "log")}, 'above 0 for "log"'),
        ({"learning_rate": (0.1, 1.0, "linear")}, "expected"),
    ],
)
def test_impossible_spaces_are_named(space: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_space(space)


def test_impossible_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n_trials=0"):
        find(n_trials=0)
    with pytest.raises(InputError, match="timeout=0"):
        find(timeout=0)
    with pytest.raises(InputError, match="there is no folder"):
        find(storage=tmp_path / "nowhere" / "study.db")


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r'pip install "bayes-interest\[tune\]"'):
        find()


def test_tune_makes_interest_models_with_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, object]] = []

    class Door(Bowl):
        def __init__(self, config: ModelConfig, encoder: object) -> None:
            super().__init__(config)
            made.append((config.state_dim, encoder))

    monkeypatch.setattr("bayes_interest.tuning.InterestModel", Door)
    encoder: Any = object()
    options: dict[str, Any] = {"n_trials": 2, "n_windows": 1, "progress": False}
    result = tune(LOG, encoder=encoder, space={"state_dim": [3, 5]}, **options)
    assert made == [(int(dim), encoder) for dim in result.trials["state_dim"]]
    _: Recommender = Bowl(ModelConfig())


def test_no_trial_is_told_of_items_that_come_later() -> None:
    told: list[tuple[set[str], set[str]]] = []

    class Listening(Bowl):
        def fit(self, events: Any, items: Any = None, config: FitConfig | None = None) -> Bowl:
            super().fit(events, items, config)
            told.append((set(self.train["item_id"]), set(self.items)))
            return self

    log = LOG.assign(item_id=np.where(LOG.index == LOG.index[-1], "late", LOG["item_id"]))
    items = pd.DataFrame({"item_id": [*log["item_id"].unique(), "unwanted"], "text": ""})
    frame, options = read_events(log), {"space": SPACE, "n_trials": 1, "progress": False}
    search(Listening, frame, items, fraction=0.3, **options)
    assert len(told) == 2  # windows
    assert all(before == met | {"unwanted"} for met, before in told)
