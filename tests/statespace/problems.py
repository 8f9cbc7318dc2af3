"""Random filtering problems: 5 users, 7 steps, 3 dimensions unless a test says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayes_interest.statespace.kalman import (
    Filtered,
    ScalarSites,
    Smoothed,
    filter_states,
    smooth_states,
)
from bayes_interest.statespace.random_walk import Transition, transition


@dataclass(frozen=True)
class Regression:
    """`target_t = x_t . z_t + N(0, noise_var_t)` along a walk."""

    x: Tensor  # (user, step, state_dim)
    target: Tensor  # (user, step)
    noise_var: Tensor  # (user, step)
    elapsed_days: Tensor  # (user, step)
    drift_scale: Tensor  # (state_dim,)
    half_life_days: float | None = None

    @property
    def walk(self) -> Transition:
        return transition(self.elapsed_days, self.drift_scale, self.half_life_days)

    @property
    def sites(self) -> ScalarSites:
        return ScalarSites(self.target / self.noise_var, 1.0 / self.noise_var)

    @property
    def site_norm(self) -> Tensor:
        """Log density of the targets minus log sites, (user,)."""
        constant = torch.log(2.0 * torch.pi * self.noise_var) + self.target**2 / self.noise_var
        return -0.5 * constant.sum(-1)

    def solve(self) -> tuple[Filtered, Smoothed]:
        forward = filter_states(self.x, self.sites, self.walk)
        return forward, smooth_states(self.x, self.sites, self.walk, forward, full=True)

    def to(self, dtype: torch.dtype) -> Regression:
        return replace(
            self,
            **{
                name: getattr(self, name).to(dtype)
                for name in ("x", "target", "noise_var", "elapsed_days", "drift_scale")
            },
        )

    def users(self, index: Tensor) -> Regression:
        return replace(
            self,
            x=self.x[index],
            target=self.target[index],
            noise_var=self.noise_var[index],
            elapsed_days=self.elapsed_days[index],
        )


def regression(
    seed: int = 0,
    n_users: int = 5,
    n_steps: int = 7,
    state_dim: int = 3,
    half_life_days: float | None = None,
) -> Regression:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    elapsed = 20.0 * uniform(n_users, n_steps)
    elapsed[:, 0] = 0.0
    drift = torch.logspace(-1.5, -0.3, state_dim, dtype=torch.float64)
    return Regression(
        normal(n_users, n_steps, state_dim),
        normal(n_users, n_steps),
        0.3 + uniform(n_users, n_steps),
        elapsed,
        drift,
        half_life_days,
    )
