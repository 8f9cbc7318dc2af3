"""Slates with joint draws, found by compiled loops: what the draws of all items give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_interest.config import EmissionName
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import clock
from bayes_interest.posterior.probability_map import line_map
from bayes_interest.ranking import compiled_draws, shortlist, slate
from bayes_interest.ranking.fallback import Stranger
from bayes_interest.ranking.scores import RankOptions
from tests.fitted import N_ITEMS, loud, model, parts, same
from tests.ranking.test_shortlist import COVARIATES, SCALAR, many_items, weighted

BY = ("mean", "lower", "upper", "p_top_k", "thompson")
USERS = ["u00001", "u00003", "nobody"]
N_DRAWS = 50
NUMBERS = ["mean", "sd", "lower", "upper"]


def both_ways(
    posterior: Posterior, options: RankOptions, candidates: np.ndarray | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Slates of everybody by the compiled loops, and by every draw of every item."""
    users = np.arange(len(posterior.vocabulary.users))
    seconds = np.full(len(users), clock(posterior) + 86_400.0)
    items = np.arange(posterior.layout.n_items) if candidates is None else candidates
    other = None if options.abstain is None else Stranger(posterior, seconds, options, None)
    asked = posterior, users, seconds, items, options, other
    found = slate.rank_users(*asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slate, "_streams", lambda *_: False)
        wanted = slate.rank_users(*asked)
    return found, wanted


def check(
    posterior: Posterior, options: RankOptions, candidates: np.ndarray | None = None
) -> pd.DataFrame:
    """Both ways give the same slates, and the same share of draws but for what rounding turns."""
    found, wanted = both_ways(posterior, options, candidates)
    assert found.columns.tolist() == wanted.columns.tolist()
    same(found[["user_id", "rank"]], wanted[["user_id", "rank"]])
    equal = (found["item_id"] == wanted["item_id"]).to_numpy()
    slack = 1e-5 + 2.0 / options.n_draws * (options.by == "p_top_k")
    assert (found["score"] - wanted["score"]).abs().max() < slack
    assert equal.mean() > 0.9
    same(found.loc[equal, NUMBERS], wanted.loc[equal, NUMBERS])  # to the last bit
    apart = (found["p_top_k"] - wanted["p_top_k"])[equal].abs()
    assert apart.max() < 2.5 / options.n_draws
    assert (apart > 0).mean() < 0.02
    return found


