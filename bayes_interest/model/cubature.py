"""Points and weights that stand for a standard normal: spherical-radial rules of degree 5 or more.

Radii are Gauss's for the chi distribution, of directions each has its mirror image (Monahan & Genz
1997): +-1, a regular polygon, corners of an icosahedron and its dual (McLaren 1963), or those and
middles of edges of a simplex (Mysovskikh 1980).
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy.special import roots_genlaguerre

MAX_DIM = 7
"""Above it a simplex has weights below zero."""
RADII, RADII_OF_LINE = 4, 8
SIDES = 12
GOLDEN = (1.0 + 5.0**0.5) / 2.0


@cache
def normal_points(dim: int) -> np.ndarray:
    """(point, 1 + dim): the logarithm of each weight, then where it is; none above `MAX_DIM`."""
    points = _rule(dim) if dim <= MAX_DIM else np.empty((0, 1 + dim))
    points.flags.writeable = False
    return points


def _rule(dim: int) -> np.ndarray:
    way, share = _directions(dim)
    half_square, weight = roots_genlaguerre(RADII if dim > 1 else RADII_OF_LINE, dim / 2.0 - 1.0)
    where = (np.sqrt(2.0 * half_square)[:, None, None] * way).reshape(-1, dim)
    log_weight = np.log(np.outer(weight / weight.sum(), share)).reshape(-1, 1)
    return np.concatenate((log_weight, where), 1)


def _directions(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (direction, dim) and their weights."""
    if dim == 1:
        return np.array([[1.0], [-1.0]]), np.full(2, 0.5)
    if dim == 2:
        angle = 2.0 * np.pi * np.arange(SIDES) / SIDES
        return np.stack((np.cos(angle), np.sin(angle)), 1), np.full(SIDES, 1.0 / SIDES)
    if dim == 3:
        few = _unit(_all_signs([(0.0, 1.0, GOLDEN)]))
        many = _unit(_all_signs([(1.0, 1.0, 1.0), (0.0, GOLDEN, 1.0 / GOLDEN)]))
        shares = np.repeat((25.0 / 840.0, 27.0 / 840.0), (len(few), len(many)))
        return np.concatenate((few, many)), shares
    centred = np.eye(dim + 1) - 1.0 / (dim + 1)
    corner = _unit(centred @ np.linalg.svd(centred)[2][:dim].T)
    middle = _unit(np.stack([corner[i] + corner[j] for i in range(dim + 1) for j in range(i)]))
    scale = (dim + 1) ** 2 * (dim + 2)
    of_corner, of_middle = dim * (7 - dim) / 2.0 / scale, 2.0 * (dim - 1) ** 2 / dim / scale
    both = [(corner, of_corner), (-corner, of_corner), (middle, of_middle), (-middle, of_middle)]
    kept = [(way, share) for way, share in both if share > 0.0]
    return (
        np.concatenate([way for way, _ in kept]),
        np.concatenate([np.full(len(way), share) for way, share in kept]),
    )


def _all_signs(rows: list[tuple[float, float, float]]) -> np.ndarray:
    """Each row in its cyclic orders with all signs, once."""
    signs = np.array(list(product((1.0, -1.0), repeat=3)))
    turned = [np.roll(row, shift) * signs for row in rows for shift in range(3)]
    return np.unique(np.concatenate(turned) + 0.0, axis=0)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / length
    return unit
