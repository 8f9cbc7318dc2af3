"""The filter of ordered outcomes, event by event, compiled for the CPU.

Users are filtered one by one: what one user gets does not depend on who else is there. An event
costs about `9 state_dim^2` operations, on a covariance of the user and one of the item.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.compiled import evidence_of
from bayes_interest.statespace.compiled import copy

Array = np.ndarray[Any, Any]


FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=FAST)
def advance(
    mean: Array, cov: Array, days: Any, kappa: Any, moves: Any, drift: Array, event_drift: Array
) -> None:
    """One step of the walk in place, see `statespace.random_walk`; `kappa` 0 is no reversion.

    `m- = a m`, `P- = a^2 P + diag(g drift + moves event_drift)`.
    """
    one = mean.dtype.type(1)
    growth, decay = days, one
    if kappa > 0.0:
        decay = mean.dtype.type(math.exp(-kappa * days))
        growth = mean.dtype.type(-math.expm1(-(one + one) * kappa * days) / ((one + one) * kappa))
    square = decay * decay
    for i in range(len(mean)):
        if decay != one:
            mean[i] *= decay
            for j in range(len(mean)):
                cov[i, j] *= square
        cov[i, i] += growth * drift[i] + moves * event_drift[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def foresee(
    mean: Array, cov: Array, row: Array, rho: Any, total: Array, block: Array, along: Array
) -> tuple[Any, Any, Any]:
    """Mean and variance of `rho x . z`, and the variance that the item adds; fills `along`, `P x`.

    `total` (dim,) is the whole state, `block` (dim + 1, dim + 1) the item's covariance, or (0, 0).
    """
    dim, zero = len(mean), mean.dtype.type(0)
    mu, var, extra = zero, zero, zero
    known = len(block) > 0
    for i in range(dim):
        product, inner = zero, zero
        if known:
            for j in range(dim):
                product += cov[i, j] * row[j]
                inner += block[i, j] * (total[i] * total[j] + cov[i, j])
            extra += inner + (block[i, dim] + block[dim, i]) * total[i]
        else:
            for j in range(dim):
                product += cov[i, j] * row[j]
        along[i] = rho * product
        mu += row[i] * mean[i]
        var += row[i] * product
    if known:
        extra += block[dim, dim]
    return rho * mu, rho * rho * var, rho * rho * extra


@njit(cache=True, nogil=True, fastmath=FAST)
def learn_from(
    mean: Array, cov: Array, along: Array, var: Any, first: Any, second: Any, least_share: float
) -> None:
    """Absorb an event whose log evidence has the derivatives `first` and `second`, in place.

    By the site that matches moments, see `statespace.sites`, with its gain and pull.
    """
    one, zero = mean.dtype.type(1), mean.dtype.type(0)
    shrink = min(max(one + var * second, least_share), one)
    precision = -min(second, zero) / shrink
    left = one + precision * var
    gain, pull = mean.dtype.type(precision / left), mean.dtype.type(first / shrink / left)
    for i in range(len(mean)):
        mean[i] += along[i] * pull
        scaled = gain * along[i]
        for j in range(len(mean)):
            cov[i, j] -= scaled * along[j]


@njit(cache=True, nogil=True, fastmath=FAST)
def filter_ordered_kernel(
    start: Array,
    item: Array,
    days: Array,
    moves: Array,
    rho: Array,
    offset: Array,
    lower: Array,
    upper: Array,
    mask: Array,
    context: Array,
    vectors: Array,
    item_cov: Array,
    centre: Array,
    drift: Array,
    event_drift: Array,
    kappa: Any,
    far: float,
    least_share: float,
    square: Array,
    weight: Array,
    mean: Array,
    cov: Array,
    forecast: Array,
    state_mean: Array,
    state_cov: Array,
) -> None:
    """Move `mean` (user, dim) and `cov` (user, dim, dim) past the events, in place.

    The events of user u are those from `start[u]` to `start[u + 1]`. `centre` (dim,) and, unless it
    is empty, `context` (event, dim) are what the item meets beside the deviation. Fills what is not
    empty of `forecast` (2, event), `state_mean` (event, dim) and `state_cov` (event, dim, dim). An
    `item_cov` (1, 0, 0) is no uncertainty about items.
    """
    dim = vectors.shape[1]
    along, total = np.empty(dim, mean.dtype), np.empty(dim, mean.dtype)
    items, shifts = item_cov.shape[1] > 0, len(context) > 0
    told, means, covs = forecast.shape[1] > 0, len(state_mean) > 0, len(state_cov) > 0
    for u in range(len(start) - 1):
        m, p = mean[u], cov[u]
        for t in range(start[u], start[u + 1]):
            advance(m, p, days[t], kappa, moves[t], drift, event_drift)
            for i in range(dim):
                total[i] = centre[i] + m[i]
                if shifts:
                    total[i] += context[t, i]
            block = item_cov[item[t] if items else 0]
            mu, var, extra = foresee(m, p, vectors[item[t]], rho[t], total, block, along)
            middle = mu + offset[t]
            if told:
                forecast[0, t], forecast[1, t] = middle, var + extra
            for i in range(dim if means else 0):
                state_mean[t, i] = m[i]
            if covs:
                copy(p, state_cov[t])
            if mask[t]:
                low, high = max(lower[t] - middle, -far), min(upper[t] - middle, far)
                seen = evidence_of(low, high, var + extra, far, square, weight)
                learn_from(m, p, along, var, seen[1], seen[2], least_share)


@njit(cache=True, fastmath=FAST)
def observe_kernel(
    vectors: Array,
    offsets: Array,
    item_cov: Array,
    walk: Array,
    rho: Array,
    edges: Array,
    weights: Array,
    covariates: Array,
    kappa: Any,
    far: float,
    least_share: float,
    square: Array,
    weight: Array,
    mean: Array,
    cov: Array,
    item: int,
    kind: int,
    days: float,
    moves: float,
    level: int,
    stated: int,
    out: Array,
) -> None:
    """One event of one user at every setting of the globals: forecast it, then absorb it.

    First axes are settings: item `vectors`, `offsets` and `item_cov`, `walk` (setting, 3, dim) of
    mean state, drift and event drift, `rho` (setting, kind), `edges` (setting, level + 1) between
    the outcomes, `weights` of the covariates, the user's `mean` and `cov`. Fills `out`, (setting,
    6): E[interest] and E[interest^2] of the reference kind, P(outcome), P(outcome >= stated), and
    the predictor of interest, mean and variance.
    """
    dim, real = mean.shape[1], mean.dtype.type
    along, total = np.empty(dim, mean.dtype), np.empty(dim, mean.dtype)
    for s in range(len(mean)):
        m, p, r = mean[s], cov[s], rho[s, kind]
        advance(m, p, real(days), kappa, real(moves), walk[s, 1], walk[s, 2])
        for i in range(dim):
            total[i] = walk[s, 0, i] + m[i]
        mu, var, extra = foresee(m, p, vectors[s, item], r, total, item_cov[s, item], along)
        offset = offsets[s, item]
        for c in range(weights.shape[1]):
            offset += covariates[c] * weights[s, c]
        middle, spread = mu + offset * r, var + extra
        low = max(edges[s, level] - middle, -far)
        high = min(edges[s, level + 1] - middle, far)
        chance, first, second = evidence_of(low, high, spread, far, square, weight)
        learn_from(m, p, along, var, first, second, least_share)
        cut = edges[s, stated]
        reference, scale = middle / r - cut, spread / (r * r)
        if r == 1.0 and edges.shape[1] == 3:  # two outcomes: interest is the upper one
            interest = chance if level >= stated else 1.0 - chance
            slope = first * chance if level >= stated else -first * chance
        else:
            seen = evidence_of(-reference, far, scale, far, square, weight)
            interest, slope = seen[0], seen[0] * seen[1]
        above = interest
        if r != 1.0:
            above = evidence_of(cut - middle, far, spread, far, square, weight)[0]
        out[s, 0], out[s, 1], out[s, 2] = interest, interest - slope, chance
        out[s, 3], out[s, 4], out[s, 5] = above, reference, scale
