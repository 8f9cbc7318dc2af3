"""Ordered logistic family: `P(level >= k) = sigmoid(a - cut_k)`; two levels are Bernoulli.

`log p(level) = log sigmoid(upper - a) + log sigmoid(a - lower) + log(1 - exp(lower - upper))`,
which is exact, stable, and concave in `a` (McCullagh 1980 for the model).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bayes_interest.emissions.base import ExpectedDerivatives
from bayes_interest.emissions.quadrature import expect


@dataclass(frozen=True)
class OrderedEmission:
    """Levels `0 .. len(cuts)` cut by increasing thresholds `cuts` (level - 1,)."""

    cuts: Tensor

    def _bounds(self, outcome: Tensor) -> tuple[Tensor, Tensor]:
        inf = self.cuts.new_tensor([torch.inf])
        edges = torch.cat((-inf, self.cuts, inf))
        level = outcome.long()
        return edges[level], edges[level + 1]

    def log_prob(self, predictor: Tensor, outcome: Tensor) -> Tensor:
        """Log probability of each outcome's level."""
        lower, upper = self._bounds(outcome)
        if predictor.ndim > outcome.ndim:
            lower, upper = lower[..., None], upper[..., None]
        width = torch.log(-torch.expm1(lower - upper))
        return logsigmoid(upper - predictor) + logsigmoid(predictor - lower) + width

    def expected_log_prob(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """`E[log p(level | a)]`, by quadrature."""
        return expect(lambda a: self.log_prob(a, outcome), mean, var)

    def expected_derivatives(
        self, mean: Tensor, var: Tensor, outcome: Tensor
    ) -> ExpectedDerivatives:
        """`l' = sigmoid(lower - a) - sigmoid(a - upper)` and its derivative, averaged."""
        lower, upper = (edge[..., None] for edge in self._bounds(outcome))

        def both(a: Tensor) -> Tensor:
            low, high = torch.sigmoid(lower - a), torch.sigmoid(a - upper)
            return torch.stack((low - high, low * (low - 1.0) + high * (high - 1.0)))

        first, second = expect(both, mean, var)
        return ExpectedDerivatives(first, second)

    def predictive(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """Posterior predictive probability of each outcome's level."""
        return expect(lambda a: self.log_prob(a, outcome).exp(), mean, var)


def bernoulli_emission(like: Tensor) -> OrderedEmission:
    """`P(engaged) = sigmoid(a)`: the ordered family with one cut at zero."""
    return OrderedEmission(like.new_zeros(1))


def increasing_cuts(raw: Tensor) -> Tensor:
    """Thresholds from unconstrained numbers: the first, then exponentials of the gaps."""
    return torch.cat((raw[:1], raw[:1] + torch.cumsum(torch.exp(raw[1:]), 0)))
