"""The rival in Pyro: `AutoNormal` on the same model, vectorised over users and steps."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import embedding

from bayes_interest.model.generative import sample_globals
from bayes_interest.model.parameters import initial_globals, item_terms
from benchmarks.speed.fit_log import Arrays, Moments


class Walk(dist.TorchDistribution):
    """Density of whole paths (step, dim) with independent steps of the given scales."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale  # (user, step, dim)
        super().__init__(scale.shape[:1], scale.shape[1:], validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return (torch.randn(sample_shape + self.scale.shape) * self.scale).cumsum(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        moved = torch.diff(value, dim=-2, prepend=torch.zeros_like(value[..., :1, :]))
        return dist.Normal(0.0, self.scale).to_event(2).log_prob(moved)


def faster_with_jit(data: Arrays, n_steps: int = 10) -> bool:
    """Which takes less time a step here, once warm?"""
    seconds = []
    for jit in (False, True):
        rival = PyroRival(data, 0.01, False, jit)
        rival.run(2)
        seconds.append(rival.run(n_steps))
    return seconds[1] < seconds[0]


class PyroRival:
    """Full-batch SVI; `centred` has the guide over states, else over their increments.

    Parameters live in Pyro's global store: a new rival ends the one before.
    """

    compile_seconds, own_state = 0.0, False

    def __init__(
        self, data: Arrays, rate: float, centred: bool, jit: bool, init_scale: float = 0.1
    ) -> None:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        self.data, self.centred = data, centred
        self.features = torch.as_tensor(data.features) * np.sqrt(data.layout.embed_dim)
        self.item, self.outcome = torch.as_tensor(data.item), torch.as_tensor(data.outcome)
        self.root_gap = torch.as_tensor(data.gap).sqrt()[:, 1:, None]
        generator = torch.Generator().manual_seed(0)
        start = initial_globals(data.layout, generator, torch.zeros(1))
        name = "state" if centred else "innovation"
        start[name] = torch.zeros(*data.item.shape, data.layout.state_dim)
        self.guide = AutoNormal(
            self.program, init_loc_fn=init_to_value(values=start), init_scale=init_scale
        )
        elbo = JitTrace_ELBO(ignore_jit_warnings=True) if jit else Trace_ELBO()
        self.svi = SVI(self.program, self.guide, pyro.optim.Adam({"lr": rate}), elbo)

    def program(self) -> None:
        """The definition in `generative.py`, its walk a cumulative sum instead of a loop."""
        layout = self.data.layout
        values = sample_globals(layout, self.features)
        items = item_terms(layout, values, self.features)
        later = self.root_gap * values["log_drift"].exp()
        scale = torch.cat((torch.ones_like(later[:, :1]), later), 1)
        with pyro.plate("users", len(self.item), dim=-1):
            if self.centred:
                state = pyro.sample("state", Walk(scale))
            else:
                unit = torch.ones(scale.shape[1:])
                noise = pyro.sample("innovation", dist.Normal(0.0 * unit, unit).to_event(2))
                state = (scale * noise).cumsum(-2)
            vectors = embedding(self.item, items.vectors)
            offsets = embedding(self.item, items.offsets[:, None])[..., 0]
            logits = (vectors * state).sum(-1) + offsets
            pyro.sample("outcome", dist.Bernoulli(logits=logits).to_event(1), obs=self.outcome)

    def run(self, n_steps: int) -> float:
        """Seconds that the steps took."""
        began = time.perf_counter()
        for _ in range(n_steps):
            self.svi.step()
        return time.perf_counter() - began

    def moments(self) -> dict[str, Moments]:
        """Mean and sd of everything under the guide."""
        found = {}
        for name in self.guide.median():
            loc, scale = getattr(self.guide.locs, name), getattr(self.guide.scales, name)
            found[name] = (loc.detach().double().numpy(), scale.detach().double().numpy())
        return found
