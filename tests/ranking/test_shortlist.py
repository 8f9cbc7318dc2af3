"""Slates without joint draws: the streamed search gives what the moments of all items give."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.emissions.logistic import scale_mixture
from bayes_interest.errors import ConfigError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.item_widths import item_widths
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import clock, predictors
from bayes_interest.posterior.probability_map import ProbabilityMap, line_map
from bayes_interest.ranking import compiled
from bayes_interest.ranking.moments_slates import Slates, all_slates
from bayes_interest.ranking.scores import POINTS, RankOptions
from bayes_interest.ranking.shortlist import Search, can_stream, stream_slates
from bayes_interest.ranking.user_block import UserBlock, eigenvalue_bounds
from tests.fitted import FAMILIES, N_ITEMS, STATE_DIM, fit, loud, model, parts, same

USERS = ["u00001", "u00003", "nobody"]
COLUMNS = ["user_id", "rank", "item_id", "score", "mean", "sd", "lower", "upper"]
TINY = 2  # users at once
SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")


def options(k: int = 3, by: str = "mean", exclude_seen: bool = True) -> RankOptions:
    return RankOptions(k, by, exclude_seen, 0.9, 0, 0)


def joined(found: list[Slates]) -> tuple[np.ndarray, ...]:
    names = ("row", "item", "score", "interval")
    return tuple(np.concatenate([getattr(one, name) for one in found], -1) for name in names)


def check(
    posterior: Posterior,
    ask: RankOptions,
    at_once: int = 512,
    candidates: np.ndarray | None = None,
) -> None:
    """Both ways give the same items in the same order, and the same numbers to rounding."""
    users = np.arange(len(posterior.vocabulary.users))
    seconds = np.full(len(users), clock(posterior) + 86_400.0)
    items = np.arange(posterior.layout.n_items) if candidates is None else candidates
    assert can_stream(posterior, seconds)
    wanted = joined(list(all_slates(posterior, users, seconds, items, ask)))
    found = joined(list(stream_slates(posterior, users, seconds, items, ask, at_once)))
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[2], wanted[2], rtol=0, atol=3e-6)
    same_item = found[1] == wanted[1]
    # The sd is the root of a difference of near numbers: its square is what rounding leaves alone.
    mine, others = (
        part[3][:, same_item] ** np.array([[1], [2], [1], [1]]) for part in (found, wanted)
    )
    np.testing.assert_allclose(mine, others, rtol=0, atol=3e-6)
    for place in np.flatnonzero(~same_item):  # float32 cannot tell these two apart
        mine = (found[0] == found[0][place]) & (np.abs(wanted[2] - found[2][place]) < 1e-6)
        assert mine.sum() > 1 or place == np.flatnonzero(found[0] == found[0][place])[-1]
    ends = (wanted[2] < 1e-5) | (wanted[2] > 1.0 - 1e-5)  # where it cannot tell any apart
    assert (~same_item & ~ends).sum() <= 0.1 * len(same_item)


def many_items(
    n_items: int, n_users: int, seed: int, *, spread: float, wide: int, twins: bool, bias: float
) -> Posterior:
    """A fitted posterior with a drawn catalogue, drawn states and a drawn log of what was seen."""
    base = model("bernoulli", rates=False).posterior
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    dim, embed = STATE_DIM, base.features.shape[1]
    features = noise(n_items, embed)
    values = base.values | {
        "residual": noise(n_items, dim),
        "offset": noise(n_items),
        "weight": noise(dim, embed),
        "bias": torch.tensor(bias),
    }
    root = spread * noise(n_items, dim + 1, dim + 1)
    root[:wide] *= 20.0
    if twins:  # equal in everything: the earlier comes first
        features[1::2], root[1::2] = features[::2][: n_items // 2], root[::2][: n_items // 2]
        for name in ("residual", "offset"):
            values[name][1::2] = values[name][::2][: n_items // 2]
    half = noise(n_users, dim, dim)
    events = min(40, n_users * n_items)
    ids = type(base.vocabulary.items)
    history = replace(
        base.history.take(rng.integers(0, len(base.history), events)),
        user_index=np.sort(rng.integers(0, n_users, events)),
        item_index=rng.integers(0, n_items, events),
        n_users=n_users,
    )
    return replace(
        base,
        layout=replace(base.layout, n_items=n_items),
        vocabulary=replace(
            base.vocabulary, items=ids(np.arange(n_items)), users=ids(np.arange(n_users))
        ),
        features=features,
        values=values,
        item_cov=root @ root.mT,
        belief=replace(base.belief, mean=2.0 * noise(n_users, dim), cov=half @ half.mT),
        last_seconds=np.full(n_users, clock(base)),
        history=history,
    )


@settings(max_examples=40, deadline=None)
@given(
    n_items=st.integers(1, 400),
    n_users=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.0, 0.05, 0.3, 2.0]),
    wide=st.sampled_from([0, 1, 9]),
    twins=st.booleans(),
    bias=st.sampled_from([-9.0, -3.0, 0.0, 4.0, 20.0]),
    k=st.sampled_from([1, 2, 5, 17, 1000]),
    by=st.sampled_from(POINTS),
    exclude_seen=st.booleans(),
    at_once=st.sampled_from([2, 3, 512]),
)
def test_streamed_slates_are_those_of_all_items(
    n_items: int, n_users: int, seed: int, spread: float, wide: int, twins: bool, bias: float,
    k: int, by: str, exclude_seen: bool, at_once: int,
) -> None:  # fmt: skip
    posterior = many_items(n_items, n_users, seed, spread=spread, wide=wide, twins=twins, bias=bias)
    few = np.sort(np.random.default_rng(seed).permutation(n_items)[: max(1, n_items // 2)])
    for candidates in (None, few):
        check(posterior, options(k, by, exclude_seen), at_once, candidates)


def test_where_more_are_equally_good_than_there_is_room_for(monkeypatch: Any) -> None:
    asked: list[int] = []  # those who got all items
    real = Search._everything

    def counted(search: Search, work: UserBlock, row: int) -> Any:
        asked.append(int(work.rows[row]))
        return real(search, work, row)

    monkeypatch.setattr(Search, "_everything", counted)
    sure = many_items(300, 5, 1, spread=0.01, wide=0, twins=False, bias=60.0)  # all surely engaged
    check(sure, options(2, "mean"), TINY)
    assert sorted(asked) == list(range(5))
    asked.clear()
    check(replace(sure, values=sure.values | {"bias": torch.tensor(0.0)}), options(2, "mean"), TINY)
    assert not asked


def test_few_items_are_looked_at_closely(monkeypatch: Any) -> None:
    """The search leaves most items out; else it would be right and slow."""
    looked: list[int] = []
    real = compiled.closely

    def counted(user: int, some: np.ndarray, *rest: Any) -> None:
        looked.append(len(some))
        real(user, some, *rest)

    monkeypatch.setattr(compiled, "closely", counted)
    monkeypatch.setattr(compiled, "search", compiled.search.py_func)
    many = many_items(2000, 5, 2, spread=0.02, wide=0, twins=False, bias=0.0)
    many = replace(many, belief=replace(many.belief, cov=0.1 * many.belief.cov))
    check(many, options(2, "mean"))
    assert 5 * 2 <= sum(looked) < 500  # of 10,000 pairs


COVARIATES: list[dict[str, Any]] = [
    {},
    {"rates": False},
    {"popularity_days": (1.0, 10.0), "repeats": True, "succession": True, "likeness": True},
    {"dtype": "float64", "succession": True},
]


def weighted(emission: EmissionName, config: dict[str, Any]) -> Posterior:
    """A fitted model whose covariates weigh something; after three epochs they hardly do."""
    posterior = model(emission, **config).posterior
    if not posterior.layout.kinds.names:
        return posterior
    weight = torch.linspace(-1.0, 1.0, len(posterior.layout.kinds.names))
    values = posterior.values | {"covariate_weight": weight.to(posterior.features)}
    return replace(posterior, values=values)


@pytest.mark.parametrize("emission", SCALAR)
@pytest.mark.parametrize("by", POINTS)
@pytest.mark.parametrize("config", COVARIATES)
def test_every_covariate_streams(emission: EmissionName, by: str, config: dict[str, Any]) -> None:
    posterior = weighted(emission, config)
    for exclude_seen in (False, True):
        check(posterior, options(4, by, exclude_seen))
        check(posterior, options(2, by, exclude_seen), TINY)


def test_context_streams() -> None:
    check(loud("bernoulli").posterior, options(), TINY)


@pytest.mark.parametrize(
    "mapped",
    [
        line_map("platt", 0.4, 1.0),
        ProbabilityMap(
            "isotonic", np.array([-1.0, 0.0, 0.5]), np.array([-0.5, -0.499999, 1.0]), 1.0,
            np.zeros((0, 0)),
        ),
    ],
)  # fmt: skip
def test_recalibrated_models_stream(mapped: ProbabilityMap) -> None:
    posterior = many_items(200, 5, 3, spread=0.2, wide=3, twins=True, bias=-1.0)
    for by in POINTS:
        check(replace(posterior, recalibration=mapped), options(5, by), 4)


@pytest.mark.parametrize("emission", SCALAR)
@pytest.mark.parametrize("by", POINTS)
def test_rank_without_draws_is_rank_without_one_column(emission: EmissionName, by: str) -> None:
    door = model(emission)
    plain = door.rank(USERS, k=4, by=by)
    found = door.rank(USERS, k=4, by=by, n_draws=0)
    assert found.columns.tolist() == COLUMNS
    names = ["user_id", "rank", "item_id"]
    same(found[names], plain[names])
    np.testing.assert_allclose(found[COLUMNS[3:]], plain[COLUMNS[3:]], atol=1e-6)
    assert found["score"].tolist() == found[by].tolist()


def test_members_are_ranked_by_their_mixture() -> None:
    door = fit(parts("bernoulli")[0], "bernoulli", FitConfig(
        max_epochs=2, n_members=3, progress=False))  # fmt: skip
    assert len(door.posterior.members) == 3
    found, plain = door.rank(USERS, n_draws=0), door.rank(USERS)
    assert found["item_id"].tolist() == plain["item_id"].tolist()
    np.testing.assert_allclose(found[COLUMNS[3:]], plain[COLUMNS[3:]], atol=1e-6)


def test_the_same_user_twice_and_in_any_order() -> None:
    door = model("bernoulli")
    table = door.rank(["u00003", "u00001", "u00003"], k=2, n_draws=0)
    assert table["user_id"].tolist() == ["u00003"] * 2 + ["u00001"] * 2 + ["u00003"] * 2
    assert table["rank"].tolist() == [1, 2] * 3
    alone = door.rank(["u00003"], k=2, n_draws=0)
    assert table["item_id"].tolist()[:2] == table["item_id"].tolist()[4:]
    assert table["item_id"].tolist()[:2] == alone["item_id"].tolist()


@pytest.mark.parametrize("emission", SCALAR)
def test_nothing_to_show(emission: EmissionName) -> None:
    door = model(emission)
    train, _ = parts(emission)
    user = train["user_id"].iloc[0]
    seen = train.loc[train["user_id"] == user, "item_id"].tolist()
    for table in (door.rank([], n_draws=0), door.rank(USERS, candidates=[], n_draws=0)):
        assert len(table) == 0
        assert table.columns.tolist() == COLUMNS
    table = door.rank([user, "nobody"], candidates=seen, n_draws=0)
    assert set(table["user_id"]) == {"nobody"}
    assert len(door.rank(["nobody"], k=1000, n_draws=0)) == N_ITEMS


def test_what_needs_draws_says_so() -> None:
    door = model("bernoulli")
    asks: list[dict[str, Any]] = [
        {"by": "thompson"}, {"by": "p_top_k"}, {"by": "diverse"}, {"rank_intervals": True},
        {"abstain": 0.5},
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(ConfigError, match=r"n_draws=0 makes no joint draws, and .* needs some"):
            door.rank(USERS, n_draws=0, **ask)
    with pytest.raises(ConfigError, match=r"n_draws=0: probabilities of what is chosen next"):
        model("choice").rank(USERS, n_draws=0)
    with pytest.raises(ConfigError, match=r"n_draws=False: expected a whole number"):
        door.rank(USERS, n_draws=False)


def test_can_stream_knows_what_it_cannot() -> None:
    posterior = model("bernoulli").posterior
    now = clock(posterior)
    assert can_stream(posterior, np.full(3, now))
    assert not can_stream(posterior, np.array([now, now + 1.0]))
    assert not can_stream(model("choice").posterior, np.full(3, now))


@settings(max_examples=100, deadline=None)
@given(
    score=st.floats(1e-6, 1.0 - 1e-6),
    low=st.floats(0.0, 20.0),
    more=st.floats(0.0, 20.0),
    by=st.sampled_from([compiled.MEAN, compiled.LOWER, compiled.UPPER]),
    below=st.floats(0.0, 5.0),
    share=st.floats(0.0, 1.0),
)
def test_no_variance_lifts_a_lesser_mean_to_the_score(
    score: float, low: float, more: float, by: int, below: float, share: float
) -> None:
    scales, weights = scale_mixture(8)
    ask = compiled.Ask(1, by, 1.6, scales**2, weights)
    wanted = score if by == compiled.MEAN else math.log(score / (1.0 - score))
    limit = compiled.least_mean(wanted, low, low + more, ask)
    var = low + share * more
    reached = compiled.bound(limit - below, var, var, ask)
    assert reached <= wanted + 1e-12 * (1.0 + abs(wanted))
    assert compiled.bound(limit - below, low, low + more, ask) >= reached
    near = compiled.bound(limit + 1e-3 * (1.0 + abs(limit)), low, low + more, ask)
    assert near > wanted  # and it is no lower than it must be


def test_average_is_the_mean_of_the_sigmoid() -> None:
    scales, weights = scale_mixture(22)
    draws = np.random.default_rng(0).standard_normal(1_000_000)
    for mean, var in ((0.3, 2.0), (-4.0, 0.5), (2.0, 9.0)):
        wanted = expit(mean + math.sqrt(var) * draws).mean()
        assert compiled.average(mean, var, scales**2, weights) == pytest.approx(wanted, abs=2e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000), st.integers(1, 40))
def test_kth_greatest(size: int, seed: int, k: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, size).astype(np.float64)
    k = min(k, size)
    assert compiled.kth_greatest(values.copy(), k) == np.sort(values)[::-1][k - 1]


@pytest.mark.parametrize("decay", [0.0, 1.0, 8.0])
def test_eigenvalue_bounds_hold(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(13, 11, 11, generator=generator)).Q
    values = torch.exp(-decay * torch.rand(13, 11, generator=generator))
    cov = (q * values[:, None]) @ q.mT
    low, high = eigenvalue_bounds((0.5 * (cov + cov.mT)).numpy())
    least, most = values.min(1).values.numpy(), values.max(1).values.numpy()
    assert (low <= least).all()
    assert (high >= most).all()
    assert (high <= 1.2 * most).all()


@pytest.mark.parametrize("apart", [0.0, 0.05, 1.0])
def test_variances_lie_within_their_bounds(apart: float) -> None:
    posterior = many_items(60, 5, 7, spread=apart, wide=2, twins=False, bias=0.0)
    about = item_widths(posterior.items.vectors, posterior.item_cov)
    seconds = np.full(5, clock(posterior))
    search = Search(posterior, np.arange(5), seconds, np.arange(60), options())
    block = UserBlock.of(search, posterior.belief, np.arange(5))
    extent = np.empty((5, 6))
    block._describe(slice(0, 5), np.empty((5, STATE_DIM + 1, STATE_DIM + 1), np.float32), extent)
    found = predictors(posterior, posterior.belief, torch.zeros(1, 5, 60))
    for user in range(5):
        for item in range(60):
            low, high = compiled.item_range(about[item], extent[user])
            assert low <= found.item_var[user, item] * (1 + 1e-5) + 1e-6
            assert high >= found.item_var[user, item] * (1 - 1e-5) - 1e-6
            low, high = compiled.whole_range(about[item], extent[user])
            assert low <= found.var[user, item] * (1 + 1e-5) + 1e-6
            assert high >= found.var[user, item] * (1 - 1e-5) - 1e-6


def test_the_door_streams(monkeypatch: Any) -> None:
    """What `rank` answers with is the search, not the plain way."""
    from bayes_interest.ranking import slate

    def never(*_: object) -> None:
        raise AssertionError("the plain way was taken")

    monkeypatch.setattr(slate, "all_slates", never)
    door: InterestModel = model("bernoulli")
    assert len(door.rank(USERS, k=2, n_draws=0)) == 6


@pytest.mark.parametrize("emission", FAMILIES)
def test_draws_stay_the_default(emission: EmissionName) -> None:
    assert "p_top_k" in model(emission).rank(USERS[:1])
