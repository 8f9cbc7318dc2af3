"""One visit of a batch of users as a compiled CPU loop: sites, ELBO, and the globals' slopes.

What `elbo.fit_chains` and `elbo.chains_objective` do in tensors, for ordered outcomes without a
context: some dozens of users at a time side by side (`statespace.lanes`), from their events in
place, with nothing kept that the slopes do not need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bayes_interest.emissions.averages import expect
from bayes_interest.statespace.compiled import copy
from bayes_interest.statespace.lanes import (
    FAST,
    backward,
    forward,
    lanes_of,
    smoothed,
    smoothed_means,
)

Array = np.ndarray[Any, Any]


class Events(NamedTuple):
    """Those of a block, (user, step, ...); where `mask` is false there is none."""

    event: Array  # its place in the log
    mask: Array
    item: Array
    kind: Array
    level: Array
    decay: Array
    growth: Array
    moves: Array
    covariates: Array  # (user, step, covariate)


class Point(NamedTuple):
    """The globals of the moment."""

    vectors: Array  # (item, dim)
    offsets: Array  # (item,)
    weight: Array  # (covariate,)
    reliability: Array  # (kind,)
    lower: Array  # (level,), far below instead of infinite
    upper: Array  # (level,)
    width: Array  # log(1 - exp(lower - upper)), (level,)
    time_drift: Array  # variance per day, (dim,)
    event_drift: Array  # variance per event, (dim,)


class Slopes(NamedTuple):
    """What a visit finds, by user and step of the block."""

    elbo: Array  # (user,)
    state: Array  # smoothed deviation, (user, step, dim)
    vector: Array  # slope of the ELBO in x_i, (user, step, dim)
    offset: Array  # in b_i, (user, step)
    weight: Array  # what the event says about its item, see `ScalarFamily`, (user, step)
    covariates: Array  # in their weights, (user, covariate)
    reliability: Array  # (user, kind)
    lower: Array  # in the cut below each level, (user, level)
    upper: Array  # in the cut above it, (user, level)
    counts: Array  # events of each level, (user, level)
    time_drift: Array  # in the variance per day, (user, dim)
    event_drift: Array  # in the variance per event, (user, dim)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def visit(
    log: Events,
    point: Point,
    linear: Array,
    precision: Array,
    n_looks: int,
    slack: float,
    growth: float,
    square: Array,
    share: Array,
    out: Slopes,
) -> None:
    """`n_looks - 1` natural-gradient steps of the users' sites (in place), and their slopes.

    `linear` and `precision` are those of the whole log, (event,).
    """
    n_users, n_steps = log.item.shape
    dim, kind = point.vectors.shape[1], point.vectors.dtype
    lanes = lanes_of(n_users, n_steps * dim * point.vectors.itemsize)
    number, size = n_steps * lanes, kind.type(1)
    x, var_z = np.empty((n_steps, dim, lanes), kind), np.empty((n_steps, dim, lanes), kind)
    along, half = np.empty((n_steps, dim, lanes), kind), np.empty((n_steps, dim, lanes), kind)
    adjoint, score = np.empty((n_steps, dim, lanes), kind), np.empty((n_steps, dim, lanes), kind)
    state, cov_x = np.empty((n_steps, dim, lanes), kind), np.empty((n_steps, dim, lanes), kind)
    rows = np.empty((16, n_steps, lanes), kind)
    flat = rows.reshape(16, number)
    h, lam, kept_h, kept_lam = rows[0], rows[1], rows[2], rows[3]
    to_h, to_lam, decay, offset = rows[4], rows[5], rows[6], rows[7]
    lower, upper, gain, pull = rows[8], rows[9], rows[10], rows[11]
    mean, var, before, real = rows[12], rows[13], rows[14], rows[15]
    seen = np.empty((6, number), kind)
    bands = seen.reshape(6, n_steps, lanes)
    low, high, fit = bands[0], bands[1], bands[2]
    first, second, below = bands[3], bands[4], bands[5]
    cov = np.empty((dim, dim, lanes), kind)
    evidence, elbo, best, step = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.empty(lanes)
    ahead, better = np.zeros(lanes, kind), np.ones(lanes, np.bool_)
    far = kind.type(point.upper[-1])
    for begin in range(0, n_users, lanes):
        here = min(lanes, n_users - begin)
        longest = 0
        x[:] = 0.0
        var_z[:] = 0.0
        rows[:] = 0.0
        decay[:, :] = size
        upper[:, :] = size
        for k in range(here):
            u = begin + k
            for t in range(n_steps):
                if not log.mask[u, t]:
                    continue
                longest = max(longest, t + 1)
                e = log.event[u, t]
                i, rho = log.item[u, t], point.reliability[log.kind[u, t]]
                real[t, k] = size
                h[t, k], lam[t, k], decay[t, k] = linear[e], precision[e], log.decay[u, t]
                total = point.offsets[i]
                for c in range(len(point.weight)):
                    total += point.weight[c] * log.covariates[u, t, c]
                offset[t, k] = rho * total
                lower[t, k], upper[t, k] = (
                    point.lower[log.level[u, t]],
                    point.upper[log.level[u, t]],
                )
                for d in range(dim):
                    x[t, d, k] = rho * point.vectors[i, d]
                    var_z[t, d, k] = log.growth[u, t] * point.time_drift[d]
                    var_z[t, d, k] += log.moves[u, t] * point.event_drift[d]
        step[:] = 1.0
        look, again = 0, False
        while look < n_looks or again:
            forward(x[:longest], h, lam, decay, var_z, along, gain, pull, mean, var, evidence, cov)
            copy(var, before)
            backward(x[:longest], decay, along, gain, pull, mean, var, half, adjoint, score, cov)
            for t in range(longest):
                for k in range(lanes):
                    centre = mean[t, k] + offset[t, k]
                    low[t, k] = max(lower[t, k] - centre, -far)
                    high[t, k] = min(upper[t, k] - centre, far)
            reach = longest * lanes
            expect(
                seen[0][:reach], seen[1][:reach], flat[13][:reach], far, square, share,
                seen[2][:reach], seen[3][:reach], seen[4][:reach], seen[5][:reach],
            )  # fmt: skip
            for k in range(lanes):
                elbo[k] = evidence[k]
            for t in range(longest):
                for k in range(lanes):
                    a = mean[t, k]
                    expected = h[t, k] * a - lam[t, k] * (var[t, k] + a * a) / 2
                    elbo[k] += real[t, k] * fit[t, k] - expected
            if again:
                break
            worse, last = False, look == n_looks - 1
            for k in range(here):
                better[k] = not (look > 0 and elbo[k] < best[k] - slack * (1.0 + abs(best[k])))
                if better[k]:
                    best[k] = elbo[k]
                    step[k] = 1.0 if look == 0 else min(1.0, step[k] * growth)
                else:
                    worse = True
                    step[k] *= 0.5
                ahead[k] = 0.0 if last else step[k]  # at last, settle where the ELBO was best
            for t in range(longest):
                for k in range(lanes):
                    kept_h[t, k] = h[t, k] if better[k] else kept_h[t, k]
                    kept_lam[t, k] = lam[t, k] if better[k] else kept_lam[t, k]
                for k in range(lanes):
                    wanted = max(-second[t, k] * real[t, k], kind.type(0))
                    to_lam[t, k] = wanted if better[k] else to_lam[t, k]
                for k in range(lanes):
                    wanted = first[t, k] * real[t, k] + to_lam[t, k] * mean[t, k]
                    to_h[t, k] = wanted if better[k] else to_h[t, k]
                for k in range(lanes):
                    h[t, k] = kept_h[t, k] + ahead[k] * (to_h[t, k] - kept_h[t, k])
                    lam[t, k] = kept_lam[t, k] + ahead[k] * (to_lam[t, k] - kept_lam[t, k])
            again = last and worse
            look += 1
        smoothed_means(decay[:longest], var_z, adjoint[:longest], state)
        smoothed(decay[:longest], var_z, along[:longest], gain, before, half, cov_x, cov)
        _collect(
            log, point, begin, here, x, h, lam, mean, var, first, second, below,
            state, cov_x, score, elbo, linear, precision, out,
        )  # fmt: skip


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _collect(
    log: Events,
    point: Point,
    begin: int,
    here: int,
    x: Array,
    h: Array,
    lam: Array,
    mean: Array,
    var: Array,
    first: Array,
    second: Array,
    below: Array,
    state: Array,
    cov_x: Array,
    score: Array,
    elbo: Array,
    linear: Array,
    precision: Array,
    out: Slopes,
) -> None:
    """Write what some lanes have found to their users' rows."""
    dim, zero = x.shape[1], x.dtype.type(0)
    for k in range(here):
        u = begin + k
        out.elbo[u] = elbo[k]
        for t in range(log.item.shape[1]):
            if not log.mask[u, t]:
                continue
            e = log.event[u, t]
            i, rho, level = log.item[u, t], point.reliability[log.kind[u, t]], log.level[u, t]
            linear[e], precision[e] = h[t, k], lam[t, k]
            out.elbo[u] += point.width[level]
            total, slope = point.offsets[i], zero
            for c in range(len(point.weight)):
                total += point.weight[c] * log.covariates[u, t, c]
                out.covariates[u, c] += rho * first[t, k] * log.covariates[u, t, c]
            for d in range(dim):
                along = first[t, k] * state[t, d, k] + second[t, k] * cov_x[t, d, k]
                slope += along * point.vectors[i, d]
                out.vector[u, t, d] = rho * along
                out.state[u, t, d] = state[t, d, k]
                out.time_drift[u, d] += log.growth[u, t] * score[t, d, k]
                out.event_drift[u, d] += log.moves[u, t] * score[t, d, k]
            out.offset[u, t] = rho * first[t, k]
            out.reliability[u, log.kind[u, t]] += slope + first[t, k] * total
            out.lower[u, level] -= below[t, k]
            out.upper[u, level] += below[t, k] - first[t, k]
            out.counts[u, level] += x.dtype.type(1)
            left = max(x.dtype.type(1) - lam[t, k] * var[t, k], zero)
            out.weight[u, t] = rho * rho * lam[t, k] * left


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def scatter(
    log: Events,
    centre: Array,
    found: Slopes,
    vectors: Array,
    offsets: Array,
    blocks: Array,
) -> None:
    """Add what events say to their items.

    Slopes to vectors (item, dim) and offsets (item,), precision to blocks (item, dim + 1, dim + 1).
    """
    dim = vectors.shape[1]
    state = np.ones(dim + 1, vectors.dtype)
    for u in range(log.item.shape[0]):
        for t in range(log.item.shape[1]):
            i = log.item[u, t]
            if not log.mask[u, t]:
                continue
            offsets[i] += found.offset[u, t]
            for d in range(dim):
                vectors[i, d] += found.vector[u, t, d]
                state[d] = centre[d] + found.state[u, t, d]
            for d in range(dim + 1):
                scaled = found.weight[u, t] * state[d]
                for c in range(dim + 1):
                    blocks[i, d, c] += scaled * state[c]
