"""What Gibbs sampling asks of users' walks, compiled for the CPU: evidence and its slopes in the
drift, and paths drawn given utilities. Some dozens of users side by side (`statespace.lanes`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bayes_interest.statespace.lanes import (
    FAST,
    adjoints,
    drift_slopes,
    forward,
    lanes_of,
    smoothed_means,
)

Array = np.ndarray[Any, Any]


class Walk(NamedTuple):
    """Walks of a block's users between their events, (user, step), and what moves all of them."""

    decay: Array
    growth: Array
    moves: Array  # 1 where an event moves interest, 0 at the first and where there is none
    time_drift: Array  # variance per day, (dim,)
    event_drift: Array  # variance per event, (dim,)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _fill_walk(walk: Walk, begin: int, here: int, decay: Array, variance: Array) -> None:
    """Decay (step, lane) and variance (step, dim, lane) of some users."""
    n_steps, dim, _ = variance.shape
    for k in range(here):
        for t in range(n_steps):
            u = begin + k
            decay[t, k] = walk.decay[u, t]
            for d in range(dim):
                variance[t, d, k] = walk.growth[u, t] * walk.time_drift[d]
                variance[t, d, k] += walk.moves[u, t] * walk.event_drift[d]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def evidence_of_walks(
    x: Array, seen: Array, precision: Array, walk: Walk, evidence: Array, slopes: Array
) -> None:
    """Fill the log evidence of what was `seen` of `x . path` with a `precision`, (user, step) each.

    `evidence` (user,), and `slopes` (user, 2, dim) in the variances per day and per event. Without
    `sum(log precision)` and `sum(precision seen^2)`, in which the walk has no say.
    """
    n_users, n_steps, dim = x.shape
    lanes = lanes_of(n_users, n_steps * dim * x.itemsize)
    shape, flat = (n_steps, dim, lanes), (n_steps, lanes)
    xs, variance, along = np.zeros(shape), np.zeros(shape), np.empty(shape)
    decay, growth, moves = np.ones(flat), np.zeros(flat), np.zeros(flat)
    linear, lam = np.zeros(flat), np.zeros(flat)
    gain, pull, mean, var = np.empty(flat), np.empty(flat), np.empty(flat), np.empty(flat)
    cov, total, slope = np.empty((dim, dim, lanes)), np.empty(lanes), np.empty((2, dim, lanes))
    for begin in range(0, n_users, lanes):
        here = min(lanes, n_users - begin)
        _fill_walk(walk, begin, here, decay, variance)
        for k in range(here):
            u = begin + k
            for t in range(n_steps):
                lam[t, k], linear[t, k] = precision[u, t], precision[u, t] * seen[u, t]
                growth[t, k], moves[t, k] = walk.growth[u, t], walk.moves[u, t]
                for d in range(dim):
                    xs[t, d, k] = x[u, t, d]
        forward(xs, linear, lam, decay, variance, along, gain, pull, mean, var, total, cov)
        drift_slopes(xs, decay, along, gain, pull, growth, moves, slope, cov)
        for k in range(here):
            evidence[begin + k] = total[k]
            slopes[begin + k] = slope[:, :, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def draw_paths(
    x: Array, seen: Array, precision: Array, walk: Walk, moved: Array, noise: Array, path: Array
) -> None:
    """Fill paths (user, step, dim) drawn given what was `seen`, as `evidence_of_walks` has it.

    A path from the prior, made of the normal numbers `moved` (user, step, dim), and what would be
    seen of it with `noise` (user, step); the path is moved by the smoothed difference to what was
    (Durbin & Koopman 2002).
    """
    n_users, n_steps, dim = x.shape
    lanes = lanes_of(n_users, n_steps * dim * x.itemsize)
    shape, flat = (n_steps, dim, lanes), (n_steps, lanes)
    xs, variance, along, before = np.zeros(shape), np.zeros(shape), np.empty(shape), np.zeros(shape)
    adjoint, state, decay = np.empty(shape), np.empty(shape), np.ones(flat)
    linear, lam, left, own = np.zeros(flat), np.zeros(flat), np.zeros(flat), np.zeros(flat)
    gain, pull, mean, var = np.empty(flat), np.empty(flat), np.empty(flat), np.empty(flat)
    cov, total = np.empty((dim, dim, lanes)), np.empty(lanes)
    for begin in range(0, n_users, lanes):
        here = min(lanes, n_users - begin)
        _fill_walk(walk, begin, here, decay, variance)
        for k in range(here):
            u = begin + k
            for t in range(n_steps):
                lam[t, k], left[t, k], own[t, k] = precision[u, t], seen[u, t], noise[u, t]
                for d in range(dim):
                    xs[t, d, k], before[t, d, k] = x[u, t, d], moved[u, t, d]
        for t in range(n_steps):
            for d in range(dim if t else 0):
                for k in range(lanes):
                    before[t, d, k] *= np.sqrt(variance[t, d, k])
                for k in range(lanes):
                    before[t, d, k] += decay[t, k] * before[t - 1, d, k]
            for d in range(dim):
                for k in range(lanes):
                    left[t, k] -= before[t, d, k] * xs[t, d, k]
            for k in range(lanes):
                linear[t, k] = lam[t, k] * left[t, k] - own[t, k] * np.sqrt(lam[t, k])
        forward(xs, linear, lam, decay, variance, along, gain, pull, mean, var, total, cov)
        adjoints(xs, decay, along, gain, pull, adjoint)
        smoothed_means(decay, variance, adjoint, state)
        for k in range(here):
            for t in range(n_steps):
                for d in range(dim):
                    path[begin + k, t, d] = before[t, d, k] + state[t, d, k]
