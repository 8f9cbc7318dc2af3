"""From one model's predictions to its figures in every stratum, and to differences of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from bayes_interest.evaluation.annotate import POSITIVE, TRUE_PROB, WINDOW
from bayes_interest.evaluation.bootstrap import Figure, Group
from bayes_interest.evaluation.scores import EMISSION, BacktestScores
from bayes_interest.evaluation.slates import Catalogue, coverage, slate_array
from bayes_interest.evaluation.statistics import (
    Auc,
    CalibrationError,
    Fixed,
    Ratio,
    Statistic,
    auc_by_user,
)
from bayes_interest.evaluation.terms import Predictions, Terms, event_terms
from bayes_interest.schema import ITEM_ID, LOG_PROB, LOWER, MEAN, RANK, SLATE, UPPER

OF_PROBABILITIES = (
    *("log_loss", "ordinal_log_loss", "brier", "auc", "auc_per_user"),
    *("accuracy", "precision", "recall", "f1", "calibration_error"),
    *("interval_coverage", "interval_width", "interval_logit_width"),
)
OF_RANKS = ("ndcg", "hit_rate", "mrr", "mean_rank", "serendipity")
OF_SLATES = ("coverage", "novelty", "diversity", "popularity", "tail_share")
ORDER = (*OF_PROBABILITIES, *OF_RANKS, *OF_SLATES)


def predictions_of(scores: BacktestScores, model: str, catalogue: Catalogue) -> Predictions:
    """The arrays of one model. Raises InputError for a slate of items that nobody knows."""
    events, table = scores.events, scores.tables[model]
    n_events = len(events)
    if SLATE in table:
        slates = slate_array(table[SLATE], catalogue.ids, model)
    else:
        slates = np.empty((n_events, 0), dtype=np.int64)
    truth = events[TRUE_PROB] if TRUE_PROB in events else np.full(n_events, np.nan)
    columns = {name: table[name].to_numpy() for name in (MEAN, LOWER, UPPER, LOG_PROB, RANK)}
    return Predictions(
        emission=str(scores.runs.loc[model, EMISSION]),
        positive=events[POSITIVE].to_numpy(dtype=bool),
        true_prob=np.asarray(truth, dtype=float),
        slates=slates,
        item=catalogue.ids.get_indexer(pd.Index(events[ITEM_ID])),
        window=events[WINDOW].to_numpy(),
        **columns,
    )


def in_common(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Both, silent where either is silent; each is the same object where it loses nothing."""
    return _silenced(first, second), _silenced(second, first)


def _silenced(one: Predictions, other: Predictions) -> Predictions:
    less: dict[str, Any] = {}
    for name in (MEAN, LOWER, UPPER, LOG_PROB, RANK):
        mine, silent = getattr(one, name), np.isnan(getattr(other, name))
        if (silent & ~np.isnan(mine)).any():
            less[name] = np.where(silent, np.nan, mine)
    return replace(one, **less) if less else one


@dataclass(frozen=True, eq=False)
class Judge:
    """What all models are judged by: users (event,), strata, lengths of slates, items."""

    user: np.ndarray
    masks: Mapping[str, np.ndarray]
    ks: tuple[int, ...]
    catalogue: Catalogue | None

    def groups(self, found: Predictions) -> dict[str, Group]:
        """Figures by stratum."""
        terms = event_terms(found, self.ks, self.catalogue)
        return {name: self._group(found, terms, mask) for name, mask in self.masks.items()}

    def _group(self, found: Predictions, terms: Terms, mask: np.ndarray) -> Group:
        users, local = np.unique(self.user[mask], return_inverse=True)
        figures = _ratio_figures(terms, mask, local, len(users))
        if found.binary and not np.isnan(found.mean).all():
            figures += _binary_figures(found, mask, local, len(users))
        if found.slates.size and self.catalogue is not None:
            figures += _coverage_figures(found.slates[mask], self.ks, self.catalogue, len(users))
        figures.sort(key=lambda figure: (ORDER.index(figure.metric), figure.k or 0))
        return Group(users, int(mask.sum()), tuple(figures))


def _coverage_figures(
    slates: np.ndarray, ks: tuple[int, ...], catalogue: Catalogue, n_users: int
) -> list[Figure]:
    """Coverage of the known items; slates of length 0 do not count."""
    figures = []
    for k in ks:
        share = coverage(slates[:, :k], len(catalogue.ids))
        shown = int((slates[:, :k] >= 0).any(1).sum())
        figures.append(Figure("coverage", k, share, shown, n_users, Fixed(share)))
    return figures


def _ratio_figures(terms: Terms, mask: np.ndarray, local: np.ndarray, n_users: int) -> list[Figure]:
    n_events = len(local)
    of_user = sparse.csr_matrix(
        (np.ones(n_events), (local, np.arange(n_events))), shape=(n_users, n_events)
    )
    figures = []
    for (metric, k), (above, below) in terms.items():
        ratio = Ratio(of_user @ above[mask], of_user @ below[mask])
        counts = int((below[mask] > 0).sum())
        figures.append(_figure(metric, k, ratio, n_users, counts, int((ratio.count > 0).sum())))
    return figures


def _binary_figures(
    found: Predictions, mask: np.ndarray, local: np.ndarray, n_users: int
) -> list[Figure]:
    known = ~np.isnan(found.mean[mask])
    positive, prob = found.positive[mask][known], found.mean[mask][known]
    user = local[known]
    present, n = len(np.unique(user)), len(user)
    by_user = auc_by_user(user, positive, prob, n_users)
    both = int(by_user.count.sum())
    calibration = CalibrationError(user, positive, prob, n_users)
    return [
        _figure("auc", None, Auc(user, positive, prob), n_users, n, present),
        _figure("auc_per_user", None, by_user, n_users, both, both),
        _figure("calibration_error", None, calibration, n_users, n, present),
    ]


def _figure(
    metric: str, k: int | None, statistic: Statistic, n_users: int, n: int, present: int
) -> Figure:
    value = float(statistic(np.ones((1, n_users)))[0])
    return Figure(metric, k, value, n, present, statistic)


@dataclass(frozen=True, eq=False)
class Difference:
    """Figures that two groups share, as differences, and their places in both groups."""

    group: Group
    first: list[int]
    second: list[int]


def difference(first: Group, second: Group, emissions: set[str]) -> Difference:
    """First less second. Probabilities of choices and of outcomes do not mean the same."""
    same = "choice" not in emissions or emissions == {"choice"}
    place = {(figure.metric, figure.k): i for i, figure in enumerate(second.figures)}
    shared = [
        (i, place[figure.metric, figure.k])
        for i, figure in enumerate(first.figures)
        if (figure.metric, figure.k) in place
        and (same or figure.k is not None or figure.metric not in OF_PROBABILITIES)
    ]
    figures = [_less(first.figures[i], second.figures[j]) for i, j in shared]
    group = Group(first.users, first.n_events, figures)
    return Difference(group, [i for i, _ in shared], [j for _, j in shared])


def _less(one: Figure, other: Figure) -> Figure:
    return replace(
        one,
        value=one.value - other.value,
        n=min(one.n, other.n),
        n_users=min(one.n_users, other.n_users),
    )
