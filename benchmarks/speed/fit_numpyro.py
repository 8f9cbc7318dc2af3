"""The rival in NumPyro: `AutoNormal` on the same model, compiled, without a scan."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import torch
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.initialization import init_to_value

from bayes_interest.model.parameters import initial_globals
from benchmarks.speed.fit_log import Arrays, Moments, fixed_priors


class NumPyroRival:
    """Full-batch SVI, many steps in one compiled loop."""

    own_state = True

    def __init__(
        self, data: Arrays, rate: float, centred: bool, chunk: int, init_scale: float = 0.1
    ) -> None:
        self.prepare(data, centred)
        self.chunk = chunk
        generator = torch.Generator().manual_seed(0)
        start: dict[str, Any] = {
            name: jnp.asarray(value.numpy())
            for name, value in initial_globals(data.layout, generator, torch.zeros(1)).items()
        }
        name = "state" if centred else "innovation"
        start[name] = jnp.zeros((*data.item.shape, data.layout.state_dim))
        self.guide = AutoNormal(
            self.program, init_loc_fn=init_to_value(values=start), init_scale=init_scale
        )
        self.svi = SVI(self.program, self.guide, optax.adam(rate), Trace_ELBO())
        began = time.perf_counter()
        self.state = self.svi.init(jax.random.PRNGKey(0), *self.given)
        self.loop = jax.jit(self._loop, donate_argnums=0).lower(self.state, self.given).compile()
        self.compile_seconds = time.perf_counter() - began

    def prepare(self, data: Arrays, centred: bool) -> None:
        """All that the program needs."""
        self.data, self.centred = data, centred
        self.priors = fixed_priors(data.layout)
        root_gap = np.sqrt(data.gap)[:, 1:, None]
        # Given as arguments: as constants of the program they would take longer to compile.
        self.given = tuple(map(jnp.asarray, (data.features, data.item, data.outcome, root_gap)))

    def program(
        self, features: jax.Array, item: jax.Array, outcome: jax.Array, root_gap: jax.Array
    ) -> None:
        """The same definition."""
        layout = self.data.layout
        values: dict[str, jax.Array] = {}
        for name in layout.shapes():
            mean, scale = self.priors[name]
            if name in ("residual", "offset"):
                scale = scale * jnp.exp(values[f"log_{name}_scale"])
            normal = dist.Normal(mean, scale).to_event(np.ndim(mean))
            values[name] = numpyro.sample(name, normal)
        vectors = features @ values["weight"].T / np.sqrt(layout.state_dim)
        vectors = vectors + values["intercept"] + values["residual"]
        offsets = features @ values["offset_weight"] + values["offset"] + values["bias"]
        offsets = offsets + vectors @ values["mean"]
        later = root_gap * jnp.exp(values["log_drift"])
        scale = jnp.concatenate((jnp.ones_like(later[:, :1]), later), 1)
        state = self._states(scale)
        logits = (vectors[item] * state).sum(-1) + offsets[item]
        numpyro.sample("outcome", dist.Bernoulli(logits=logits).to_event(2), obs=outcome)

    def _states(self, scale: jax.Array) -> jax.Array:
        if not self.centred:
            unit = dist.Normal(jnp.zeros(scale.shape), 1.0).to_event(3)
            moves = scale * numpyro.sample("innovation", unit)
            # A product with a triangle: as XLA lowers cumsum, it takes longer to compile and run.
            return jnp.einsum("st,utd->usd", jnp.tri(scale.shape[1]), moves)
        flat = dist.ImproperUniform(dist.constraints.real, (), scale.shape)
        state = numpyro.sample("state", flat)
        moved = jnp.diff(state, axis=1, prepend=jnp.zeros_like(state[:, :1]))
        numpyro.factor("walk", dist.Normal(0.0, scale).log_prob(moved).sum())
        return state

    def _loop(self, state: Any, given: tuple[jax.Array, ...]) -> Any:
        def step(state: Any, _: None) -> tuple[Any, jax.Array]:
            return self.svi.update(state, *given)

        return jax.lax.scan(step, state, None, length=self.chunk)[0]

    def run(self, n_steps: int) -> float:
        """Seconds that the steps took; a multiple of `chunk`."""
        began = time.perf_counter()
        for _ in range(n_steps // self.chunk):
            self.state = self.loop(self.state, self.given)
        jax.block_until_ready(self.state)
        return time.perf_counter() - began

    def moments(self) -> dict[str, Moments]:
        """Mean and sd of everything under the guide."""
        found = self.svi.get_params(self.state)
        names = [name.removesuffix("_auto_loc") for name in found if name.endswith("_auto_loc")]
        return {
            name: (
                np.asarray(found[f"{name}_auto_loc"], np.float64),
                np.asarray(found[f"{name}_auto_scale"], np.float64),
            )
            for name in names
        }
