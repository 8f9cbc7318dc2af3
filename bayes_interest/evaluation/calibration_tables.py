"""One model's forecasts of a backtest, and the tables of how they came true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.evaluation.annotate import POSITIVE
from bayes_interest.evaluation.bootstrap import Figure, Group, bootstrap, bounds
from bayes_interest.evaluation.group_counts import (
    count_distribution,
    inside,
    rate_width,
    share_interval,
)
from bayes_interest.evaluation.metrics import calibration_bins
from bayes_interest.evaluation.pit import (
    histogram,
    pit_edges,
    rating_crps,
    transforms,
    uniformity,
)
from bayes_interest.evaluation.reliability import (
    BY_CHANCE,
    brier_decomposition,
    curve_figures,
    error_figures,
    errors_by_chance,
)
from bayes_interest.evaluation.scores import EMISSION, BacktestScores
from bayes_interest.schema import (
    ITEM_ID,
    LOWER,
    MEAN,
    P_TOP,
    SD,
    TIMESTAMP,
    TOP_HIT,
    UPPER,
    USER_ID,
    VALUE,
)

STRATUM, METRIC, BIN, N = "stratum", "metric", "bin", "n"
SUMMARY = (STRATUM, METRIC, VALUE, LOWER, UPPER, N)
CURVE = (STRATUM, BIN, "mean_predicted", "observed", LOWER, UPPER, N)
PIT = (STRATUM, "distribution", BIN, "left", "right", "share", N)
COUNTS = (STRATUM, "groups", "dependence", "coverage", LOWER, UPPER, "mean_width", N, "prob")
N_CHANCE = 200
"""Simulated logs for the calibration error by chance."""
MIN_GROUP = 5
"""Events that a group needs to have a rate."""


@dataclass(frozen=True, eq=False)
class Options:
    """What `calibration` was asked."""

    masks: Mapping[str, np.ndarray]  # by stratum, (event,) bool
    n_bins: int
    prob: float
    n_boot: int
    seed: int


@dataclass(frozen=True, eq=False)
class Forecasts:
    """What one model said of the test events, (event,) each; NaN where it says nothing."""

    prob: np.ndarray  # of an outcome that comes or not: positive; the top item is chosen
    outcome: np.ndarray  # whether it came, 0 to 1
    sd: np.ndarray  # of `prob`
    distribution: str  # what `pit` is of
    pit: np.ndarray
    crps: np.ndarray

    @property
    def silent(self) -> bool:
        """Nothing to judge."""
        return bool(np.isnan(self.prob).all() and np.isnan(self.pit).all())


def forecasts_of(scores: BacktestScores, model: str, seed: int) -> Forecasts:
    """The arrays of one model."""
    events, table = scores.events, scores.tables[model]
    emission = str(scores.runs.loc[model, EMISSION])
    positive = events[POSITIVE].to_numpy(dtype=bool)
    value = events[VALUE].to_numpy(dtype=float) if VALUE in events else None
    nothing = np.full(len(events), np.nan)
    distribution, low, high = pit_edges(emission, table, positive, value)
    pit = transforms(low, high, seed)
    if emission == "choice":
        prob = table[P_TOP].to_numpy(dtype=float) if P_TOP in table else nothing
        hit = table[TOP_HIT].to_numpy(dtype=float) if P_TOP in table else nothing
        return Forecasts(prob, hit, nothing, distribution, pit, nothing)
    crps = rating_crps(table, value) if emission == "rating" and value is not None else nothing
    prob, sd = (table[name].to_numpy(dtype=float) for name in (MEAN, SD))
    return Forecasts(prob, positive.astype(float), sd, distribution, pit, crps)


def curve_and_errors(
    found: Forecasts, events: pd.DataFrame, options: Options
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reliability curve, and calibration errors and the Brier score's parts, by stratum."""
    user, ids = pd.factorize(events[USER_ID])
    known = ~np.isnan(found.prob)
    masks = {name: mask & known for name, mask in options.masks.items() if (mask & known).any()}
    groups = [_group(found, user, mask, options.n_bins) for mask in masks.values()]
    drawn = bootstrap(groups, len(ids), options.n_boot, options.seed)
    prob = np.where(known, found.prob, 0.0)
    chance = errors_by_chance(prob, masks, options.n_bins, N_CHANCE, options.seed + 1)
    curve, errors = [], []
    for (name, mask), group, draws in zip(masks.items(), groups, drawn, strict=True):
        lower, upper = bounds(draws, [figure.n_users for figure in group.figures], options.prob)
        means = _bin_means(found.prob[mask], options.n_bins)
        for place, figure in enumerate(group.figures):
            own = (figure.value, lower[place], upper[place], figure.n)
            if place < len(means):
                curve.append((name, int(figure.metric), means[int(figure.metric)], *own))
            else:
                errors.append((name, figure.metric, *own))
        errors += _more_errors(name, found, mask, chance[name], options)
    return pd.DataFrame(curve, columns=list(CURVE)), pd.DataFrame(errors, columns=list(SUMMARY))


