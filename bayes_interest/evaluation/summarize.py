"""Predictions to figures: a tidy table of metrics with intervals, by model and stratum."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import WINDOW
from bayes_interest.evaluation.bootstrap import Group, bootstrap, bounds
from bayes_interest.evaluation.figures import Judge, difference, in_common, predictions_of
from bayes_interest.evaluation.scores import EMISSION, FIT_SECONDS, SCORE_SECONDS, BacktestScores
from bayes_interest.evaluation.slates import make_catalogue
from bayes_interest.evaluation.strata import ALL, stratum_masks
from bayes_interest.evaluation.terms import Predictions
from bayes_interest.schema import LOWER, UPPER, USER_ID, VALUE

SECONDS_PER_USER = "seconds_per_user"
MODEL, METRIC, K, STRATUM, N = "model", "metric", "k", "stratum", "n"
COLUMNS = (MODEL, METRIC, K, STRATUM, VALUE, LOWER, UPPER, N)


def summarize(
    scores: BacktestScores,
    *,
    k: int | Sequence[int] = (10,),
    strata: bool | str | Sequence[str] = (),
    prob: float = 0.9,
    n_boot: int = 1000,
    seed: int = 0,
    reference: str | None = None,
) -> pd.DataFrame:
    """Metrics of a backtest, a row each: model, metric, k, stratum, value, lower, upper, n.

    Of every event's probability (`n` events):

    - `log_loss` of the outcome: bernoulli from `log_prob`; rating of "value >= threshold" from
      `mean`, with `ordinal_log_loss` of the rating itself beside it; choice -log P(the chosen
      item among all known items).
    - `brier`, `auc`, `accuracy`, `precision`, `recall`, `f1` (all four without k: positive is said
      at a probability of one half or more), `calibration_error` (15 bins of equal mass),
      `auc_per_user` (mean over the `n` users with both outcomes). Not for choices.
    - `interval_coverage`, `interval_width`: how often [lower, upper] holds the true probability,
      and its mean width; only with a column `true_prob` (simulated logs), for without the truth
      the coverage of a probability cannot be known. `interval_logit_width`: the mean of
      logit(upper) - logit(lower) of all events, to see where a model is less sure.

    Of the rank of every positive event (`n` events), a query with one relevant item:

    - `hit_rate`, `ndcg`, `precision`, `recall` (the hit rate), `f1` at k; `mrr`, `mean_rank` over
      whole rankings.
    - `serendipity` at k: in the first k, and not among the k most popular items of training (Ge,
      Delgado-Battenfeld and Jannach 2010).

    Of the slate before every event (`n` slates), where a model gives slates:

    - `coverage` at k: share of the known items that are in any slate (aggregate diversity,
      Adomavicius and Kwon 2012). It grows with `n`, so it has no interval.
    - `novelty` at k: mean of -log2 of the share of training users that met the item, one user
      added to both counts (self-information; Zhou and others 2010).
    - `diversity` at k: 1 - mean cosine of the pairs of a slate (Smyth and McClave 2001), with
      `scores.vectors`.
    - `popularity` at k: mean place of the items in the order of training events, 0 for the least
      and 1 for the most popular (ARP of Yin and others 2012, on a scale that does not depend on
      the log); `tail_share` at k: share of the slate outside the head and middle bands (APLT of
      Abdollahpouri, Burke and Mobasher 2019).

    `seconds_per_user` (scoring) and `fit_seconds` (mean of the fits) have no interval.

    Bounds are percentiles of `n_boot` resamples of users, of mass `prob`; NaN where fewer than 5
    users count. Noise only ever adds to `calibration_error`, in a resample more than in the sample:
    its draws are moved to have the figure as their mean.

    Args:
        scores: from `score_backtest`, `BacktestScores.from_tables`, `load` or `merged`.
        k: lengths of the slate.
        strata: groups to judge apart, see `stratum_masks`; "all" is always there.
        prob, n_boot, seed: mass, number of draws (0: no intervals) and seed of the bootstrap.
        reference: adds rows "A - reference" for every other model A: differences on the events
            that both predicted, with paired intervals. Log losses and the like are compared only
            between models whose probabilities mean the same.

    Raises:
        InputError: an impossible option, an unknown stratum, or an unknown reference.
    """
    ks = check_summary(k, prob, n_boot, reference, scores.tables)
    masks = stratum_masks(scores.events, strata)
    user, ids = pd.factorize(scores.events[USER_ID])
    catalogue = make_catalogue(scores.items, scores.vectors)
    judge = Judge(user, masks, ks, catalogue)
    found = {name: predictions_of(scores, name, catalogue) for name in scores.tables}
    groups = {name: judge.groups(one) for name, one in found.items()}
    against = {} if reference is None else _pairs(found, groups, judge, reference)
    every = [*groups.values(), *(own for pair in against.values() for own in pair)]
    flat = list({id(group): group for own in every for group in own.values()}.values())
    drawn = dict(zip(map(id, flat), bootstrap(flat, len(ids), n_boot, seed), strict=True))
    tables = []
    for name, own in groups.items():
        tables += [_rows(name, at, group, drawn[id(group)], prob) for at, group in own.items()]
        tables.append(_seconds(scores, name, len(ids)))
    emission = scores.runs[EMISSION].to_dict()
    for name, (own, other) in against.items():
        families = {emission[name], emission[reference]}
        for at in own:
            both = difference(own[at], other[at], families)
            draws = drawn[id(own[at])][:, both.first] - drawn[id(other[at])][:, both.second]
            tables.append(_rows(f"{name} - {reference}", at, both.group, draws, prob))
    return pd.concat(tables, ignore_index=True).astype({K: "Int64", N: "int64"})


def checked_ks(k: int | Sequence[int]) -> tuple[int, ...]:
    """Distinct lengths in increasing order. Raises InputError for what is no whole number >= 1."""
    ks = tuple(k) if isinstance(k, Sequence) and not isinstance(k, str) else (k,)
    for one in ks:
        if not isinstance(one, int | np.integer) or isinstance(one, bool) or one < 1:
            raise InputError(f"k={one!r}: expected a whole number >= 1, or several")
    if not ks:
        raise InputError("k is empty: expected a whole number >= 1, or several")
    return tuple(sorted({int(one) for one in ks}))


def check_summary(
    k: int | Sequence[int], prob: float, n_boot: int, reference: str | None, names: Collection[str]
) -> tuple[int, ...]:
    """The checked `k`. Raises InputError for an impossible option of `summarize`."""
    if isinstance(prob, bool | str) or not 0.0 < prob < 1.0:
        raise InputError(f"prob={prob!r}: expected a mass above 0 and below 1")
    if not isinstance(n_boot, int) or isinstance(n_boot, bool) or n_boot < 0:
        raise InputError(f"n_boot={n_boot!r}: expected a whole number >= 0")
    if reference is not None and reference not in names:
        raise InputError(f"reference={reference!r} is none of the models: {', '.join(names)}")
    return checked_ks(k)


def _pairs(
    found: dict[str, Predictions],
    groups: dict[str, dict[str, Group]],
    judge: Judge,
    reference: str,
) -> dict[str, tuple[dict[str, Group], dict[str, Group]]]:
    """Groups of each other model and of the reference, on the events that both predicted."""
    pairs = {}
    for name, one in found.items():
        if name == reference:
            continue
        own, other = in_common(one, found[reference])
        pairs[name] = (
            groups[name] if own is one else judge.groups(own),
            groups[reference] if other is found[reference] else judge.groups(other),
        )
    return pairs


def _rows(name: str, stratum: str, group: Group, draws: np.ndarray, prob: float) -> pd.DataFrame:
    lower, upper = bounds(draws, [figure.n_users for figure in group.figures], prob)
    columns = {
        MODEL: name,
        METRIC: [figure.metric for figure in group.figures],
        K: pd.array([figure.k for figure in group.figures], dtype="Int64"),
        STRATUM: stratum,
        VALUE: [figure.value for figure in group.figures],
        LOWER: lower,
        UPPER: upper,
        N: [figure.n for figure in group.figures],
    }
    return pd.DataFrame(columns)


def _seconds(scores: BacktestScores, name: str, n_users: int) -> pd.DataFrame:
    """Wall time, where it is known."""
    run = scores.runs.loc[name]
    n_windows = scores.items[WINDOW].nunique()
    rows = [
        (SECONDS_PER_USER, run[SCORE_SECONDS] / max(1, n_users), n_users),
        (FIT_SECONDS, run[FIT_SECONDS], n_windows),
    ]
    known = [(name, metric, pd.NA, ALL, seconds, np.nan, np.nan, n) for metric, seconds, n in rows]
    table = pd.DataFrame(known, columns=list(COLUMNS)).astype({K: "Int64", METRIC: str})
    return table[table[VALUE].notna()]
