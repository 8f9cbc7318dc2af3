"""The site of a choice is gradient and curvature of the log softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_interest.emissions.choice import ChoiceMoments, choice_site

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
    probs = torch.softmax(scaled, -1)
    mean = probs @ p["items"]
    moments = ChoiceMoments(mean, probs @ p["items"] ** 2 - mean**2)
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
