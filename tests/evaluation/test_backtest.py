"""Backtests of models whose figures are known: an oracle, chance, an honest counter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError, ItemError
from bayes_interest.evaluation.backtest import backtest, score_backtest
from bayes_interest.evaluation.scores import BacktestScores
from bayes_interest.evaluation.summarize import COLUMNS, summarize
from bayes_interest.evaluation.table import evaluate
from bayes_interest.events.read import read_items
from bayes_interest.events.split import split_by_time
from bayes_interest.interest_model import InterestModel
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.evaluation.fakes import Chance, Fake, Oracle, Rates, Silent, make_log
from tests.fitted import encoder, simulation

LOG = make_log()
QUICK: dict[str, Any] = {"progress": False, "n_boot": 0, "fraction": 0.4}


def run(models: Any, events: pd.DataFrame = LOG, **options: Any) -> pd.DataFrame:
    return backtest(models, events, **(QUICK | options))


def value(table: pd.DataFrame, metric: str, k: int | None = None, **where: str) -> pd.Series:
    """The one row of a figure."""
    rows = table[table["metric"] == metric]
    rows = rows[rows["k"].isna() if k is None else (rows["k"] == k).fillna(False)]
    for column, wanted in ({"stratum": "all"} | where).items():
        rows = rows[rows[column] == wanted]
    (row,) = [row for _, row in rows.iterrows()]
    return row


# ------------------------------------------------------------------ known models


@pytest.mark.parametrize("protocol", ["successive", "rolling", "leave_one_out"])
def test_a_fit_is_not_told_of_items_that_come_later(protocol: str) -> None:
    class Listening(Rates):
        told: list[tuple[set[str], set[str], set[str]]] = []  # noqa: RUF012 (of all fits)

        def score_events(self, events: Any, items: Any = None, *more: Any, **others: Any) -> Any:
            given = set(read_items(items).frame["item_id"])
            self.told.append((set(self.train["item_id"]), set(self.items), given))
            return super().score_events(events, items, *more, **others)

    log = LOG.assign(item_id=np.where(LOG.index == LOG.index[-1], "late", LOG["item_id"]))
    items = pd.DataFrame({"item_id": [*log["item_id"].unique(), "unwanted"], "text": ""})
    fraction = None if protocol == "leave_one_out" else 0.4
    run(Listening(), log, items=items, protocol=protocol, fraction=fraction)
    assert Listening.told
    for met, before, later in Listening.told:
        assert "late" not in met
        assert before == met | {"unwanted"}
        assert later == set(items["item_id"])


def test_an_oracle_is_perfect() -> None:
    table = run(Oracle(), k=(1, 10), n_boot=50)
    perfect = ["auc", "auc_per_user", "accuracy", "precision", "recall", "f1", "mrr", "mean_rank"]
    for metric in perfect:
        assert value(table, metric)["value"] == 1.0, metric
    for k in (1, 10):
        for metric in ("ndcg", "hit_rate", "recall"):
            row = value(table, metric, k)
            assert row["value"] == row["lower"] == row["upper"] == 1.0
    for metric in ("log_loss", "brier", "calibration_error"):
        assert value(table, metric)["value"] == pytest.approx(0.0, abs=1e-7)


def test_chance_is_inside_its_intervals() -> None:
    log = make_log(n_events=3000)
    table = run(Chance(), log, n_boot=500, prob=0.98, exclude_seen=False)
    n_items = log["item_id"].nunique()
    expected = {
        ("auc", None): 0.5,
        ("auc_per_user", None): 0.5,
        ("hit_rate", 10): 10 / n_items,
        ("precision", 10): 1 / n_items,
        ("mean_rank", None): (n_items + 1) / 2,
        ("mrr", None): (1 / np.arange(1, n_items + 1)).mean(),
        ("popularity", 10): 0.5,
    }
    for (metric, k), chance in expected.items():
        row = value(table, metric, k)
        assert row["lower"] <= chance <= row["upper"], metric
        assert row["lower"] < row["value"] < row["upper"], metric


def test_an_honest_model_lies_between() -> None:
    table = run({"oracle": Oracle(), "rates": Rates(), "chance": Chance()}, exclude_seen=False)
    for metric, k in (("auc", None), ("ndcg", 10), ("mrr", None)):
        chance, rates, oracle = (
            value(table, metric, k, model=name)["value"] for name in ("chance", "rates", "oracle")
        )
        assert chance < rates < oracle


# ------------------------------------------------------------------ the table


def test_columns_and_order_are_tidy() -> None:
    table = run({"b": Rates(), "a": Chance()}, k=(5, 1, 5), strata="item")
    assert tuple(table.columns) == COLUMNS
    assert table["model"].drop_duplicates().tolist() == ["b", "a"]
    assert table.loc[table["metric"] == "ndcg", "k"].tolist()[:2] == [1, 5]
    assert not table.duplicated(["model", "metric", "k", "stratum"]).any()
    assert table.dtypes[["k", "n"]].astype(str).tolist() == ["Int64", "int64"]
    assert table["lower"].isna().all()  # no draws, no bounds
    assert value(run(Rates()), "auc")["model"] == "bayes_interest"


def test_n_is_what_counts() -> None:
    table = run(Rates())
    _, test = split_by_time(LOG, fraction=0.4)
    liked = int(test.frame["value"].sum())
    assert value(table, "auc")["n"] == value(table, "novelty", 10)["n"] == len(test)
    assert value(table, "ndcg", 10)["n"] == value(table, "recall")["n"] == liked
    outcomes = test.frame.groupby("user_id")["value"].nunique()
    assert value(table, "auc_per_user")["n"] == (outcomes == 2).sum()
    assert value(table, "seconds_per_user")["n"] == test.frame["user_id"].nunique()
    assert value(table, "fit_seconds")["value"] > 0


def test_figures_equal_evaluate_of_the_same_scores() -> None:
    train, test = split_by_time(LOG, fraction=0.4)
    model = Rates().fit(train)
    own = evaluate(model.score_events(test), test, n_boot=100, seed=3)
    table = run(Rates(), n_boot=100, seed=3)
    assert own["metric"].tolist()[:2] == ["log_loss", "auc"]
    for row in own.itertuples():
        other = value(table, row.metric, None if pd.isna(row.k) else int(row.k))
        for column in ("value", "lower", "upper", "n"):
            assert getattr(row, column) == pytest.approx(other[column], abs=1e-12)


def test_strata_partition_the_sums() -> None:
    table = run(Rates(), strata=True)
    for stratum in ("user", "item", "history", "gap", "popularity"):
        rows = table[(table["metric"] == "brier") & table["stratum"].str.startswith(stratum)]
        assert rows["n"].sum() == value(table, "brier")["n"]
        whole = (rows["value"] * rows["n"]).sum() / rows["n"].sum()
        assert whole == pytest.approx(value(table, "brier")["value"])
    parts = table.loc[table["metric"] == "auc", "stratum"].str.split("=").str[0]
    assert parts.drop_duplicates().tolist()[0] == "all"


def test_slates_need_the_option_and_a_model_that_gives_them() -> None:
    slates = {"coverage", "novelty", "popularity", "tail_share"}
    assert slates <= set(run(Rates())["metric"])
    assert not slates & set(run(Rates(), slates=False)["metric"])
    assert not slates & set(run(Silent())["metric"])


def test_diversity_needs_vectors() -> None:
    ids = sorted(LOG["item_id"].unique())
    same = {item: [1.0, 2.0] for item in ids}
    apart = {item: np.eye(len(ids))[i] for i, item in enumerate(ids)}
    assert "diversity" not in set(run(Rates())["metric"])
    assert value(run(Rates(), vectors=same), "diversity", 10)["value"] == pytest.approx(
        0.0, abs=1e-6
    )
    assert value(run(Rates(), vectors=apart), "diversity", 10)["value"] == pytest.approx(1.0)
    model = Rates()
    model.encoder = PrecomputedVectors(np.eye(len(ids)), item_ids=ids)  # type: ignore[attr-defined]
    assert value(run(model), "diversity", 10)["value"] == pytest.approx(1.0)
    with pytest.raises(ItemError, match="must have the same length"):
        run(Rates(), vectors={"i00": [1.0], "i01": [1.0, 2.0]})


def test_texts_give_vectors_through_a_models_encoder() -> None:
    class Letters:
        def encode(self, texts: list[str], *, progress: bool = True) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    model = Rates()
    model.encoder = Letters()  # type: ignore[attr-defined]
    assert "diversity" not in set(run(model)["metric"])
    assert value(run(model, LOG.assign(text=LOG["item_id"])), "diversity", 10)["n"] > 0
    items = pd.DataFrame({"item_id": sorted(LOG["item_id"].unique()), "text": "one"})
    table = run(model, items=items)
    assert value(table, "diversity", 10)["value"] == pytest.approx(0.0, abs=1e-6)


# ------------------------------------------------------------------ protocols and options


def test_each_protocol_counts_its_events() -> None:
    _, test = split_by_time(LOG, fraction=0.4)
    users = test.frame["user_id"].nunique()
    assert value(run(Rates()), "auc")["n"] == len(test)
    assert value(run(Rates(), protocol="last"), "auc")["n"] == users
    assert value(run(Rates(), protocol="rolling", n_windows=4), "auc")["n"] == len(test)
    held = run(Rates(), protocol="leave_one_out", fraction=None)
    assert value(held, "auc")["n"] == LOG["user_id"].nunique()


def test_rolling_fits_before_each_window_and_the_others_once() -> None:
    model, config = Rates(), FitConfig(max_epochs=7)
    run(model, protocol="rolling", n_windows=3, config=config)
    assert [size for size, _ in model.fits] == [300, 366, 433]
    assert all(given is config for _, given in model.fits)
    model = Rates()
    run(model)
    assert [size for size, _ in model.fits] == [300]


def test_an_honest_counter_is_the_same_under_rolling_refits() -> None:
    """It absorbs every event exactly, so a refit gives it nothing new."""
    whole, windows = run(Rates()), run(Rates(), protocol="rolling", n_windows=3)
    for metric in ("log_loss", "brier", "auc", "calibration_error"):
        assert value(whole, metric)["value"] == pytest.approx(value(windows, metric)["value"])


def test_unseen_candidates_only_raise_the_hit_rate() -> None:
    unseen, every = run(Rates(), k=3), run(Rates(), k=3, exclude_seen=False)
    assert value(unseen, "hit_rate", 3)["value"] > value(every, "hit_rate", 3)["value"]


def test_the_threshold_decides_which_events_are_positive() -> None:
    stars = LOG.assign(value=np.arange(len(LOG)) % 5 + 1.0)
    assert value(run(Chance(), stars, threshold=4.0), "ndcg", 10)["n"] == 80
    assert value(run(Chance(), stars, threshold=2.0), "ndcg", 10)["n"] == 160
    with pytest.raises(InputError, match=r"threshold=.*5 levels"):
        run(Chance(), stars)
    configured = Chance()
    configured.config = ModelConfig(positive_threshold=4.0)  # type: ignore[attr-defined]
    assert value(run(configured, stars), "ndcg", 10)["n"] == 80
    other = Chance()
    other.config = ModelConfig(positive_threshold=2.0)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"thresholds differ: model 'b' has .*=2, .* from 4 on"):
        run({"a": configured, "b": other}, stars)
    with pytest.raises(InputError, match="thresholds differ: model 'bayes_interest'"):
        run(configured, stars, threshold=3.0)
    other.config = ModelConfig(emission="rating")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"model 'b' is of the rating.*positive_threshold=4\)"):
        run({"a": configured, "b": other}, stars)
    assert not other.fits  # refused before any fit
    other.config = ModelConfig(emission="choice")  # type: ignore[attr-defined]
    assert value(run(other, stars), "ndcg", 10)["n"] == 200


def test_families_are_found_or_said() -> None:
    choices = make_log(binary=False)
    assert set(score_backtest(Rates(), choices, progress=False).runs["emission"]) == {"choice"}
    assert "auc" not in set(run(Rates(), choices)["metric"])
    assert set(score_backtest(Rates(), LOG, progress=False).runs["emission"]) == {"bernoulli"}
    said = run({"a": Rates(), "b": Rates()}, emission={"b": "choice"})
    assert set(said.loc[said["metric"] == "auc", "model"]) == {"a"}
    stars = LOG.assign(value=np.arange(len(LOG)) % 5 + 1.0)
    rated = run(Chance(), stars, threshold=3.0)
    assert "ordinal_log_loss" in set(rated["metric"])
    with pytest.raises(InputError, match="emission='poisson'"):
        run(Rates(), emission="poisson")
    with pytest.raises(InputError, match="no model 'c'"):
        run(Rates(), emission={"c": "choice"})


def test_intervals_are_judged_against_a_known_truth() -> None:
    class Sure(Rates):
        def row(self, event: Any, *rest: Any) -> dict[str, Any]:
            return super().row(event, *rest) | {"lower": 0.2, "upper": 0.5}

    truth = np.where(np.arange(len(LOG)) % 4 == 0, 0.9, 0.3)
    table = run(Sure(), LOG.assign(true_prob=truth))
    assert value(table, "interval_coverage")["value"] == 0.75
    assert value(table, "interval_width")["value"] == pytest.approx(0.3)
    assert "interval_coverage" not in set(run(Sure())["metric"])


# ------------------------------------------------------------------ intervals and differences


def test_the_seed_decides_the_interval_and_more_mass_widens_it() -> None:
    scores = score_backtest(Rates(), LOG, fraction=0.4, progress=False)
    first = summarize(scores, n_boot=200, seed=0)
    pd.testing.assert_frame_equal(first, summarize(scores, n_boot=200, seed=0))
    assert (
        value(first, "auc")["lower"] != value(summarize(scores, n_boot=200, seed=1), "auc")["lower"]
    )
    wide = summarize(scores, n_boot=200, prob=0.99)
    for metric in ("auc", "log_loss", "auc_per_user"):
        narrow, more = value(first, metric), value(wide, metric)
        assert more["lower"] < narrow["lower"] < narrow["value"] < narrow["upper"] < more["upper"]
    assert np.isnan(value(first, "coverage", 10)["lower"])
    assert np.isnan(value(first, "fit_seconds")["lower"])


def test_users_of_one_have_no_interval() -> None:
    table = run(Rates(), LOG.assign(user_id="only"), n_boot=50)
    assert table["lower"].isna().all()
    assert np.isfinite(value(table, "auc")["value"])


def test_differences_are_paired() -> None:
    models = {"a": Rates(), "b": Chance(), "again": Rates()}
    table = run(models, n_boot=300, reference="a", strata="popularity", exclude_seen=False)
    for metric, k in (("ndcg", 10), ("auc", None), ("log_loss", None), ("coverage", 10)):
        pair = value(table, metric, k, model="b - a")
        both = [value(table, metric, k, model=name) for name in "ba"]
        assert pair["value"] == pytest.approx(both[0]["value"] - both[1]["value"])
        same = value(table, metric, k, model="again - a")
        assert same["value"] == 0.0
        if metric != "coverage":
            assert same["lower"] == same["upper"] == 0.0
            assert pair["lower"] < pair["value"] < pair["upper"]
    strata = set(table.loc[table["model"] == "b - a", "stratum"])
    assert strata == {"all", "popularity=head", "popularity=mid", "popularity=tail"}
    assert "a - a" not in set(table["model"])


def test_differences_count_the_events_that_both_predicted() -> None:
    table = run({"a": Rates(), "some": Silent()}, reference="a", n_boot=20)
    pair = value(table, "ndcg", 10, model="some - a")
    alone = value(table, "ndcg", 10, model="some")
    assert pair["n"] == alone["n"] < value(table, "ndcg", 10, model="a")["n"]
    scores = score_backtest(Rates(), LOG, fraction=0.4, progress=False)
    even = ~scores.events["user_id"].str[-1].isin(list("13579")) & scores.events["positive"]
    rank = scores.tables["bayes_interest"]["rank"][even]
    mine = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0).mean()
    assert pair["value"] == pytest.approx(alone["value"] - mine)
    assert "auc" not in set(table.loc[table["model"] == "some - a", "metric"])


def test_probabilities_that_do_not_mean_the_same_are_not_compared() -> None:
    table = run({"a": Rates(), "b": Rates()}, emission={"b": "choice"}, reference="a")
    pair = table[table["model"] == "b - a"]
    assert "ndcg" in set(pair["metric"])
    assert "log_loss" not in set(pair["metric"])


# ------------------------------------------------------------------ scores without models


def test_scores_survive_the_disk(tmp_path: Any) -> None:
    models = {"a/b": Rates(), "some": Silent()}
    vectors = {item: [1.0, float(i)] for i, item in enumerate(sorted(LOG["item_id"].unique()))}
    scores = score_backtest(models, LOG, fraction=0.4, progress=False, vectors=vectors)
    scores.save(tmp_path / "run")
    again = BacktestScores.load(tmp_path / "run")
    options: dict[str, Any] = {"strata": True, "n_boot": 20, "reference": "a/b"}
    pd.testing.assert_frame_equal(summarize(again, **options), summarize(scores, **options))
    assert "2 window" not in repr(again)
    assert "models a/b, some" in repr(again)


def test_runs_on_the_same_events_are_merged_and_paired() -> None:
    first = score_backtest({"a": Rates()}, LOG, fraction=0.4, progress=False)
    second = score_backtest({"b": Chance()}, LOG, fraction=0.4, progress=False)
    joint = run({"a": Rates(), "b": Chance()}, reference="a", n_boot=20)
    merged = summarize(first.merged(second), reference="a", n_boot=20)
    timed = joint["metric"].isin(["fit_seconds", "seconds_per_user"])
    pd.testing.assert_frame_equal(merged[~timed], joint[~timed])
    with pytest.raises(InputError, match="model 'a' is in two"):
        first.merged(first)
    assert list(first.renamed({"a": "z"}).merged(first).tables) == ["z", "a"]
    with pytest.raises(InputError, match="no model 'q'"):
        first.renamed({"q": "z"})
    shorter = score_backtest({"b": Chance()}, LOG, fraction=0.3, progress=False)
    with pytest.raises(InputError, match="200 test events and the other 150"):
        first.merged(shorter)
    flipped = LOG.assign(value=1.0 - LOG["value"])
    other = score_backtest({"b": Chance()}, flipped, fraction=0.4, progress=False)
    with pytest.raises(InputError, match="test event 0 differs in 'positive'"):
        first.merged(other)


def test_tables_of_score_events_are_enough() -> None:
    """Newest first: rows are matched by their position in the source."""
    source = LOG.iloc[::-1].reset_index(drop=True)
    train, test = split_by_time(source, fraction=0.4)
    model = Rates().fit(train)
    scores = BacktestScores.from_tables({"a": model.score_events(test, k=10)}, test, train)
    table = summarize(scores, n_boot=20, strata=True)
    expected = run({"a": Rates()}, source, n_boot=20, strata=True)
    timed = expected["metric"].isin(["fit_seconds", "seconds_per_user"])
    pd.testing.assert_frame_equal(table, expected[~timed].reset_index(drop=True))
    with pytest.raises(InputError, match="model 'a' has 3 scored rows for 200 events"):
        BacktestScores.from_tables({"a": model.score_events(test).iloc[:3]}, test, train)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0: expected a whole number"),
        ({"k": ()}, "k is empty"),
        ({"k": (5, 2.5)}, "k=2.5"),
        ({"prob": 1.0}, "prob=1.0"),
        ({"n_boot": -1}, "n_boot=-1"),
        ({"reference": "ours"}, "reference='ours' is none of the models: bayes_interest"),
        ({"strata": ("age",)}, "strata: 'age'"),
        ({"protocol": "random"}, "protocol='random'"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(Rates(), **options)


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(InputError, match="models is empty"):
        run({})
    with pytest.raises(InputError, match=r"model 'x' \(object\) has no method fit"):
        run({"x": object()})
    with pytest.raises(InputError, match=r"\(the class Rates\) has no method fit"):
        run({"x": Rates})
    with pytest.raises(InputError, match="the name 3 is not a string"):
        run({3: Rates()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="rank"), "no column 'rank'"),
        (lambda t: t.iloc[:-1], "199 rows for 200 events"),
        (lambda t: t.assign(mean=1.5), "mean=1.5 is no probability"),
        (lambda t: t.assign(rank=0), "ranks start at 1"),
        (lambda t: t.assign(log_prob=0.7), "log_prob=0.7 is above 0"),
        (lambda t: t.assign(user_id=t["user_id"].to_numpy()[::-1]), "'user_id' is not that of"),
        (lambda t: t.to_dict(), "must return a DataFrame, got dict"),
        (lambda t: t.assign(slate=[["nobody"]] * len(t)), "unknown item 'nobody'"),
    ],
)
def test_scores_of_something_else_are_named(change: Any, message: str) -> None:
    class Odd(Rates):
        def score_events(self, *args: Any, **more: Any) -> Any:
            return change(super().score_events(*args, **more))

    with pytest.raises(InputError, match=f"model 'odd'.*{message}"):
        run({"odd": Odd()})


def test_the_caller_keeps_its_log_and_models_their_own_class() -> None:
    before, model = LOG.copy(), Rates()
    run(model)
    pd.testing.assert_frame_equal(LOG, before)
    assert isinstance(model, Fake)


def test_the_interest_model_is_a_recommender() -> None:
    """Fitted by the backtest, beside the counter, and judged against the simulation's truth."""
    data = simulation("bernoulli")
    events = data.events.frame.assign(true_prob=data.event_truth["probability"].to_numpy())
    ours = InterestModel(ModelConfig(state_dim=2), encoder("bernoulli"))
    fit = FitConfig(max_epochs=2, holdout=0, progress=False, device="cpu")
    table = run({"ours": ours, "rates": Rates()}, events, config=fit, reference="rates", n_boot=50)
    assert ours.posterior is not None
    metrics = set(table.loc[table["model"] == "ours", "metric"])
    assert {"log_loss", "auc", "interval_coverage", "ndcg"} <= metrics
    assert value(table, "auc", model="ours - rates")["n"] == value(table, "auc", model="rates")["n"]
