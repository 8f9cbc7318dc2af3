"""Updates that teach about items: moments by quadrature, known items found again, surer items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from torch import Tensor

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import ConfigError, TimeOrderError
from bayes_interest.exposed_interest import ExposedInterest
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.fit import item_posterior_cov
from bayes_interest.posterior.item_learning import absorb_together
from bayes_interest.posterior.online import absorb, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.recalibrated_interest import RecalibratedInterest
from tests.drawn import known
from tests.fitted import fit, model, numbers, parts, same

SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")


def ignorant(emission: EmissionName, n_users: int) -> tuple[Posterior, Posterior, InterestModel]:
    """A model that knows all but residuals and offsets, before any event; the truth; a door."""
    _, door = known(emission, n_users)
    told = door.posterior
    values = told.values | {
        name: torch.zeros_like(told.values[name]) for name in ("residual", "offset")
    }
    cov = item_posterior_cov(told.layout, values, torch.zeros_like(told.item_cov))
    return restarted(replace(told, values=values, item_cov=cov)), told, door


def test_one_event_leaves_the_moments_of_user_and_offset() -> None:
    """With a known vector, state and offset are jointly Gaussian: a grid over the predictor."""
    before, told, _ = ignorant("bernoulli", 45)
    cov = torch.zeros_like(before.item_cov)
    cov[:, -1, -1] = 0.7
    before = replace(before, item_cov=cov)
    log = told.history.take(np.array([0]))
    after = absorb_together(before, log)
    user, item, outcome = int(log.user_index[0]), int(log.item_index[0]), float(log.outcome[0])
    x, offset = before.items.vectors[item], float(before.items.offsets[item])
    var = float(x @ x) + 0.7
    z = np.linspace(-12.0, 12.0, 20_001) * np.sqrt(var)
    weight = np.exp(-0.5 * z**2 / var) * expit((2.0 * outcome - 1.0) * (offset + z))
    weight /= weight.sum()
    mean = float(weight @ z)
    shrunk = float(weight @ z**2) - mean**2
    torch.testing.assert_close(after.belief.mean[user], x * mean / var, rtol=1e-6, atol=1e-9)
    factor = (shrunk - var) / var**2
    wanted = torch.eye(len(x), dtype=x.dtype) + factor * torch.outer(x, x)
    torch.testing.assert_close(after.belief.cov[user], wanted, rtol=1e-6, atol=1e-9)
    assert float(after.values["offset"][item]) == pytest.approx(0.7 * mean / var, rel=1e-6)
    assert float(after.item_cov[item, -1, -1]) == pytest.approx(0.7 + 0.49 * factor, rel=1e-6)


@pytest.mark.parametrize("emission", SCALAR)
def test_certain_items_stay_and_users_move_as_ever(emission: EmissionName) -> None:
    _, told, _ = ignorant(emission, 45)
    start = restarted(told)  # the truth, with no doubt about items
    both, users = absorb_together(start, told.history), absorb(start, told.history)
    torch.testing.assert_close(both.belief.mean, users.belief.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(both.belief.cov, users.belief.cov, rtol=1e-9, atol=1e-9)
    assert torch.equal(both.values["residual"], told.values["residual"])
    assert np.array_equal(both.last_seconds, users.last_seconds)
    assert len(both.history) == len(users.history)


def along_users(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Mean and sd of every item's predictor at the mean state, (item,)."""
    ones = posterior.values["mean"].new_ones(1)
    lead = torch.cat((posterior.values["mean"], ones))
    var = torch.einsum("j,ijk,k->i", lead, posterior.item_cov, lead)
    return posterior.items.offsets, var.sqrt()


@pytest.mark.parametrize("emission", SCALAR)
def test_unknown_items_are_found_again(emission: EmissionName) -> None:
    """From 400 users the level of each item, within what is said of it, and far surer."""
    before, told, _ = ignorant(emission, 400)
    after = absorb_together(before, told.history)
    truth, (found, sd), (first, wide) = told.items.offsets, *map(along_users, (after, before))
    assert ((found - truth) / sd).square().mean().sqrt() < 1.7
    assert (found - truth).abs().mean() < 0.5 * (first - truth).abs().mean()
    assert (sd < 0.5 * wide).all()
    eigenvalues = torch.linalg.eigvalsh(after.item_cov)
    assert float(eigenvalues.min()) > 0.0


