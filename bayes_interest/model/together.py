"""The filter of users and items together: every event moves the belief about both.

A user's state and an item's residual and offset are kept independent of each other (assumed
density filtering, as of the two sides of Matchbox; Stern, Herbrich & Graepel 2009). With the
predictor's forecast `N(m, v)` and `d`, `c` the derivatives of the log evidence, each side moves by
its covariance `g` with the predictor: mean by `g d`, covariance by `g g' c`. One item is met by
many users, so events are taken in order of time, all users' among each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

from bayes_interest.emissions.compiled import evidence_of
from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.emissions.ordered import FAR
from bayes_interest.events.history import History
from bayes_interest.model.batch import EventTensors
from bayes_interest.model.compiled import FAST, advance, foresee, learn_from
from bayes_interest.model.filtering import Belief, event_parts, global_parts, pull_back
from bayes_interest.model.parameters import Globals, Items, Layout
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.sites import SMALLEST_SHARE

Array = np.ndarray[Any, Any]


def filter_together(
    layout: Layout,
    values: Globals,
    items: Items,
    item_cov: Tensor,
    events: EventTensors,
    history: History,
    belief: Belief,
) -> tuple[Belief, Tensor, Tensor]:
    """Beliefs after the events: users', what items learned (item, D + 1), and their covariance.

    What an item learned is added to its residual and offset; without residuals in the layout the
    vector stays. For bernoulli and rating, on the CPU.
    """
    after, cov = belief.copy(), item_cov.contiguous().clone()
    learned = cov.new_zeros(cov.shape[:2])
    scales, weights = scale_mixture(N_SCALES[cov.dtype])
    about = [as_array(part) for part in event_parts(layout, values, items, events)]
    vectors, _, *walk = (as_array(part) for part in global_parts(values, items, cov))
    order = np.argsort(history.seconds, kind="stable")
    filter_together_kernel(
        order, history.user_index, *about, vectors, *walk, pull_back(layout, cov),
        FAR, SMALLEST_SHARE, scales**2, weights, layout.residuals,
        as_array(after.mean), as_array(after.cov), as_array(learned), as_array(cov),
    )  # fmt: skip
    return after, learned, cov


@njit(cache=True, nogil=True, fastmath=FAST)
def filter_together_kernel(
    order: Array,
    user: Array,
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
    centre: Array,
    drift: Array,
    event_drift: Array,
    kappa: Any,
    far: float,
    least_share: float,
    square: Array,
    weight: Array,
    vectors_learn: bool,
    mean: Array,
    cov: Array,
    learned: Array,
    item_cov: Array,
) -> None:
    """Move `mean` (user, dim), `cov`, `learned` (item, dim + 1) and `item_cov` in place.

    `offset` (event,) holds `x . centre` and `x . context` with the vectors as they were before.
    """
    dim, shifts, zero = vectors.shape[1], len(context) > 0, mean.dtype.type(0)
    along, total, row = np.empty((3, dim), mean.dtype)
    lead = np.empty(dim + 1, mean.dtype)
    for t in order:
        m, p, r, block = mean[user[t]], cov[user[t]], rho[t], item_cov[item[t]]
        more = learned[item[t]]
        advance(m, p, days[t], kappa, moves[t], drift, event_drift)
        shift = more[dim]
        for i in range(dim):
            beside = centre[i]
            if shifts:
                beside += context[t, i]
            row[i] = vectors[item[t], i] + more[i]
            total[i] = beside + m[i]
            shift += more[i] * beside
        if not mask[t]:
            continue
        mu, var, extra = foresee(m, p, row, r, total, block, along)
        for i in range(dim + 1):
            product = block[i, dim]
            for j in range(dim):
                product += block[i, j] * total[j]
            lead[i] = r * product if vectors_learn or i == dim else zero
        middle = mu + offset[t] + r * shift
        low, high = max(lower[t] - middle, -far), min(upper[t] - middle, far)
        seen = evidence_of(low, high, var + extra, far, square, weight)
        learn_from(m, p, along, var, seen[1], seen[2], least_share)
        learn_from(more, block, lead, extra, seen[1], seen[2], least_share)
