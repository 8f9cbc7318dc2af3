"""How sure slates are: ranks with intervals, certainty, and stepping back to a fallback."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata

from bayes_interest.config import EmissionName
from bayes_interest.errors import ConfigError, InputError, ItemError
from bayes_interest.posterior.certainty import slate_certainty
from bayes_interest.ranking.scores import drawn_ranks, top_k_probability
from tests.fitted import FAMILIES, N_ITEMS, model, parts, same

USERS = ["u00001", "u00003", "nobody"]
DRAWS = torch.tensor(
    [[3.0, 2.0, 1.0, 9.0], [1.0, 2.0, 3.0, 9.0], [5.0, 4.0, 1.0, 9.0], [0.0, 1.0, 0.5, 9.0]]
)
ALLOWED = torch.tensor([True, True, True, False])


def test_drawn_ranks_by_hand_and_by_scipy() -> None:
    ranks = drawn_ranks(DRAWS, ALLOWED, torch.tensor([1, 0]))
    assert ranks.tolist() == [[2, 1], [2, 3], [2, 1], [1, 3]]
    draws = torch.randn(13, 11, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    everything = torch.arange(11)
    wanted = rankdata(-draws.numpy(), method="min", axis=1)
    found = drawn_ranks(draws, torch.ones(11, dtype=torch.bool), everything)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("emission", FAMILIES)
def test_expected_ranks_of_all_items_sum_up(emission: EmissionName) -> None:
    table = model(emission).rank(USERS, k=N_ITEMS, exclude_seen=False, rank_intervals=True)
    total = table.groupby("user_id")["expected_rank"].sum()
    np.testing.assert_allclose(total, N_ITEMS * (N_ITEMS + 1) / 2)
    assert (table["rank_lower"] <= table["rank_upper"]).all()
    assert table["expected_rank"].between(1, N_ITEMS).all()
    assert table["rank_lower"].between(1, N_ITEMS).all()
    assert table["rank_lower"].dtype == np.int64


def test_rank_intervals_hold_their_mass_and_widen_with_prob() -> None:
    door = model("bernoulli")
    ask = {"users": ["u00001"], "k": 3, "exclude_seen": False, "n_draws": 500}
    wide, narrow = (
        door.rank(**ask, prob=prob, rank_intervals=True)  # type: ignore[arg-type]
        for prob in (0.9, 0.5)
    )
    widths = [table["rank_upper"] - table["rank_lower"] for table in (wide, narrow)]
    assert (widths[0] >= widths[1]).all()
    assert widths[0].sum() > widths[1].sum()
    plain = door.rank(**ask)  # type: ignore[arg-type]
    same(wide[plain.columns], plain)
    # p_top_k is the share of draws with a rank up to k: what is surely in has an upper rank there.
    sure = wide["p_top_k"] > 0.95
    assert (wide["rank_upper"] <= 3)[sure].all()


def test_slate_certainty_by_hand() -> None:
    masked = DRAWS.masked_fill(~ALLOWED, -torch.inf)
    # p_top_1 is 0.5, 0.25, 0.25; p_top_2 is 0.5, 1, 0.5 (see test_scores).
    assert slate_certainty(masked, torch.tensor([0]), 1).item() == 0.5
    assert slate_certainty(masked, torch.tensor([1, 0]), 2).item() == 0.75
    assert slate_certainty(masked, torch.tensor([1, 0, 2, -1]), 4).item() == 1.0
    assert slate_certainty(masked, torch.tensor([-1, -1]), 2).isnan()
    pair = slate_certainty(torch.stack((masked, -DRAWS)), torch.tensor([[0, 1], [3, 0]]), 2)
    assert pair.tolist() == [0.75, (0.0 + 0.5) / 2]


def test_slate_certainty_is_the_mean_of_p_top_k() -> None:
    draws = torch.randn(50, 11, generator=torch.Generator().manual_seed(1))
    allowed = torch.arange(11) != 4
    chance = top_k_probability(draws, allowed, 3)
    slate = torch.tensor([7, 2, 9])
    found = slate_certainty(draws.masked_fill(~allowed, -torch.inf), slate, 3)
    assert found.item() == pytest.approx(chance[slate].double().mean().item())


@pytest.mark.parametrize("emission", FAMILIES)
def test_certainty_is_shown_and_nobody_falls_back_at_zero(emission: EmissionName) -> None:
    door = model(emission)
    table = door.rank(USERS, k=4, abstain=0.0)
    plain = door.rank(USERS, k=4)
    same(table[plain.columns], plain)
    assert (table["basis"] == "own interest").all()
    for _, slate in table.groupby("user_id"):
        wanted = slate["p_top_k"].mean()
        np.testing.assert_allclose(slate["slate_certainty"], wanted, rtol=1e-6)


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_uncertain_get_the_ranking_of_a_stranger(emission: EmissionName) -> None:
    door = model(emission)
    own = door.rank(USERS, k=4, exclude_seen=False, abstain=0.0)
    limit = float(own["slate_certainty"].median()) + 1e-9
    table = door.rank(USERS, k=4, exclude_seen=False, abstain=limit)
    stranger = door.rank(["somebody"], k=4, exclude_seen=False)
    fell = table["slate_certainty"] < limit
    assert 0 < fell.sum() < len(table)
    assert (table["basis"] == np.where(fell, "popular", "own interest")).all()
    for user, slate in table[fell].groupby("user_id"):
        assert slate["item_id"].tolist() == stranger["item_id"].tolist()
        assert slate["score"].tolist() == stranger["score"].tolist()
        certainty = own.loc[own["user_id"] == user, "slate_certainty"]
        assert slate["slate_certainty"].tolist() == certainty.tolist()
    kept = table[~fell].reset_index(drop=True)
    same(kept, own[~fell.to_numpy()].reset_index(drop=True))


def test_what_is_said_of_a_fallback_item_is_the_users_own() -> None:
    door = model("bernoulli")
    table = door.rank(USERS[:1], k=3, exclude_seen=False, abstain=1.0).set_index("item_id")
    own = door.rank(USERS[:1], k=N_ITEMS, exclude_seen=False).set_index("item_id")
    for name in ("mean", "lower", "upper"):
        assert table[name].tolist() == own.loc[table.index, name].tolist()
    assert table["mean"].tolist() != table["score"].tolist()


def test_a_list_as_fallback_leaves_out_what_is_not_allowed() -> None:
    train, _ = parts("bernoulli")
    user = str(train["user_id"].iloc[0])
    seen = train.loc[train["user_id"] == user, "item_id"].iloc[0]
    fresh = [i for i in sorted(train["item_id"].unique())
             if i not in set(train.loc[train["user_id"] == user, "item_id"])][:2]  # fmt: skip
    door = model("bernoulli")
    table = door.rank([user], k=2, abstain=1.0, fallback=[fresh[1], seen, fresh[0], fresh[1]])
    assert table["item_id"].tolist() == [fresh[1], fresh[0]]
    assert (table["basis"] == "list").all()
    assert len(door.rank([user], k=2, abstain=1.0, fallback=[seen])) == 0
    with pytest.raises(ItemError, match=r"item 'ghost' is unknown to the model .*fallback"):
        door.rank([user], abstain=1.0, fallback=["ghost"])


def test_more_is_known_more_is_certain() -> None:
    train, _ = parts("bernoulli")
    user = str(train["user_id"].value_counts().idxmax())
    door = model("bernoulli")
    table = door.rank([user, "nobody"], k=3, exclude_seen=False, abstain=0.0, n_draws=1000)
    certainty = table.groupby("user_id")["slate_certainty"].first()
    assert certainty[user] > certainty["nobody"]


def test_impossible_options_are_named() -> None:
    door = model("bernoulli")
    for abstain in (-0.1, 1.5, "0.5", True):
        with pytest.raises(ConfigError, match=r"abstain=.*: expected the least certainty"):
            door.rank(abstain=abstain)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"fallback='house': expected \"popular\" or a list"):
        door.rank(abstain=0.5, fallback="house")
    empty = door.rank([], abstain=0.5, rank_intervals=True)
    assert empty.columns.tolist()[-5:] == [
        "expected_rank", "rank_lower", "rank_upper", "slate_certainty", "basis",
    ]  # fmt: skip


@pytest.mark.parametrize("emission", FAMILIES)
def test_certainty_of_scored_events(emission: EmissionName) -> None:
    _, test = parts(emission)
    door = model(emission)
    plain = door.score_events(test, k=3)
    table = door.score_events(test, k=3, certainty=True, n_draws=400)
    assert table["slate"].tolist() == plain["slate"].tolist() or emission == "choice"
    assert table["slate_certainty"].between(0, 1).all()
    assert [*table.columns[:-2]] == [*plain.columns]
    # The first event of the log, asked by rank at that moment with nothing absorbed since.
    first = test.iloc[[0]]
    at = first["timestamp"].iloc[0]
    slate = door.rank([first["user_id"].iloc[0]], k=3, at=at, abstain=0.0, n_draws=4000)
    row = table.iloc[0]
    assert set(row["slate"]) == set(slate["item_id"])
    assert row["slate_certainty"] == pytest.approx(slate["slate_certainty"].iloc[0], abs=0.06)
    assert row["expected_hits"] == pytest.approx(slate["mean"].sum(), abs=0.06)
    with pytest.raises(InputError, match=r"certainty=True is of a slate: give its length k="):
        door.score_events(test, certainty=True)


@pytest.mark.parametrize("emission", FAMILIES)
def test_who_has_met_everything_has_no_slate(emission: EmissionName) -> None:
    """And nothing is expected of it."""
    _, test = parts(emission)
    one = test.iloc[[0] * (N_ITEMS + 1)].reset_index(drop=True)
    items = [*model(emission).posterior.vocabulary.items.ids]
    one["item_id"] = [*items, items[0]]
    one["timestamp"] = one["timestamp"] + pd.to_timedelta(np.arange(len(one)), "D")
    last = model(emission).score_events(one, k=3, certainty=True, n_draws=50).iloc[-1]
    assert last["slate"] == []
    assert np.isnan(last["slate_certainty"])
    assert last["expected_hits"] == 0.0
