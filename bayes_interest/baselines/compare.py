"""The fitted model beside its rivals on one test log: each event predicted, then absorbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bayes_interest.baselines.base import Baseline
from bayes_interest.baselines.counts import Popularity
from bayes_interest.baselines.rates import ItemMean
from bayes_interest.baselines.text import TextCosine
from bayes_interest.config import FitConfig
from bayes_interest.errors import InputError
from bayes_interest.evaluation.table import THIS, evaluate
from bayes_interest.events.read import read_events, read_items
from bayes_interest.posterior.answers import widened
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.schema import ITEM_ID
from bayes_interest.text.encoder import Encoder
from bayes_interest.text.precomputed import PrecomputedVectors

WINDOW_DAYS = 7.0
Rivals = Mapping[str, Callable[..., Baseline[Any]]]


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
    rivals: Rivals | None = None,
    config: FitConfig | None = None,
) -> pd.DataFrame:
    """Metrics of the model and of rivals on a test log, as one tidy table.

    The columns are those of `evaluate`: model, metric, k, value, n. The rivals, by default three,
    see of train and test what has a strictly earlier timestamp than the event:

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
        rivals: other ones, by name, as `baselines.all_rivals` gives them.
        config: how the rivals are fitted.

    Raises:
        InputError: `train` is not what the model has absorbed; and what `score_events` raises.
    """
    tables = {THIS: model.score_events(test, items, exclude_seen=exclude_seen)}
    tables |= score_rivals(model, train, test, items, exclude_seen, rivals, config)
    posterior = model.posterior
    emission, threshold = posterior.config.emission, posterior.config.positive_threshold
    if emission == "rating":
        threshold = posterior.vocabulary.levels[posterior.level]
    log = read_events(test)
    parts = [evaluate(table, log, threshold, k, emission, name) for name, table in tables.items()]
    return pd.concat(parts, ignore_index=True)


def first_rivals(emission: str) -> Rivals:
    """The three rivals that `compare` shows where no others are asked for."""
    recent = partial(Popularity, window_days=WINDOW_DAYS)
    first: Rivals = {"item_mean": ItemMean}
    if emission == "choice":
        first = {"popular_all_time": Popularity}
    return {**first, "popular_7_days": recent, "text_cosine": TextCosine}


def score_rivals(
    model: FittedModel,
    train: object,
    test: object,
    items: object | None = None,
    exclude_seen: bool = True,
    rivals: Rivals | None = None,
    config: FitConfig | None = None,
) -> dict[str, pd.DataFrame]:
    """The test log as each rival scores it: tables of `Baseline.score_events`, by name.

    Every rival is fitted on `train` with the model's family and the item vectors that the model
    has, so that no text is encoded twice.
    """
    fitted = fit_rivals(model, train, test, items, rivals, config)
    return {name: rival.score_events(test, None, exclude_seen) for name, rival in fitted.items()}


def fit_rivals(
    model: FittedModel,
    train: object,
    test: object,
    items: object | None = None,
    rivals: Rivals | None = None,
    config: FitConfig | None = None,
) -> dict[str, Baseline[Any]]:
    """The rivals, by name, fitted on the model's train log and knowing the model's items."""
    log, known = read_events(train), len(model.posterior.history)
    if len(log) != known:
        raise InputError(
            f"train has {len(log)} events but the model has absorbed {known}: pass the log that "
            "the model was fitted on"
        )
    table = None if items is None else read_items(items)
    posterior = widened(model.posterior, read_events(test), table, model.encoder)
    ids = posterior.vocabulary.items.ids
    vectors = PrecomputedVectors(raw_vectors(posterior), item_ids=ids.tolist())
    catalogue = read_items(pd.DataFrame({ITEM_ID: ids}))
    if table is not None:
        catalogue = read_items(with_columns(catalogue.frame, table.frame))
    run = config or FitConfig(progress=False)
    emission = posterior.config.emission
    return {
        name: make(posterior.config, vectors).fit(log, catalogue, run)
        for name, make in (rivals or first_rivals(emission)).items()
    }


def with_columns(catalogue: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The catalogue's items with texts and other columns of an item table."""
    return catalogue[[ITEM_ID]].merge(table, on=ITEM_ID, how="left")


def raw_vectors(posterior: Posterior) -> np.ndarray:
    """The encoder's vectors (item, embed_dim), back from the standardised features."""
    standard, features = posterior.standardizer, posterior.features.cpu().double().numpy()
    vectors: np.ndarray = features * standard.scale + standard.mean
    vectors[~posterior.has_text] = 0.0
    return vectors.astype(np.float32, copy=False)
