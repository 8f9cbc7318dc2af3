"""Products of states with items, pair by pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_interest.config import EmissionName
from bayes_interest.posterior.predict import advanced_belief, circumstances, clock, predictors
from bayes_interest.posterior.products import TOGETHER, PairByPair
from tests.fitted import model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 3, 8, 17, 64])
def test_pair_by_pair_is_all_at_once_and_knows_no_neighbours(dtype: torch.dtype, dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    rows, columns, root = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((5, dim), (40, dim), (5, dim, dim))
    )
    cov, alone = root @ root.mT, PairByPair()
    close = {"rtol": 0.0, "atol": 1e-12 if dtype is torch.float64 else 2e-4}
    dots, forms = alone.dots(rows, columns), alone.forms(cov, columns)
    assert dots.dtype == forms.dtype == dtype
    torch.testing.assert_close(dots, TOGETHER.dots(rows, columns), **close)
    torch.testing.assert_close(forms / dim**2, TOGETHER.forms(cov, columns) / dim**2, **close)
    items, some = torch.tensor([39, 0, 7]), torch.tensor([3, 1])
    few = PairByPair(items)
    assert torch.equal(few.dots(rows[some], columns), dots[some][:, items])
    assert torch.equal(few.forms(cov[some], columns), forms[some][:, items])
    assert torch.equal(few.of(columns), columns[items])
    assert few.dots(rows[:0], columns).shape == (0, 3)


@pytest.mark.parametrize("emission", ["bernoulli", "rating"])
def test_predictors_of_some_items_have_the_bits_of_all(emission: EmissionName) -> None:
    posterior = model(emission).posterior
    root = torch.randn(*posterior.item_cov.shape, generator=torch.Generator().manual_seed(0))
    posterior = replace(posterior, item_cov=(root @ root.mT).to(posterior.features))
    users = np.array([4, 0, 2])
    seconds = np.full(3, clock(posterior) + 86_400.0)
    belief = advanced_belief(posterior, users, seconds)
    extra = circumstances(posterior, users, seconds)
    whole = predictors(posterior, belief, extra, PairByPair())
    items = torch.tensor([5, 1, 0])
    few = predictors(posterior, belief, extra[..., items], PairByPair(items))
    together = predictors(posterior, belief, extra)
    for name in ("mean", "state_var", "item_var"):
        assert torch.equal(getattr(few, name), getattr(whole, name)[:, items])
        assert torch.allclose(getattr(whole, name), getattr(together, name), rtol=1e-4, atol=1e-5)
        assert getattr(whole, name).abs().max() > 0.0
