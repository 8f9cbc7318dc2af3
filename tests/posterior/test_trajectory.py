"""Smoothed interest over time: against a grid, against the filter at the end, and the calendar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.errors import InputError, ItemError
from bayes_interest.posterior import trajectory
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.trajectory import smoothed_beliefs
from bayes_interest.schema import SECONDS_PER_DAY
from tests.fitted import FAMILIES, model, numbers, parts, same

GRID = np.linspace(-6.0, 6.0, 601)


def busiest(emission: EmissionName) -> str:
    return str(parts(emission)[0]["user_id"].value_counts().sort_index().idxmax())


def quietest(emission: EmissionName) -> str:
    return str(parts(emission)[0]["user_id"].value_counts().sort_index().idxmin())


def grid_smoother(posterior: Posterior, user: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact smoothed mean and variance of a one-dimensional state, by forward and backward sums."""
    own = posterior.history.take(posterior.history.user_index == user)
    vectors = posterior.items.vectors[:, 0].numpy()[own.item_index]
    offsets = posterior.items.offsets.numpy()[own.item_index]
    predictor = vectors[:, None] * GRID + offsets[:, None]
    sign = np.where(own.outcome == 1.0, 1.0, -1.0)[:, None]
    likelihood = 1.0 / (1.0 + np.exp(-sign * predictor))
    variance = (
        np.diff(own.seconds) / SECONDS_PER_DAY * float(posterior.values["log_drift"].exp()) ** 2
    )
    kernels = [np.exp(-0.5 * (GRID[:, None] - GRID) ** 2 / var) for var in variance]
    kernels = [kernel / kernel.sum(1, keepdims=True) for kernel in kernels]
    forward = [np.exp(-0.5 * GRID**2) * likelihood[0]]
    for kernel, now in zip(kernels, likelihood[1:], strict=True):
        forward.append((forward[-1] / forward[-1].sum()) @ kernel * now)
    backward = [np.ones_like(GRID)]
    for kernel, now in zip(reversed(kernels), likelihood[:0:-1], strict=True):
        message = kernel @ (backward[0] * now)
        backward.insert(0, message / message.sum())
    smooth = np.array(forward) * np.array(backward)
    smooth /= smooth.sum(1, keepdims=True)
    mean = smooth @ GRID
    return mean, smooth @ GRID**2 - mean**2


@pytest.mark.parametrize("who", [busiest, quietest])
def test_smoothed_states_agree_with_exact_sums_on_a_grid(who: object) -> None:
    # A drift that matters, so that the walk and not only the start is tested.
    posterior = model("bernoulli", state_dim=1, dtype="float64", rates=False).posterior
    steep = torch.full_like(posterior.values["log_drift"], np.log(0.2))
    posterior = replace(posterior, values=posterior.values | {"log_drift": steep})
    user = posterior.vocabulary.users.index_of([who("bernoulli")])[0]  # type: ignore[operator]
    own = posterior.history.take(posterior.history.user_index == user)
    found = smoothed_beliefs(posterior, int(user), own.seconds)
    mean, variance = grid_smoother(posterior, int(user))
    np.testing.assert_allclose(found.mean[:, 0], mean, atol=0.03)
    np.testing.assert_allclose(found.cov[:, 0, 0], variance, rtol=0.05)


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_last_moment_is_close_to_the_present_interest(emission: EmissionName) -> None:
    # The filter sets each site once; the smoother converges all of them, hence the tolerance.
    train, _ = parts(emission)
    # It leaves out what the user alone did: own items, what follows them, what is like them, rates.
    own = ("repeats", "succession", "likeness", "rates")
    door = model(emission, **dict.fromkeys(own, False))
    for user in train["user_id"].unique()[:5]:
        path = door.trajectory([user], None)
        end = path["timestamp"].max()
        assert end == train.loc[train["user_id"] == user, "timestamp"].max()
        last = path[path["timestamp"] == end].set_index("item_id").sort_index()
        present = door.interest([user], at=end).set_index("item_id").sort_index()
        np.testing.assert_allclose(last["mean"], present["mean"], atol=0.02)
        np.testing.assert_allclose(last["sd"], present["sd"], atol=0.04)


@pytest.mark.parametrize("emission", FAMILIES)
def test_later_events_change_what_is_said_of_the_past(emission: EmissionName) -> None:
    _, test = parts(emission)
    user = str(test["user_id"].iloc[0])
    door = model(emission)
    before = door.trajectory([user], None)
    door.update(test)
    after = door.trajectory([user], None)
    both = before.merge(after, on=["user_id", "item_id", "timestamp"])
    assert len(both) == len(before)
    assert (both["mean_x"] - both["mean_y"]).abs().max() > 1e-4
    assert len(after) > len(before)


def test_the_smoother_knows_more_than_the_filter_did() -> None:
    # At a user's first event the past is empty, but all later events speak. Of the states: what is
    # unknown of an item counts for more the farther the state is from nothing.
    door = model("bernoulli")
    told = door.posterior
    door._posterior = replace(told, item_cov=torch.zeros_like(told.item_cov))
    user = busiest("bernoulli")
    path = door.trajectory([user], None)
    first = path[path["timestamp"] == path["timestamp"].min()]
    prior = door.interest(["nobody"], at=path["timestamp"].max())
    # In logits: the sd of a probability is also the smaller the nearer it is to 0 or 1.
    one, other = (width(table.set_index("item_id")) for table in (first, prior))
    assert (one < other[one.index]).all()


