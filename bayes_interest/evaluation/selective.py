"""Selective ranking: how much better slates become where the least certain are not shown.

The risk-coverage curve of selective prediction (El-Yaniv and Wiener 2010, JMLR 11) for rankings:
events in order of certainty, the least certain dropped, the figure of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.bootstrap import bounds, resamples

COVERAGES = tuple(round(0.05 * step, 2) for step in range(20, 0, -1))
COLUMNS = ["coverage", "n", "certainty", "ndcg", "lower", "upper", "gain"]


def risk_coverage(
    rank: Iterable[float],
    certainty: Iterable[float],
    k: int = 10,
    users: Iterable[object] | None = None,
    coverages: Sequence[float] = COVERAGES,
    prob: float = 0.9,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """NDCG@k of the most certain events, by the share of events that is kept.

    Args:
        rank: of each event's item, 1 is first, (event,): `rank` of `score_events`.
        certainty: what to sort by, the larger the surer, (event,): `slate_certainty`, a history
            length. Events of equal certainty are dropped in random order: the curve is the mean
            over all such orders.
        k: places that count.
        users: of the events, (event,): adds bounds of mass `prob` from `n_boot` resamples of them.
        coverages: shares of events to keep, above 0 and up to 1.

    Returns:
        A row per coverage: coverage, n (events kept, in the mean over orders of equals),
        certainty (least of those kept), ndcg, lower, upper (NaN without `users`) and gain
        (`ndcg` over that of all events, less one).

    Raises:
        InputError: nothing to rank, columns of different lengths, NaN, or a share out of range.
    """
    ranks, sure = (np.asarray(list(part), dtype=float) for part in (rank, certainty))
    _check(ranks, sure, k, coverages)
    values = _gains(ranks, k)
    curve = _Curve(sure, coverages)
    found = curve.means(values, np.ones((1, len(values))))[0]
    everything = float(values.mean())
    edges = np.full((2, len(found)), np.nan)
    if users is not None:
        who, n_users = _codes(users, len(ranks))
        draws = [
            curve.means(values, weights[:, who])
            for weights in resamples(n_users, n_boot, len(ranks), seed)
        ]
        edges = bounds(np.concatenate(draws), [n_users] * len(found), prob)
    gain = found / everything - 1.0 if everything > 0 else np.full(len(found), np.nan)
    kept = np.asarray(coverages) * len(ranks)
    columns = (coverages, kept, curve.least, found, edges[0], edges[1], gain)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def area_difference(
    rank: Iterable[float],
    certainty: Iterable[float],
    other: Iterable[float],
    users: Iterable[object],
    k: int = 10,
    coverages: Sequence[float] = COVERAGES,
    prob: float = 0.9,
    n_boot: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How far the curve by `certainty` lies above that by `other`, on average over coverages.

    Arguments and errors are those of `risk_coverage`. Returns the difference of mean NDCG@k and
    its bounds of mass `prob`, both curves from the same resamples of users.
    """
    ranks, one, two = (np.asarray(list(part), dtype=float) for part in (rank, certainty, other))
    for sure in (one, two):
        _check(ranks, sure, k, coverages)
    values = _gains(ranks, k)
    curves = _Curve(one, coverages), _Curve(two, coverages)

    def above(weights: np.ndarray) -> np.ndarray:
        """Of every draw of weights (draw, event), (draw,)."""
        means = [curve.means(values, weights).mean(1) for curve in curves]
        return np.asarray(means[0] - means[1])

    who, n_users = _codes(users, len(ranks))
    draws = [above(one[:, who]) for one in resamples(n_users, n_boot, len(ranks), seed)]
    lower, upper = bounds(np.concatenate(draws)[:, None], [n_users], prob)
    return float(above(np.ones((1, len(values))))[0]), float(lower[0]), float(upper[0])


def _gains(ranks: np.ndarray, k: int) -> np.ndarray:
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


class _Curve:
    """Means over the surest share of weighted events, equals in random order."""

    def __init__(self, certainty: np.ndarray, coverages: Sequence[float]) -> None:
        self.order = np.argsort(-certainty, kind="stable")
        ordered = certainty[self.order]
        self.start = np.flatnonzero(np.diff(ordered, prepend=np.inf))  # of each run of equals
        self.coverages = np.asarray(coverages)
        last = np.minimum(np.ceil(self.coverages * len(ordered) - 1e-9).astype(int), len(ordered))
        self.least = ordered[np.maximum(last - 1, 0)]

    def means(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of values (event,) under weights (draw, event), (draw, coverage).

        Within a run of equals the sum grows in proportion to the weight kept.
        """
        weights = weights[:, self.order]
        mass = np.add.reduceat(weights, self.start, axis=1).cumsum(1)
        total = np.add.reduceat(weights * values[self.order], self.start, axis=1).cumsum(1)
        out = np.empty((len(weights), len(self.coverages)))
        for row, (one, other) in enumerate(zip(mass, total, strict=True)):
            wanted = self.coverages * one[-1]
            sums = np.interp(wanted, np.append(0.0, one), np.append(0.0, other))
            out[row] = sums / np.maximum(wanted, 1e-300)
        return out


def _check(rank: np.ndarray, certainty: np.ndarray, k: int, coverages: Sequence[float]) -> None:
    if rank.ndim != 1 or rank.shape != certainty.shape or not len(rank):
        raise InputError(
            f"risk_coverage got {rank.shape} ranks and {certainty.shape} certainties: expected one "
            "of each per event, and at least one event"
        )
    for name, values in (("rank", rank), ("certainty", certainty)):
        if np.isnan(values).any():
            at = int(np.isnan(values).argmax())
            raise InputError(f"{name} at position {at} is NaN: leave such events out")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k={k!r}: expected a whole number >= 1")
    wrong = [share for share in coverages if not 0.0 < share <= 1.0]
    if wrong or not len(coverages):
        raise InputError(f"coverages={wrong or list(coverages)!r}: expected shares in (0, 1]")


def _codes(users: Iterable[object], n_events: int) -> tuple[np.ndarray, int]:
    codes, distinct = pd.factorize(np.asarray(list(users), dtype=object))
    if len(codes) != n_events or (codes < 0).any():
        raise InputError(f"users: expected an id per event, {n_events} of them, without a gap")
    return codes, len(distinct)
