"""The text weights' posterior against dense Bayesian linear regression."""

from __future__ import annotations

import math

import torch

from bayes_interest.model.parameters import Layout
from bayes_interest.model.text_posterior import text_posterior_cov, with_text_variance

ITEMS, EMBED, DIM = 11, 5, 3
S_R, S_E = 0.3, 0.7


def problem(residuals: bool = True):
    generator = torch.Generator().manual_seed(0)
    layout = Layout("bernoulli", DIM, EMBED, ITEMS, residuals=residuals)
    features = torch.randn(ITEMS, EMBED, generator=generator, dtype=torch.float64)
    info = torch.rand(ITEMS, generator=generator, dtype=torch.float64) * 20.0
    precision = torch.eye(DIM + 1, dtype=torch.float64) * info[:, None, None]
    values = {
        "offset": torch.zeros(ITEMS),
        "log_offset_scale": torch.tensor(math.log(S_E)).double(),
    }
    if residuals:
        values |= {
            "residual": torch.zeros(ITEMS, DIM),
            "log_residual_scale": torch.tensor(math.log(S_R)).double(),
        }
    return layout, values, precision, features, info


def dense_weights_cov(features, info, scale, divisor):
    """Covariance of w given noisy looks at `phi . w / sqrt(embed * divisor) + r`, r integrated."""
    total = torch.eye(EMBED, dtype=torch.float64)
    for phi, precision in zip(features, info, strict=True):
        noise = 1.0 / precision + scale**2
        total += torch.outer(phi, phi) / (EMBED * divisor) / noise
    return torch.linalg.inv(total)


def test_weights_covariance_is_that_of_the_regression():
    layout, values, precision, features, info = problem()
    weights, offsets = text_posterior_cov(layout, values, precision, features)
    torch.testing.assert_close(weights, dense_weights_cov(features, info, S_R, DIM))
    torch.testing.assert_close(offsets, dense_weights_cov(features, info, S_E, 1))


def test_without_residuals_the_weights_are_known_better():
    layout, values, precision, features, info = problem(residuals=False)
    weights, _ = text_posterior_cov(layout, values, precision, features)
    torch.testing.assert_close(weights, dense_weights_cov(features, info, 0.0, DIM))


def test_an_item_without_events_has_prior_plus_text_variance():
    layout, values, precision, features, _ = problem()
    cov = text_posterior_cov(layout, values, precision, features)
    prior = torch.diag(torch.tensor([S_R**2] * DIM + [S_E**2], dtype=torch.float64))
    widened = with_text_variance(layout, values, prior.repeat(ITEMS, 1, 1), features, cov)
    for phi, block in zip(features, widened, strict=True):
        expected = S_R**2 + phi @ cov[0] @ phi / (EMBED * DIM)
        torch.testing.assert_close(block[0, 0], expected)
        torch.testing.assert_close(block[DIM, DIM], S_E**2 + phi @ cov[1] @ phi / EMBED)


def test_an_item_that_its_events_determine_gains_nothing():
    layout, values, precision, features, _ = problem()
    cov = text_posterior_cov(layout, values, precision, features)
    sure = torch.eye(DIM + 1, dtype=torch.float64).repeat(ITEMS, 1, 1) * 1e-9
    widened = with_text_variance(layout, values, sure, features, cov)
    torch.testing.assert_close(widened, sure, atol=1e-12, rtol=0.0)


def test_the_choice_family_has_none():
    layout, values, precision, features, _ = problem()
    diagonal = precision.diagonal(dim1=-2, dim2=-1)
    cov = text_posterior_cov(layout, values, diagonal, features)
    assert cov.numel() == 0
    assert with_text_variance(layout, values, diagonal, features, cov) is diagonal
