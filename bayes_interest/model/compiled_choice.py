"""Softmax of all items and the most likely path of a user's choices, as compiled CPU loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.exponential import exp_of_negative
from bayes_interest.statespace.compiled import copy
from bayes_interest.statespace.compiled_blocks import (
    FAST,
    Array,
    filter_blocks,
    smooth_means,
    states_of,
)

NEWTON_STEPS, TOLERANCE, HALVINGS, SLACK = 30, 1e-3, 10, 1e-10


@njit(cache=True, nogil=True, fastmath=FAST)
def _softmax(base: Array, vectors: Array, y: Array, rho: Any, own: Any, probs: Array) -> Any:
    """Fill the probabilities of all items; returns the logarithm of the chosen one's."""
    dim, n_items = vectors.shape
    for i in range(n_items):
        probs[i] = base[i]
    for d in range(dim):
        for i in range(n_items):
            probs[i] += vectors[d, i] * y[d]
    top = probs[0]
    for i in range(n_items):
        top = max(top, probs[i])
    norm, chosen = 0.0, rho * (probs[own] - top)
    for i in range(n_items):
        probs[i] = exp_of_negative(rho * (probs[i] - top))
        norm += probs[i]
    for i in range(n_items):
        probs[i] /= norm
    return chosen - np.log(norm)


@njit(cache=True, nogil=True, fastmath=FAST)
def _moments(probs: Array, vectors: Array, rho: Any, mean: Array, curvature: Array) -> None:
    """Fill the mean vector (D,) under the softmax and the curvature (D, D) of its logarithm."""
    dim, n_items = vectors.shape
    for d in range(dim):
        total = 0.0
        for i in range(n_items):
            total += probs[i] * vectors[d, i]
        mean[d] = total
    for d in range(dim):
        for e in range(d + 1):
            total = 0.0
            for i in range(n_items):
                total += probs[i] * (vectors[d, i] - mean[d]) * (vectors[e, i] - mean[e])
            curvature[d, e] = rho * rho * total
            curvature[e, d] = curvature[d, e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _look(base: Array, vectors: Array, y: Array, rho: Array, own: Array, probs: Array) -> float:
    """Log probability of all choices at states y (step, D)."""
    total = 0.0
    for t in range(len(y)):
        total += _softmax(base[t], vectors, y[t], rho[t], own[t], probs[t])
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for t in range(a.shape[0]):
        for d in range(a.shape[1]):
            total += a[t, d] * b[t, d]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _mode(
    base: Array, vectors: Array, rho: Array, own: Array, decay: Array, variance: Array,
    y: Array, dual: Array, probs: Array, curvature: Array, gain: Array, cov: Array,
) -> float:  # fmt: skip
    """Newton's method from the `dual` given; fills y, dual, probs; returns sum log p - y.r / 2.

    A step that leads down is halved.
    """
    n_steps, dim = y.shape
    linear, there, turned = np.empty_like(y), np.empty_like(y), np.empty_like(y)
    mean, moved, back = np.empty(dim), np.empty_like(y), np.empty_like(y)
    states_of(decay, variance, dual, there, y)
    best = _look(base, vectors, y, rho, own, probs) - 0.5 * _dot(y, dual)
    for _ in range(NEWTON_STEPS):
        for t in range(n_steps):
            _moments(probs[t], vectors, rho[t], mean, curvature[t])
            for d in range(dim):
                linear[t, d] = rho[t] * (vectors[d, own[t]] - mean[d])
                for e in range(dim):
                    linear[t, d] += curvature[t, d, e] * y[t, e]
        filter_blocks(decay, variance, curvature, gain, cov)
        smooth_means(decay, curvature, gain, cov, linear, there)
        far = 0.0
        for t in range(n_steps):
            for d in range(dim):
                total = linear[t, d]
                for e in range(dim):
                    total -= curvature[t, d, e] * there[t, e]
                turned[t, d] = total
                far = max(far, abs(there[t, d] - y[t, d]))
        size = 1.0
        for _ in range(HALVINGS):
            for t in range(n_steps):
                for d in range(dim):
                    moved[t, d] = y[t, d] + size * (there[t, d] - y[t, d])
                    back[t, d] = dual[t, d] + size * (turned[t, d] - dual[t, d])
            value = _look(base, vectors, moved, rho, own, probs) - 0.5 * _dot(moved, back)
            if value >= best - SLACK * abs(best):
                break
            size *= 0.5
        best = value
        copy(moved, y)
        copy(back, dual)
        if size * far < TOLERANCE:
            break
    return best
