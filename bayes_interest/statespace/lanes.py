"""The recursions of `kalman` over many users at once, as compiled CPU loops.

Arrays end in a lane axis, one user each: every inner loop is the same arithmetic on neighbouring
numbers, which the compiler turns into vector instructions whatever the state dimension is.
Covariances are symmetric, so only their lower triangles are kept and swept: per event and pass
some `3.5 D^2` operations. No covariance is stored: what the smoother needs of them is one vector
per event, and smoothed means follow from the adjoints alone (Koopman 1993).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.statespace.compiled import copy

Array = np.ndarray[Any, Any]
FAST = {"reassoc", "contract", "nsz"}
LANES, FEWEST, FULL = 96, 32, 16
"""Users side by side: at most, for loops over lanes are short and what stands around each counts;
as many even of long chains; and what their number is a multiple of: full vector registers."""
CACHED = 320 * 1024
"""Bytes of one array of all steps and lanes: some of them share a processor's second cache."""
LEAST = 10
"""So few users are served one after the other (`compiled`): most lanes would be empty."""
FLUSH = 8
"""Steps between logarithms: the product of as many float32 still is a float64."""


@njit(cache=True, nogil=True)
def lanes_of(n_users: int, n_bytes: int) -> int:
    """How many lanes to take users by, as even as can be; an array has `n_bytes` a lane."""
    most = min(LANES, max(FEWEST, CACHED // max(n_bytes, 1) // FULL * FULL))
    groups = max(1, (n_users + most - 1) // most)
    each = (n_users + groups - 1) // groups
    return max(1, (each + FULL - 1) // FULL) * FULL


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def standard(cov: Array) -> None:
    """Fill a triangle (dim, dim, lane) with that of the identity."""
    for i in range(cov.shape[0]):
        for j in range(i + 1):
            cov[i, j, :] = 1.0 if i == j else 0.0


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def narrow_move_times(
    cov: Array, gain: Array, along: Array, decay: Array, variance: Array, vector: Array, out: Array
) -> None:
    """`P <- A (P - g (P x)(P x)') A + Q` in place, and `out = P vector`, in one sweep.

    gain, decay (lane,); along, variance, vector, out (dim, lane).
    """
    dim, lanes = vector.shape
    scaled, square = np.empty(lanes, cov.dtype), np.empty(lanes, cov.dtype)
    for k in range(lanes):
        square[k] = decay[k] * decay[k]
    for i in range(dim):
        for k in range(lanes):
            scaled[k] = gain[k] * along[i, k]
        for k in range(lanes):
            p = square[k] * (cov[i, i, k] - scaled[k] * along[i, k]) + variance[i, k]
            cov[i, i, k] = p
            out[i, k] = p * vector[i, k]
        for j in range(i):
            for k in range(lanes):
                p = square[k] * (cov[i, j, k] - scaled[k] * along[j, k])
                cov[i, j, k] = p
                out[i, k] += p * vector[j, k]
                out[j, k] += p * vector[i, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def grow_move_times(
    cov: Array, x: Array, side: Array, decay: Array, vector: Array, out: Array
) -> None:
    """`C <- A (C + x side' + side x') A` in place, and `out = C vector`, in one sweep."""
    dim, lanes = vector.shape
    square = np.empty(lanes, cov.dtype)
    for k in range(lanes):
        square[k] = decay[k] * decay[k]
    for i in range(dim):
        for k in range(lanes):
            c = square[k] * (cov[i, i, k] + 2 * x[i, k] * side[i, k])
            cov[i, i, k] = c
            out[i, k] = c * vector[i, k]
        for j in range(i):
            for k in range(lanes):
                c = square[k] * (cov[i, j, k] + x[i, k] * side[j, k] + side[i, k] * x[j, k])
                cov[i, j, k] = c
                out[i, k] += c * vector[j, k]
                out[j, k] += c * vector[i, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def forward(
    x: Array,
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    along: Array,
    gain: Array,
    pull: Array,
    mean: Array,
    var: Array,
    evidence: Array,
    cov: Array,
) -> None:
    """Filter from `N(0, I)`; x, variance (step, dim, lane), linear, precision, decay (step, lane).

    Fills `along = P- x` (step, dim, lane), the predicted `mean` and `var` of the predictor, `gain`
    and `pull` (step, lane), and `evidence` (lane,). `cov` (dim, dim, lane) is room to work.
    """
    n_steps, dim, lanes = x.shape
    one, half = x.dtype.type(1), x.dtype.type(0.5)
    m, product = np.zeros((dim, lanes), x.dtype), np.ones(lanes)
    nothing, nowhere = np.zeros(lanes, x.dtype), np.zeros((dim, lanes), x.dtype)
    evidence[:] = 0.0
    standard(cov)
    for t in range(n_steps):
        gained, moved = (gain[t - 1], along[t - 1]) if t else (nothing, nowhere)
        narrow_move_times(cov, gained, moved, decay[t], variance[t], x[t], along[t])
        mean[t, :] = 0.0
        var[t, :] = 0.0
        for i in range(dim):
            for k in range(lanes):
                m[i, k] *= decay[t, k]
                mean[t, k] += m[i, k] * x[t, i, k]
                var[t, k] += along[t, i, k] * x[t, i, k]
        for k in range(lanes):
            h, lam, mu, s = linear[t, k], precision[t, k], mean[t, k], var[t, k]
            spread = one + lam * s
            shrink = one / spread
            gain[t, k] = lam * shrink
            pull[t, k] = (h - lam * mu) * shrink
            product[k] *= spread
            evidence[k] += (h * mu + half * (h * h * s - lam * mu * mu)) * shrink
        for i in range(dim):
            for k in range(lanes):
                m[i, k] += along[t, i, k] * pull[t, k]
        if t % FLUSH == FLUSH - 1 or t == n_steps - 1:
            for k in range(lanes):
                evidence[k] -= 0.5 * np.log(product[k])
                product[k] = 1.0


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def backward(
    x: Array,
    decay: Array,
    along: Array,
    gain: Array,
    pull: Array,
    mean: Array,
    var: Array,
    half: Array,
    adjoint: Array,
    score: Array,
    curve: Array,
) -> None:
    """Smooth: `mean` and `var` (step, lane) of the predictor become the smoothed ones, in place.

    Fills `half = C P- x`, with C the curvature of the later evidence, `adjoint` (of the predicted
    mean) and `score` (of the variance), all (step, dim, lane). `curve` is room to work.
    """
    n_steps, dim, lanes = x.shape
    one, two, middle = x.dtype.type(1), x.dtype.type(2), x.dtype.type(0.5)
    a, side = np.zeros((dim, lanes), x.dtype), np.zeros((dim, lanes), x.dtype)
    inner, push = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    curve[:] = 0.0
    for t in range(n_steps - 1, -1, -1):
        last = min(t + 1, n_steps - 1)  # at the end `side` is zero
        grow_move_times(curve, x[last], side, decay[last], along[t], half[t])
        inner[:] = 0.0
        push[:] = 0.0
        for i in range(dim):
            for k in range(lanes):
                inner[k] += along[t, i, k] * half[t, i, k]
                push[k] += along[t, i, k] * a[i, k]
        for k in range(lanes):
            g, s = gain[t, k], var[t, k]
            shrink = one - g * s
            mean[t, k] += s * pull[t, k] - shrink * push[k]
            var[t, k] = shrink * (s - shrink * inner[k])
            inner[k] = middle * (g * g * inner[k] + g)
            push[k] = g * push[k] + pull[t, k]
        for i in range(dim):
            for k in range(lanes):
                side[i, k] = inner[k] * x[t, i, k] - gain[t, k] * half[t, i, k]
                a[i, k] -= x[t, i, k] * push[k]
                straight = curve[i, i, k] + two * x[t, i, k] * side[i, k]
                adjoint[t, i, k] = a[i, k]
                score[t, i, k] = middle * (a[i, k] * a[i, k] - straight)
                a[i, k] *= decay[t, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def adjoints(
    x: Array, decay: Array, along: Array, gain: Array, pull: Array, adjoint: Array
) -> None:
    """The part of `backward` that `smoothed_means` needs: `adjoint` alone, (step, dim, lane)."""
    n_steps, dim, lanes = x.shape
    a, push = np.zeros((dim, lanes), x.dtype), np.empty(lanes, x.dtype)
    for t in range(n_steps - 1, -1, -1):
        push[:] = 0.0
        for i in range(dim):
            for k in range(lanes):
                push[k] += along[t, i, k] * a[i, k]
        for k in range(lanes):
            push[k] = gain[t, k] * push[k] + pull[t, k]
        for i in range(dim):
            for k in range(lanes):
                a[i, k] -= x[t, i, k] * push[k]
                adjoint[t, i, k] = a[i, k]
                a[i, k] *= decay[t, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def drift_slopes(
    x: Array,
    decay: Array,
    along: Array,
    gain: Array,
    pull: Array,
    growth: Array,
    moves: Array,
    slopes: Array,
    curve: Array,
) -> None:
    """Sums of the scores of `backward`, times `growth` and times `moves` (step, lane).

    Fills `slopes` (2, dim, lane), the evidence's in the variances per day and per event.
    """
    n_steps, dim, lanes = x.shape
    one, two, middle = x.dtype.type(1), x.dtype.type(2), x.dtype.type(0.5)
    a, side = np.zeros((dim, lanes), x.dtype), np.zeros((dim, lanes), x.dtype)
    half = np.empty((dim, lanes), x.dtype)
    inner, push = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    curve[:] = 0.0
    slopes[:] = 0.0
    for t in range(n_steps - 1, -1, -1):
        last = min(t + 1, n_steps - 1)  # at the end `side` is zero
        grow_move_times(curve, x[last], side, decay[last], along[t], half)
        inner[:] = 0.0
        push[:] = 0.0
        for i in range(dim):
            for k in range(lanes):
                inner[k] += along[t, i, k] * half[i, k]
                push[k] += along[t, i, k] * a[i, k]
        for k in range(lanes):
            g = gain[t, k]
            inner[k] = middle * g * (g * inner[k] + one)
            push[k] = g * push[k] + pull[t, k]
        for i in range(dim):
            for k in range(lanes):
                side[i, k] = inner[k] * x[t, i, k] - gain[t, k] * half[i, k]
                a[i, k] -= x[t, i, k] * push[k]
                straight = curve[i, i, k] + two * x[t, i, k] * side[i, k]
                score = middle * (a[i, k] * a[i, k] - straight)
                slopes[0, i, k] += growth[t, k] * score
                slopes[1, i, k] += moves[t, k] * score
                a[i, k] *= decay[t, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def smoothed_means(decay: Array, variance: Array, adjoint: Array, state: Array) -> None:
    """Fill the smoothed `state`, (step, dim, lane)."""
    n_steps, dim, lanes = adjoint.shape
    for t in range(n_steps):
        for i in range(dim):
            for k in range(lanes):
                last = state[t - 1, i, k] if t else -decay[t, k] * adjoint[t, i, k]
                state[t, i, k] = decay[t, k] * last - variance[t, i, k] * adjoint[t, i, k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def smoothed(
    decay: Array,
    variance: Array,
    along: Array,
    gain: Array,
    before: Array,
    half: Array,
    cov_x: Array,
    cov: Array,
) -> None:
    """Fill `cov_x = P^s x`, (step, dim, lane), by one more pass forward.

    `before` is the predicted variance of the predictor, (step, lane).
    """
    n_steps, dim, lanes = along.shape
    one = along.dtype.type(1)
    inner, narrowed = np.empty(lanes, along.dtype), np.empty((dim, lanes), along.dtype)
    nothing, nowhere = np.zeros(lanes, along.dtype), np.zeros((dim, lanes), along.dtype)
    standard(cov)
    for t in range(n_steps):
        gained, moved = (gain[t - 1], along[t - 1]) if t else (nothing, nowhere)
        narrow_move_times(cov, gained, moved, decay[t], variance[t], half[t], narrowed)
        inner[:] = 0.0
        for i in range(dim):
            for k in range(lanes):
                inner[k] += along[t, i, k] * half[t, i, k]
        for i in range(dim):
            for k in range(lanes):
                shrink = one - gain[t, k] * before[t, k]
                rest = narrowed[i, k] - gain[t, k] * inner[k] * along[t, i, k]
                cov_x[t, i, k] = shrink * (along[t, i, k] - rest)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def filter_smooth_lanes(
    x: Array,
    linear: Array,
    precision: Array,
    decay: Array,
    variance: Array,
    mean: Array,
    cov_x: Array,
    score: Array,
    predictor_mean: Array,
    predictor_var: Array,
    evidence: Array,
) -> None:
    """What `compiled.filter_smooth_kernel` does, some dozens of users at a time.

    A pass less where `cov_x` is empty.
    """
    n_users, n_steps, dim = x.shape
    whole, lanes = cov_x.shape[1] > 0, lanes_of(n_users, n_steps * dim * x.itemsize)
    kind = x.dtype
    shape, flat = (n_steps, dim, lanes), (n_steps, lanes)
    xs, qs, along, half = (
        np.zeros(shape, kind),
        np.zeros(shape, kind),
        np.empty(shape, kind),
        np.empty(shape, kind),
    )
    adjoint, scores, state, covs = (
        np.empty(shape, kind),
        np.empty(shape, kind),
        np.empty(shape, kind),
        np.empty(shape, kind),
    )
    h, lam, a = np.zeros(flat, kind), np.zeros(flat, kind), np.ones(flat, kind)
    gain, pull = np.empty(flat, kind), np.empty(flat, kind)
    mu, s, before = np.empty(flat, kind), np.empty(flat, kind), np.empty(flat, kind)
    cov, total = np.empty((dim, dim, lanes), kind), np.empty(lanes)
    for begin in range(0, n_users, lanes):
        here = min(lanes, n_users - begin)
        for k in range(here):
            u = begin + k
            for t in range(n_steps):
                h[t, k], lam[t, k], a[t, k] = linear[u, t], precision[u, t], decay[u, t]
                for d in range(dim):
                    xs[t, d, k], qs[t, d, k] = x[u, t, d], variance[u, t, d]
        forward(xs, h, lam, a, qs, along, gain, pull, mu, s, total, cov)
        copy(s, before)
        backward(xs, a, along, gain, pull, mu, s, half, adjoint, scores, cov)
        smoothed_means(a, qs, adjoint, state)
        if whole:
            smoothed(a, qs, along, gain, before, half, covs, cov)
        for k in range(here):
            u = begin + k
            evidence[u] = total[k]
            for t in range(n_steps):
                predictor_mean[u, t], predictor_var[u, t] = mu[t, k], s[t, k]
                for d in range(dim):
                    mean[u, t, d], score[u, t, d] = state[t, d, k], scores[t, d, k]
                    if whole:
                        cov_x[u, t, d] = covs[t, d, k]
