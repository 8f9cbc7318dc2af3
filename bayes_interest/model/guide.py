"""The guide, as a Pyro program: a Gaussian Markov chain per user, globals at a point.

The chain is the prior walk times the sites. In terms of the innovations it is sampled forward:
`eps_t | y_{t-1} ~ N(M_t S_t (j_t - J_t A_t y_{t-1}), M_t)` with `M_t = (I + S_t J_t S_t)^-1`,
where `exp(j . y - y' J y / 2)` is the backward message of all sites from t on and `S_t` the
scale of step t. Zero gaps give `S = 0` and leave the innovation at its prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from bayes_interest.model.generative import Design
from bayes_interest.model.parameters import Globals
from bayes_interest.statespace.random_walk import Transition


@dataclass(frozen=True)
class BackwardMessages:
    """Conditionals of the chain, one per (user, step)."""

    slope: Tensor  # d E[eps_t] / d y_{t-1}, (user, step, state_dim, state_dim)
    shift: Tensor  # (user, step, state_dim)
    factor: Tensor  # lower Cholesky factor of M_t, (user, step, state_dim, state_dim)


def backward_messages(precision: Tensor, linear: Tensor, walk: Transition) -> BackwardMessages:
    """From sites precision (user, step, D, D) and linear (user, step, D), by information form."""
    eye = torch.eye(linear.shape[-1], dtype=linear.dtype, device=linear.device)
    scale = walk.scale
    scale = torch.cat((torch.ones_like(scale[:, :1]), scale[:, 1:]), 1)
    decay = torch.cat((torch.zeros_like(walk.decay[:, :1]), walk.decay[:, 1:]), 1)
    j, big = torch.zeros_like(linear[:, 0]), torch.zeros_like(precision[:, 0])
    slopes, shifts, factors = [], [], []
    for t in reversed(range(linear.shape[1])):
        j, big = j + linear[:, t], big + precision[:, t]
        s, a = scale[:, t], decay[:, t]
        inner = eye + s[:, :, None] * big * s[:, None, :]
        cov = torch.cholesky_inverse(torch.linalg.cholesky(inner))
        lift = cov * s[:, None, :]  # M S
        slopes.append(-lift @ big * a[:, None, :])
        shifts.append((lift @ j[..., None])[..., 0])
        factors.append(torch.linalg.cholesky(cov))
        back = eye - big * s[:, None, :] @ lift  # (I + J Q)^-1
        j = a * (back @ j[..., None])[..., 0]
        big = a[:, :, None] * (back @ big) * a[:, None, :]
        big = 0.5 * (big + big.mT)
    return BackwardMessages(
        torch.stack(slopes[::-1], 1), torch.stack(shifts[::-1], 1), torch.stack(factors[::-1], 1)
    )


class InnovationChain(dist.TorchDistribution):
    """Distribution of a user's innovations under the guide; event shape (step, state_dim)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, messages: BackwardMessages, walk: Transition) -> None:
        self.messages = messages
        self.walk = walk
        shape = messages.shift.shape
        super().__init__(shape[:1], shape[1:], validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Sample forward, (draw, user, step, state_dim)."""
        shift = self.messages.shift
        noise = torch.randn(sample_shape + shift.shape, dtype=shift.dtype, device=shift.device)
        out, state = [], torch.zeros_like(noise[..., 0, :])
        for t in range(shift.shape[1]):
            spread = (self.messages.factor[:, t] @ noise[..., t, :, None])[..., 0]
            eps = self._mean(t, state) + spread
            state = self._advance(t, state, eps)
            out.append(eps)
        return torch.stack(out, -2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density (draw, user) by running the chain forward."""
        total = value.new_zeros(value.shape[:-2])
        state = torch.zeros_like(value[..., 0, :])
        for t in range(value.shape[-2]):
            eps = value[..., t, :]
            total = total + dist.MultivariateNormal(
                self._mean(t, state), scale_tril=self.messages.factor[:, t]
            ).log_prob(eps)
            state = self._advance(t, state, eps)
        return total

    def _mean(self, t: int, state: Tensor) -> Tensor:
        slope = (self.messages.slope[:, t] @ state[..., None])[..., 0]
        return slope + self.messages.shift[:, t]

    def _advance(self, t: int, state: Tensor, eps: Tensor) -> Tensor:
        if t == 0:
            return eps
        return self.walk.decay[:, t] * state + self.walk.scale[:, t] * eps


def interest_guide(design: Design, values: Globals, precision: Tensor, linear: Tensor) -> None:
    """Globals at `values`, users' innovations from the chain with the given sites.

    precision (user, step, state_dim, state_dim) and linear (user, step, state_dim) are the
    sites as functions of the state.
    """
    for name, shape in design.layout.shapes().items():
        pyro.sample(name, dist.Delta(values[name], event_dim=len(shape)))
    walk = design.batch.walk(design.layout, values)
    chain = InnovationChain(backward_messages(precision, linear, walk), walk)
    with pyro.plate("users", design.batch.mask.shape[0], dim=-1):
        pyro.sample("innovation", chain)
