"""The search for the best items of many users as compiled CPU loops; see `shortlist.py`.

They release the interpreter, so that plain threads can share out the users.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}
ROOT_HALF, EIGHTH_PI = math.sqrt(0.5), math.pi / 8.0
STRIP = 64  # values that are skipped together where their greatest is too small
TRIED = 3  # of the best by mean, so many times the slate are looked at closely
SLACK = 4e-6  # relative; scores nearer than this may be equal in float32
MEAN, LOWER, UPPER = 0, 1, 2
GIVEN_UP = -1


@njit(cache=True, nogil=True)
def average(mean: float, var: float, square: Array, weight: Array) -> float:
    """`E[sigmoid(a)]`, `a ~ N(mean, var)`, as in `emissions/logistic.py`."""
    total = 0.0
    for k in range(len(weight)):
        total += weight[k] * math.erfc(-mean * ROOT_HALF / math.sqrt(var + square[k]))
    return 0.5 * total


@njit(cache=True, nogil=True)
def bound(
    mean: float, low: float, high: float, by: int, z: float, square: Array, weight: Array
) -> float:
    """The greatest score of a mean with any variance from `low` to `high`; the least, if swapped.

    Scores are probabilities by mean, logits by an edge of the interval.
    """
    if by == MEAN:
        return average(mean, low if mean > 0.0 else high, square, weight)
    return mean - z * math.sqrt(low) if by == LOWER else mean + z * math.sqrt(high)


@njit(cache=True, nogil=True)
def short_of(score: float, by: int) -> float:
    """A score so far below that in float32, too, it is the smaller probability."""
    if by == MEAN:
        return score * (1.0 - SLACK)
    return score - SLACK * (1.0 + math.exp(min(score, 500.0)) + abs(score))


@njit(cache=True, nogil=True)
def least_mean(
    score: float, low: float, high: float, by: int, z: float, square: Array, weight: Array
) -> float:
    """A mean below which no variance from `low` to `high` reaches a score."""
    if by != MEAN:
        return score + z * math.sqrt(low) if by == LOWER else score - z * math.sqrt(high)
    if score <= 0.0 or score >= 1.0:
        return -math.inf
    var = low if score > 0.5 else high
    target, scale = math.log(score / (1.0 - score)), math.sqrt(1.0 + EIGHTH_PI * var)
    mean, last, last_miss = target * scale, 0.0, -target  # of mean zero the average is a half
    for _ in range(6):  # the secant rule, on the logit of the average, where it is nearly straight
        now = average(mean, var, square, weight)
        if now <= 0.0 or now >= 1.0:
            break
        miss = math.log(now / (1.0 - now)) - target
        if abs(miss) < 1e-5 or miss == last_miss:
            break
        ahead = mean - miss * (mean - last) / (miss - last_miss)
        mean, last, last_miss = ahead, mean, miss
    back = 1e-6 * (1.0 + abs(mean))
    while average(mean, var, square, weight) > score:
        mean -= back
        back *= 2.0
    return mean


@njit(cache=True, nogil=True)
def _holds(values: Array, begin: int, end: int, wanted: int) -> bool:
    """Whether a sorted stretch holds a number."""
    at = begin + np.searchsorted(values[begin:end], wanted)
    return bool(at < end and values[at] == wanted)


@njit(cache=True, nogil=True)
def kth_greatest(values: Array, k: int) -> float:
    """Quickselect; `values` are rearranged."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return values[k - 1]


@njit(cache=True, nogil=True)
def item_range(about: Array, user: Array) -> tuple[float, float]:
    """Least and greatest variance that an item adds, from `item_widths` and `UserBlock.extent`."""
    least, most, apart, cross, own = about[1], about[2], about[3], about[4], about[5]
    mixed = apart * user[3] + 2.0 * cross * user[4]
    return max(0.0, least * user[2] + own - mixed), most * user[2] + own + mixed


@njit(cache=True, nogil=True)
def whole_range(about: Array, user: Array) -> tuple[float, float]:
    """Least and greatest variance of the predictor."""
    low, high = item_range(about, user)
    return low + about[0] * user[0], high + about[0] * user[1]


