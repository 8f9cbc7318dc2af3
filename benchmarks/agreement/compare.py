"""Two posteriors by their means and sds, with the Monte-Carlo error of every figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyro.ops.stats import split_gelman_rubin
from torch import Tensor

N_BLOCKS = 20
FIRST, MIDDLE, LAST, ALL = "first", "middle", "last", "all"
HALF_NORMAL = np.sqrt(2.0 / np.pi)


@dataclass(frozen=True)
class Moments:
    """First and second moments of some numbers, by block of draws: (block, ...) each.

    Blocks of one chain after the other are nearly independent; an exact posterior has one block.
    """

    first: np.ndarray
    second: np.ndarray

    @staticmethod
    def exact(mean: Tensor, var: Tensor) -> Moments:
        """Of a Gaussian."""
        return Moments(mean.double().numpy()[None], (var + mean**2).double().numpy()[None])

    @staticmethod
    def of(draws: Tensor, var: Tensor | None = None) -> Moments:
        """Of draws (draw, ...) one chain after the other; `var` is what each has left of its own.

        Draws beyond a multiple of `N_BLOCKS` are left out.
        """
        size = len(draws) // N_BLOCKS
        first = draws[: size * N_BLOCKS].double()
        second = first**2 if var is None else first**2 + var[: len(first)]
        blocks = [part.reshape(N_BLOCKS, size, *part.shape[1:]).mean(1) for part in (first, second)]
        return Moments(blocks[0].numpy(), blocks[1].numpy())

    def take(self, steps: slice) -> Moments:
        """Those of some steps of (block, user, step, ...)."""
        return Moments(self.first[:, :, steps], self.second[:, :, steps])

    def rows(self, rows: slice) -> Moments:
        """Those of some blocks; all, where there is one."""
        if len(self.first) == 1:
            return self
        return Moments(self.first[rows], self.second[rows])

    def without(self, block: int) -> Moments:
        """All blocks but one."""
        return Moments(np.delete(self.first, block, 0), np.delete(self.second, block, 0))

    @property
    def mean(self) -> np.ndarray:
        return self.first.mean(0)

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.second.mean(0) - self.mean**2)

    @property
    def noise(self) -> np.ndarray:
        """Variance of `mean` over repetitions of the sampling."""
        if len(self.first) == 1:
            return np.zeros_like(self.mean)
        return self.first.var(0, ddof=1) / len(self.first)


def worst_r_hat(chains: Tensor) -> float:
    """Of draws (chain, draw, ...), each chain in halves."""
    return float(split_gelman_rubin(chains).max())


def figures(ours: Moments, oracle: Moments) -> dict[str, float]:
    """What is told of many numbers at once.

    `error` is the average |difference of means| in the oracle's sds, `error_expected` what it
    would be were both right, `bias` the root mean square error without noise: products of the
    errors of two halves of the draws. `ratio` is the average of our sd over the oracle's,
    `ratio_error` its standard error by leaving out one block of draws after the other.
    """
    sd, noise = oracle.sd, oracle.noise
    half = len(oracle.first) // 2
    halves = [
        ours.rows(part).mean - oracle.rows(part).mean for part in (slice(half), slice(half, None))
    ]
    square = float((halves[0] * halves[1] / sd**2).mean())
    return {
        "error": float((np.abs(ours.mean - oracle.mean) / sd).mean()),
        "error_expected": float(HALF_NORMAL * (np.sqrt(noise + ours.noise) / sd).mean()),
        "bias": float(np.sqrt(max(0.0, square))),
        "ratio": float((ours.sd / sd).mean()),
        "ratio_error": float(np.sqrt(_jackknife(ours, oracle) + _jackknife(oracle, ours))),
        "effective_draws": float(1.0 / (noise / sd**2).mean()),
    }


def _jackknife(one: Moments, other: Moments) -> float:
    """Variance of the average log ratio of sds by the blocks of `one`."""
    n = len(one.first)
    if n == 1:
        return 0.0
    left = [np.log(one.without(block).sd / other.sd).mean() for block in range(n)]
    return float((n - 1) / n * np.sum((left - np.mean(left)) ** 2))


def by_step(ours: Moments, oracle: Moments) -> list[dict[str, object]]:
    """`figures` at the first, the middle, the last and all steps of (user, step, ...)."""
    n_steps = ours.first.shape[2]
    places = {
        FIRST: slice(0, 1),
        MIDDLE: slice(n_steps // 2, n_steps // 2 + 1),
        LAST: slice(n_steps - 1, n_steps),
        ALL: slice(None),
    }
    return [
        {"what": name, **figures(ours.take(steps), oracle.take(steps))}
        for name, steps in places.items()
    ]
