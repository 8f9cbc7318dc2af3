"""One of dynamax's smoothers under jit, over all users at once, in a process of its own.

python -m benchmarks.speed.states_dynamax INPUT.npz REPEATS [--parallel]

Prints the seconds of each call as a JSON list and writes what came out to OUTPUT.npz beside the
input. A process of its own, because XLA may wait for ever in the associative scan on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.linear_gaussian_ssm import lgssm_smoother, parallel_lgssm_smoother
from dynamax.linear_gaussian_ssm.inference import make_lgssm_params

from benchmarks.speed.rows import timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="x, linear, precision, variance")
    parser.add_argument("repeats", type=int)
    parser.add_argument("--parallel", action="store_true", help="the associative scan")
    options = parser.parse_args()
    run = task(
        parallel_lgssm_smoother if options.parallel else lgssm_smoother,
        observations(np.load(options.input)),
    )
    np.savez(options.input.with_name("OUTPUT.npz"), *run())
    print(json.dumps(timed({"": run}, options.repeats)[""]))


def observations(given: Any) -> list[jax.Array]:
    """A site `exp(h a - lam a^2 / 2)` observes h / lam with variance 1 / lam."""
    linear, precision = given["linear"], given["precision"]
    parts = (
        given["x"][:, :, None, :],
        (linear / precision)[..., None],
        (1.0 / precision)[..., None, None],
        given["variance"],
    )
    return [jnp.asarray(part) for part in parts]


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


if __name__ == "__main__":
    main()