@njit(cache=True, nogil=True)
def raise_limits(
    score: float, limits: Array, user: Array, by: int, z: float, square: Array, weight: Array
) -> None:
    """Means below which nothing comes near a score, at variances from `user[5]` in steps of
    `user[6]`; the last number is 1 where it is an item's least variance that counts.
    """
    wanted, steps = short_of(score, by), len(limits) - 1
    for g in range(steps):
        var = user[5] + g * user[6]
        limits[g] = max(limits[g], least_mean(wanted, var, var, by, z, square, weight) - user[7])
    limits[steps] = 1.0 if by == LOWER or (by == MEAN and wanted > 0.5) else 0.0


@njit(cache=True, nogil=True)
def limit_of(low: float, high: float, limits: Array, user: Array) -> float:
    """The mean that an item whose variance lies between `low` and `high` must have."""
    last = len(limits) - 2
    if limits[last + 1] == 1.0:
        place = math.floor((low - user[5]) / user[6])
    else:
        place = math.ceil((high - user[5]) / user[6])
    if place < 0 or place > last:  # by rounding: it is not known
        return -math.inf
    return limits[place]


@njit(cache=True, nogil=True)
def tighten(
    kept: Array, place: Array, count: int, limits: Array, about: Array, user: Array, k: int,
    by: int, z: float, square: Array, weight: Array,
) -> int:  # fmt: skip
    """Raise one user's limits by what is kept, drop what falls below; the new count."""
    if count < k:
        return count
    top = kth_greatest(kept[:count].copy(), min(count, TRIED * k))
    scores, n = np.empty(count), 0
    for at in range(count):
        if kept[at] >= top:
            low, high = whole_range(about[place[at]], user)
            scores[n] = bound(kept[at] - user[7], high, low, by, z, square, weight)
            n += 1
    raise_limits(kth_greatest(scores[:n], k), limits, user, by, z, square, weight)
    n = 0
    for at in range(count):
        low, high = whole_range(about[place[at]], user)
        if kept[at] >= limit_of(low, high, limits, user):
            kept[n], place[n] = kept[at], place[at]
            n += 1
    return n


@njit(cache=True, nogil=True, fastmath=_FAST | {"nnan"})  # or it looks at one number at a time
def _strip_top(row: Array, begin: int, end: int) -> float:
    top = row[begin]
    for j in range(begin + 1, end):
        top = max(top, row[j])
    return top


@njit(cache=True, nogil=True)
def scan(
    users: tuple[int, int], block: Array, width: int, first: int, item: Array, start: Array,
    skipped: Array, kept: Array, place: Array, count: Array, limits: Array, low: Array, high: Array,
    about: Array, extent: Array, k: int, by: int, z: float, square: Array, weight: Array,
) -> None:  # fmt: skip
    """Keep of a block of means (user, item) all that may be among the k best.

    Its first `width` columns count. Items stand in an order of their own from `first` on, `item`
    is their position. `skipped` [start[u]:start[u + 1]] are sorted positions that do not count.
    `low` and `high` (user,) bound the variances of all items of the block. A user for whom too
    much must be kept is given up.
    """
    room = kept.shape[1]
    for u in range(users[0], users[1]):
        row, user, n = block[u], extent[u], count[u]
        if n == GIVEN_UP:
            continue
        least = limit_of(low[u], high[u], limits[u], user)
        for begin in range(0, width, STRIP):
            end = min(begin + STRIP, width)
            if _strip_top(row, begin, end) < least:
                continue
            for j in range(begin, end):
                if row[j] < least:
                    continue
                small, great = whole_range(about[first + j], user)
                if row[j] < limit_of(small, great, limits[u], user):
                    continue
                if _holds(skipped, start[u], start[u + 1], item[first + j]):
                    continue
                if n == room:
                    n = tighten(
                        kept[u], place[u], n, limits[u], about, user, k, by, z, square, weight
                    )
                    if n > room // 4 * 3:
                        n = GIVEN_UP
                        break
                    least = limit_of(low[u], high[u], limits[u], user)
                    if row[j] < limit_of(small, great, limits[u], user):
                        continue
                kept[u, n], place[u, n] = row[j], first + j
                n += 1
            if n == GIVEN_UP:
                break
        count[u] = n


