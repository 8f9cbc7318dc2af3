"""The best items of a user in each of many joint draws as compiled CPU loops; see `drawn_tops.py`.

They release the interpreter, so that plain threads can share out the users.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bayes_interest.posterior.compiled_products import dot
from bayes_interest.ranking.compiled import item_range

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}
STRIP = 64
"""Predictors that are skipped together where all are too small."""


class Tops(NamedTuple):
    """The best items of each draw so far, a heap with the least first, (draw, place)."""

    value: Array  # predictor less the cut, float32
    item: Array  # position
    filled: Array  # how many of them there are, (draw,)


@njit(cache=True, nogil=True)
def _insert(tops: Tops, draw: int, value: float, item: int) -> None:
    """Put an item among the best of a draw, in place of the least where all places are taken."""
    best, who, n = tops.value[draw], tops.item[draw], tops.filled[draw]
    if n < len(best):
        at, tops.filled[draw] = n, n + 1
        while at > 0 and best[(at - 1) // 2] > value:
            above = (at - 1) // 2
            best[at], who[at], at = best[above], who[above], above
    elif value > best[0]:
        at, below = 0, 1
        while below < n:
            if below + 1 < n and best[below + 1] < best[below]:
                below += 1
            if best[below] >= value:
                break
            best[at], who[at] = best[below], who[below]
            at, below = below, 2 * below + 1
    else:
        return
    best[at], who[at] = value, item


@njit(cache=True, nogil=True)
def widest(about: Array, extent: Array, out: Array) -> None:
    """The greatest sd that each candidate may have of its own, (candidate,)."""
    for place in range(len(about)):
        out[place] = math.sqrt(item_range(about[place], extent)[1])


@njit(cache=True, nogil=True, fastmath=_FAST)
def _may_reach(base: Array, noise: Array, sd: Array, limit: Any) -> int:
    """How many predictors may be greater than `limit`, whatever the sds, up to `sd`, may be."""
    count, zero = 0, base.dtype.type(0)
    for at in range(len(base)):  # a sum becomes vector instructions, an early exit does not
        up = noise[at] if noise[at] > zero else zero
        count += int(base[at] + up * sd[at] > limit)
    return count


@njit(cache=True, nogil=True)
def put(
    base: Array, begin: int, noise: Array, sd: Array, known: Array, second: Array, item: Array,
    cov: Array, tops: Tops,
) -> None:  # fmt: skip
    """Put the candidates from the place `begin` on into the draws: `base` (draw, some) is what
    their predictors are but for noise of their own, standard normals (draw, candidate) times a sd
    (candidate,). The sds are bounds until they are `known`, which they become when they first
    matter.
    """
    n_draws, n_places = base.shape
    k, nothing = tops.value.shape[1], base.dtype.type(-np.inf)
    for draw in range(n_draws):
        means, normals = base[draw], noise[draw, begin : begin + n_places]
        limit = tops.value[draw, 0] if tops.filled[draw] == k else nothing
        for start in range(0, n_places, STRIP):
            end = min(start + STRIP, n_places)
            sds = sd[begin + start : begin + end]
            if not _may_reach(means[start:end], normals[start:end], sds, limit):
                continue
            for at in range(start, end):
                place = begin + at
                if means[at] + max(normals[at], 0.0) * sd[place] <= limit:
                    continue
                if not known[place]:
                    var = dot(cov[item[place]].ravel(), second)
                    sd[place], known[place] = math.sqrt(max(var, 0.0)), True
                value = means[at] + normals[at] * sd[place]
                if value > limit:
                    _insert(tops, draw, value, item[place])
                    if tops.filled[draw] == k:
                        limit = tops.value[draw, 0]
