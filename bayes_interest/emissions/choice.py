"""Choice family: one item taken out of many, `P(i) = exp(a_i) / sum_j exp(a_j)`.

`a_i = x_i . z + offset_i`. The Gaussian site of a choice matches gradient and (diagonal)
curvature of the log softmax at a point: `g = x_chosen - E_p[x]`, `lam = Var_p[x]`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ChoiceMoments:
    """Mean and variance of the item vectors under the choice probabilities."""

    mean: Tensor  # E_p[x], (event, state_dim)
    var: Tensor  # Var_p[x], (event, state_dim)


def choice_site(
    chosen: Tensor, moments: ChoiceMoments, at: Tensor, reliability: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear and precision terms (event, state_dim) of the site at states `at`.

    `reliability` (event,) multiplies every logit of an event.
    """
    scale = reliability[..., None]
    precision = scale**2 * moments.var
    return scale * (chosen - moments.mean) + precision * at, precision
