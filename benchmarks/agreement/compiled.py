"""The joint density of one state dimension and its slope as compiled loops, and HMC on it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Places of the globals in a point; K cuts or one bias follow the intercept.
LOG_DRIFT = 0


@njit(cache=True)
def potential(point, innovation, given, slope_point, slope_innovation):  # type: ignore[no-untyped-def]
    """Minus log density at point (dim,) and innovation (user, step); fills both slopes.

    `given` is centre, spread (dim,), scaled features (item, E), item, outcome (user, step), root
    gaps (user, step) and whether outcomes are levels.
    """
    centre, spread, features, item, outcome, root_gap, levels = given
    n_items, n_embed = features.shape
    flat = centre + spread * point
    weight, offset_weight = 1, 1 + n_embed
    offset_scale = 1 + 2 * n_embed
    offset, mean = offset_scale + 1, offset_scale + 1 + n_items
    residual_scale, residual = mean + 1, mean + 2
    intercept = residual + n_items
    last = intercept + 1
    drift, m = math.exp(flat[LOG_DRIFT]), flat[mean]
    b_scale, r_scale = math.exp(flat[offset_scale]), math.exp(flat[residual_scale])
    x, b = np.empty(n_items), np.empty(n_items)
    for i in range(n_items):
        x[i] = flat[intercept] + r_scale * flat[residual + i]
        b[i] = b_scale * flat[offset + i]
        for e in range(n_embed):
            x[i] += features[i, e] * flat[weight + e]
            b[i] += features[i, e] * flat[offset_weight + e]
        b[i] += x[i] * m
        if not levels:
            b[i] += flat[last]
    n_cuts = len(flat) - last
    cuts = np.empty(n_cuts)
    if levels:
        cuts[0] = flat[last]
        for k in range(1, n_cuts):
            cuts[k] = cuts[k - 1] + math.exp(flat[last + k])
    slope = np.zeros(len(flat))
    dx, db, dcut = np.zeros(n_items), np.zeros(n_items), np.zeros(n_cuts)
    log_prob = 0.0
    n_users, n_steps = item.shape
    path, pull = np.empty(n_steps), np.empty(n_steps)
    for u in range(n_users):
        state = 0.0
        for t in range(n_steps):
            state += innovation[u, t] * (1.0 if t == 0 else drift * root_gap[u, t])
            path[t] = state
            i = item[u, t]
            a = x[i] * state + b[i]
            if levels:
                found, da = _level(a, cuts, outcome[u, t], dcut)
            else:
                found, da = _binary(a, outcome[u, t])
            log_prob += found
            pull[t] = da * x[i]
            dx[i] += da * state
            db[i] += da
        back = 0.0
        for t in range(n_steps - 1, -1, -1):
            back += pull[t]
            scale = 1.0 if t == 0 else drift * root_gap[u, t]
            slope_innovation[u, t] = innovation[u, t] - back * scale
            if t > 0:
                slope[LOG_DRIFT] += back * scale * innovation[u, t]
    for i in range(n_items):
        slope[mean] += db[i] * x[i]
        dx[i] += db[i] * m
        slope[intercept] += dx[i]
        slope[residual + i] = r_scale * dx[i]
        slope[residual_scale] += dx[i] * r_scale * flat[residual + i]
        slope[offset + i] = b_scale * db[i]
        slope[offset_scale] += db[i] * b_scale * flat[offset + i]
        for e in range(n_embed):
            slope[weight + e] += features[i, e] * dx[i]
            slope[offset_weight + e] += features[i, e] * db[i]
        if not levels:
            slope[last] += db[i]
    if levels:
        later = 0.0
        for k in range(n_cuts - 1, -1, -1):
            later += dcut[k]
            slope[last + k] = later if k == 0 else later * math.exp(flat[last + k])
    square = 0.0
    for j in range(len(flat)):
        slope_point[j] = point[j] - spread[j] * slope[j]
        square += point[j] ** 2
    for u in range(n_users):
        for t in range(n_steps):
            square += innovation[u, t] ** 2
    return 0.5 * square - log_prob


@njit(cache=True)
def _binary(a, outcome):  # type: ignore[no-untyped-def]
    """Log probability of a logistic outcome and its derivative."""
    sign = 1.0 if outcome > 0.5 else -1.0
    small = math.exp(-abs(a))
    wrong = (small if sign * a > 0.0 else 1.0) / (1.0 + small)
    return min(sign * a, 0.0) - math.log1p(small), sign * wrong


@njit(cache=True)
def _logistic(a):  # type: ignore[no-untyped-def]
    small = math.exp(-abs(a))
    return (1.0 if a > 0.0 else small) / (1.0 + small)


@njit(cache=True)
def _level(a, cuts, outcome, slope):  # type: ignore[no-untyped-def]
    """The same of a level between two cuts; adds to the cuts' slope."""
    level = int(outcome)
    below = _logistic(cuts[level] - a) if level < len(cuts) else 1.0
    under = _logistic(cuts[level - 1] - a) if level > 0 else 0.0
    prob = max(below - under, 1e-300)
    up, down = below * (1.0 - below) / prob, under * (1.0 - under) / prob
    if level < len(cuts):
        slope[level] += up
    if level > 0:
        slope[level - 1] -= down
    return math.log(prob), down - up


@njit(cache=True)
def placed_potential(at, frame, given, slope):  # type: ignore[no-untyped-def]
    """The same in affine coordinates `at` (dim + user * step,), see `Coordinates`; fills `slope`.

    `frame` is centre, path, root, tilt times root (user * step, dim), own root transposed.
    """
    centre, path, root, tilt, own = frame
    n_users, n_steps = path.shape
    dim = len(centre)
    v, w = at[:dim], at[dim:].reshape(n_users, n_steps)
    point = centre + root @ v
    innovation = path + (tilt @ v).reshape(n_users, n_steps)
    slope_point, slope_eps = np.empty(dim), np.empty((n_users, n_steps))
    for u in range(n_users):
        innovation[u] += w[u] @ own[u]
    value = potential(point, innovation, given, slope_point, slope_eps)
    slope[:dim] = slope_point @ root + slope_eps.reshape(-1) @ tilt
    for u in range(n_users):
        slope[dim + u * n_steps : dim + (u + 1) * n_steps] = own[u] @ slope_eps[u]
    return value


@njit(cache=True)
def moves(at, frame, given, leap, fewest, most, n_moves, thin, kept, seed):  # type: ignore[no-untyped-def]
    """Moves of one chain from `at`, in place; keeps every `thin`-th; the average acceptance.

    Leaps are of a random number between `fewest` and `most`, and of random length (+-20 %).
    """
    np.random.seed(seed)
    slope, there = np.empty_like(at), np.empty_like(at)
    value = placed_potential(at, frame, given, slope)
    total = 0.0
    for move in range(n_moves):
        momentum = np.random.standard_normal(len(at))
        energy = value + 0.5 * (momentum @ momentum)
        moved = at.copy()
        there[:] = slope
        new, size = value, leap * np.random.uniform(0.8, 1.2)
        for _ in range(np.random.randint(fewest, most + 1)):
            momentum -= 0.5 * size * there
            moved += size * momentum
            new = placed_potential(moved, frame, given, there)
            momentum -= 0.5 * size * there
        change = energy - new - 0.5 * (momentum @ momentum)
        chance = math.exp(min(change, 0.0)) if math.isfinite(change) else 0.0
        total += chance
        if np.random.random() < chance:
            at[:] = moved
            slope[:] = there
            value = new
        if (move + 1) % thin == 0:
            kept[(move + 1) // thin - 1] = at
    return total / n_moves