def width(table: pd.DataFrame) -> pd.Series:
    """Of the intervals, in logits."""
    bounds = table[["lower", "upper"]]
    logits = np.log(bounds / (1.0 - bounds))
    return logits["upper"] - logits["lower"]


@pytest.mark.parametrize("emission", FAMILIES)
def test_rows_are_users_items_and_the_users_moments(emission: EmissionName) -> None:
    train, _ = parts(emission)
    users, items = train["user_id"].unique()[:2].tolist(), ["i00004", "i00001"]
    path = model(emission).trajectory(users, items)
    for user in users:
        own = path[path["user_id"] == user]
        moments = train.loc[train["user_id"] == user, "timestamp"].drop_duplicates()
        for item in items:
            shown = own.loc[own["item_id"] == item, "timestamp"]
            assert shown.tolist() == moments.tolist()
    assert (path["lower"] <= path["mean"]).all()
    assert (path["mean"] <= path["upper"]).all()
    assert str(path["timestamp"].dt.tz) == "UTC"
    order = ["user_id", "item_id", "timestamp"]
    same(path, path.sort_values(order, ignore_index=True))


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_grid_of_days(emission: EmissionName) -> None:
    train, _ = parts(emission)
    user = busiest(emission)
    own = train.loc[train["user_id"] == user, "timestamp"]
    door = model(emission)
    events = door.trajectory([user], ["i00001"])
    grid = door.trajectory([user], ["i00001"], every_days=7.0)
    steps = grid["timestamp"].diff().dropna()[:-1]
    assert (steps == pd.Timedelta(days=7)).all()
    ends = grid["timestamp"].iloc[[0, -1]].tolist()
    assert ends == [own.min(), own.max()]
    # Looking at more moments changes nothing at those already looked at.
    for row in (0, -1):
        np.testing.assert_allclose(numbers(grid)[row], numbers(events)[row], atol=1e-4)


def test_between_two_events_the_state_is_a_bridge() -> None:
    posterior = model("bernoulli", dtype="float64").posterior
    user = int(posterior.vocabulary.users.index_of([busiest("bernoulli")])[0])
    own = posterior.history.take(posterior.history.user_index == user)
    gap = int(np.argmax(np.diff(own.seconds)))
    first, last = own.seconds[gap], own.seconds[gap + 1]
    found = smoothed_beliefs(posterior, user, np.array([first, 0.5 * (first + last), last]))
    np.testing.assert_allclose(found.mean[1], 0.5 * (found.mean[0] + found.mean[2]), atol=1e-6)
    # Var = Var(both ends' mean) + walk / 4, and Var(mean) lies between 0 and the ends' mean.
    variance = torch.diagonal(found.cov, dim1=-2, dim2=-1)
    walk = (last - first) / SECONDS_PER_DAY * (2 * posterior.values["log_drift"]).exp()
    assert (variance[1] > 0.25 * walk).all()
    assert (variance[1] < 0.5 * (variance[0] + variance[2]) + 0.25 * walk + 1e-9).all()


def test_popularity_of_the_moment_is_in_the_picture() -> None:
    user = busiest("bernoulli")
    plain, popular = (
        model("bernoulli", popularity_days=days).trajectory([user], ["i00001"])
        for days in (None, 20.0)
    )
    assert not np.allclose(plain["mean"], popular["mean"])


def test_a_rating_has_its_expected_value_beside_it() -> None:
    path = model("rating").trajectory([busiest("rating")], ["i00001"])
    assert path["expected_rating"].between(0, 4, inclusive="neither").all()


def test_prob_widens_the_band() -> None:
    user = busiest("bernoulli")
    narrow, wide = (model("bernoulli").trajectory([user], None, prob=p) for p in (0.5, 0.9))
    assert (wide["upper"] > narrow["upper"]).all()
    assert (wide["lower"] < narrow["lower"]).all()


def test_nothing_asked_nothing_answered() -> None:
    door = model("choice")
    for table in (door.trajectory([], None), door.trajectory([busiest("choice")], [])):
        assert len(table) == 0
        assert {"user_id", "item_id", "timestamp", "mean", "upper"} <= set(table.columns)


def test_impossible_questions_are_named() -> None:
    door = model("bernoulli")
    user = busiest("bernoulli")
    with pytest.raises(InputError, match="user 'nobody' has no event: there is no trajectory"):
        door.trajectory(["nobody"], None)
    with pytest.raises(InputError, match=r"every_days=0: expected days > 0, or None"):
        door.trajectory([user], None, every_days=0)
    with pytest.raises(InputError, match="users='u00001': expected a list"):
        door.trajectory("u00001", None)
    with pytest.raises(ItemError, match="item 'ghost' is unknown"):
        door.trajectory([user], ["ghost"])
    with pytest.raises(InputError, match="prob=2: expected the mass"):
        door.trajectory([user], None, prob=2)


def test_long_paths_of_choices_are_smoothed_dimension_by_dimension(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posterior = model("choice").posterior
    user = int(posterior.vocabulary.users.index_of([busiest("choice")])[0])
    own = posterior.history.seconds[posterior.history.span(user)]
    seconds = np.array([own[1], own[-1] + 1e5])
    together = smoothed_beliefs(posterior, user, seconds)
    monkeypatch.setattr(trajectory, "MAX_WORK", 0)
    apart = smoothed_beliefs(posterior, user, seconds)
    sd = together.variance.sqrt()
    assert not torch.equal(together.mean, apart.mean)
    assert float(((together.mean - apart.mean) / sd).abs().max()) < 0.5
    torch.testing.assert_close(apart.variance.sqrt() / sd, torch.ones_like(sd), rtol=0.15, atol=0.0)
