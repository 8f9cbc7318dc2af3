"""Items and text weights drawn from a Gaussian likelihood of each: the linear half of `gibbs.py`.

Of item i the log says `exp(h_i t - t' L_i t / 2)` about its row `t = (x_i, b_i)`, and the model
`t = G f_i + e_i` with text and one in `f_i` and effects `e_i` of given scales. All but the effects
themselves is drawn with the effects integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from bayes_interest.model.compiled_gibbs import Array, effects_evidence

TRIES, STEPS = 4, (0.4, 0.1)
"""Moves of each scale of effects in a sweep, and the sds of their proposals, in turn."""


class Noise:
    """Random numbers of double precision, from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        """Standard normals."""
        return torch.as_tensor(self.generator.standard_normal(shape))

    def uniform(self, *shape: int) -> Tensor:
        """Between zero and one."""
        return torch.as_tensor(self.generator.random(shape))

    def accepts(self, gain: Tensor | float) -> bool:
        """Metropolis' rule for a gain in log density."""
        return bool(-self.generator.standard_exponential() < float(gain))

    def gaussian(self, matrix: Tensor, linear: Tensor) -> Tensor:
        """A draw from `exp(linear x - x matrix x / 2)`, matrix (..., dim, dim)."""
        root = torch.linalg.cholesky(matrix)
        half = torch.linalg.solve_triangular(root, linear[..., None], upper=False)
        half = half + self.normal(*half.shape)
        return torch.linalg.solve_triangular(root.mT, half, upper=True)[..., 0]


@dataclass(frozen=True)
class Said:
    """What a log says of all items' rows."""

    matrix: Tensor  # L, (item, size, size)
    linear: Tensor  # h, (item, size)

    def less(self, mean: Tensor) -> Tensor:
        """The linear part that is left for deviations from `mean` (item, size)."""
        return self.linear - times(self.matrix, mean)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Products of matrices (..., row, column) and vectors (..., column)."""
    return (matrix @ vector[..., None])[..., 0]


def effect_scale(logs: Tensor, owner: list[int]) -> Tensor:
    """Prior sds of effects (size,) from the logarithms of some; 0 where no one is the `owner`."""
    return torch.cat((logs.exp(), logs.new_zeros(1)))[owner]


def moved_scales(
    said: Said,
    mean: Tensor,
    logs: Tensor,
    owner: list[int],
    prior: tuple[Tensor, Tensor],
    noise: Noise,
) -> Tensor:
    """Logarithms (number,) of the scales of effects after some Metropolis moves.

    `owner` as `effect_scale` takes it; `prior` has the logarithms' means and sds.
    """
    matrix, rest = said.matrix.contiguous().numpy(), said.less(mean).contiguous().numpy()
    centre, spread = (part.numpy() for part in prior)
    point = logs.numpy()

    def look(point: Array) -> float:
        scale = np.append(np.exp(point), 0.0)[owner]
        away = (point - centre) / spread
        return effects_evidence(matrix, rest, scale) - 0.5 * float(away @ away)

    value = look(point)
    for turn in range(TRIES):
        for place in range(len(point)):
            there = point.copy()
            there[place] += STEPS[turn % len(STEPS)] * noise.generator.standard_normal()
            found = look(there)
            if noise.accepts(found - value):
                point, value = there, found
    return torch.as_tensor(point)


def _shrunk(matrix: Tensor, scale: Tensor) -> Tensor:
    """`I + S L S`; some scale may be zero."""
    eye = torch.eye(len(scale), dtype=matrix.dtype)
    return eye + scale[:, None] * matrix * scale


def drawn_weights(
    said: Said, features: Tensor, weights: Tensor, scale: Tensor, sd: Tensor, noise: Noise
) -> Tensor:
    """G (size, feature), a row after the other, from a likelihood and its prior sds `sd`.

    With effects integrated out an item's precision is `(L^-1 + S^2)^-1`.
    """
    eye = torch.eye(len(scale), dtype=scale.dtype)
    share = torch.linalg.solve(eye + scale[:, None] ** 2 * said.matrix, eye.expand_as(said.matrix))
    matrix = said.matrix @ share
    matrix, linear = 0.5 * (matrix + matrix.mT), times(share.mT, said.linear)
    weights = weights.clone()
    mean = features @ weights.T
    for row in range(len(weights)):
        if row == 0 or not torch.equal(sd[row], sd[row - 1]):
            known = Regression.on(features * sd[row])
        own = matrix[:, row, row]
        rest = linear[:, row] - times(matrix[:, row, None], mean)[:, 0] + own * mean[:, row]
        weights[row] = sd[row] * known.drawn(own, rest, noise)
        mean[:, row] = features @ weights[row]
    return weights


@dataclass(frozen=True)
class Regression:
    """Standard normal weights w of features F (item, feature)."""

    features: Tensor
    products: Tensor | None  # F F', of fewer items than features

    @staticmethod
    def on(features: Tensor) -> Regression:
        """With what every draw shares."""
        few = len(features) <= features.shape[1]
        return Regression(features, features @ features.T if few else None)

    def drawn(self, own: Tensor, rest: Tensor, noise: Noise) -> Tensor:
        """Weights given `exp(rest F w - w' F' D F w / 2)` with D = diag(own)."""
        if self.products is None:
            half = (own.clamp_min(0.0).sqrt()[:, None] * self.features).numpy()
            inner = torch.as_tensor(dsyrk(1.0, half.T, lower=True))  # half of the product
            inner = inner + inner.tril(-1).T
            inner.diagonal().add_(1.0)
            return noise.gaussian(inner, self.features.T @ rest)
        # A draw of the prior and of the data it would give, moved by what these leave
        # (Bhattacharya, Chakraborty & Mallick 2016).
        root = own.clamp_min(0.0).sqrt()
        prior = noise.normal(self.features.shape[1])
        outcome = torch.where(root > 0.0, rest / root, 0.0)
        left = outcome - root * (self.features @ prior) - noise.normal(len(root))
        inner = root[:, None] * self.products * root
        inner.diagonal().add_(1.0)
        moved = torch.cholesky_solve(left[:, None], torch.linalg.cholesky(inner))[:, 0]
        return prior + self.features.T @ (root * moved)


def drawn_effects(said: Said, mean: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    """Effects (item, size) around `mean`."""
    return scale * noise.gaussian(_shrunk(said.matrix, scale), scale * said.less(mean))
