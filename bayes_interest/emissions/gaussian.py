"""Gaussian family, the one with an exact answer: it anchors every test of the inference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.emissions.base import Expected, ExpectedDerivatives


@dataclass(frozen=True)
class GaussianEmission:
    """`outcome ~ N(a, noise_var)`."""

    noise_var: Tensor

    def log_prob(self, predictor: Tensor, outcome: Tensor) -> Tensor:
        """Log density of the outcome."""
        if predictor.ndim > outcome.ndim:
            outcome = outcome[..., None]
        return self._density(outcome - predictor, self.noise_var)

    def expected_log_prob(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """`E[log N(outcome; a, noise_var)]`, in closed form."""
        return self._density(outcome - mean, self.noise_var) - 0.5 * var / self.noise_var

    def expected_derivatives(
        self, mean: Tensor, var: Tensor, outcome: Tensor
    ) -> ExpectedDerivatives:
        """Exact for every `var`: the sites are the true ones after one step."""
        second = torch.zeros_like(var) - 1.0 / self.noise_var
        return ExpectedDerivatives((outcome - mean) / self.noise_var, second)

    def expected(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """Both at once."""
        fit = self.expected_log_prob(mean, var, outcome)
        return Expected(fit, self.expected_derivatives(mean, var, outcome))

    def predictive(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """Predictive density of the outcome."""
        return self.evidence(mean, var, outcome).log_prob.exp()

    def evidence(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """`log N(outcome; mean, var + noise_var)`, with its derivatives."""
        total = var + self.noise_var
        slope = ExpectedDerivatives((outcome - mean) / total, -1.0 / total)
        return Expected(self._density(outcome - mean, total), slope)

    @staticmethod
    def _density(difference: Tensor, var: Tensor) -> Tensor:
        return -0.5 * (difference**2 / var + torch.log(2.0 * math.pi * var))
