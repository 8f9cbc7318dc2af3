"""How probabilities of yes-or-no outcomes compare with what came: curve, error, decomposition.

Outcomes lie in [0, 1]: a choice that shares the top place with others counts as a part of a hit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayes_interest.evaluation.bootstrap import Figure
from bayes_interest.evaluation.metrics import calibration_bins, calibration_error
from bayes_interest.evaluation.statistics import CalibrationError, Ratio

N_DRAWN, MARGIN = 200, 0.02
ERROR = "calibration_error"
BY_CHANCE = "calibration_error_by_chance"


def brier_decomposition(
    outcome: np.ndarray, prob: np.ndarray, bins: np.ndarray
) -> dict[str, float]:
    """`brier = reliability - resolution + uncertainty + within_bins`, exactly.

    The first three are those of Murphy (1973), of the bins (event,). Probabilities differ within a
    bin, so there is a rest, `mean (p - p_bin)^2 - 2 (p - p_bin)(o - o_bin)` (Stephenson, Coelho and
    Jolliffe 2008).
    """
    count = np.maximum(np.bincount(bins), 1)
    mean_prob = (np.bincount(bins, weights=prob) / count)[bins]
    mean_outcome = (np.bincount(bins, weights=outcome) / count)[bins]
    spread, surprise = prob - mean_prob, outcome - mean_outcome
    return {
        "brier": float(((prob - outcome) ** 2).mean()),
        "reliability": float(((mean_prob - mean_outcome) ** 2).mean()),
        "resolution": float(((mean_outcome - outcome.mean()) ** 2).mean()),
        "uncertainty": float(outcome.var()),
        "within_bins": float((spread**2 - 2.0 * spread * surprise).mean()),
    }


def errors_by_chance(
    prob: np.ndarray, masks: Mapping[str, np.ndarray], n_bins: int, n_draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Calibration errors of outcomes drawn from the probabilities themselves, (draw,) by stratum.

    Noise alone makes an error: this is what a model without any shows on so many events (Bröcker
    and Smith 2007).
    """
    rng = np.random.default_rng(seed)
    bins = {name: calibration_bins(prob[mask], n_bins) for name, mask in masks.items()}
    out = {name: np.full(n_draws, np.nan) for name in masks}
    for draw in range(n_draws):
        excess = (rng.random(len(prob)) < prob) - prob
        for name, mask in masks.items():
            if len(bins[name]):
                total = np.bincount(bins[name], weights=excess[mask], minlength=n_bins)
                out[name][draw] = np.abs(total).sum() / len(bins[name])
    return out


def calibration_limit(chance: np.ndarray, seed: int) -> float:
    """The 95 % quantile of the calibration error of outcomes drawn from `chance`, plus 0.02."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((N_DRAWN, len(chance))) < chance
    errors = [calibration_error(one.astype(float), chance) for one in drawn]
    return float(np.quantile(errors, 0.95)) + MARGIN


def curve_figures(
    user: np.ndarray, outcome: np.ndarray, bins: np.ndarray, n_users: int, n_bins: int
) -> list[Figure]:
    """The observed share of each bin that has events, to be resampled by user, (event,) arrays."""
    figures = []
    for place in range(n_bins):
        own = bins == place
        if own.any():
            users = user[own]
            ratio = Ratio(
                np.bincount(users, weights=outcome[own], minlength=n_users),
                np.bincount(users, minlength=n_users).astype(float),
            )
            share = float(outcome[own].mean())
            n_events, present = int(own.sum()), int((ratio.count > 0).sum())
            figures.append(Figure(str(place), None, share, n_events, present, ratio))
    return figures


def error_figures(
    user: np.ndarray, outcome: np.ndarray, prob: np.ndarray, n_users: int, n_bins: int
) -> list[Figure]:
    """calibration_error and brier, to be resampled by user, (event,) arrays."""
    error = CalibrationError(user, outcome, prob, n_users, n_bins)
    count = np.bincount(user, minlength=n_users).astype(float)
    loss = np.bincount(user, weights=(prob - outcome) ** 2, minlength=n_users)
    present, figures = int((count > 0).sum()), []
    for name, statistic in ((ERROR, error), ("brier", Ratio(loss, count))):
        value = float(statistic(np.ones((1, n_users)))[0])
        figures.append(Figure(name, None, value, len(user), present, statistic))
    return figures