def _group(found: Forecasts, user: np.ndarray, mask: np.ndarray, n_bins: int) -> Group:
    """Observed shares of the bins, then the errors."""
    users, local = np.unique(user[mask], return_inverse=True)
    outcome, prob = found.outcome[mask], found.prob[mask]
    bins = calibration_bins(prob, n_bins)
    figures: list[Figure] = curve_figures(local, outcome, bins, len(users), n_bins)
    figures += error_figures(local, outcome, prob, len(users), n_bins)
    return Group(users, int(mask.sum()), tuple(figures))


def _bin_means(prob: np.ndarray, n_bins: int) -> dict[int, float]:
    bins = calibration_bins(prob, n_bins)
    count, total = np.bincount(bins), np.bincount(bins, weights=prob)
    return {int(at): float(total[at] / count[at]) for at in np.flatnonzero(count)}


def _more_errors(
    name: str, found: Forecasts, mask: np.ndarray, chance: np.ndarray, options: Options
) -> list[tuple[Any, ...]]:
    n_events = int(mask.sum())
    low, high = np.quantile(chance, [0.5 - options.prob / 2.0, 0.5 + options.prob / 2.0])
    rows: list[tuple[Any, ...]] = [(name, BY_CHANCE, chance.mean(), low, high, n_events)]
    bins = calibration_bins(found.prob[mask], options.n_bins)
    parts = brier_decomposition(found.outcome[mask], found.prob[mask], bins)
    del parts["brier"]  # it has an interval
    return rows + [(name, part, value, np.nan, np.nan, n_events) for part, value in parts.items()]


def transforms_and_scores(found: Forecasts, options: Options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The histogram of transforms; their distance from uniform ones and the CRPS, by stratum."""
    shares, figures = [], []
    for name, mask in options.masks.items():
        pit = found.pit[mask & ~np.isnan(found.pit)]
        crps = found.crps[mask & ~np.isnan(found.crps)]
        if len(pit):
            share, edges = histogram(pit)
            shares += [
                (name, found.distribution, at, edges[at], edges[at + 1], value, len(pit))
                for at, value in enumerate(share)
            ]
            distance, p_value = uniformity(pit)
            figures.append((name, "pit_distance", distance, np.nan, np.nan, len(pit)))
            figures.append((name, "pit_p_value", p_value, np.nan, np.nan, len(pit)))
        if len(crps):
            figures.append((name, "crps", crps.mean(), np.nan, np.nan, len(crps)))
    return pd.DataFrame(shares, columns=list(PIT)), pd.DataFrame(figures, columns=list(SUMMARY))


def group_counts(found: Forecasts, events: pd.DataFrame, options: Options) -> pd.DataFrame:
    """How often a group's rate of positive outcomes lies in its predicted interval, by stratum."""
    month = events[TIMESTAMP].dt.strftime("%Y-%m")
    kinds = {
        "user": events[USER_ID],
        "item_month": pd.Series(list(zip(events[ITEM_ID], month, strict=True)), events.index),
    }
    rows = []
    for label, keys in kinds.items():
        code = pd.factorize(keys)[0]
        for name, mask in options.masks.items():
            use = np.flatnonzero(mask & ~np.isnan(found.prob))
            for dependence in ("none", "full"):
                if dependence == "full":
                    use = use[~np.isnan(found.sd[use])]
                members = _members(code[use], use)
                if members:
                    row = _coverage(found, members, dependence == "full", options)
                    rows.append((name, label, dependence, *row, options.prob))
    return pd.DataFrame(rows, columns=list(COUNTS))


def _members(code: np.ndarray, use: np.ndarray) -> list[np.ndarray]:
    """Events of each group that is large enough."""
    order = np.argsort(code, kind="stable")
    parts = np.split(use[order], np.flatnonzero(np.diff(code[order])) + 1)
    return [part for part in parts if len(part) >= MIN_GROUP]


def _coverage(
    found: Forecasts, members: list[np.ndarray], full: bool, options: Options
) -> tuple[float, float, float, float, int]:
    """Coverage, its interval, mean width of the intervals of the rates, number of groups."""
    draws = np.random.default_rng(options.seed + 2).random(len(members))
    hits, width = 0, 0.0
    for events, draw in zip(members, draws, strict=True):
        sd = found.sd[events] if full else None
        chances = count_distribution(found.prob[events], sd)
        count = round(float(found.outcome[events].sum()))
        hits += inside(chances, count, options.prob, draw)
        width += rate_width(chances, options.prob)
    low, high = share_interval(hits, len(members), options.prob)
    return hits / len(members), low, high, width / len(members), len(members)
