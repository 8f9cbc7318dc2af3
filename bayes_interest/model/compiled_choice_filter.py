"""One pass forward over choices with full covariances, as compiled CPU loops."""

from __future__ import annotations

import numpy as np
from numba import njit

from bayes_interest.model.compiled_choice import _softmax
from bayes_interest.model.compiled_choice_states import path_kernel
from bayes_interest.statespace.compiled_blocks import FAST, Array, root_of


@njit(cache=True, nogil=True, fastmath=FAST)
def choice_filter_kernel(
    start: Array, own: Array, absorb: Array, rho: Array, decay: Array, variance: Array,
    moved: Array, base: Array, vectors: Array, points: Array, mean: Array, cov: Array,
    before_mean: Array, before_cov: Array, log_prob: Array,
) -> None:  # fmt: skip
    """Move `mean` (user, D) and `cov` (user, D, D) past all events, and fill what was believed
    before each: means (event, D), covariances (event, D, D) and the choice's log probability at
    the mean (event,).

    Events of user u are `start[u]` to `start[u + 1]`: logits `rho (base + y . vectors)`. Of those
    that are not absorbed, what they `moved` (event, D) is taken back. An event's Gaussian is that
    of `path_kernel` in coordinates in which the state is N(0, I) before it.
    """
    dim, n_items = vectors.shape
    logits, turned = np.empty((1, n_items)), np.empty((dim, n_items))
    probs, root, half = np.empty(n_items), np.empty((dim, dim)), np.empty((dim, dim))
    still, nothing = np.ones(1), np.zeros((1, dim))
    step, spread, told = np.empty((1, dim)), np.empty((1, dim, dim)), np.empty((1, dim, dim))
    for user in range(len(start) - 1):
        m, p = mean[user], cov[user]
        for t in range(start[user], start[user + 1]):
            for d in range(dim):
                m[d] *= decay[t]
                before_mean[t, d] = m[d]
                for e in range(dim):
                    p[d, e] *= decay[t] * decay[t]
                p[d, d] += variance[t, d]
            for d in range(dim):
                for e in range(dim):
                    before_cov[t, d, e] = p[d, e]
            log_prob[t] = _softmax(base[t], vectors, m, rho[t], own[t], probs)
            if not absorb[t]:
                for d in range(dim):
                    p[d, d] -= moved[t, d]
                continue
            root_of(p, root)
            for i in range(n_items):
                logits[0, i] = base[t, i]
            for d in range(dim):
                for i in range(n_items):
                    logits[0, i] += m[d] * vectors[d, i]
                    turned[d, i] = 0.0
                for e in range(d, dim):
                    for i in range(n_items):
                        turned[d, i] += root[e, d] * vectors[e, i]
            path_kernel(
                logits, own[t : t + 1], rho[t : t + 1], still, turned, nothing, points, step,
                spread, told,
            )  # fmt: skip
            for d in range(dim):
                for e in range(dim):
                    half[d, e] = 0.0
                    for k in range(d + 1):
                        half[d, e] += root[d, k] * spread[0, k, e]
                for k in range(d + 1):
                    m[d] += root[d, k] * step[0, k]
            for d in range(dim):
                for e in range(d + 1):
                    total = 0.0
                    for k in range(e + 1):
                        total += half[d, k] * root[e, k]
                    p[d, e] = total
                    p[e, d] = total
