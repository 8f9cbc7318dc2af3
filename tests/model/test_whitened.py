"""Many settings of the globals at once are what each of them is alone."""

from __future__ import annotations

import pytest
import torch

from bayes_interest.model.elbo import Chains, fit_chains
from bayes_interest.model.parameters import log_prior
from bayes_interest.model.whitened import Whitened, chains_at
from tests.model.problems import SCALAR, Small, small_problem


def whitened_of(small: Small) -> Whitened:
    return Whitened.of(small.layout, small.values, tuple(small.layout.shapes()))


@pytest.mark.parametrize("emission", SCALAR)
def test_a_point_and_its_values_are_one_to_one(emission: str) -> None:
    small = small_problem(emission)
    whitened = whitened_of(small)
    point = whitened.point(small.values)
    back = whitened.values(point[None])
    assert point.shape == (whitened.dim,)
    for name, value in small.values.items():
        torch.testing.assert_close(back[name][0], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("emission", SCALAR)
def test_points_are_standard_normal_under_the_prior(emission: str) -> None:
    small = small_problem(emission)
    whitened = whitened_of(small)
    point = whitened.point(small.values)
    shift = 0.1 * torch.ones_like(point)
    moved = {name: value[0] for name, value in whitened.values((point + shift)[None]).items()}
    # Effects are counted in units of their scale: the density of the values has its Jacobian.
    jacobian = sum(
        (moved[scale] - small.values[scale]) * small.values[effect].numel()
        for scale, effect in (("log_residual_scale", "residual"), ("log_offset_scale", "offset"))
    )
    gained = log_prior(small.layout, moved) - log_prior(small.layout, small.values) + jacobian
    normal = 0.5 * (point**2).sum() - 0.5 * ((point + shift) ** 2).sum()
    torch.testing.assert_close(gained, normal, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context_layers", [0, 1])
@pytest.mark.parametrize("emission", SCALAR)
def test_settings_together_are_settings_alone(emission: str, context_layers: int) -> None:
    small = small_problem(emission, context_layers=context_layers)
    names = tuple(name for name in small.layout.shapes() if not name.startswith("context"))
    whitened = Whitened.of(small.layout, small.values, names)
    point = whitened.point(small.values)
    both = torch.stack((point, 0.7 * point, point + 0.1))
    chains = chains_at(whitened, small.features, small.batch, both)
    n_users = len(small.batch.mask)
    together = fit_chains(chains, n_steps=3)
    for setting, values in enumerate(both):
        own = {k: v[0] for k, v in whitened.values(values[None]).items()}
        alone = small.with_values(**own)
        one = Chains.of(small.layout, own, alone.items, small.batch)  # the context stays as it is
        rows = slice(setting * n_users, (setting + 1) * n_users)
        torch.testing.assert_close(chains.terms.x[rows], one.terms.x)
        torch.testing.assert_close(chains.terms.offset[rows], one.terms.offset)
        torch.testing.assert_close(together.elbo[rows], fit_chains(one, n_steps=3).elbo)


def test_what_does_not_vary_stays() -> None:
    small = small_problem("bernoulli")
    whitened = Whitened.of(small.layout, small.values, ("log_drift", "bias"))
    assert whitened.dim == small.layout.state_dim + 1
    values = whitened.values(torch.zeros(2, whitened.dim, dtype=torch.float64))
    assert bool((values["weight"] == small.values["weight"]).all())
    assert not bool((values["log_drift"] == small.values["log_drift"]).any())
