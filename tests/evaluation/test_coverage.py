"""Coverage of a known truth: counted by hand, and right for a model that is right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bayes_interest.errors import InputError
from bayes_interest.evaluation.coverage import coverage
from tests.drawn import known
from tests.fitted import model


class Believes:
    """Standard normal intervals about every pair."""

    def interest(self, users, items, at, prob):  # type: ignore[no-untyped-def]
        pairs = [(user, item) for user in users for item in items]
        half = norm.ppf(0.5 + prob / 2.0)
        table = pd.DataFrame(pairs, columns=["user_id", "item_id"])
        return table.assign(lower=-half, upper=half)


def truth(n_users: int = 40, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    pairs = [(f"u{u}", f"i{i}") for u in range(n_users) for i in range(25)]
    table = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    return table.assign(probability=rng.normal(shift, 1.0, len(table)))


def test_shares_are_counted_and_a_wrong_belief_shows() -> None:
    table = coverage(Believes(), truth(), probs=(0.5, 0.9))
    assert table.columns.tolist() == ["prob", "coverage", "lower", "upper", "mean_width", "n"]
    half = norm.ppf([0.75, 0.95])
    inside = [(truth()["probability"].abs() <= h).mean() for h in half]
    np.testing.assert_allclose(table["coverage"], inside)
    np.testing.assert_allclose(table["mean_width"], 2.0 * half)
    assert table["n"].tolist() == [1_000, 1_000]
    assert (table["lower"] <= table["prob"]).all()
    assert (table["prob"] <= table["upper"]).all()
    wrong = coverage(Believes(), truth(shift=1.0))
    assert (wrong["upper"] < wrong["prob"]).all()


def test_a_row_of_truth_in_any_order_is_of_its_own_pair() -> None:
    part = truth().sample(frac=0.3, random_state=2)
    table = coverage(Believes(), part, probs=(0.9,))
    assert table["n"].tolist() == [300]
    inside = (part["probability"].abs() <= norm.ppf(0.95)).mean()
    assert table["coverage"][0] == pytest.approx(inside)


def test_intervals_resample_users_by_the_seed() -> None:
    asked = [coverage(Believes(), truth(), (0.9,), seed=seed)["lower"][0] for seed in (0, 0, 1)]
    assert asked[0] == asked[1] != asked[2]
    assert coverage(Believes(), truth(4), (0.9,))["lower"].isna().all()
    assert coverage(Believes(), truth(), (0.9,), n_boot=0)["lower"].isna().all()


def test_a_model_that_knows_the_globals_covers_the_truth() -> None:
    log, door = known("choice", 45)
    table = coverage(door, log.final_truth, probs=(0.5, 0.9), n_boot=400)
    assert (table["lower"] - 0.03 <= table["prob"]).all()
    assert (table["prob"] <= table["upper"] + 0.03).all()


def test_each_truth_is_of_its_own_moment() -> None:
    door = model("bernoulli")
    asked = [("u00003", "i00001", "2025-01-01"), ("u00004", "i00001", "2030-01-01")]
    rows = pd.DataFrame(asked, columns=["user_id", "item_id", "timestamp"]).assign(probability=0.5)
    mixed = coverage(door, rows, probs=(0.8,))["mean_width"][0]
    alone = [door.interest([u], [i], at=at, prob=0.8).iloc[0] for u, i, at in asked]
    assert mixed == pytest.approx(np.mean([one["upper"] - one["lower"] for one in alone]))
    with pytest.raises(InputError, match="at='2025-01-01', and truth has moments of its own"):
        coverage(door, rows, at="2025-01-01")


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="truth has no column 'probability'"):
        coverage(Believes(), truth().drop(columns="probability"))
    for wrong in (truth().head(0), pd.concat([truth(), truth()])):
        with pytest.raises(InputError, match="one or more rows, one for each pair"):
            coverage(Believes(), wrong)