@njit(cache=True, nogil=True, fastmath=_FAST)
def _dot(a: Array, b: Array) -> Any:
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True, fastmath=_FAST)
def _form(x: Array, cov: Array) -> Any:
    """`x . cov x`, at least zero."""
    total = x.dtype.type(0)
    for i in range(len(x)):
        along = x.dtype.type(0)
        for j in range(len(x)):
            along += cov[i, j] * x[j]
        total += x[i] * along
    return max(total, x.dtype.type(0))


@njit(cache=True, nogil=True)
def _second_moment(state: Array, cov: Array, out: Array) -> None:
    """`E[(z, 1) (z, 1)']`."""
    dim = len(state)
    for i in range(dim):
        for j in range(dim):
            out[i, j] = cov[i, j] + state[i] * state[j]
        out[i, dim] = out[dim, i] = state[i]
    out[dim, dim] = 1.0


@njit(cache=True, nogil=True)
def finish(
    users: tuple[int, int], kept: Array, place: Array, count: Array, least: Array, about: Array,
    extent: Array, item: Array, start: Array, added_item: Array, added: Array, deviation: Array,
    state: Array, cov: Array, own: Array, wide: Array, vectors: Array, offsets: Array,
    item_cov: Array, position: Array, k: int, by: int, z: float, square: Array, weight: Array,
    out_item: Array, out: Array, sure: Array, found: Array,
) -> None:  # fmt: skip
    """Exact moments of what may be among each user's k best, in `out` (user, place, 3).

    Those moments are mean, variance from the state and variance from the item. What is left out
    scores less than `sure` (user,). `added_item` [start[u]:start[u + 1]] are items with a term
    `added` of their own; `position` is an item's place in the order of `item`.
    """
    dim = state.shape[1]
    second, best = np.empty((dim + 1, dim + 1), cov.dtype), np.empty(k)
    for u in range(users[0], users[1]):
        if count[u] == GIVEN_UP:
            continue
        n_kept, n_added = count[u], start[u + 1] - start[u]
        top = -math.inf
        if n_kept > k:
            top = kth_greatest(kept[u, :n_kept].copy(), k)
        _second_moment(state[u], cov[u], second)
        filled, n, limits = 0, 0, least[u].copy()
        for turn in range(n_added + 2 * n_kept):  # the best by mean come before the others
            if turn < n_added:
                i, more = added_item[start[u] + turn], added[start[u] + turn]
                where = position[i]
            else:
                at = (turn - n_added) % n_kept
                where, mean = place[u, at], kept[u, at]
                first_time = turn - n_added < n_kept
                small, great = whole_range(about[where], extent[u])
                if first_time != (mean >= top) or mean < limit_of(small, great, limits, extent[u]):
                    continue
                i, more = item[where], 0.0
            mean = _dot(wide[i], deviation[u]) + offsets[i] + own[u] + more
            var = _form(vectors[i], cov[u])
            if filled == k:
                small, great = item_range(about[where], extent[u])
                reach = bound(mean, var + small, var + great, by, z, square, weight)
                if reach < short_of(best[k - 1], by):
                    continue
            of_item = max(_dot(item_cov[i].ravel(), second.ravel()), cov.dtype.type(0))
            out_item[u, n] = i
            out[u, n, 0], out[u, n, 1], out[u, n, 2] = mean, var, of_item
            n += 1
            exact = bound(mean, var + of_item, var + of_item, by, z, square, weight)
            if filled == k and exact <= best[k - 1]:
                continue
            filled = _insert(best, filled, exact)
            if filled == k and limits[0] == least[u, 0]:
                raise_limits(best[k - 1], limits, extent[u], by, z, square, weight)
        found[u] = n
        sure[u] = short_of(best[k - 1], by) if filled == k else -math.inf


@njit(cache=True, nogil=True)
def _insert(best: Array, filled: int, score: float) -> int:
    """Put a score into its place among the best, greatest first; how many there are."""
    filled = min(len(best), filled + 1)
    at = filled - 1
    while at > 0 and best[at - 1] < score:
        best[at] = best[at - 1]
        at -= 1
    best[at] = score
    return filled
