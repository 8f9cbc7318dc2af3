"""dynamax's smoothers under jit, over all users at once."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.linear_gaussian_ssm import (
    lgssm_smoother,
    parallel_lgssm_smoother,
)
from dynamax.linear_gaussian_ssm.inference import make_lgssm_params

if TYPE_CHECKING:
    from benchmarks.speed.states import Chains


def smoothers(chains: Chains) -> dict[str, Callable[[], list[np.ndarray]]]:
    """Tasks by name; a site `exp(h a - lam a^2 / 2)` observes h / lam, variance 1 / lam."""
    linear, precision = chains.sites.linear.numpy(), chains.sites.precision.numpy()
    given = [
        jnp.asarray(part)
        for part in (
            chains.x.numpy()[:, :, None, :],
            (linear / precision)[..., None],
            (1.0 / precision)[..., None, None],
            chains.walk.variance.numpy(),
        )
    ]
    names = {"": lgssm_smoother, " parallel": parallel_lgssm_smoother}
    label = f"dynamax {version('dynamax')}"
    return {f"{label}{name}": task(smoother, given) for name, smoother in names.items()}


def task(smoother: Any, given: list[jax.Array]) -> Callable[[], list[np.ndarray]]:
    """Compiled for these shapes; outputs that nobody reads are left out by the compiler."""

    def one_user(
        x: jax.Array, seen: jax.Array, noise: jax.Array, moves: jax.Array
    ) -> tuple[jax.Array, ...]:
        dim = x.shape[-1]
        params = make_lgssm_params(
            jnp.zeros(dim), jnp.eye(dim), jnp.eye(dim), jax.vmap(jnp.diag)(moves), x, noise
        )
        found = smoother(params, seen)
        mean, cov, along = found.smoothed_means, found.smoothed_covariances, x[:, 0]
        return mean, (along * mean).sum(-1), jnp.einsum("ti,tij,tj->t", along, cov, along)

    compiled = jax.jit(jax.vmap(one_user)).lower(*given).compile()

    def run() -> list[np.ndarray]:
        return [np.asarray(part) for part in jax.block_until_ready(compiled(*given))]

    return run