def test_without_doubt_about_the_residual_only_the_offset_moves() -> None:
    before, told, _ = ignorant("bernoulli", 45)
    bare = replace(before, layout=replace(before.layout, residuals=False))
    after = absorb_together(bare, told.history)
    assert torch.equal(after.items.vectors, before.items.vectors)
    assert not torch.equal(after.values["offset"], before.values["offset"])


@pytest.mark.parametrize("emission", SCALAR)
def test_any_split_in_order_of_time_is_the_same(emission: EmissionName) -> None:
    _, test = parts(emission)
    whole, split = model(emission, dtype="float64"), model(emission, dtype="float64")
    whole.update(test, learn_items=True)
    for chunk in np.array_split(np.arange(len(test)), 5):
        split.update(test.iloc[chunk], learn_items=True)
    np.testing.assert_allclose(numbers(whole.interest()), numbers(split.interest()), atol=1e-10)
    users = model(emission, dtype="float64").update(test)
    assert not np.allclose(numbers(whole.interest()), numbers(users.interest()), atol=1e-4)


def test_what_some_meet_tells_a_stranger() -> None:
    """A new item that everybody passes by: a stranger's interest falls, and is surer."""
    train, _ = parts("bernoulli")
    new, late = "i00003", train["timestamp"].max() + pd.Timedelta(days=1)
    users = train["user_id"].unique()
    shown = pd.DataFrame({"user_id": users, "item_id": new, "timestamp": late, "value": 0.0})
    told, untold = (fit(train[train["item_id"] != new], "bernoulli") for _ in range(2))
    told.update(shown, learn_items=True)
    untold.update(shown)
    ask = {"users": ["stranger"], "items": [new], "at": late + pd.Timedelta(minutes=1)}
    after, before = (door.interest(**ask).iloc[0] for door in (told, untold))
    assert after["mean"] < 0.6 * before["mean"]
    assert after["upper"] - after["lower"] < before["upper"] - before["lower"]


def test_every_draw_of_the_globals_learns_for_itself(tmp_path: Path) -> None:
    train, test = parts("rating")
    door = fit(train, "rating", FitConfig(max_epochs=2, n_members=2, progress=False))
    base = door.posterior
    cov = base.item_cov  # as in a log too large for drawing items
    posterior = replace(base, members=tuple(replace(one, item_cov=cov) for one in base.members))
    door._posterior = posterior
    door.update(test, learn_items=True)
    after = door.posterior
    for draw, (one, moved) in enumerate(zip(posterior.each, after.members, strict=True)):
        alone = InterestModel(door.config, door.encoder)
        alone._posterior = one
        alone.update(test, learn_items=True)
        assert torch.equal(alone.posterior.values["offset"], moved.values["offset"])
        assert torch.equal(alone.posterior.item_cov, moved.item_cov)
        assert torch.equal(alone.posterior.belief.mean, after.belief.members[draw].mean)
        assert not torch.equal(one.values["residual"], moved.values["residual"])
    door.save(tmp_path / "model")
    loaded = InterestModel.load(tmp_path / "model", encoder=door.encoder)
    same(loaded.interest(), door.interest())


def test_what_cannot_learn_is_refused_and_nothing_changes() -> None:
    _, test = parts("choice")
    door = model("choice")
    before = door.posterior
    with pytest.raises(ConfigError, match="learn_items=True: a choice model learns about items in"):
        door.update(test, learn_items=True)
    assert door.posterior is before
    train, _ = parts("bernoulli")
    door = model("bernoulli")
    before = door.posterior
    with pytest.raises(TimeOrderError, match="before the last one absorbed"):
        door.update(train[:3], learn_items=True)
    assert door.posterior is before


def test_models_around_a_model_pass_it_on() -> None:
    _, test = parts("bernoulli")
    exposed = ExposedInterest(model("bernoulli"), model("choice"))
    door, both = model("bernoulli"), [RecalibratedInterest(model("bernoulli")), exposed]
    wanted = door.update(test, learn_items=True).posterior.values["offset"]
    for around in both:
        around.update(test, learn_items=True)
    assert torch.equal(both[0].model.posterior.values["offset"], wanted)
    assert torch.equal(exposed.outcome.posterior.values["offset"], wanted)
    ask = {"users": ["u00002"], "k": 5, "by": "thompson", "seed": 3}
    scores = [exposed.rank(**ask, exploration=share)["score"].tolist() for share in (0.2, 1.0)]
    assert scores[0] != scores[1]
