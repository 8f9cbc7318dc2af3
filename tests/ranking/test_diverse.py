"""Slates that trade relevance against redundancy: by hand, against all slates, and on a model."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bayes_interest.errors import ConfigError
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Items
from bayes_interest.ranking.diverse import diverse_slate
from tests.fitted import N_ITEMS, model

TWO_THEMES = torch.tensor([[0.9, 0.8, 0.1, 0.1], [0.9, 0.8, 0.1, 0.1], [0.1, 0.1, 0.7, 0.6]])
ALL = torch.ones(4, dtype=torch.bool)


def worth(probs: Tensor, slate: tuple[int, ...], looks: int, exclusive: bool) -> float:
    """P(at least one) draw by draw."""
    total = 0.0
    for draw in probs.double().tolist():
        none = 1.0
        if exclusive:
            none = max(0.0, 1.0 - sum(draw[item] for item in slate))
        else:
            for item in slate:
                none *= 1.0 - draw[item]
        total += 1.0 - none**looks
    return total / len(probs)


def test_by_hand() -> None:
    order, gains = diverse_slate(TWO_THEMES, ALL, 2, 1, exclusive=False)
    # Alone, item 0 is best: (0.9 + 0.9 + 0.1) / 3. Then what helps where it fails, in draw three:
    # item 1 adds (0.1 * 0.8 + 0.1 * 0.8 + 0.9 * 0.1) / 3 and item 2 (0.01 + 0.01 + 0.63) / 3.
    assert order.tolist() == [0, 2]
    np.testing.assert_allclose(gains, [1.9 / 3, 0.65 / 3], rtol=1e-6)
    # By the mean it would have been 0 and 1.
    assert TWO_THEMES.mean(0).topk(2).indices.tolist() == [0, 1]


def test_one_look_at_choices_is_the_mean_and_more_looks_hedge() -> None:
    probs = torch.softmax(torch.tensor([[4.0, 3.9, 0, 0], [4.0, 3.9, 0, 0], [0, 0, 4, 3.9]]), 1)
    order, gains = diverse_slate(probs, ALL, 4, 1, exclusive=True)
    assert order.tolist() == probs.mean(0).argsort(descending=True).tolist()
    np.testing.assert_allclose(gains, probs.mean(0)[order], rtol=1e-6)
    assert diverse_slate(probs, ALL, 2, 10, exclusive=True)[0].tolist() == [0, 2]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 6),
    looks=st.integers(1, 5),
    exclusive=st.booleans(),
)
def test_gains_add_up_fall_and_come_near_the_best_slate(
    seed: int, k: int, looks: int, exclusive: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(7, 5, generator=generator)
    probs = torch.softmax(logits, 1) if exclusive else torch.sigmoid(logits)
    allowed = torch.rand(5, generator=generator) < 0.8
    allowed[0] = True
    order, gains = diverse_slate(probs, allowed, k, looks, exclusive)
    items = torch.nonzero(allowed)[:, 0].tolist()
    assert len(order) == len(set(order.tolist())) == min(k, len(items))
    assert set(order.tolist()) <= set(items)
    found = worth(probs, tuple(order.tolist()), looks, exclusive)
    assert float(gains.sum()) == pytest.approx(found, abs=1e-9)
    assert (gains[1:] <= gains[:-1] + 1e-12).all()
    best = max(
        worth(probs, slate, looks, exclusive) for slate in itertools.combinations(items, len(order))
    )
    assert found >= (1.0 - 1.0 / np.e) * best - 1e-9


def test_where_all_is_certain_the_likeliest_of_the_rest_follow() -> None:
    probs = torch.tensor([[1.0, 0.2, 0.6, 0.4]])
    order, gains = diverse_slate(probs, ALL, 4, 1, exclusive=False)
    assert order.tolist() == [0, 2, 3, 1]
    assert gains.tolist() == [1.0, 0.0, 0.0, 0.0]


def of_two_themes(door: InterestModel) -> InterestModel:
    """A user whose interest lies along an axis, on a side that is hardly known."""
    posterior = door.posterior
    vectors = torch.zeros_like(posterior.items.vectors)
    vectors[:6, 0], vectors[6:, 0] = 3.0, -3.0
    spread = torch.arange(N_ITEMS).to(vectors) * 0.01
    mean, cov = posterior.belief.mean.clone(), posterior.belief.cov.clone()
    mean[:], mean[:, 0] = 0.0, 0.3
    cov[:] = 1e-4 if posterior.belief.diagonal else 1e-4 * torch.eye(mean.shape[1])
    cov[(slice(None), 0) if posterior.belief.diagonal else (slice(None), 0, 0)] = 1.0
    still = {name: value for name, value in posterior.values.items() if "covariates" not in name}
    item_cov = 1e-6 * posterior.item_cov
    changed = replace(posterior, belief=Belief(mean, cov), values=still, item_cov=item_cov)
    changed.__dict__["items"] = Items(vectors, -spread - 1.0)
    out = InterestModel(door.config, door.encoder)
    out._posterior = changed
    return out


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_a_user_unsure_between_two_themes_gets_both(emission: str) -> None:
    plain = dict.fromkeys(("repeats", "succession", "likeness", "rates"), False)
    door = of_two_themes(model(emission, popularity_days=None, **plain))  # type: ignore[arg-type]
    ask = {"users": ["u00001"], "k": 4, "exclude_seen": False}
    by_mean = door.rank(**ask)["item_id"].str[1:].astype(int)  # type: ignore[arg-type]
    diverse = door.rank(**ask, by="diverse")  # type: ignore[arg-type]
    sides = diverse["item_id"].str[1:].astype(int) >= 6
    first = [door.posterior.vocabulary.items.ids[place] for place in range(6)]
    assert by_mean.map(lambda item: f"i{item:05d}").isin(first).all()
    theme = diverse["item_id"].isin(first)
    assert 1 <= theme.sum() <= 3, sides
    assert not theme.iloc[1]  # the other side comes second already
    assert diverse["score"].is_monotonic_decreasing


def test_looks_are_of_diverse_slates() -> None:
    door = model("choice")
    ask = {"users": ["u00001"], "k": 5, "by": "diverse", "exclude_seen": False}
    one, default, ten, many = (
        door.rank(**ask, looks=looks)  # type: ignore[arg-type]
        for looks in (1, None, 10, 500)
    )
    assert (
        one["item_id"].tolist()
        == door.rank(["u00001"], k=5, exclude_seen=False)["item_id"].tolist()
    )
    assert default["score"].tolist() == ten["score"].tolist()
    assert many["score"].sum() > ten["score"].sum() > one["score"].sum()
    for looks in (0, 1.5, True):
        with pytest.raises(ConfigError, match=r"looks=.*: expected a whole number >= 1 together"):
            door.rank(by="diverse", looks=looks)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'looks=3: .*by="diverse", got by=\'mean\''):
        door.rank(looks=3)
