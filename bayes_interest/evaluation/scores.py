"""The raw result of a backtest: every prediction, kept apart from the figures made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError, StorageError
from bayes_interest.evaluation.alignment import aligned, check_same_events, is_detail, placed
from bayes_interest.evaluation.annotate import (
    WINDOW,
    describe_events,
    describe_items,
    positive_events,
)
from bayes_interest.evaluation.families import families_of, said_of_all
from bayes_interest.evaluation.windows import Window, in_own_order
from bayes_interest.events.read import EventLog, read_events, read_items
from bayes_interest.schema import (
    SLATE,
    USER_ID,
)

MODEL = "model"
EMISSION, FIT_SECONDS, SCORE_SECONDS = "emission", "fit_seconds", "score_seconds"
_PARTS = ("events", "items", "runs", "vectors")


@dataclass(frozen=True, eq=False)
class BacktestScores:
    """What several models predicted of the same test events, with all that figures need.

    Attributes:
        events: a row per judged event: the columns of the log without text, and window,
            positive, n_before, gap_days, user_n_train, item_n_train, popularity (see
            `describe_events`).
        tables: by model, a row per row of `events`: mean, sd, lower, upper, log_prob, rank (NaN
            where the model says nothing), slate (lists of item ids) where it gives slates, and
            what `InterestModel.score_events` adds with `detail` where it gives that.
        items: a row per window and item: n_train, user_share, popularity (see `describe_items`).
        runs: by model (index): emission (the family of its probabilities), fit_seconds (mean
            over windows; NaN where unknown) and score_seconds (sum over windows).
        vectors: item_id and vector, for the diversity of slates, or None.
    """

    events: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    items: pd.DataFrame
    runs: pd.DataFrame
    vectors: pd.DataFrame | None = None

    @classmethod
    def from_tables(
        cls,
        tables: Mapping[str, pd.DataFrame],
        events: object,
        train: object,
        items: object | None = None,
        *,
        threshold: float | None = None,
        emission: str | Mapping[str, str] = "auto",
        vectors: pd.DataFrame | None = None,
    ) -> BacktestScores:
        """From tables that `score_events` returned for `events`, without the models.

        Args:
            tables: by model name, with rows labelled by position in the source of `events`.
            events: the scored events.
            train: all events that the models had learned from.
            items: the item table that the models had.
            threshold, emission, vectors: as for `backtest`.

        Raises:
            InputError: a table has not the rows of `events`, or a column is missing.
        """
        log, before = read_events(events), read_events(train)
        own = {name: placed(name, table, log) for name, table in tables.items()}
        window = Window(in_own_order(before), in_own_order(log), np.ones(len(log), dtype=bool))
        found = gather([window], [own], items, threshold, emission)
        return replace(found, vectors=vectors)

    def merged(self, *others: BacktestScores) -> BacktestScores:
        """One object with the models of several runs on the same test events.

        Raises:
            InputError: the test events or their outcomes differ, or a model name comes twice.
        """
        tables, runs, vectors = dict(self.tables), [self.runs], self.vectors
        for other in others:
            check_same_events(self.events, other.events)
            twice = sorted(set(tables) & set(other.tables))
            if twice:
                raise InputError(f"merged: model {twice[0]!r} is in two of the runs: rename one")
            tables |= other.tables
            runs.append(other.runs)
            vectors = other.vectors if vectors is None else vectors
        return replace(self, tables=tables, runs=pd.concat(runs), vectors=vectors)

    def renamed(self, names: Mapping[str, str]) -> BacktestScores:
        """The same with other names of models: old name to new name.

        Raises:
            InputError: no such model, or a new name comes twice.
        """
        unknown = [name for name in names if name not in self.tables]
        if unknown:
            raise InputError(f"renamed: no model {unknown[0]!r}, there are {list(self.tables)}")
        tables = {names.get(name, name): table for name, table in self.tables.items()}
        if len(tables) < len(self.tables):
            raise InputError(f"renamed: two models would have one name, {list(tables)}")
        return replace(self, tables=tables, runs=self.runs.rename(index=dict(names)))

    def save(self, folder: str | Path) -> None:
        """Write parquet files into a folder, made if missing: events, scores, items, runs.

        Raises:
            StorageError: the folder cannot be written.
        """
        place = Path(folder)
        scores = [table.assign(**{MODEL: name}) for name, table in self.tables.items()]
        try:
            place.mkdir(parents=True, exist_ok=True)
            for part in _PARTS:
                frame = getattr(self, part)
                if frame is None:
                    (place / f"{part}.parquet").unlink(missing_ok=True)
                else:
                    frame.to_parquet(place / f"{part}.parquet")
            pd.concat(scores).to_parquet(place / "scores.parquet")
        except (OSError, ValueError, TypeError) as cause:
            raise StorageError(f"{place}: scores cannot be written: {cause}") from cause

    @classmethod
    def load(cls, folder: str | Path) -> BacktestScores:
        """Read what `save` wrote. Raises StorageError where that is not possible."""
        place = Path(folder)
        try:
            parts: dict[str, Any] = {
                part: pd.read_parquet(place / f"{part}.parquet")
                for part in _PARTS
                if part != "vectors" or (place / "vectors.parquet").exists()
            }
            scores = pd.read_parquet(place / "scores.parquet")
        except (OSError, ValueError) as cause:
            raise StorageError(f"{place}: no scores to read: {cause}") from cause
        tables = {}
        for name in parts["runs"].index:
            own = scores[scores[MODEL] == name].drop(columns=MODEL)
            other = [c for c in own if (c == SLATE or is_detail(c)) and own[c].isna().all()]
            tables[name] = own.drop(columns=other)  # of other models
        return cls(tables=tables, **parts)

    def __repr__(self) -> str:
        users = self.events[USER_ID].nunique()
        windows = self.events[WINDOW].nunique()
        return (
            f"BacktestScores: {len(self.events):,} test events of {users:,} users in "
            f"{windows} window(s), models {', '.join(self.tables)}"
        )


def gather(
    windows: Sequence[Window],
    tables: Sequence[Mapping[str, pd.DataFrame]],
    items: object | None,
    threshold: float | None,
    emission: str | Mapping[str, str],
    configured: Mapping[str, Any] | None = None,
) -> BacktestScores:
    """Put the windows together. `tables` has, per window and model, what `score_events` gave.

    `configured` holds the `ModelConfig` of those models that have one.
    """
    whole = _whole_log(windows)
    positive = positive_events(whole, threshold, said_of_all(emission, configured or {}))
    texts = None if items is None else read_items(items)
    events, catalogue = [], []
    for number, window in enumerate(windows):
        known = describe_items(window.train, window.test, texts)
        begin = len(windows[0].train) + sum(len(w.test) for w in windows[:number])
        here = positive[begin : begin + len(window.test)]
        described = describe_events(window, known, here)
        events.append(described.assign(**{WINDOW: number})[window.counts])
        catalogue.append(known.assign(**{WINDOW: number}))
    found = {name: _joined(name, windows, tables) for name in tables[0]}
    together = pd.concat(events, ignore_index=True)
    families = families_of(found, together, whole, positive, threshold, emission, configured or {})
    seconds = {FIT_SECONDS: np.nan, SCORE_SECONDS: np.nan}
    runs = pd.DataFrame({EMISSION: pd.Series(families)}).assign(**seconds).rename_axis(MODEL)
    return BacktestScores(together, found, pd.concat(catalogue, ignore_index=True), runs)


def _whole_log(windows: Sequence[Window]) -> EventLog:
    """Training events of the first window and all test events."""
    frames = [windows[0].train.frame, *(window.test.frame for window in windows)]
    return replace(windows[0].train, frame=pd.concat(frames, ignore_index=True))


def _joined(
    name: str, windows: Sequence[Window], tables: Sequence[Mapping[str, pd.DataFrame]]
) -> pd.DataFrame:
    """One model's table over all windows: the columns we know, in one type."""
    parts = [
        aligned(name, table[name], window.test)[window.counts]
        for window, table in zip(windows, tables, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)