@settings(max_examples=40, deadline=None)
@given(
    n_items=st.integers(2, 1200),
    n_users=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.05, 0.3, 2.0]),
    wide=st.sampled_from([0, 1, 9]),
    k=st.sampled_from([1, 2, 5, 17, 2000]),
    by=st.sampled_from(BY),
    exclude_seen=st.booleans(),
    n_draws=st.sampled_from([2, 20, 50]),
)
def test_slates_are_those_of_all_draws(
    n_items: int, n_users: int, seed: int, spread: float, wide: int, k: int, by: str,
    exclude_seen: bool, n_draws: int,
) -> None:  # fmt: skip
    posterior = many_items(n_items, n_users, seed, spread=spread, wide=wide, twins=False, bias=0.0)
    few = np.sort(np.random.default_rng(seed).permutation(n_items)[: max(1, n_items // 2)])
    for candidates in (None, few):
        options = RankOptions(k, by, exclude_seen, 0.9, n_draws, seed)
        found, wanted = both_ways(posterior, options, candidates)
        same(found[["user_id", "rank"]], wanted[["user_id", "rank"]])
        if not len(found):
            continue
        tables = [one.set_index(["user_id", "item_id"])["p_top_k"] for one in (found, wanted)]
        one, two = tables[0].align(tables[1], join="inner")
        slack = 1e-5 + 1.01 / n_draws * (by == "p_top_k")  # a draw whose k-th is near the next
        assert (found["score"] - wanted["score"]).abs().max() <= slack
        assert ((one - two).abs() > 1e-9).sum() <= 0.02 * len(one) + 2.0


@pytest.mark.parametrize("emission", SCALAR)
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("config", COVARIATES)
def test_every_covariate_is_drawn(emission: EmissionName, by: str, config: dict[str, Any]) -> None:
    posterior = weighted(emission, config)
    for exclude_seen in (False, True):
        check(posterior, RankOptions(4, by, exclude_seen, 0.8, N_DRAWS, 7))


@pytest.mark.parametrize("by", BY)
def test_recalibrated_and_with_context(by: str) -> None:
    options = RankOptions(3, by, True, 0.9, N_DRAWS, 0)
    check(loud("bernoulli").posterior, options)
    posterior = many_items(200, 5, 3, spread=0.2, wide=3, twins=False, bias=-1.0)
    belief = posterior.belief  # probabilities that float32 can tell from one
    belief = replace(belief, mean=0.3 * belief.mean, cov=0.1 * belief.cov)
    mapped = line_map("platt", 0.4, 1.0)
    check(replace(posterior, belief=belief, recalibration=mapped), options)


@pytest.mark.parametrize("by", BY)
def test_rank_intervals_and_abstaining_are_those_of_all_draws(by: str) -> None:
    posterior = many_items(200, 6, 4, spread=0.2, wide=3, twins=False, bias=-1.0)
    options = RankOptions(4, by, True, 0.9, N_DRAWS, 0, rank_intervals=True, abstain=0.0)
    own = check(posterior, options)
    limit = float(own["slate_certainty"].median()) + 1e-9
    found, wanted = both_ways(posterior, replace(options, abstain=limit))
    assert set(found["basis"]) == {"popular", "own interest"}
    for name in ("user_id", "rank", "item_id", "basis", "expected_rank", "rank_lower"):
        assert found[name].tolist() == wanted[name].tolist()
    np.testing.assert_allclose(found["slate_certainty"], wanted["slate_certainty"], atol=1e-9)


def test_what_was_seen_elsewhere_hides_no_candidate() -> None:
    train, _ = parts("bernoulli")
    user = train["user_id"].iloc[0]
    seen = set(train.loc[train["user_id"] == user, "item_id"])
    fresh = sorted(set(train["item_id"]) - seen)
    table = model("bernoulli").rank([user], k=N_ITEMS, candidates=fresh)
    assert set(table["item_id"]) == set(fresh)
    assert table["p_top_k"].tolist() == [1.0] * len(fresh)


@pytest.mark.parametrize("by", BY)
def test_bits_do_not_depend_on_who_else_is_asked(by: str, monkeypatch: Any) -> None:
    door = model("bernoulli")
    users = [f"u{number:05d}" for number in range(1, 12)]
    table = door.rank(users, k=3, by=by)
    monkeypatch.setattr(shortlist, "MOST_DRAWN", 3 * 200 * 2)  # two users at a time
    same(door.rank(users, k=3, by=by), table)
    alone = pd.concat([door.rank([user], k=3, by=by) for user in users[::-1]])
    order = alone.sort_values(["user_id", "rank"]).reset_index(drop=True)
    same(order, table.sort_values(["user_id", "rank"]).reset_index(drop=True))


def test_few_sds_are_computed(monkeypatch: Any) -> None:
    """The bounds leave most items out; else it would be right and slow."""
    looked: list[int] = []
    real = compiled_draws.put

    def counted(
        base: np.ndarray, begin: int, noise: np.ndarray, sd: np.ndarray, known: np.ndarray,
        *rest: Any,
    ) -> None:  # fmt: skip
        before = known.sum()
        real(base, begin, noise, sd, known, *rest)
        looked.append(int(known.sum() - before))

    monkeypatch.setattr(compiled_draws, "put", counted)
    posterior = many_items(4000, 5, 2, spread=0.02, wide=0, twins=False, bias=0.0)
    check(posterior, RankOptions(2, "mean", True, 0.9, N_DRAWS, 0))
    assert 5 * 2 <= sum(looked) < 1_000  # of 20,000 pairs


def test_draws_and_seed_count() -> None:
    door = model("bernoulli")
    plain = door.rank(USERS, k=3)
    assert not plain["p_top_k"].equals(door.rank(USERS, k=3, seed=1)["p_top_k"])
    assert not plain["p_top_k"].equals(door.rank(USERS, k=3, n_draws=37)["p_top_k"])
    few = door.rank(USERS, k=3, n_draws=2)["p_top_k"]
    assert set(few) <= {0.0, 0.5, 1.0}
