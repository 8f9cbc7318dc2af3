"""The loop of `filtering.filter_scalar` for ordered outcomes, compiled for the CPU.

Users are filtered one by one: what one user gets does not depend on who else is in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bayes_interest.emissions.compiled import evidence_of

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def filter_ordered_kernel(
    x: Array,
    offset: Array,
    decay: Array,
    variance: Array,
    lower: Array,
    upper: Array,
    mask: Array,
    item: Array,
    rho: Array,
    item_cov: Array,
    shift: Array,
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

    `shift` (user, step, dim) is what the item residual meets beside the deviation. Fills
    `forecast` (2, user, step), `state_mean` and, unless it is empty, `state_cov` (user, step, ...).
    An empty `item_cov` is no uncertainty about items.
    """
    n_users, n_steps, dim = x.shape
    one, zero = x.dtype.type(1), x.dtype.type(0)
    along, whole = np.empty(dim, x.dtype), np.empty(dim, x.dtype)
    items, keep = len(item_cov) > 0, len(state_cov) > 0
    for u in range(n_users):
        m, p = mean[u], cov[u]
        for t in range(n_steps):
            a, xt = decay[u, t], x[u, t]
            square_a = a * a
            for i in range(dim):
                m[i] *= a
                for j in range(dim):
                    p[i, j] *= square_a
                p[i, i] += variance[u, t, i]
            mu, var = zero, zero
            for i in range(dim):
                total = zero
                for j in range(dim):
                    total += p[i, j] * xt[j]
                along[i] = total
                mu += xt[i] * m[i]
                var += xt[i] * total
                state_mean[u, t, i] = m[i]
                whole[i] = shift[u, t, i] + m[i]
            if keep:
                state_cov[u, t] = p
            extra = zero
            if items:
                block = item_cov[item[u, t]]
                extra = block[dim, dim]
                for i in range(dim):
                    inner = (block[i, dim] + block[dim, i]) * whole[i]
                    for j in range(dim):
                        inner += block[i, j] * (whole[i] * whole[j] + p[i, j])
                    extra += inner
                extra *= rho[u, t]
            centre = mu + offset[u, t]
            forecast[0, u, t], forecast[1, u, t] = centre, var + extra
            if not mask[u, t]:
                continue
            low, high = max(lower[u, t] - centre, -far), min(upper[u, t] - centre, far)
            _, first, second = evidence_of(low, high, var + extra, far, square, weight)
            # The site that matches moments, see `statespace.sites`; then its gain and pull.
            shrink = min(max(one + var * second, least_share), one)
            precision = -min(second, zero) / shrink
            left = one + precision * var
            gain, pull = x.dtype.type(precision / left), x.dtype.type(first / shrink / left)
            for i in range(dim):
                m[i] += along[i] * pull
                scaled = gain * along[i]
                for j in range(dim):
                    p[i, j] -= scaled * along[j]
