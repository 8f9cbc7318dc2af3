"""Choice family: one item taken out of many, `P(i) = exp(a_i) / sum_j exp(a_j)`.

`a_i = x_i . z + offset_i`. The Gaussian site of a choice matches gradient and (diagonal)
curvature of the log softmax at a point: `g = x_chosen - E_p[x]`, `lam = Var_p[x]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChoiceMoments:
    """Mean and variance of the item vectors under the choice probabilities."""

    mean: Tensor  # E_p[x], (event, state_dim)
    var: Tensor  # Var_p[x], (event, state_dim)


def choice_moments(probs: Tensor, items: Tensor) -> ChoiceMoments:
    """Moments under probs (event, item) of item vectors (item, state_dim)."""
    mean = probs @ items
    return ChoiceMoments(mean, (probs @ items**2 - mean**2).clamp_min(0.0))


def choice_site(
    chosen: Tensor, moments: ChoiceMoments, at: Tensor, reliability: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear and precision terms (event, state_dim) of the site at states `at`.

    `reliability` (event,) multiplies every logit of an event.
    """
    scale = reliability[..., None]
    precision = scale**2 * moments.var
    return scale * (chosen - moments.mean) + precision * at, precision


def expected_softmax(
    mean_state: Tensor, sd_state: Tensor, noise: Tensor, items: Tensor, offset: Tensor
) -> Tensor:
    """Softmax per draw, (draw, item), for one event: states are mean + sd * noise (draw, D)."""
    return torch.softmax((mean_state + sd_state * noise) @ items.T + offset, -1)
