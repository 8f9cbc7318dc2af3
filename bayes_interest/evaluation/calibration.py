"""Do predicted probabilities come true? The door to curves, errors, transforms and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.calibration_tables import (
    STRATUM,
    Options,
    curve_and_errors,
    forecasts_of,
    group_counts,
    transforms_and_scores,
)
from bayes_interest.evaluation.metrics import N_BINS
from bayes_interest.evaluation.scores import MODEL, BacktestScores
from bayes_interest.evaluation.strata import stratum_masks
from bayes_interest.evaluation.summarize import check_summary


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibration` found; every frame has the columns model and stratum.

    Attributes:
        curve: bin, mean_predicted, observed (share of positive outcomes), lower, upper, n: bins of
            equal mass from low to high probabilities.
        summary: metric, value, lower, upper, n; see `calibration`.
        pit: distribution ("binary", "rating" or "choice"), bin, left, right, share (1 / 20 in each
            bin under perfect calibration), n.
        groups: groups, dependence, coverage, lower, upper, mean_width, n (groups), prob.
    """

    curve: pd.DataFrame
    summary: pd.DataFrame
    pit: pd.DataFrame
    groups: pd.DataFrame

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(self.summary[MODEL]))
        return f"Calibration: models {models}, {self.summary[STRATUM].nunique()} strata"


def calibration(
    scores: BacktestScores,
    *,
    strata: bool | str | Sequence[str] = (),
    n_bins: int = N_BINS,
    prob: float = 0.9,
    n_boot: int = 500,
    seed: int = 0,
) -> Calibration:
    """Whether the probabilities of a backtest come true, for every model and stratum.

    Judged are P(positive) of bernoulli and rating models, and of choice models that give details
    (see `InterestModel.score_events`) the probability of the most probable item, which is a hit
    where that item was chosen.

    `.curve` is the reliability curve, with intervals from resampling users. `.summary` has

    - `calibration_error` (bins of equal mass), and `calibration_error_by_chance`: its mean and
      interval if the probabilities were the truth, simulated on the same bins. An error within
      that interval cannot be told from none.
    - `brier` and its parts `reliability` - `resolution` + `uncertainty` + `within_bins`, which add
      up (Murphy 1973; see `brier_decomposition`).
    - `pit_distance`, `pit_p_value`: Kolmogorov and Smirnov's distance of the randomised probability
      integral transforms from uniform ones, and its p-value. Over the levels of a rating, the items
      of a choice (the most probable first), the two outcomes else; `.pit` is their histogram.
    - `crps` of ratings, in units of the rating, where a model gives the levels' probabilities.

    `.groups` says how often the count of positive outcomes of a group (a user; an item in a
    calendar month, UTC) with 5 events or more lies in its predicted interval of mass `prob`. With
    dependence "none" outcomes are independent given their one-step-ahead probabilities: right along
    one user's events, for each is predicted from the ones before; between users it ignores that
    errors about an item, a text or the time are shared, so intervals may be too narrow. "full"
    takes all errors of a group, of the size `sd`, for one and the same: the widest case. Left out
    where there is no `sd`.

    Args:
        scores: from `score_backtest`, `BacktestScores.from_tables`, `load` or `merged`.
        strata: groups to judge apart, see `stratum_masks`; "all" is always there.
        n_bins: bins of the curve, the error and the Brier score's parts.
        prob: mass of all intervals.
        n_boot, seed: resamples of users (0: no intervals), and the seed of all randomness.

    Raises:
        InputError: an impossible option, or no model with probabilities to judge.
    """
    check_summary((1,), prob, n_boot, None, scores.tables)
    if not isinstance(n_bins, int) or isinstance(n_bins, bool) or n_bins < 2:
        raise InputError(f"n_bins={n_bins!r}: expected a whole number >= 2")
    options = Options(stratum_masks(scores.events, strata), n_bins, prob, n_boot, seed)
    found = {name: forecasts_of(scores, name, seed) for name in scores.tables}
    found = {name: one for name, one in found.items() if not one.silent}
    if not found:
        raise InputError(
            f"no model has probabilities to judge: {', '.join(scores.tables)} only order items, or "
            "are choice models whose scores lack the columns of score_events(..., detail=True)"
        )
    tables: dict[str, list[pd.DataFrame]] = {"curve": [], "summary": [], "pit": [], "groups": []}
    for name, one in found.items():
        curve, errors = curve_and_errors(one, scores.events, options)
        pit, whole = transforms_and_scores(one, options)
        counts = group_counts(one, scores.events, options)
        summary = pd.concat((errors, whole), ignore_index=True)
        for part, table in zip(tables, (curve, summary, pit, counts), strict=True):
            table.insert(0, MODEL, name)
            tables[part].append(table)
    return Calibration(**{part: pd.concat(own, ignore_index=True) for part, own in tables.items()})
