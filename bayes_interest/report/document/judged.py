"""Later events against what the model foresaw: calibration and figures of quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.evaluation.calibration import Calibration, calibration
from bayes_interest.evaluation.scores import BacktestScores
from bayes_interest.evaluation.summarize import summarize
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.report.document.asked import Asked
from bayes_interest.schema import ITEM_ID, KIND, TIMESTAMP, USER_ID, VALUE

RAW, MAPPED = "as fitted", "recalibrated"
STRATA = ("history", "item")
N_BOOT = 200


@dataclass(frozen=True)
class Judged:
    """What came of later events.

    Attributes:
        calibration: see `bi.calibration`; None where there is nothing to judge, for `reason`.
        figures: see `bi.summarize`: log loss, rankings and the like.
        n_events: later events that were scored.
    """

    calibration: Calibration | None
    figures: pd.DataFrame
    n_events: int
    reason: str = ""

    @property
    def best_name(self) -> str:
        """The probabilities that the model gives out: recalibrated where there is a map."""
        found = self.figures["model"]
        return MAPPED if (found == MAPPED).any() else RAW

    def error(self, name: str) -> tuple[float, float]:
        """Calibration error of one model, and the upper end of what chance alone shows."""
        assert self.calibration is not None
        table = self.calibration.summary
        own = table[(table["model"] == name) & (table["stratum"] == "all")].set_index("metric")
        error, chance = own["value"], own["upper"].fillna(own["value"])
        return float(error["calibration_error"]), float(chance["calibration_error_by_chance"])


def judge(asked: Asked) -> Judged | None:
    """Every later event predicted one step ahead; None without later events."""
    if asked.events is None:
        return None
    mapped = asked.posterior.recalibration is not None
    tables = {RAW: _scored(asked, raw=True)}
    if mapped:
        tables[MAPPED] = _scored(asked, raw=False)
    threshold, levels = _threshold(asked.posterior), asked.emission
    scores = BacktestScores.from_tables(
        {name: table.set_axis(asked.events.row) for name, table in tables.items()},
        asked.events,
        past_events(asked.posterior, threshold),
        asked.items,
        threshold=threshold,
        emission=dict.fromkeys(tables, levels),
    )
    figures = summarize(scores, k=asked.k, prob=asked.prob, n_boot=N_BOOT, seed=asked.seed)
    try:
        found = calibration(scores, strata=STRATA, prob=asked.prob, n_boot=N_BOOT, seed=asked.seed)
    except InputError as cause:
        return Judged(None, figures, len(asked.events), str(cause))
    return Judged(found, figures, len(asked.events))


def _scored(asked: Asked, raw: bool) -> pd.DataFrame:
    return asked.model.score_events(
        asked.events, asked.items, prob=asked.prob, detail=True, raw=raw
    )


def _threshold(posterior: Posterior) -> float | None:
    """From which value on an event is positive, as the model has it."""
    if posterior.layout.emission == "rating":
        return float(posterior.vocabulary.levels[posterior.level])
    return posterior.config.positive_threshold


def past_events(posterior: Posterior, threshold: float | None) -> pd.DataFrame:
    """The absorbed events as a log: outcomes as values on their side of the threshold."""
    history = posterior.history
    own = history.take(history.absorb)
    ids = posterior.vocabulary
    value = own.outcome.astype(float)
    if posterior.layout.emission == "rating":
        value = np.asarray(ids.levels)[own.outcome.astype(int)]
    elif threshold is not None:
        value = np.where(own.outcome > 0, threshold, threshold - 1.0)
    frame = {
        USER_ID: ids.users.ids[own.user_index],
        ITEM_ID: ids.items.ids[own.item_index],
        TIMESTAMP: pd.to_datetime(own.seconds, unit="s", utc=True),
        KIND: np.asarray(ids.kinds, dtype=object)[own.kind_index],
    }
    if posterior.layout.emission != "choice" or threshold is not None:
        frame[VALUE] = value
    return pd.DataFrame(frame)
