"""Sites: the conjugate case is exact, and steps move natural parameters in a straight line."""

from __future__ import annotations

import torch

from bayes_interest.statespace.kalman import ScalarSites
from bayes_interest.statespace.sites import matched_site, site_change, step_sites


def test_matched_site_of_a_gaussian_likelihood_is_that_likelihood() -> None:
    generator = torch.Generator().manual_seed(0)
    target, mean = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    noise_var = 0.3
    second = torch.full_like(mean, -1.0 / noise_var)
    site = matched_site((target - mean) / noise_var, second, mean)
    torch.testing.assert_close(site.linear, target / noise_var)
    torch.testing.assert_close(site.precision, -second)


def test_precision_is_never_negative() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert matched_site(one, one, one).precision.item() == 0.0


def test_steps_and_their_size() -> None:
    old = ScalarSites(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
    new = ScalarSites(torch.tensor([[3.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
    quarter = step_sites(old, new, 0.25)
    assert quarter.linear.tolist() == [[1.5, 2.0]]
    assert quarter.precision.tolist() == [[0.25, 3.25]]
    assert site_change(old, new) == 3.0
