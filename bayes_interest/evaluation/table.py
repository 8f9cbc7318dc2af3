"""One scored log as one tidy table of metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_interest.config import EmissionName, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.evaluation.metrics import binary_metrics, hit_rate, ndcg
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.model.prepare import choose_family
from bayes_interest.schema import LOG_PROB, MEAN, RANK, VALUE

MODEL, METRIC, K, N = "model", "metric", "k", "n"
THIS = "bayes_interest"

_Row = tuple[str, int | None, float, int]  # metric, k, value, n


def evaluate(
    scores: pd.DataFrame,
    events: object,
    threshold: float | None = None,
    k: int = 10,
    emission: EmissionName = "auto",
    name: str = THIS,
) -> pd.DataFrame:
    """Metrics of a scored log: a row per metric with columns model, metric, k, value, n.

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

    Raises:
        InputError: the rows of `scores` are not those of `events`, or a threshold is missing.
    """
    log = read_events(events)
    if not isinstance(k, int) or k < 1:
        raise InputError(f"k={k!r}: expected a whole number >= 1")
    table = _aligned(scores, log)
    family = _family(table, log, threshold, emission)
    positive = _positive(log, family, threshold)
    rank = table[RANK].to_numpy(dtype=float)[positive]
    rows = _probability_rows(family, table, positive)
    rows.append(("ndcg", k, ndcg(rank, k), len(rank)))
    rows.append(("hit_rate", k, hit_rate(rank, k), len(rank)))
    out = pd.DataFrame(rows, columns=[METRIC, K, VALUE, N])
    out.insert(0, MODEL, name)
    return out.astype({K: "Int64"})


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
