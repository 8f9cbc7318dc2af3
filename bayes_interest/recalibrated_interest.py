"""A model that learns its map of probabilities from the end of what it is fitted on."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError
from bayes_interest.events.read import EventLog, read_events, read_items
from bayes_interest.events.split import items_before, split_by_time
from bayes_interest.html_table import html_table
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.probability_map import MethodName
from bayes_interest.posterior.recalibration import check_memory, check_method
from bayes_interest.progress import bar
from bayes_interest.text.encoder import Encoder


class RecalibratedInterest:
    """An `InterestModel` with recalibration, to stand beside others in a backtest.

    `fit` cuts its events in time: the model is fitted on the early part, `recalibrate` learns from
    the last `fraction`, then `update` absorbs that. So nothing that is scored later has been seen.

    With `refresh`, scored events are taken in blocks of at least so many (never between events of
    one moment): each is predicted with the map as it stands; then the map is learned anew from
    the block and the last `memory` events before it, and the block is absorbed.

    Args:
        model: the model; it is fitted in place.
        method: see `InterestModel.recalibrate`.
        fraction: last share of the events of `fit` that the map is learned from.
        refresh: events between two maps in `score_events`; None keeps the map of `fit`.
        memory: events before the latest block that a map is learned from.

    Raises:
        ConfigError: an impossible method, refresh or memory.
    """

    def __init__(
        self,
        model: InterestModel,
        method: MethodName = "auto",
        fraction: float = 0.1,
        refresh: int | None = None,
        memory: int = 4000,
    ) -> None:
        check_method(method, model.config.emission)
        check_memory(memory)
        if refresh is not None and (not isinstance(refresh, int) or refresh < 1):
            raise ConfigError(f"refresh={refresh!r}: expected a whole number of events, or None")
        self.model, self.method, self.fraction = model, method, fraction
        self.refresh, self.memory = refresh, memory

    @property
    def config(self) -> ModelConfig:
        """That of the model."""
        return self.model.config

    @property
    def encoder(self) -> Encoder:
        """That of the model."""
        return self.model.encoder

    def fit(
        self, events: object, items: object | None = None, config: FitConfig | None = None
    ) -> RecalibratedInterest:
        """Fit on the early events, recalibrate on the late ones, absorb these; returns self.

        Errors are those of `split_by_time`, `InterestModel.fit` and `recalibrate`; the model then
        stays as it was.
        """
        log, table = read_events(events), None if items is None else read_items(items)
        early, late = split_by_time(log, fraction=self.fraction)
        before = None if table is None else items_before(table, early, log)
        fitted = copy.copy(self.model).fit(early, before, config)
        fitted.recalibrate(late, table, self.method).update(late, table)
        self.model = fitted
        return self

    def update(
        self, events: object, items: object | None = None, *, learn_items: bool = False
    ) -> RecalibratedInterest:
        """Absorb new events, the map stays as it is; see `InterestModel.update`. Returns self."""
        self.model.update(events, items, learn_items=learn_items)
        return self

    def score_events(
        self,
        events: object,
        items: object | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 64,
        *,
        k: int | None = None,
        detail: bool = False,
    ) -> pd.DataFrame:
        """Predict every event from its past; see `InterestModel.score_events`.

        With `refresh` all of the events must lie after the latest one that the model has absorbed.
        """
        options: dict[str, Any] = {"prob": prob, "n_draws": n_draws, "k": k, "detail": detail}
        log = read_events(events)
        table = None if items is None else read_items(items)
        if self.refresh is None:
            return self.model.score_events(log, table, exclude_seen, **options)
        going, parts = copy.copy(self.model), []
        for block in bar(_blocks(log, self.refresh), desc="score", unit="block"):
            parts.append(going.score_events(block, table, exclude_seen, **options))
            going.recalibrate(block, table, self.method, self.memory).update(block, table)
        return pd.concat(parts).sort_index()

    def __repr__(self) -> str:
        return f"RecalibratedInterest({self.model!r}, {self.method!r})"

    def _repr_html_(self) -> str:
        """What the wrapper does and what its model is, for notebooks."""
        about = {
            "method": self.method,
            "learns from": f"the last {self.fraction:g} of the events of fit",
            "learns anew": "never" if self.refresh is None else f"every {self.refresh:,} events",
        }
        return html_table("RecalibratedInterest", about) + self.model._repr_html_()


def _blocks(log: EventLog, n_events: int) -> list[EventLog]:
    """The log in blocks of at least so many events; the last may be shorter."""
    seconds, starts = log.seconds(), [0]
    begins = np.flatnonzero(np.diff(seconds)) + 1  # of moments
    for at in begins:
        if at - starts[-1] >= n_events:
            starts.append(int(at))
    parts = [slice(a, b) for a, b in pairwise([*starts, len(log)])]
    return [replace(log, frame=log.frame[part], row=log.row[part]) for part in parts]
