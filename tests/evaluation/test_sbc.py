"""Simulation-based calibration: passes the guide that is right, finds out the one that is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.sbc import (
    Design,
    band_level,
    least_probability,
    prior_places,
    sbc,
    sbc_table,
)

SMALL = Design(n_users=10, n_steps=6, n_items=5)  # fewer users are not fitted by compiled loops
QUICK = {"design": SMALL, "n_draws": 7, "sweeps": 12, "progress": False}


def ranks(rank: np.ndarray, n_draws: int = 15) -> pd.DataFrame:
    return pd.DataFrame(
        {"run": range(len(rank)), "quantity": "some", "rank": rank, "n_draws": n_draws}
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_two_hundred_worlds(seed: int) -> None:
    """A hundred of them each; 14 quantities twice, so the band is that of 1 in 1,000."""
    table = sbc_table(sbc(100, seed=seed, **QUICK), prob=0.999)  # type: ignore[arg-type]
    assert len(table) == 14
    assert (table["n"] > 75).all()
    assert table["inside"].all(), table[~table["inside"]]


def test_worlds_of_choices() -> None:
    options = QUICK | {"design": replace(SMALL, emission="choice", n_users=8)}
    table = sbc_table(sbc(40, **options), prob=0.999)  # type: ignore[arg-type]
    assert {"interest, rarest item", "residual, rarest item"} < set(table["quantity"])
    assert len(table) == 14
    assert table["inside"].all(), table[~table["inside"]]


def test_a_guide_without_correlation_along_time_is_found_out() -> None:
    table = sbc_table(sbc(60, guide="factorised", **QUICK))  # type: ignore[arg-type]
    outside = set(table.loc[~table["inside"], "quantity"])
    assert {"state, first step", "state, middle step", "state, last step"} & outside
    assert "drift scale 1" not in outside  # the globals are those of the right guide


def test_the_least_probability_by_hand() -> None:
    rank, n_draws = np.array([[0, 0, 1, 3, 2, 0]]), 3
    tails = []
    for value in range(n_draws):
        below, chance = int((rank <= value).sum()), (value + 1) / (n_draws + 1)
        less, more = (binomtest(below, 6, chance, side).pvalue for side in ("less", "greater"))
        tails.append(2.0 * min(less, more))
    assert least_probability(rank, n_draws)[0] == pytest.approx(min(tails))


def test_uniform_ranks_lie_inside_as_often_as_promised() -> None:
    rng, limit = np.random.default_rng(3), band_level(100, 15, 0.9)
    uniform = rng.integers(0, 16, (2_000, 100))
    assert (least_probability(uniform, 15) >= limit).mean() == pytest.approx(0.9, abs=0.03)
    assert band_level(100, 15, 0.99) < limit


@pytest.mark.parametrize(
    ("wrong", "column", "sign"),
    [
        (lambda rng: np.minimum(rng.integers(0, 16, 300), rng.integers(0, 16, 300)), "mean", -1),
        (lambda rng: rng.choice([0, 15, 7, 8], 300, p=[0.4, 0.4, 0.1, 0.1]), "spread", 1),
        (lambda rng: rng.integers(5, 11, 300), "spread", -1),
    ],
    ids=["too low", "too sure", "too unsure"],
)
def test_wrong_ranks_are_named(wrong: object, column: str, sign: int) -> None:
    row = sbc_table(ranks(wrong(np.random.default_rng(0)))).iloc[0]  # type: ignore[operator]
    assert not row["inside"]
    uniform = {"mean": 0.5, "spread": 1.0}[column]
    assert np.sign(row[column] - uniform) == sign
    right = sbc_table(ranks(np.random.default_rng(0).integers(0, 16, 300))).iloc[0]
    assert right["inside"]


def test_places_in_the_prior_are_those_of_the_same_truths() -> None:
    found = prior_places(30, SMALL, n_others=50)
    assert set(found.index) >= set(sbc(1, **QUICK)["quantity"])  # type: ignore[arg-type]
    truth = []
    for run in range(80):
        world = SMALL.world(int(np.random.SeedSequence((0, run)).generate_state(2)[0]))
        truth.append(float(world.values["log_drift"][0]))
    below = [np.mean([other < own for other in truth[30:]]) for own in truth[:30]]
    assert found["drift scale 1"] == pytest.approx(np.mean(below))
    assert found.between(0.3, 0.7).all()
    assert not prior_places(30, SMALL, seed=1, n_others=50).equals(found)


def test_finished_runs_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "ranks.csv"
    first = sbc(2, file=file, **QUICK)  # type: ignore[arg-type]
    kept = file.read_text()
    both = sbc(3, file=file, **QUICK)  # type: ignore[arg-type]
    assert file.read_text().startswith(kept)
    pd.testing.assert_frame_equal(both, sbc(3, **QUICK))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(first, both[both["run"] < 2])
    with pytest.raises(InputError, match="another seed than 1: delete it"):
        sbc(2, seed=1, file=file, **QUICK)  # type: ignore[arg-type]


def test_seed_family_and_workers() -> None:
    one = sbc(2, **QUICK)  # type: ignore[arg-type]
    assert not one.equals(sbc(2, seed=1, **QUICK))  # type: ignore[arg-type]
    shared = sbc(2, workers=2, **QUICK)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(one[["run", "quantity"]], shared[["run", "quantity"]])
    assert shared["rank"].between(0, 7).all()
    rating = sbc(1, **QUICK | {"design": Design("rating", n_users=5, n_steps=4, n_items=4)})
    assert rating["rank"].between(0, 7).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": "mean-field"}, "expected one of smoother, factorised"),
        ({"n_runs": 0}, "expected n_runs"),
        ({"sweeps": -1}, "sweeps >= 0"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sbc(**QUICK | {"n_runs": 1} | options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected one of bernoulli, rating, choice"):
        Design("gaussian")
    with pytest.raises(ConfigError, match="not for choice"):
        sbc(1, Design("choice"), guide="factorised")
