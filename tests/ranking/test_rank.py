"""Slates: what they hold, what they are sorted by, and what each option does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError, InputError, TimeOrderError
from tests.fitted import FAMILIES, N_ITEMS, model, numbers, parts, same

COLUMNS = ["user_id", "rank", "item_id", "score", "mean", "sd", "lower", "upper", "p_top_k"]
BY = ("mean", "lower", "upper", "thompson", "p_top_k")
USERS = ["u00001", "u00003", "nobody"]


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("by", BY)
def test_a_slate_is_sorted_by_its_score_from_rank_one(emission: EmissionName, by: str) -> None:
    table = model(emission).rank(USERS, k=4, by=by, exclude_seen=False)
    assert table.columns.tolist() == COLUMNS
    assert table["user_id"].tolist() == [user for user in USERS for _ in range(4)]
    for _, slate in table.groupby("user_id"):
        assert slate["rank"].tolist() == [1, 2, 3, 4]
        assert slate["score"].is_monotonic_decreasing
        assert slate["item_id"].is_unique


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("by", ["mean", "lower", "upper", "p_top_k"])
def test_the_score_is_what_by_says(emission: EmissionName, by: str) -> None:
    table = model(emission).rank(USERS, k=4, by=by, exclude_seen=False)
    assert table["score"].tolist() == table[by].tolist()
    # The best k of all by that column, in any order of equals.
    everything = model(emission).rank(USERS, k=N_ITEMS, by=by, exclude_seen=False)
    if by == "p_top_k":  # it depends on k
        return
    for user, slate in table.groupby("user_id"):
        best = everything.loc[everything["user_id"] == user, by].nlargest(4)
        assert slate["score"].tolist() == best.tolist()


@pytest.mark.parametrize("emission", FAMILIES)
def test_by_changes_the_order(emission: EmissionName) -> None:
    door = model(emission)
    orders = {
        by: tuple(door.rank(k=N_ITEMS, by=by, exclude_seen=False)["item_id"]) for by in BY[:4]
    }
    assert len(set(orders.values())) == 4
    few = door.rank(k=3, by="p_top_k", exclude_seen=False)["item_id"].tolist()
    assert few != door.rank(k=3, by="mean", exclude_seen=False)["item_id"].tolist()


@pytest.mark.parametrize("emission", FAMILIES)
def test_careful_scores_lie_below_curious_ones(emission: EmissionName) -> None:
    door = model(emission)
    tables = [
        door.rank(k=N_ITEMS, by=by, exclude_seen=False).sort_values(["user_id", "item_id"])
        for by in ("lower", "mean", "upper")
    ]
    lower, mean, upper = (table["score"].to_numpy() for table in tables)
    assert (lower < mean).all()
    assert (mean < upper).all()


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_a_slate_says_what_interest_says(emission: EmissionName) -> None:
    door = model(emission)
    slate = door.rank(USERS[:1], k=N_ITEMS, exclude_seen=False).sort_values("item_id")
    table = door.interest(USERS[:1]).sort_values("item_id")
    np.testing.assert_array_equal(numbers(slate), numbers(table))


def test_choices_among_all_items_are_those_of_interest_up_to_the_draws() -> None:
    door = model("choice")
    slate = door.rank(USERS[:1], k=N_ITEMS, exclude_seen=False, n_draws=4000, seed=3)
    table = door.interest(USERS[:1], n_draws=4000).set_index("item_id").loc[slate["item_id"]]
    np.testing.assert_allclose(slate["mean"], table["mean"], atol=0.02)
    np.testing.assert_allclose(slate["sd"], table["sd"], atol=0.02)


def test_choice_probabilities_are_among_the_candidates_allowed() -> None:
    door = model("choice")
    few = ["i00001", "i00002", "i00005"]
    for candidates in (None, few):
        for exclude_seen in (False, True):
            table = door.rank(
                USERS, N_ITEMS, candidates=candidates, exclude_seen=exclude_seen, n_draws=50
            )
            np.testing.assert_allclose(table.groupby("user_id")["mean"].sum(), 1.0, atol=1e-5)


@pytest.mark.parametrize("emission", FAMILIES)
def test_p_top_k_sums_to_k(emission: EmissionName) -> None:
    for k in (1, 3, N_ITEMS):
        table = model(emission).rank(USERS, k=N_ITEMS, by="p_top_k", exclude_seen=False)
        assert table["p_top_k"].between(0, 1).all()
        np.testing.assert_allclose(table.groupby("user_id")["p_top_k"].sum(), N_ITEMS)
        slate = model(emission).rank(USERS, k=k, by="p_top_k", exclude_seen=False)
        assert (slate.groupby("user_id")["p_top_k"].sum() <= k + 1e-6).all()


@pytest.mark.parametrize("emission", FAMILIES)
def test_more_places_than_items(emission: EmissionName) -> None:
    door = model(emission)
    table = door.rank(USERS, k=1000, exclude_seen=False)
    assert len(table) == 3 * N_ITEMS
    train, _ = parts(emission)
    fewer = door.rank(USERS, k=1000)
    for user, slate in fewer.groupby("user_id"):
        seen = set(train.loc[train["user_id"] == user, "item_id"])
        assert len(slate) == N_ITEMS - len(seen)
        assert not set(slate["item_id"]) & seen


def test_updates_count_as_seen() -> None:
    _, test = parts("choice")
    door = model("choice")
    event = test[-1:]
    user, item = event["user_id"].iloc[0], event["item_id"].iloc[0]
    seen = set(parts("choice")[0].query("user_id == @user")["item_id"])
    assert (item in set(door.rank([user], k=99)["item_id"])) == (item not in seen)
    door.update(event)
    assert item not in set(door.rank([user], k=99)["item_id"])


@pytest.mark.parametrize("emission", FAMILIES)
def test_candidates_limit_the_slate(emission: EmissionName) -> None:
    door = model(emission)
    few = ["i00002", "i00001", "i00002"]
    table = door.rank(USERS, k=5, candidates=few, exclude_seen=False)
    assert len(table) == 6
    assert set(table["item_id"]) == set(few)


@pytest.mark.parametrize("emission", FAMILIES)
def test_no_candidates_no_slate(emission: EmissionName) -> None:
    door = model(emission)
    for table in (door.rank(USERS, candidates=[]), door.rank([], k=3)):
        assert len(table) == 0
        assert table.columns.tolist() == COLUMNS


def test_a_user_who_has_seen_every_candidate_has_no_rows() -> None:
    train, _ = parts("bernoulli")
    user = train["user_id"].iloc[0]
    seen = train.loc[train["user_id"] == user, "item_id"].tolist()
    table = model("bernoulli").rank([user, "nobody"], candidates=seen)
    assert set(table["user_id"]) == {"nobody"}


@pytest.mark.parametrize("emission", FAMILIES)
def test_unknown_users_share_the_priors_slate(emission: EmissionName) -> None:
    table = model(emission).rank(["nobody", "nobody else"], k=5)
    first, second = (part.drop(columns="user_id").reset_index(drop=True)
                     for _, part in table.groupby("user_id"))  # fmt: skip
    same(first, second)


@pytest.mark.parametrize("emission", FAMILIES)
def test_thompson_follows_the_seed(emission: EmissionName) -> None:
    door = model(emission)
    first, again = (door.rank(USERS, k=5, by="thompson", seed=4) for _ in range(2))
    same(first, again)
    slates = {
        tuple(door.rank(USERS, k=5, by="thompson", seed=seed)["item_id"]) for seed in range(9)
    }
    assert len(slates) > 4


@pytest.mark.parametrize("emission", FAMILIES)
def test_exploration_leads_from_the_mean_to_the_draw(emission: EmissionName) -> None:
    door = model(emission)
    ask = {"k": 5, "by": "thompson", "n_draws": 4000}
    by_mean = door.rank(USERS, k=5, n_draws=4000).set_index(["user_id", "item_id"])
    still = door.rank(USERS, **ask, exploration=0.0).set_index(["user_id", "item_id"])
    both = still.join(by_mean["mean"].rename("exact"), how="inner")
    np.testing.assert_allclose(both["score"], both["exact"], atol=0.02)
    drawn = [
        [door.rank(USERS, **ask, seed=s, exploration=share) for s in range(5)]
        for share in (0.0, 1.0)
    ]
    assert len({tuple(slate["item_id"]) for slate in drawn[1]}) == 5
    scores = [[slate.groupby("user_id")["score"].max() for slate in some] for some in drawn]
    by_mean, by_draw = (pd.concat(some, axis=1).std(axis=1) for some in scores)
    assert (5.0 * by_mean < by_draw).all()  # 4,000 draws, and one
    with pytest.raises(ConfigError, match=r'exploration=0.5: needs by="thompson", got by=.mean.'):
        door.rank(USERS, exploration=0.5)


def test_thompson_shows_an_item_first_as_often_as_it_is_best() -> None:
    door = model("bernoulli")
    chance = door.rank(["nobody"], k=1, by="p_top_k", n_draws=4000)
    first = [
        door.rank(["nobody"], k=1, by="thompson", n_draws=3, seed=seed)["item_id"].iloc[0]
        for seed in range(150)
    ]
    share = np.mean([item == chance["item_id"].iloc[0] for item in first])
    assert share == pytest.approx(chance["p_top_k"].iloc[0], abs=0.13)


@pytest.mark.parametrize("emission", FAMILIES)
def test_prob_widens_the_intervals(emission: EmissionName) -> None:
    tables = [
        model(emission).rank(USERS, k=N_ITEMS, prob=prob, exclude_seen=False) for prob in (0.5, 0.9)
    ]
    narrow, wide = (table.sort_values(["user_id", "item_id"]) for table in tables)
    assert (wide["lower"].to_numpy() < narrow["lower"].to_numpy()).all()
    assert (wide["upper"].to_numpy() > narrow["upper"].to_numpy()).all()


def test_n_draws_sets_the_steps_of_p_top_k() -> None:
    coarse = model("bernoulli").rank(USERS, n_draws=8)["p_top_k"] * 8
    np.testing.assert_allclose(coarse, coarse.round())
    fine = model("bernoulli").rank(USERS, k=3, n_draws=500)["p_top_k"] * 8
    assert np.abs(fine - fine.round()).max() > 0.01


def test_at_widens_the_intervals() -> None:
    door = model("bernoulli")
    soon, late = (
        door.rank(USERS[:1], k=N_ITEMS, at=at, exclude_seen=False).sort_values("item_id")
        for at in (None, "2025-01-01")
    )
    assert late["sd"].mean() > soon["sd"].mean()
    with pytest.raises(TimeOrderError, match=r"lies before the last absorbed event of user"):
        door.rank(USERS[:1], at="2023-11-20")


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_user_alone_gets_the_slate_of_the_crowd(emission: EmissionName) -> None:
    door = model(emission)
    crowd = door.rank(k=3)
    users = crowd["user_id"].unique()
    backwards = door.rank(users[::-1].tolist(), k=3)
    for user in (users[0], users[-1]):
        alone = door.rank([user], k=3)
        for table in (crowd, backwards):
            same(table[table["user_id"] == user].reset_index(drop=True), alone)


def test_impossible_arguments_are_named() -> None:
    door = model("bernoulli")
    with pytest.raises(ConfigError, match=r"by='best': expected one of mean, lower, upper"):
        door.rank(by="best")
    for k in (0, -1, 2.5, True, "3"):
        with pytest.raises(ConfigError, match=r"k=.*: expected a whole number of places"):
            door.rank(k=k)  # type: ignore[arg-type]
    for seed in (-1, 0.5, None):
        with pytest.raises(ConfigError, match=r"seed=.*: expected a whole number >= 0"):
            door.rank(seed=seed)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"n_draws=1: expected a whole number, at least 2"):
        door.rank(n_draws=1)
    with pytest.raises(InputError, match=r"prob=90: expected the mass of the interval"):
        door.rank(prob=90)
    with pytest.raises(InputError, match=r"candidates='i00001': expected a list"):
        door.rank(candidates="i00001")
    same(door.rank(USERS, k=np.int64(3)), door.rank(USERS, k=3))  # type: ignore[arg-type]


def test_ids_keep_their_type() -> None:
    table = model("bernoulli").rank(USERS, k=2)
    assert isinstance(table["item_id"].iloc[0], str)
    assert pd.api.types.is_integer_dtype(table["rank"])
