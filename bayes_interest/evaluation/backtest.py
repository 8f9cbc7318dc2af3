"""Fit models on the past of a log, predict its future event by event, and judge them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.evaluation.annotate import positive_events
from bayes_interest.evaluation.families import said_of_all
from bayes_interest.evaluation.protocol import Recommender, gives_detail, gives_slates, named_models
from bayes_interest.evaluation.scores import (
    FIT_SECONDS,
    SCORE_SECONDS,
    BacktestScores,
    gather,
)
from bayes_interest.evaluation.strata import wanted_strata
from bayes_interest.evaluation.summarize import check_summary, checked_ks, summarize
from bayes_interest.evaluation.vectors import find_vectors
from bayes_interest.evaluation.windows import ProtocolName, Window, make_windows
from bayes_interest.events.read import EventLog, ItemTable, read_events, read_items
from bayes_interest.events.split import items_before
from bayes_interest.model.prepare import choose_family
from bayes_interest.progress import bar, shown_if


def backtest(
    models: Recommender | Mapping[str, Recommender],
    events: object,
    items: object | None = None,
    *,
    protocol: ProtocolName = "successive",
    at: object = None,
    fraction: float | None = None,
    n_windows: int | None = None,
    exclude_seen: bool = True,
    threshold: float | None = None,
    emission: str | Mapping[str, str] = "auto",
    k: int | Sequence[int] = (10,),
    config: FitConfig | None = None,
    strata: bool | str | Sequence[str] = (),
    prob: float = 0.9,
    n_boot: int = 1000,
    seed: int = 0,
    progress: bool = True,
    reference: str | None = None,
    slates: bool = True,
    vectors: object | None = None,
) -> pd.DataFrame:
    """Time-honest metrics of one or several models on one log, with intervals.

    The models are fitted in place on the early part; then each later event is predicted from
    everything before it and absorbed. Every item that the model knows competes: no metric is
    sampled. `score_backtest` followed by `summarize` is the same, and keeps every prediction.

    Protocols:

    - "successive": train on all before the cut (`at`, or the last `fraction` of the events, 0.1
      by default), judge every event after it, without a refit.
    - "last": the same pass, but only the last test event of each user counts.
    - "rolling": the test span is cut into `n_windows` (3) parts of about equally many events;
      before each the models are refitted on everything earlier.
    - "leave_one_out": the last event of each user with two or more is the test, the rest is
      train. This leaks: a model has seen what other users did after the event it predicts. For
      comparison with published tables only.

    Args:
        models: one model (named "bayes_interest") or a mapping of names to models, see
            `Recommender`.
        events: the whole log, in any form that `read_events` takes. With a column `true_prob`
            (simulated logs) the models' intervals are judged against it.
        items: item table, given to `fit` and `score_events`; to `fit` without items that the log
            first meets after the events to train on.
        protocol, at, fraction, n_windows: how the log is cut, see above.
        exclude_seen: leave out of the ranking what the user has met before.
        threshold: from which value on an event is positive; by default the models' own
            `positive_threshold`, which must not differ from it. Ratings need one.
        emission: family of all models, or by name; "auto" asks a model's config, else the values.
        k: lengths of the slate.
        config: how each fit runs.
        strata: groups to judge apart, see `stratum_masks`: any of "user", "item", "history",
            "gap", "popularity" and columns of the log; True is all five.
        prob, n_boot, seed: mass and number of draws of the bootstrap over users, and its seed.
        progress: show a progress bar.
        reference: name of a model; adds the paired differences of all others against it.
        slates: ask for slates, and judge them where a model gives them.
        vectors: item vectors for the diversity of slates: a mapping of item ids to vectors, or a
            table as for `PrecomputedVectors`. By default those of the first model with an encoder;
            without any, diversity is left out.

    Returns:
        A row per figure: model ("A - B" for a difference), metric, k (missing where the metric has
        none), stratum, value, lower, upper, n; see `summarize`.

    Raises:
        InputError: an impossible option, a cut that leaves nothing to train or test on, a model
            without the methods, or scores that are not those of the test events.
    """
    check_summary(k, prob, n_boot, reference, named_models(models))
    log = read_events(events)
    wanted_strata(strata, log.frame)
    scores = score_backtest(
        models,
        log,
        items,
        protocol=protocol,
        at=at,
        fraction=fraction,
        n_windows=n_windows,
        exclude_seen=exclude_seen,
        threshold=threshold,
        emission=emission,
        k=k,
        config=config,
        progress=progress,
        slates=slates,
        vectors=vectors,
    )
    return summarize(
        scores, k=k, strata=strata, prob=prob, n_boot=n_boot, seed=seed, reference=reference
    )


def score_backtest(
    models: Recommender | Mapping[str, Recommender],
    events: object,
    items: object | None = None,
    *,
    protocol: ProtocolName = "successive",
    at: object = None,
    fraction: float | None = None,
    n_windows: int | None = None,
    exclude_seen: bool = True,
    threshold: float | None = None,
    emission: str | Mapping[str, str] = "auto",
    k: int | Sequence[int] = (10,),
    config: FitConfig | None = None,
    progress: bool = True,
    slates: bool = True,
    vectors: object | None = None,
) -> BacktestScores:
    """Every prediction of a backtest: `BacktestScores`, to store and to summarise later.

    Arguments and errors are those of `backtest`. Slates are as long as the largest `k`.
    """
    named = named_models(models)
    log = read_events(events)
    table = None if items is None else read_items(items)
    windows = make_windows(log, protocol, at, fraction, n_windows)
    configs = {name: getattr(model, "config", None) for name, model in named.items()}
    threshold = _threshold(threshold, configs, log, emission)
    length = max(checked_ks(k)) if slates else None
    tables: list[dict[str, pd.DataFrame]] = [{} for _ in windows]
    seconds = np.zeros((len(named), len(windows), 2))
    total = len(named) * len(windows)
    with shown_if(progress), bar(total=total, desc="backtest", unit="fit") as shown:
        for place, (name, model) in enumerate(named.items()):
            for number, window in enumerate(windows):
                shown.set_postfix_str(name)
                before = None if table is None else items_before(table, window.train, log)
                tables[number][name], seconds[place, number] = _run(
                    model, window, before, table, exclude_seen, config, length
                )
                shown.update()
    found = gather(windows, tables, table, threshold, emission, configs)
    taken = {FIT_SECONDS: seconds[..., 0].mean(1), SCORE_SECONDS: seconds[..., 1].sum(1)}
    known = find_vectors(vectors, named.values(), found.items, log, table) if slates else None
    return replace(found, runs=found.runs.assign(**taken), vectors=known)


def _run(
    model: Recommender,
    window: Window,
    before: ItemTable | None,
    items: ItemTable | None,
    exclude_seen: bool,
    config: FitConfig | None,
    length: int | None,
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Fit on the window's train and the items of `before`, score its test; also both seconds."""
    began = time.perf_counter()
    model.fit(window.train, before, config)
    fitted = time.perf_counter()
    more: dict[str, Any] = {"k": length} if length is not None and gives_slates(model) else {}
    if gives_detail(model):
        more["detail"] = True
    scored = model.score_events(window.test, items, exclude_seen=exclude_seen, **more)
    return scored, (fitted - began, time.perf_counter() - fitted)


def _threshold(
    threshold: float | None, configs: Mapping[str, Any], log: EventLog, emission: object
) -> float | None:
    """The one asked for, else the one of the models' configs; checked before any fit.

    A model's `mean` is of its own threshold, so all must have the same.
    """
    known = {name: one for name, one in configs.items() if isinstance(one, ModelConfig)}
    for name, config in known.items():
        own = config.positive_threshold
        threshold = own if threshold is None else threshold
        if own is not None and own != threshold:
            raise InputError(
                f"thresholds differ: model {name!r} has positive_threshold={own:g}, but events "
                f"would be positive from {threshold:g} on"
            )
    positive_events(log, threshold, said_of_all(emission, configs))
    for name, config in known.items():
        if config.positive_threshold is None and choose_family(log, config).name == "rating":
            raise InputError(
                f"model {name!r} is of the rating family and has no threshold of its own: set "
                f"ModelConfig(positive_threshold={threshold:g}), so that its probabilities are of "
                "the events that count as positive"
            )
    return threshold
