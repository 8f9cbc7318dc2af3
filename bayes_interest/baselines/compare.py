"""The fitted model beside its rivals on one test log: each event predicted, then absorbed."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd

from bayes_interest.baselines.rivals import CELLS, Rival, make_rivals
from bayes_interest.baselines.timeline import Timeline, make_timeline
from bayes_interest.errors import InputError
from bayes_interest.evaluation.table import THIS, evaluate
from bayes_interest.events.read import EventLog, read_events, read_items
from bayes_interest.posterior.answers import widened
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.schema import ITEM_ID, LOG_PROB, MEAN, RANK, TIMESTAMP, USER_ID
from bayes_interest.text.encoder import Encoder


class FittedModel(Protocol):
    """What is needed of an `InterestModel`."""

    encoder: Encoder

    @property
    def posterior(self) -> Posterior:
        """The fitted state."""
        ...

    def score_events(
        self, events: object, items: object | None = None, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """Predict every event from what came before it."""
        ...


def compare(
    model: FittedModel,
    train: object,
    test: object,
    items: object | None = None,
    exclude_seen: bool = True,
    k: int = 10,
) -> pd.DataFrame:
    """Metrics of the model and of three rivals on a test log, as one tidy table.

    The columns are those of `evaluate`: model, metric, k, value, n. The rivals, which see of
    train and test what has a strictly earlier timestamp than the event (see `rivals`):

    - `item_mean`: smoothed positive rate of the item; for choice `popular_all_time`.
    - `popular_7_days`: positive events of the item in the previous 7 days.
    - `text_cosine`: the item's text against the mean text of the user's earlier positive items.

    All rank the same candidates: the items known after reading `items` and the test log, without
    those seen by the user if `exclude_seen`. Ties count against the event's item.

    Args:
        model: fitted on `train`.
        train: all events that the model has absorbed.
        test: later events.
        items: texts of items that the model does not know yet.
        exclude_seen: leave out of the ranking what the user has met before.
        k: length of the slate.

    Raises:
        InputError: `train` is not what the model has absorbed; and what `score_events` raises.
    """
    tables = {THIS: model.score_events(test, items, exclude_seen=exclude_seen)}
    tables |= score_rivals(model, train, test, items, exclude_seen)
    posterior = model.posterior
    emission, threshold = posterior.config.emission, posterior.config.positive_threshold
    if emission == "rating":
        threshold = posterior.vocabulary.levels[posterior.level]
    log = read_events(test)
    parts = [evaluate(table, log, threshold, k, emission, name) for name, table in tables.items()]
    return pd.concat(parts, ignore_index=True)


def score_rivals(
    model: FittedModel,
    train: object,
    test: object,
    items: object | None = None,
    exclude_seen: bool = True,
) -> dict[str, pd.DataFrame]:
    """The test log as each rival scores it: tables like those of `score_events`, by name.

    Columns user_id, item_id, timestamp, mean, log_prob, rank, in the caller's order of rows. A
    rival says nothing about the level of a rating: there `log_prob` is missing.
    """
    first, second = read_events(train), read_events(test)
    known = len(model.posterior.history)
    if len(first) != known:
        raise InputError(
            f"train has {len(first)} events but the model has absorbed {known}: pass the log that "
            "the model was fitted on"
        )
    table = None if items is None else read_items(items)
    posterior = widened(model.posterior, second, table, model.encoder)
    timeline = make_timeline(posterior, first, second)
    rivals = make_rivals(timeline, raw_vectors(posterior))
    return {rival.name: rival_table(rival, timeline, second, exclude_seen) for rival in rivals}


def raw_vectors(posterior: Posterior) -> np.ndarray:
    """The encoder's vectors (item, embed_dim), back from the standardised features."""
    standard, features = posterior.standardizer, posterior.features.cpu().double().numpy()
    vectors: np.ndarray = features * standard.scale + standard.mean
    vectors[~posterior.has_text] = 0.0
    return vectors.astype(np.float32, copy=False)


def rival_table(
    rival: Rival, timeline: Timeline, test: EventLog, exclude_seen: bool
) -> pd.DataFrame:
    """Scores of the test events, in the caller's order of rows."""
    history = timeline.history
    events = np.flatnonzero(timeline.is_test)
    events = events[np.argsort(history.seconds[events], kind="stable")]
    size = max(1, CELLS // timeline.n_items)
    found = [
        score_part(rival, timeline, events[begin : begin + size], exclude_seen)
        for begin in range(0, len(events), size)
    ]
    chance, rank = (np.concatenate(column) for column in zip(*found, strict=True))
    columns = {MEAN: chance, LOG_PROB: outcome_log_prob(timeline, events, chance), RANK: rank}
    scores = pd.DataFrame(columns, index=history.order[events] - timeline.n_train).sort_index()
    out = pd.concat((test.frame[[USER_ID, ITEM_ID, TIMESTAMP]], scores), axis=1)
    out.index = pd.Index(test.row)
    return out.sort_index()


def score_part(
    rival: Rival, timeline: Timeline, part: np.ndarray, exclude_seen: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Interest probability and rank of some events, in order of time."""
    scores = rival.scores(part)
    row, item = np.arange(len(part)), timeline.history.item_index[part]
    own = scores[row, item]
    competes = scores >= own[:, None]
    competes[row, item] = False
    if exclude_seen:
        competes[timeline.seen(part)] = False
    return rival.chances(scores, own), 1 + competes.sum(1)


def outcome_log_prob(timeline: Timeline, events: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Log probability of what happened; NaN for ratings and for what was not chosen."""
    positive = timeline.positive[events]
    if timeline.emission == "rating":
        return np.full(len(events), np.nan)
    if timeline.emission == "choice":
        return np.where(positive, np.log(chance), np.nan)
    return np.log(np.where(positive, chance, 1.0 - chance))
