"""Moments and sites of a choice are gradient and curvature of the log softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_interest.emissions.choice import choice_moments, choice_site, expected_softmax

EVENTS, ITEMS, DIM = 5, 11, 3


def choice_problem() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "items": normal(ITEMS, DIM),
        "offset": normal(ITEMS),
        "state": normal(EVENTS, DIM),
        "rho": normal(EVENTS).exp(),
        "chosen": torch.randint(ITEMS, (EVENTS,), generator=generator),
    }


def test_site_has_gradient_and_diagonal_hessian_of_the_log_softmax() -> None:
    p = choice_problem()
    scaled = p["rho"][:, None] * (p["state"] @ p["items"].T + p["offset"])
    moments = choice_moments(torch.softmax(scaled, -1), p["items"])
    linear, precision = choice_site(p["items"][p["chosen"]], moments, p["state"], p["rho"])
    for event in range(EVENTS):

        def log_prob(state: Tensor, event: int = event) -> Tensor:
            logits = p["rho"][event] * (p["items"] @ state + p["offset"])
            return torch.log_softmax(logits, -1)[p["chosen"][event]]

        at = p["state"][event]
        gradient = torch.autograd.functional.jacobian(log_prob, at)
        hessian = torch.autograd.functional.hessian(log_prob, at)
        torch.testing.assert_close(precision[event], -hessian.diagonal(), rtol=1e-12, atol=1e-12)
        # the site exp(h . z - z' lam z / 2) has gradient h - lam z at z
        torch.testing.assert_close(
            linear[event] - precision[event] * at, gradient, rtol=1e-12, atol=1e-12
        )


def test_moments_are_the_plain_ones() -> None:
    p = choice_problem()
    probs = torch.softmax(p["state"] @ p["items"].T, -1)
    moments = choice_moments(probs, p["items"])
    for event in range(EVENTS):
        mean = sum((probs[event, i] * p["items"][i] for i in range(ITEMS)), torch.zeros(DIM))
        var = sum(
            (probs[event, i] * (p["items"][i] - mean) ** 2 for i in range(ITEMS)), torch.zeros(DIM)
        )
        torch.testing.assert_close(moments.mean[event], mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(moments.var[event], var, rtol=1e-12, atol=1e-12)


def test_a_certain_choice_has_no_negative_variance() -> None:
    items = torch.tensor([[1.1, 1e4], [0.3, -1e4]], dtype=torch.float32)
    probs = torch.tensor([[1.0, 0.0]])
    assert (choice_moments(probs, items).var >= 0.0).all()


def test_logits_of_500_stay_finite() -> None:
    p = choice_problem()
    draws = torch.full((7, DIM), 500.0, dtype=torch.float64)
    zero = torch.zeros(DIM, dtype=torch.float64)
    probs = expected_softmax(zero, zero + 1.0, draws, p["items"], p["offset"])
    moments = choice_moments(probs, p["items"])
    assert probs.isfinite().all()
    assert (moments.var >= 0.0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(7, dtype=torch.float64))


def test_expected_softmax_is_one_softmax_per_draw() -> None:
    p = choice_problem()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(7, DIM, generator=generator, dtype=torch.float64)
    mean, sd = p["state"][0], p["state"][1].abs()
    got = expected_softmax(mean, sd, noise, p["items"], p["offset"])
    wanted = torch.softmax((p["items"] @ (mean + sd * noise[4])) + p["offset"], -1)
    torch.testing.assert_close(got[4], wanted)
