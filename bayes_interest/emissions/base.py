"""What a family with a scalar predictor must offer to the inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class ExpectedDerivatives:
    """First and second derivative of the log likelihood, averaged over `a ~ N(mean, var)`."""

    first: Tensor  # E[l'(a)]
    second: Tensor  # E[l''(a)] <= 0 for a log-concave family


@dataclass(frozen=True)
class Expected:
    """The log likelihood and its derivatives, averaged over `a ~ N(mean, var)`."""

    log_prob: Tensor
    slope: ExpectedDerivatives


class ScalarEmission(Protocol):
    """A log-concave likelihood of one outcome given one linear predictor `a`.

    All tensors broadcast; outcomes have the shape of `a` without its trailing axis of nodes.
    """

    def log_prob(self, predictor: Tensor, outcome: Tensor) -> Tensor:
        """Log likelihood; predictor may carry one trailing axis more than outcome."""
        ...

    def expected_log_prob(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """`E[log p(outcome | a)]` for `a ~ N(mean, var)`."""
        ...

    def expected_derivatives(
        self, mean: Tensor, var: Tensor, outcome: Tensor
    ) -> ExpectedDerivatives:
        """Derivatives averaged over `a ~ N(mean, var)` (Bonnet and Price)."""
        ...

    def expected(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """Both of these at once, without autograd."""
        ...

    def predictive(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Tensor:
        """`E[p(outcome | a)]` for `a ~ N(mean, var)`."""
        ...

    def evidence(self, mean: Tensor, var: Tensor, outcome: Tensor) -> Expected:
        """`log E[p(outcome | a)]`, never minus infinity, and its two derivatives in `mean`."""
        ...
