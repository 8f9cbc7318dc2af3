"""The joint density of one state dimension and its slope as compiled loops, and HMC on it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BINARY, LEVELS, CHOICE = 0, 1, 2


@njit(cache=True)
def potential(  # type: ignore[no-untyped-def]
    point, innovation, given, slope_point, slope_innovation
):
    """Minus log density at point (dim,) and innovation (user, step); fills both slopes.

    `given` is centre, spread (dim,), scaled features (item, E), item, outcome (user, step), root
    gaps (user, step) and the family.
    """
    centre, spread, features, item, outcome, root_gap, family = given
    flat = centre + spread * point
    last = min(_places(*features.shape)[-1], len(flat))
    n_cuts = len(flat) - last
    x, b = _items(flat, features, family)
    pulls = np.zeros_like(x), np.zeros_like(b), np.zeros(n_cuts)
    slope = np.zeros(len(flat))
    drift, cuts = math.exp(flat[0]), _cuts(flat[last:], family)
    log_prob = 0.0
    for u in range(len(item)):
        user = item[u], outcome[u], root_gap[u], innovation[u]
        found = _user(x, b, cuts, family, drift, user, pulls, slope_innovation[u])
        log_prob += found[0]
        slope[0] += found[1]
    _collect(flat, x, features, family, pulls, slope)
    slope_point[:] = point - spread * slope
    return 0.5 * ((point**2).sum() + (innovation**2).sum()) - log_prob


@njit(cache=True)
def _places(n_items, n_embed):  # type: ignore[no-untyped-def]
    """Where in a point: weight, offset weight, offset scale, offset, mean, residual scale,
    residual, intercept, and the bias or the cuts; the log drift comes first. Of choice the
    residual is the last.
    """
    scale = 1 + 2 * n_embed
    mean = scale + 1 + n_items
    intercept = mean + 2 + n_items
    return 1, 1 + n_embed, scale, scale + 1, mean, mean + 1, mean + 2, intercept, intercept + 1


@njit(cache=True)
def _items(flat, features, family):  # type: ignore[no-untyped-def]
    """Vectors and offsets, (item,) each."""
    places = _places(*features.shape)
    weight, offset_weight, offset_scale, offset, mean, scale, residual, intercept, last = places
    n_items, n_embed = features.shape
    x = math.exp(flat[scale]) * flat[residual : residual + n_items]
    if family != CHOICE:
        x += flat[intercept]
    b = math.exp(flat[offset_scale]) * flat[offset : offset + n_items]
    for i in range(n_items):
        for e in range(n_embed):
            x[i] += features[i, e] * flat[weight + e]
            b[i] += features[i, e] * flat[offset_weight + e]
        b[i] += x[i] * flat[mean]
        if family == BINARY:
            b[i] += flat[last]
    return x, b


@njit(cache=True)
def _cuts(raw, family):  # type: ignore[no-untyped-def]
    """Cut points from the first and the logarithms of their gaps."""
    cuts = raw.copy()
    if family == LEVELS:
        for k in range(1, len(cuts)):
            cuts[k] = cuts[k - 1] + math.exp(raw[k])
    return cuts


@njit(cache=True)
def _user(x, b, cuts, family, drift, user, pulls, slope):  # type: ignore[no-untyped-def]
    """Log probability of a user's outcomes and its derivative in the log drift.

    Adds to the slopes of items and cuts in `pulls`, and fills that of the potential in the
    innovations.
    """
    item, outcome, root_gap, innovation = user
    dx, db, dcut = pulls
    pull, state, log_prob = np.empty(len(item)), 0.0, 0.0
    for t in range(len(item)):
        state += innovation[t] * (1.0 if t == 0 else drift * root_gap[t])
        i = item[t]
        if family == CHOICE:
            found, pull[t] = _choice(x, b, state, i, dx, db)
            log_prob += found
            continue
        a = x[i] * state + b[i]
        if family == LEVELS:
            found, da = _level(a, cuts, outcome[t], dcut)
        else:
            found, da = _binary(a, outcome[t])
        log_prob += found
        pull[t] = da * x[i]
        dx[i] += da * state
        db[i] += da
    back, drifted = 0.0, 0.0
    for t in range(len(item) - 1, -1, -1):
        back += pull[t]
        scale = 1.0 if t == 0 else drift * root_gap[t]
        slope[t] = innovation[t] - back * scale
        if t > 0:
            drifted += back * scale * innovation[t]
    return log_prob, drifted


@njit(cache=True)
def _collect(flat, x, features, family, pulls, slope):  # type: ignore[no-untyped-def]
    """Slopes of the log probability in the globals from those in items and cuts."""
    places = _places(*features.shape)
    weight, offset_weight, offset_scale, offset, mean, scale, residual, intercept, last = places
    n_items, n_embed = features.shape
    dx, db, dcut = pulls
    slope[mean] = (db * x).sum()
    dx += db * flat[mean]
    if family != CHOICE:
        slope[intercept] = dx.sum()
    effects = ((residual, scale, dx), (offset, offset_scale, db))
    for place, size, pull in effects:
        grown = math.exp(flat[size]) * pull
        slope[place : place + n_items] = grown
        slope[size] = (grown * flat[place : place + n_items]).sum()
    for e in range(n_embed):
        slope[weight + e] = (features[:, e] * dx).sum()
        slope[offset_weight + e] = (features[:, e] * db).sum()
    if family == BINARY:
        slope[last] = db.sum()
    if family != LEVELS:
        return
    later = 0.0
    for k in range(len(dcut) - 1, -1, -1):
        later += dcut[k]
        slope[last + k] = later if k == 0 else later * math.exp(flat[last + k])


@njit(cache=True)
def _choice(x, b, state, own, dx, db):  # type: ignore[no-untyped-def]
    """Log probability of the item chosen and its derivative in the state; adds to the items'."""
    logits = x * state + b
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    dx -= probs * state
    db -= probs
    dx[own] += state
    db[own] += 1.0
    return math.log(probs[own]), x[own] - (probs * x).sum()


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
def moves(  # type: ignore[no-untyped-def]
    at, frame, given, leap, fewest, most, n_moves, thin, kept, seed
):
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
