"""The search for the best items of many users as compiled CPU loops; see `shortlist.py`.

They release the interpreter, so that plain threads can share out the users.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bayes_interest.emissions.exponential import normal_tail
from bayes_interest.posterior.compiled_products import dot, form

Array = np.ndarray[Any, Any]
_FAST = {"reassoc", "contract", "nsz"}
EIGHTH_PI = math.pi / 8.0
SLACK = 4e-6  # relative; scores nearer than this may be equal in float32
MEAN, LOWER, UPPER = 0, 1, 2
FIRST = 4  # times the slate: the best by mean are looked at before the others
GIVEN_UP = -1


class Ask(NamedTuple):
    """What makes an item good, and how many are wanted."""

    k: int
    by: int  # MEAN, LOWER or UPPER
    z: float  # half-width of the interval in sds
    square: Array  # of the logistic function's scales, (scale,)
    weight: Array  # of the scales, (scale,)


class Items(NamedTuple):
    """Candidates in an order of their own; where not said otherwise by position, (item, ...)."""

    order: Array  # positions of the candidates
    about: Array  # `item_widths` in that order, (candidate, 6)
    edge: Array  # where each kind of candidates begins, and the end, (kind + 1,)
    strip: int  # how many means are skipped together where their greatest is too small
    place: Array  # of each item in that order
    wide: Array  # what the users' side of the mean is multiplied with
    vectors: Array
    offsets: Array
    cov: Array  # (item, state_dim + 1, state_dim + 1)


class Users(NamedTuple):
    """Users of a block, (user, ...)."""

    deviation: Array  # their side of `Items.wide`
    cov: Array  # (user, state_dim, state_dim)
    second: Array  # `E[(z, 1) (z, 1)']`, (user, state_dim + 1, state_dim + 1)
    own: Array  # added for every item
    extent: Array  # what bounds variances, and the rounding of a mean, see `UserBlock.second`
    low: Array  # bounds of the variance of each kind of items, (user, kind)
    high: Array
    start: Array  # of each user's part of `skipped`, (user + 1,)
    skipped: Array  # sorted positions of items that do not count


class Best(NamedTuple):
    """What was found so far, (user, ...); of the numbers of a user only the first few count."""

    item: Array  # position, (user, room)
    score: Array  # (user, room)
    moments: Array  # mean, variance from the state and from the item, (user, room, 3)
    n_kept: Array  # how many, or GIVEN_UP: more were equally good than there is room for
    top: Array  # the k best scores, greatest first, (user, k)
    filled: Array  # how many of them there are
    floor: Array  # what scores less is not among the best


@njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def average(mean: float, var: float, square: Array, weight: Array) -> float:
    """`E[sigmoid(a)]`, `a ~ N(mean, var)`, as in `emissions/logistic.py`."""
    total, away = 0.0, abs(mean)
    for k in range(len(weight)):
        total += weight[k] * normal_tail(away / math.sqrt(var + square[k]))
    return total if mean < 0.0 else 1.0 - total


@njit(cache=True, nogil=True)
def bound(mean: float, low: float, high: float, ask: Ask) -> float:
    """The greatest score of a mean with any variance from `low` to `high`.

    Scores are probabilities by mean, logits by an edge of the interval.
    """
    if ask.by == MEAN:
        return average(mean, low if mean > 0.0 else high, ask.square, ask.weight)
    return mean - ask.z * math.sqrt(low) if ask.by == LOWER else mean + ask.z * math.sqrt(high)


@njit(cache=True, nogil=True)
def short_of(score: float, by: int) -> float:
    """A score so far below that in float32, too, it is the smaller probability."""
    if by == MEAN:
        return score * (1.0 - SLACK)
    return score - SLACK * (1.0 + math.exp(min(score, 500.0)) + abs(score))


@njit(cache=True, nogil=True)
def least_mean(score: float, low: float, high: float, ask: Ask) -> float:
    """A mean below which no variance from `low` to `high` reaches a score."""
    if ask.by != MEAN:
        return (
            score + ask.z * math.sqrt(low) if ask.by == LOWER else score - ask.z * math.sqrt(high)
        )
    if score <= 0.0 or score >= 1.0:
        return -math.inf
    var = low if score > 0.5 else high
    target, scale = math.log(score / (1.0 - score)), math.sqrt(1.0 + EIGHTH_PI * var)
    mean, last, last_miss = target * scale, 0.0, -target  # of mean zero the average is a half
    for _ in range(6):  # the secant rule, on the logit of the average, where it is nearly straight
        now = average(mean, var, ask.square, ask.weight)
        if now <= 0.0 or now >= 1.0:
            break
        miss = math.log(now / (1.0 - now)) - target
        if abs(miss) < 1e-5 or miss == last_miss:
            break
        ahead = mean - miss * (mean - last) / (miss - last_miss)
        mean, last, last_miss = ahead, mean, miss
    back = 1e-6 * (1.0 + abs(mean))
    while average(mean, var, ask.square, ask.weight) > score:
        mean -= back
        back *= 2.0
    return mean


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
def second_moments(state: Array, cov: Array, out: Array, about: Array) -> None:
    """`E[(z, 1) (z, 1)']` of states; `about` (user, 3): the trace of `S = E[z z']`, the Frobenius
    norm of S beside its diagonal, `|E z|`.
    """
    dim = state.shape[1]
    for u in range(len(state)):
        trace, apart, length = 0.0, 0.0, 0.0
        for i in range(dim):
            total = _line(state[u, i], state[u], cov[u, i], out[u, i])
            own = float(out[u, i, i])
            out[u, i, dim] = out[u, dim, i] = state[u, i]
            trace, apart = trace + own, apart + max(0.0, total - own * own)
            length += state[u, i] * state[u, i]
        out[u, dim, dim] = 1.0
        about[u, 0], about[u, 1], about[u, 2] = trace, math.sqrt(apart), math.sqrt(length)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _line(one: float, state: Array, cov: Array, out: Array) -> Any:
    """A row of `S`; the sum of its squares."""
    total = state.dtype.type(0)
    for j in range(len(state)):
        both = cov[j] + one * state[j]
        out[j] = both
        total += both * both
    return total


@njit(cache=True, nogil=True)
def _insert(best: Array, filled: int, score: float) -> int:
    """Put a score into its place among the best, greatest first; how many there are."""
    if filled == len(best) and score <= best[filled - 1]:
        return filled
    filled = min(len(best), filled + 1)
    at = filled - 1
    while at > 0 and best[at - 1] < score:
        best[at] = best[at - 1]
        at -= 1
    best[at] = score
    return filled


@njit(cache=True, nogil=True)
def _keep(u: int, i: int, score: float, moments: tuple[float, float, float], best: Best) -> None:
    """Put an item among the best of a user, and drop others where there is no room."""
    n = best.n_kept[u]
    if n == best.item.shape[1]:
        n = 0
        for at in range(best.item.shape[1]):
            if best.score[u, at] >= best.floor[u]:
                best.item[u, n], best.score[u, n] = best.item[u, at], best.score[u, at]
                for moment in range(3):
                    best.moments[u, n, moment] = best.moments[u, at, moment]
                n += 1
        if n == best.item.shape[1]:
            best.n_kept[u] = GIVEN_UP
            return
    best.item[u, n], best.score[u, n] = i, score
    best.moments[u, n, 0], best.moments[u, n, 1], best.moments[u, n, 2] = moments
    best.n_kept[u] = n + 1


@njit(cache=True, nogil=True)
def closely(
    u: int, some: Array, more: Array, users: Users, items: Items, best: Best, ask: Ask
) -> None:
    """Keep those of some items that are among a user's best; `more` is what a pair adds.

    The state's variance is computed for all, the item's while it may still matter.
    """
    dtype, n = items.vectors.dtype, len(some)
    means, variances, reach = np.empty(n, dtype), np.empty(n, dtype), np.empty(n)
    line, zero = np.empty(items.vectors.shape[1], dtype), dtype.type(0)
    second, user = users.second[u].ravel(), users.extent[u]
    for at in range(n):
        i = some[at]
        mean = dot(items.wide[i], users.deviation[u]) + items.offsets[i] + users.own[u]
        means[at] = mean + more[at]
        variances[at] = max(form(items.vectors[i], users.cov[u], line), zero)
        small, great = item_range(items.about[items.place[i]], user)
        reach[at] = bound(means[at], variances[at] + small, variances[at] + great, ask)
    for at in np.argsort(-reach):
        if reach[at] < best.floor[u] or best.n_kept[u] == GIVEN_UP:
            return
        mean, var = means[at], variances[at]
        of_item = max(dot(items.cov[some[at]].ravel(), second), zero)
        score = bound(mean, var + of_item, var + of_item, ask)
        if score < best.floor[u]:
            continue
        _keep(u, some[at], score, (mean, var, of_item), best)
        best.filled[u] = _insert(best.top[u], best.filled[u], score)
        if best.filled[u] == ask.k:
            best.floor[u] = short_of(best.top[u, ask.k - 1], ask.by)


@njit(cache=True, nogil=True)
def _holds(values: Array, begin: int, end: int, wanted: int) -> bool:
    """Whether a sorted stretch holds a number."""
    at = begin + np.searchsorted(values[begin:end], wanted)
    return bool(at < end and values[at] == wanted)


@njit(cache=True, nogil=True, fastmath=_FAST | {"nnan", "ninf"})
def fill_tops(means: Array, begin: int, end: int, strip: int, tops: Array) -> None:
    """The greatest of each strip of the means (user, candidate) of candidates from `begin`, which
    begins a strip, to before `end`, (user, strip).
    """
    lanes = np.empty(16, means.dtype)  # made here: elsewhere it might be a part of `means`
    for u in range(len(means)):
        row = means[u]
        for start in range(begin, end, strip):
            some = row[start : min(start + strip, end)]
            if len(some) != 64:
                tops[u, start // strip] = some.max()
                continue
            a, b, c, d = some[:16], some[16:32], some[32:48], some[48:64]
            for at in range(16):  # a loop over all 64 would not be vectorised
                first = a[at] if a[at] > b[at] else b[at]
                second = c[at] if c[at] > d[at] else d[at]
                lanes[at] = first if first > second else second
            for at in range(8):
                lanes[at] = lanes[at] if lanes[at] > lanes[at + 8] else lanes[at + 8]
            top = lanes[0]
            for at in range(1, 8):
                top = lanes[at] if lanes[at] > top else top
            tops[u, start // strip] = top


@njit(cache=True, nogil=True)
def search(
    means: Array, tops: Array, added: tuple[Array, Array, Array], users: Users, items: Items,
    best: Best, ask: Ask,
) -> None:  # fmt: skip
    """Find the best of all candidates, given the means of users, (user, candidate), and of each
    strip the greatest, (user, strip).

    `added` are items with a term of a user's own, which their means do not hold: where each user's
    begin, items, terms.
    """
    (begin, item, term), n_kinds = added, len(items.edge) - 1
    some, nothing = np.empty(means.shape[1], np.int64), np.zeros(means.shape[1], users.own.dtype)
    least = np.empty(n_kinds)
    for u in range(len(means)):
        own = slice(begin[u], begin[u + 1])
        closely(u, item[own], term[own], users, items, best, ask)
        below = math.inf
        if FIRST * ask.k < tops.shape[1]:  # so that the floor is high before all are looked at
            below = kth_greatest(tops[u].copy(), FIRST * ask.k)
            least[:] = below
            n = _from(u, means[u], least, math.inf, tops[u], users, items, best, ask, some)
            closely(u, some[:n], nothing[:n], users, items, best, ask)
        for kind in range(n_kinds):
            low, high = users.low[u, kind], users.high[u, kind]
            least[kind] = least_mean(best.floor[u], low, high, ask) - users.extent[u, 5]
        n = _from(u, means[u], least, below, tops[u], users, items, best, ask, some)
        closely(u, some[:n], nothing[:n], users, items, best, ask)


@njit(cache=True, nogil=True)
def _from(
    u: int, means: Array, least: Array, below: float, tops: Array,
    users: Users, items: Items, best: Best, ask: Ask, out: Array,
) -> int:  # fmt: skip
    """Items (positions) that may be among the best, and how many there are.

    Their means are at least those of their kind, and below a number.
    """
    n, user, kind = 0, users.extent[u], 0
    for s in range(len(tops)):
        begin, end = s * items.strip, min((s + 1) * items.strip, len(means))
        while items.edge[kind + 1] <= begin:
            kind += 1
        limit = least[kind] if end <= items.edge[kind + 1] else least.min()
        if tops[s] < limit:
            continue
        for place in range(begin, end):
            mean = means[place]
            if not limit <= mean < below:
                continue
            small, great = whole_range(items.about[place], user)
            if bound(mean + user[5], small, great, ask) < best.floor[u]:
                continue
            if not _holds(users.skipped, users.start[u], users.start[u + 1], items.order[place]):
                out[n] = items.order[place]
                n += 1
    return n
