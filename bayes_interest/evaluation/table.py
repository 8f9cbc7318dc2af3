"""One scored log as one tidy table of metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.config import EmissionName, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.evaluation.bootstrap import bootstrap, bounds
from bayes_interest.evaluation.figures import Judge
from bayes_interest.evaluation.metrics import binary_metrics, hit_rate, ndcg
from bayes_interest.evaluation.protocol import THIS
from bayes_interest.evaluation.strata import ALL
from bayes_interest.evaluation.summarize import METRIC, MODEL, K, N, check_summary
from bayes_interest.evaluation.terms import Predictions
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.model.prepare import choose_family
from bayes_interest.schema import LOG_PROB, LOWER, MEAN, RANK, UPPER, USER_ID, VALUE

__all__ = ["THIS", "evaluate"]

_Row = tuple[str, int | None, float, int]  # metric, k, value, n


def evaluate(
    scores: pd.DataFrame,
    events: object,
    threshold: float | None = None,
    k: int = 10,
    emission: EmissionName = "auto",
    name: str = THIS,
    *,
    n_boot: int = 0,
    prob: float = 0.9,
    seed: int = 0,
) -> pd.DataFrame:
    """Metrics of a scored log: a row per metric with columns model, metric, k, value, n.

    The short form of `backtest`, for a model that is already fitted. With `n_boot` the columns
    lower and upper stand before n.

    Positive events are those with value >= `threshold`; all of them for a log of choices without
    a threshold. The metrics, with `n` the number of events that count:

    - `ndcg`, `hit_rate` at `k`, from the ranks of the positive events.
    - bernoulli: `log_loss` of the outcome from `log_prob`; `auc`, `brier` and
      `calibration_error` (15 bins of equal mass) from `mean`.
    - rating: the same four of "value >= threshold", all from `mean`, and `ordinal_log_loss` of
      the rating itself where `log_prob` is given.
    - choice: `log_loss` is the mean of -log P(the chosen item among all known items). AUC and the
      calibration of a single probability are not defined for a choice and are left out.

    Args:
        scores: what `score_events` returned for `events`: mean, log_prob, rank.
        events: the same events, in any form that `read_events` takes.
        threshold: from which value on an event is positive; ratings need one.
        k: length of the slate.
        emission: the family of the model. "auto" is choice where a `log_prob` is missing, else
            what the values call for; with a threshold that is bernoulli, so name "rating".
        name: entry of the column `model`.
        n_boot, prob, seed: number of resamples of users, mass and seed of the percentile
            intervals; see `summarize`.

    Raises:
        InputError: the rows of `scores` are not those of `events`, or a threshold is missing.
    """
    log = read_events(events)
    if not isinstance(k, int):
        raise InputError(f"k={k!r}: expected a whole number >= 1")
    check_summary(k, prob, n_boot, None, ())
    table = _aligned(scores, log)
    family = _family(table, log, threshold, emission)
    positive = _positive(log, family, threshold)
    rank = table[RANK].to_numpy(dtype=float)[positive]
    rows = _probability_rows(family, table, positive)
    rows.append(("ndcg", k, ndcg(rank, k), len(rank)))
    rows.append(("hit_rate", k, hit_rate(rank, k), len(rank)))
    out = pd.DataFrame(rows, columns=[METRIC, K, VALUE, N])
    out.insert(0, MODEL, name)
    if n_boot:
        found = _intervals(log, table, family, positive, k, (prob, n_boot, seed))
        keys = [(metric, at) for metric, at, _, _ in rows]
        both = np.array([found.get(key, (np.nan, np.nan)) for key in keys])
        out.insert(4, LOWER, both[:, 0])
        out.insert(5, UPPER, both[:, 1])
    return out.astype({K: "Int64"})


def _intervals(
    log: EventLog,
    table: pd.DataFrame,
    family: str,
    positive: np.ndarray,
    k: int,
    resampling: tuple[float, int, int],
) -> dict[tuple[str, int | None], tuple[float, float]]:
    """Bounds by (metric, k)."""
    prob, n_boot, seed = resampling
    nothing = np.full(len(log), np.nan)
    found = Predictions(
        emission=family,
        positive=positive,
        mean=table[MEAN].to_numpy(dtype=float),
        lower=nothing,
        upper=nothing,
        log_prob=table[LOG_PROB].to_numpy(dtype=float),
        rank=table[RANK].to_numpy(dtype=float),
        true_prob=nothing,
        slates=np.empty((len(log), 0), dtype=np.int64),
        item=np.zeros(len(log), dtype=np.int64),
        window=np.zeros(len(log), dtype=np.int64),
    )
    user, ids = pd.factorize(log.frame[USER_ID])
    everything = {ALL: np.ones(len(log), dtype=bool)}
    group = Judge(user, everything, (k,), None).groups(found)[ALL]
    (draws,) = bootstrap([group], len(ids), n_boot, seed)
    both = bounds(draws, [figure.n_users for figure in group.figures], prob).T.tolist()
    keys = [(figure.metric, figure.k) for figure in group.figures]
    return {key: (low, high) for key, (low, high) in zip(keys, both, strict=True)}


def _aligned(scores: pd.DataFrame, log: EventLog) -> pd.DataFrame:
    """The rows of `scores` in the order of `log.frame`."""
    missing = [name for name in (MEAN, LOG_PROB, RANK) if name not in scores]
    if missing:
        raise InputError(f"scores has no column {missing[0]!r}: pass what score_events returned")
    rows = pd.Index(log.row)
    if len(rows) != len(scores) or not rows.isin(scores.index).all():
        raise InputError(
            f"scores has {len(scores)} rows and events {len(log)}, and they must be the same "
            "ones: pass the events that were scored"
        )
    return scores.loc[rows]


def _family(
    table: pd.DataFrame, log: EventLog, threshold: float | None, emission: EmissionName
) -> str:
    if emission == "auto" and table[LOG_PROB].isna().any():
        return "choice"
    return choose_family(log, ModelConfig(emission=emission, positive_threshold=threshold)).name


def _positive(log: EventLog, family: str, threshold: float | None) -> np.ndarray:
    if VALUE not in log.frame:
        return np.ones(len(log), dtype=bool)
    value = log.frame[VALUE].to_numpy(dtype=float)
    if threshold is not None:
        return value >= threshold
    if family == "rating":
        raise InputError("ratings need threshold=: from which value on is an item liked?")
    return np.ones(len(log), dtype=bool) if family == "choice" else value == 1.0


def _probability_rows(family: str, table: pd.DataFrame, positive: np.ndarray) -> list[_Row]:
    log_prob = table[LOG_PROB].dropna().to_numpy(dtype=float)
    own = (None, -float(log_prob.mean()) if len(log_prob) else float("nan"), len(log_prob))
    if family == "choice":
        return [("log_loss", *own)]
    found = binary_metrics(positive, table[MEAN].to_numpy(dtype=float))
    rows: list[_Row] = [(metric, None, value, len(table)) for metric, value in found.items()]
    if family == "bernoulli":
        rows[0] = ("log_loss", *own)
    elif len(log_prob):
        rows.append(("ordinal_log_loss", *own))
    return rows
