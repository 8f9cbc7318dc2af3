"""Expectations under a scalar Gaussian by Gauss-Hermite quadrature."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from torch import Tensor

N_NODES = 20


@lru_cache(maxsize=8)
def _hermite(n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return nodes, weights / weights.sum()


def nodes_and_weights(like: Tensor, n_nodes: int = N_NODES) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the standard normal, in the dtype and device of `like`."""
    nodes, weights = _hermite(n_nodes)
    return like.new_tensor(nodes), like.new_tensor(weights)


def expect(function: Callable[[Tensor], Tensor], mean: Tensor, var: Tensor) -> Tensor:
    """`E[f(a)]` for `a ~ N(mean, var)`, elementwise; f sees one more trailing axis of nodes."""
    nodes, weights = nodes_and_weights(mean)
    points = mean[..., None] + var.clamp_min(0.0).sqrt()[..., None] * nodes
    return (function(points) * weights).sum(-1)
