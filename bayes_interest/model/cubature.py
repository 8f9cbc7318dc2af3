"""Points and weights that stand for a standard normal: spherical-radial rules of degree 7 or more.

Radii are Gauss's for the chi distribution, of directions each has its mirror image (Monahan & Genz
1997): +-1, a regular polygon, corners of an icosahedron and its dual (McLaren 1963), or those of a
24-cell and its dual.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy.special import roots_genlaguerre

MAX_DIM = 4
"""A choice is hardly told better along more directions."""
RADII, RADII_OF_LINE = 4, 8
SIDES = 12
GOLDEN = (1.0 + 5.0**0.5) / 2.0


@cache
def normal_points(dim: int) -> np.ndarray:
    """(point, 1 + dim): the logarithm of each weight, then where it is; for up to `MAX_DIM`."""
    way, share = _directions(dim)
    half_square, weight = roots_genlaguerre(RADII if dim > 1 else RADII_OF_LINE, dim / 2.0 - 1.0)
    where = (np.sqrt(2.0 * half_square)[:, None, None] * way).reshape(-1, dim)
    log_weight = np.log(np.outer(weight / weight.sum(), share)).reshape(-1, 1)
    points = np.concatenate((log_weight, where), 1)
    points.flags.writeable = False
    return points


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
    cells = [way for way in product((-1.0, 0.0, 1.0), repeat=4) if np.abs(way).sum() in (1, 2, 4)]
    return _unit(np.array(cells)), np.full(len(cells), 1.0 / len(cells))


def _all_signs(rows: list[tuple[float, float, float]]) -> np.ndarray:
    """Each row in its cyclic orders with all signs, once."""
    signs = np.array(list(product((1.0, -1.0), repeat=3)))
    turned = [np.roll(row, shift) * signs for row in rows for shift in range(3)]
    return np.unique(np.concatenate(turned) + 0.0, axis=0)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / length
    return unit
