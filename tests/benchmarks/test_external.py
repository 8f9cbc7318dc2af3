import numpy as np
import pandas as pd
import pytest

from bayes_interest.baselines import Popularity
from bayes_interest.config import ModelConfig
from bayes_interest.text.hashing import HashingEncoder
from benchmarks.external import Ease, Factors, ItemKNN, LightFMFactors, Linear, Neighbours, met


def log_of(n_users: int, n_items: int, n_events: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pairs = rng.permutation(n_users * n_items)[:n_events]
    return pd.DataFrame(
        {
            "user_id": [f"u{pair // n_items}" for pair in pairs],
            "item_id": [f"i{pair % n_items}" for pair in pairs],
            "timestamp": 1_000_000_000 + 60 * np.arange(n_events),
        }
    )


def timeline_of(frame: pd.DataFrame):
    model = Popularity(ModelConfig(emission="choice"), HashingEncoder()).fit(frame)
    return model.fitted.known.timeline()


@pytest.mark.parametrize(("n_users", "n_items"), [(9, 30), (30, 9)], ids=["by user", "by item"])
def test_ease_is_its_closed_form(n_users, n_items):
    past, ridge = timeline_of(log_of(n_users, n_items)), 5.0
    part = past.in_time_order(np.arange(len(past.history)))[-20:]
    x = met(past).toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    model = Linear.of(past, ridge)
    assert model.by_user == (n_users < n_items)
    wanted = past.own_past(part).toarray() @ weights
    np.testing.assert_allclose(model.scores(past, part), wanted, atol=1e-5)


def test_neighbours_sum_cosines_of_what_was_met():
    past = timeline_of(log_of(12, 15))
    part = past.in_time_order(np.arange(len(past.history)))[-20:]
    x = met(past).toarray().astype(np.float64)
    size = np.sqrt(x.sum(0))
    cosine = x.T @ x / np.outer(size, size)
    np.fill_diagonal(cosine, 0.0)
    wanted = past.own_past(part).toarray() @ cosine
    found = Neighbours.of(past, 0.0, None).scores(past, part)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_last_items_weigh_by_how_late_they_are():
    past = timeline_of(log_of(12, 15))
    part = past.in_time_order(np.arange(len(past.history)))[-5:]
    model = Neighbours.of(past, 0.0, 2)
    similar = model.similar.toarray()
    found = model.scores(past, part)
    for row, event in enumerate(part):
        mine = past.history.item_index[past.start[event] : past.tied_first[event]]
        wanted = sum(w * similar[i] for w, i in zip((1.0, 0.5), mine[::-1], strict=False))
        np.testing.assert_allclose(found[row], wanted, atol=1e-6)


def test_factors_score_a_user_by_the_mean_of_what_was_met():
    past = timeline_of(log_of(12, 15))
    rng = np.random.default_rng(1)
    model = Factors(rng.normal(size=(15, 3)), rng.normal(size=(15, 3)), rng.normal(size=15))
    part = past.in_time_order(np.arange(len(past.history)))[-8:]
    found = model.scores(past, part)
    for row, event in enumerate(part):
        mine = past.history.item_index[past.start[event] : past.tied_first[event]]
        user = model.of_met[mine].mean(0) if len(mine) else np.zeros(3)
        np.testing.assert_allclose(found[row], model.of_shown @ user + model.biases, rtol=1e-5)


@pytest.mark.parametrize("make", [Ease, ItemKNN, LightFMFactors], ids=["ease", "knn", "lightfm"])
def test_new_items_and_users_can_be_scored(make):
    if make is LightFMFactors:
        pytest.importorskip("lightfm", reason="lightfm-next is in benchmarks/requirements.txt")
    frame = log_of(12, 15)
    new = pd.DataFrame(
        {"user_id": ["u0", "x"], "item_id": ["y", "i1"], "timestamp": [1_100_000_000] * 2}
    )
    model = make(ModelConfig(emission="choice"), HashingEncoder()).fit(frame)
    scores = model.score_events(new)
    assert np.isfinite(scores[["mean", "log_prob", "rank"]].to_numpy()).all()
