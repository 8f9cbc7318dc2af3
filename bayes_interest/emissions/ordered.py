"""Ordered logistic family: `P(level >= k) = sigmoid(a - cut_k)`; two levels are Bernoulli.

`log p(level) = log sigmoid(upper - a) + log sigmoid(a - lower) + log(1 - exp(lower - upper))`,
which is exact, stable, and concave in `a` (McCullagh 1980 for the model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bayes_interest.emissions.base import Expected, ExpectedDerivatives
from bayes_interest.emissions.logistic import N_SCALES, LogisticAverages, scale_mixture

FAR = 1e4


@dataclass(frozen=True)
class OrderedEmission:
    """Levels `0 .. n` cut by increasing thresholds `cuts` (n,), or (..., n): a row per outcome."""

    cuts: Tensor

    def bounds(self, outcome: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts below and above each outcome's level, infinite at the ends."""
        inf = torch.full_like(self.cuts[..., :1], torch.inf)
        edges = torch.cat((-inf, self.cuts, inf), -1)
        level = outcome.long()
        if edges.ndim == 1:
            return edges[level], edges[level + 1]
        rows, level = edges.expand(*outcome.shape, -1), level[..., None]
        return rows.gather(-1, level)[..., 0], rows.gather(-1, level + 1)[..., 0]

    def log_prob(self, predictor: Tensor, outcome: Tensor) -> Tensor:
        """Log probability of each outcome's level."""
        lower, upper = self.bounds(outcome)
        if predictor.ndim > outcome.ndim:
            lower, upper = lower[..., None], upper[..., None]
        width = torch.log(-torch.expm1(lower - upper))
        return logsigmoid(upper - predictor) + logsigmoid(predictor - lower) + width

    def _gaps(self, mean: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor]:
        """`lower - mean` and `upper - mean`, far away instead of infinite."""
        lower, upper = self.bounds(outcome)
        return (lower - mean).clamp_min(-FAR), (upper - mean).clamp_max(FAR)

    def expected_log_prob(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """`E[log p(level | a)]`, since `log sigmoid(a) = -softplus(-a)`."""
        lower, upper = self.bounds(outcome)
        width = torch.log(-torch.expm1(lower - upper))
        low, high = self._gaps(mean, outcome)
        averages = LogisticAverages(var)
        return width - averages.softplus(low) - averages.softplus(-high)

    def expected_derivatives(
        self, mean: Tensor, var: Tensor, outcome: Tensor
    ) -> ExpectedDerivatives:
        """`l' = sigmoid(lower - a) - sigmoid(a - upper)` and its derivative, averaged."""
        low, high = self._gaps(mean, outcome)
        averages = LogisticAverages(var)
        first = averages.sigmoid(low) - averages.sigmoid(-high)
        return ExpectedDerivatives(first, -averages.slope(low) - averages.slope(high))

    def expected(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """Both at once; a compiled loop on the CPU."""
        if mean.device.type != "cpu":
            fit = self.expected_log_prob(mean, var, outcome)
            return Expected(fit, self.expected_derivatives(mean, var, outcome))
        from bayes_interest.emissions.averages import expect_kernel

        lower, upper = self.bounds(outcome)
        out = self._compiled(expect_kernel, mean, var, outcome)
        fit = out[0] + torch.log(-torch.expm1(lower - upper)).detach()
        return Expected(fit, ExpectedDerivatives(out[1], out[2]))

    def predictive(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """Posterior predictive probability of each outcome's level."""
        return self._evidence(LogisticAverages(var), *self._gaps(mean, outcome))

    @staticmethod
    def _evidence(averages: LogisticAverages, low: Tensor, high: Tensor) -> Tensor:
        """`P(low < noise < high)`, measured in the nearer tail: no difference of near ones."""
        flip = low + high > 0.0
        lower, upper = torch.where(flip, -high, low), torch.where(flip, -low, high)
        return averages.sigmoid(upper) - averages.sigmoid(lower)

    def evidence(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """`log Z`, `Z = E[sigmoid(upper - a)] - E[sigmoid(lower - a)]`, and its derivatives.

        A compiled loop on the CPU.
        """
        if mean.device.type == "cpu":
            from bayes_interest.emissions.averages import evidence_single
            from bayes_interest.emissions.compiled import evidence_kernel

            kernel = evidence_single if mean.dtype == torch.float32 else evidence_kernel
            fit, first, second = self._compiled(kernel, mean, var, outcome)
            return Expected(fit, ExpectedDerivatives(first, second))
        return self.evidence_by_tensors(mean, var, outcome)

    def evidence_by_tensors(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """The same on any device."""
        low, high = self._gaps(mean, outcome)
        averages = LogisticAverages(var)
        chance = self._evidence(averages, low, high)
        chance = chance.clamp_min(torch.finfo(chance.dtype).tiny)
        first = (averages.slope(low) - averages.slope(high)) / chance
        second = (averages.curvature(high) - averages.curvature(low)) / chance
        return Expected(chance.log(), ExpectedDerivatives(first, second - first**2))

    def _compiled(
        self, kernel: Callable[..., None], mean: Tensor, var: Tensor, outcome: Tensor
    ) -> Tensor:
        """What a kernel fills, (3, *shape)."""
        low, high = self._gaps(mean, outcome)
        scales, weights = scale_mixture(N_SCALES[mean.dtype])
        out = torch.empty(3, *mean.shape, dtype=mean.dtype)
        flat = (part.detach().expand(mean.shape).reshape(-1).numpy() for part in (low, high, var))
        kernel(*flat, FAR, scales**2, weights, *out.reshape(3, -1).numpy())
        return out


def bernoulli_emission(like: Tensor) -> OrderedEmission:
    """`P(engaged) = sigmoid(a)`: the ordered family with one cut at zero."""
    return OrderedEmission(like.new_zeros(1))


def increasing_cuts(raw: Tensor) -> Tensor:
    """Thresholds from unconstrained numbers: the first, then exponentials of the gaps."""
    first = raw[..., :1]
    return torch.cat((first, first + torch.cumsum(torch.exp(raw[..., 1:]), -1)), -1)
