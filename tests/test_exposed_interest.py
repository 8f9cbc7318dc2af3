"""Outcome and exposure together: what is ranked is their product, the rest stays the outcome's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_interest as bi
from bayes_interest.exposed_interest import ExposedInterest
from bayes_interest.interest_model import InterestModel

N_USERS, N_ITEMS, N_EVENTS = 12, 15, 240
FIT = bi.FitConfig(max_epochs=2, n_members=1, progress=False)
CHOICE = bi.ModelConfig(emission="choice", state_dim=2)


def make(emission: str = "bernoulli") -> ExposedInterest:
    encoder = bi.HashingEncoder(16)
    config = bi.ModelConfig(emission=emission, state_dim=2)
    return ExposedInterest(InterestModel(config, encoder), InterestModel(CHOICE, encoder))


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """The first three items are met often and hardly liked, the last three rarely but liked."""
    rng = np.random.default_rng(0)
    share = np.r_[np.full(3, 8.0), np.ones(N_ITEMS - 6), np.full(3, 0.4)]
    item = rng.choice(N_ITEMS, N_EVENTS, p=share / share.sum())
    liked = np.r_[np.full(3, 0.4), np.full(N_ITEMS - 6, 0.5), np.full(3, 0.9)]
    return pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, N_USERS, N_EVENTS)],
            "item_id": [f"i{i}" for i in item],
            "timestamp": 1.5e9 + np.arange(N_EVENTS) * 3600.0,
            "value": (rng.random(N_EVENTS) < liked[item]).astype(float),
        }
    )


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    ids = [f"i{i}" for i in range(N_ITEMS)]
    return pd.DataFrame(
        {"item_id": ids, "text": [f"thing {i % 4} number {i}" for i in range(N_ITEMS)]}
    )


@pytest.fixture(scope="module")
def fitted(log: pd.DataFrame, items: pd.DataFrame) -> ExposedInterest:
    return make().fit(log.iloc[:200], items, FIT)


def best_first(table: pd.DataFrame) -> list[str]:
    return table.sort_values("rank")["item_id"].tolist()


def test_ranks_go_by_the_product_of_both_means(fitted: ExposedInterest) -> None:
    options = {"users": ["u3"], "k": N_ITEMS, "exclude_seen": False, "n_draws": 40_000}
    product = fitted.rank(**options)
    both = [
        model.rank(**options).set_index("item_id")["mean"]
        for model in (fitted.outcome, fitted.exposure)
    ]
    wanted = both[0] * both[1]
    got = product.set_index("item_id")["mean"]
    np.testing.assert_allclose(got, wanted[got.index], rtol=0.03)
    assert best_first(product) != best_first(fitted.outcome.rank(**options))
    assert ((product["lower"] < product["mean"]) & (product["mean"] < product["upper"])).all()
    assert got.sum() < 1.0


def test_scored_events_keep_the_outcomes_figures_and_rank_by_the_product(
    fitted: ExposedInterest, log: pd.DataFrame, items: pd.DataFrame
) -> None:
    later = log.iloc[200:]
    got = fitted.score_events(later, items, exclude_seen=False, n_draws=500, k=3)
    plain = fitted.outcome.score_events(later, items, exclude_seen=False)
    for name in ("user_id", "item_id", "mean", "sd", "lower", "upper", "log_prob"):
        pd.testing.assert_series_equal(got[name], plain[name])
    chosen = fitted.exposure.score_events(later, items, exclude_seen=False, n_draws=500)
    assert not got["rank"].equals(plain["rank"])
    # What is met often comes nearer to the top than where liking alone counts.
    often = got["item_id"].isin(["i0", "i1", "i2"])
    assert got["rank"][often].mean() < plain["rank"][often].mean()
    assert not got["rank"].equals(chosen["rank"])
    assert (got["slate"].str.len() == 3).all()
    first = got["slate"].str[0] == got["item_id"]
    assert (first == (got["rank"] == 1)).all()


def test_a_slate_before_an_event_is_the_ranking_at_its_time(
    fitted: ExposedInterest, log: pd.DataFrame, items: pd.DataFrame
) -> None:
    one = log.iloc[200:201]
    slate = fitted.score_events(one, items, n_draws=4000, k=4)["slate"].iloc[0]
    user, at = one["user_id"].iloc[0], float(one["timestamp"].iloc[0])
    ranked = fitted.rank([user], k=4, at=at, n_draws=4000)
    assert len(set(slate) & set(ranked["item_id"])) >= 3  # both are of random draws


def test_update_moves_both(
    fitted: ExposedInterest, log: pd.DataFrame, items: pd.DataFrame, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    door = ExposedInterest.load(tmp_path)
    before = [len(model.posterior.history) for model in (door.outcome, door.exposure)]
    door.update(log.iloc[200:], items)
    after = [len(model.posterior.history) for model in (door.outcome, door.exposure)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [40, 40]


def test_saved_and_loaded_ranks_are_the_same(fitted: ExposedInterest, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = ExposedInterest.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.rank(["u1", "new"]), fitted.rank(["u1", "new"]))


def test_a_failed_update_leaves_both_as_they_were(
    fitted: ExposedInterest, log: pd.DataFrame
) -> None:
    before = [len(model.posterior.history) for model in (fitted.outcome, fitted.exposure)]
    with pytest.raises(bi.TimeOrderError):
        fitted.update(log.iloc[:1])
    after = [len(model.posterior.history) for model in (fitted.outcome, fitted.exposure)]
    assert before == after


def test_models_of_the_wrong_family_are_refused(log: pd.DataFrame, items: pd.DataFrame) -> None:
    with pytest.raises(bi.ConfigError, match="knows no outcomes"):
        make("choice")
    with pytest.raises(bi.ConfigError, match='emission="bernoulli"'):
        ExposedInterest(make().outcome, make().outcome)
    auto = make("auto")
    with pytest.raises(bi.ConfigError, match="knows no outcomes"):
        auto.fit(log.drop(columns="value"), items, FIT)
    with pytest.raises(bi.NotFittedError):
        auto.rank(["u1"])


def test_models_that_know_different_items_are_refused(
    fitted: ExposedInterest, log: pd.DataFrame, items: pd.DataFrame
) -> None:
    other = InterestModel(CHOICE, bi.HashingEncoder(16))
    few = log.iloc[:200]
    other.fit(few[few["item_id"] != "i4"], items[items["item_id"] != "i4"], FIT)
    with pytest.raises(bi.ItemError, match="unknown to the exposure model"):
        ExposedInterest(fitted.outcome, other).rank(["u1"])


def test_the_default_exposure_is_a_choice_model_fitted_as_the_outcome_model(
    log: pd.DataFrame, items: pd.DataFrame
) -> None:
    outcome = make().outcome
    door = ExposedInterest(outcome).fit(log, items, FIT)
    assert door.exposure.posterior.config.emission == "choice"
    assert door.exposure.encoder is outcome.encoder
    assert len(door.exposure.fit_report()) == len(door.outcome.fit_report()) == 2


def test_the_exposure_may_be_fitted_in_its_own_way(log: pd.DataFrame, items: pd.DataFrame) -> None:
    parts = make()
    own = bi.FitConfig(max_epochs=1, progress=False)
    door = ExposedInterest(parts.outcome, parts.exposure, own).fit(log, items, FIT)
    assert len(door.outcome.fit_report()) == 2
    assert len(door.exposure.fit_report()) == 1


def test_it_backtests_like_a_model(log: pd.DataFrame, items: pd.DataFrame) -> None:
    models = {"both": make(), "outcome": make().outcome}
    table = bi.backtest(
        models, log, items, config=FIT, n_boot=0, progress=False, exclude_seen=False
    )
    overall = table[table["stratum"] == "all"].set_index(["metric", "model"])["value"]
    assert overall["log_loss", "both"] == overall["log_loss", "outcome"]
    assert overall["mean_rank", "both"] != overall["mean_rank", "outcome"]


def test_pairs_go_by_the_product(fitted: ExposedInterest) -> None:
    options = {"users": ["u3"], "exclude_seen": False, "n_draws": 4000}
    slate = fitted.rank(**options, k=2)
    first, second = best_first(slate)
    pairs = [(first, second), (second, first)]
    table = fitted.compare_items(["u3"], pairs=pairs, n_draws=4000)
    assert table["probability"].sum() == pytest.approx(1.0)
    assert table["lower"].iloc[0] < table["mean"].iloc[0] < table["upper"].iloc[0]
    alone = fitted.outcome.compare_items(["u3"], pairs=pairs)
    assert abs(alone["probability"].iloc[0] - table["probability"].iloc[0]) > 0.01
    one = fitted.rank(**options, k=2, candidates=[first, second], by="p_top_k")
    assert len(one) == 2
    again = fitted.compare_items(["u3"], pairs=pairs, n_draws=4000)
    pd.testing.assert_frame_equal(table, again)
    other = fitted.compare_items(["u3"], pairs=pairs, n_draws=4000, seed=1)
    assert other["mean"].iloc[0] != table["mean"].iloc[0]
    assert other["mean"].iloc[0] == pytest.approx(table["mean"].iloc[0], abs=0.2)


def test_abstaining_goes_by_a_stranger_of_both_models(fitted: ExposedInterest) -> None:
    options = {"k": 4, "exclude_seen": False}
    table = fitted.rank(["u3"], **options, abstain=1.0, rank_intervals=True)
    stranger = fitted.rank(["nobody"], **options)
    assert best_first(table) == best_first(stranger)
    np.testing.assert_allclose(table["score"], stranger["score"], rtol=1e-5)
    assert (table["basis"] == "popular").all()
    diverse = fitted.rank(["u3"], **options, by="diverse", looks=1)
    assert best_first(diverse) == best_first(fitted.rank(["u3"], **options))


def test_certainty_of_events_is_of_the_product(fitted: ExposedInterest, log: pd.DataFrame) -> None:
    events = log.iloc[200:]
    table = fitted.score_events(events, k=2, certainty=True, n_draws=1000)
    plain = fitted.score_events(events, k=2, n_draws=1000)
    pd.testing.assert_frame_equal(table.drop(columns=["slate_certainty", "expected_hits"]), plain)
    first = events.iloc[0]
    slate = fitted.rank([first["user_id"]], k=2, at=first["timestamp"], abstain=0.0, n_draws=4000)
    assert set(slate["item_id"]) == set(table["slate"].iloc[0])
    certainty = slate["slate_certainty"].iloc[0]
    assert table["slate_certainty"].iloc[0] == pytest.approx(certainty, abs=0.08)
    assert table["expected_hits"].iloc[0] == pytest.approx(slate["mean"].sum(), rel=0.05)
