"""Learning a map of probabilities from events that the model has not seen yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar
from torch import Tensor

from bayes_interest.errors import ConfigError, EventError, TimeOrderError
from bayes_interest.events.history import History
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.parameters import reliability
from bayes_interest.model.prepare import log_history
from bayes_interest.posterior.answers import widened
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.online import Forecasts, filter_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import circumstances_of_events, clock
from bayes_interest.posterior.probability_map import (
    METHODS,
    ProbabilityMap,
    best_map,
    fit_map,
    line_map,
)
from bayes_interest.posterior.score import TABLE_SIZE, event_survival, interest_level
from bayes_interest.progress import logger
from bayes_interest.text.encoder import Encoder

MIN_EVENTS = 20
OF_CHOICE = ("auto", "identity", "temperature")
SLOPE_GRID = np.geomspace(0.25, 4.0, 17)
"""Inverse temperatures at which a choice model is tried; between them goes a spline."""
CHOICE_DRAWS = 64


def check_method(method: str, emission: str) -> None:
    """Raise ConfigError for a method that is none, or is not for the family."""
    if method not in METHODS:
        raise ConfigError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if emission == "choice" and method not in OF_CHOICE:
        raise ConfigError(
            f"method={method!r} maps one probability at a time, and those of a choice must sum to "
            'one: expected method="temperature", which scales all logits of the softmax, or "auto"'
        )


def recalibrated(
    posterior: Posterior,
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder,
    method: str,
    memory: int,
) -> Posterior:
    """See `InterestModel.recalibrate`: the posterior with a new map, and nothing else changed."""
    emission = posterior.config.emission
    check_method(method, emission)
    check_memory(memory)
    plain = replace(posterior, recalibration=None)
    _check_later(plain, log)
    wider = widened(plain, log, table, encoder)
    history = log_history(log, wider.vocabulary, emission, wider.config)
    found, _, _ = filter_history(wider, history, keep_cov=True)
    kept = np.flatnonzero(history.absorb)
    kept = kept[np.argsort(history.seconds[kept], kind="stable")]
    choice = emission == "choice"
    evidence = (_choice_evidence if choice else _scalar_evidence)(wider, found, kept)
    if posterior.recalibration is not None and memory:
        evidence = np.concatenate((posterior.recalibration.evidence[-memory:], evidence))
    if len(evidence) < MIN_EVENTS:
        raise EventError(
            f"recalibrate needs at least {MIN_EVENTS} events with an outcome, got {len(evidence)}: "
            "give it a longer slice of time"
        )
    learned = (_choice_map if choice else _scalar_map)(evidence, method)
    logger.info("recalibrated by %s from %d events", learned.method, len(evidence))
    return replace(posterior, recalibration=replace(learned, evidence=evidence))


def check_memory(memory: int) -> None:
    """A number of events."""
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
        raise ConfigError(f"memory={memory!r}: expected a whole number of events >= 0")


def _check_later(posterior: Posterior, log: EventLog) -> None:
    """The map is of predictions: the model must not have seen the events, nor what came later."""
    seconds, latest = log.seconds(), clock(posterior)
    early = seconds <= latest
    if len(posterior.history) and early.any():
        first, last = (
            pd.Timestamp(at, unit="s", tz="UTC").isoformat() for at in (seconds.min(), latest)
        )
        raise TimeOrderError(
            f"recalibrate needs events after the latest one that the model has absorbed, at {last}:"
            f" {int(early.sum())} of {len(log)} are not, the first at {first}. Fit on the early "
            "part of split_by_time(events, ...), and recalibrate on the late one"
        )


def _scalar_evidence(posterior: Posterior, found: Forecasts, events: np.ndarray) -> np.ndarray:
    """Chance of interest one step ahead, for the event's own kind, and the outcome, (event, 2)."""
    level = interest_level(posterior)
    index = torch.as_tensor(events, device=posterior.features.device)
    chance = event_survival(posterior, found, index)[level - 1].double().cpu().numpy()
    return np.stack((chance, found.history.outcome[events] >= level), axis=1)


def _scalar_map(evidence: np.ndarray, method: str) -> ProbabilityMap:
    chance, outcome = evidence[:, 0], evidence[:, 1] > 0
    if outcome.all() or not outcome.any():
        raise EventError(
            f"recalibrate: all {len(outcome)} outcomes are {'above' if outcome.all() else 'below'} "
            "the threshold; give it a slice of time with both"
        )
    return best_map(chance, outcome) if method == "auto" else fit_map(method, chance, outcome)


def _choice_map(losses: np.ndarray, method: str) -> ProbabilityMap:
    """The inverse temperature of the softmax that gives the choices the best log loss."""
    if method == "identity":
        return line_map("identity")
    if method == "auto":
        half = len(losses) // 2
        late = CubicSpline(np.log(SLOPE_GRID), losses[half:].mean(0))
        if late(np.log(_lowest(losses[:half].mean(0)))) >= late(0.0):
            return line_map("identity")
    return line_map("temperature", _lowest(losses.mean(0)))


def _lowest(losses: np.ndarray) -> float:
    """The slope, within the grid, where the spline through the losses is lowest."""
    at = np.log(SLOPE_GRID)
    best = int(np.argmin(losses))
    limits = at[max(0, best - 1)], at[min(len(at) - 1, best + 1)]
    return float(np.exp(minimize_scalar(CubicSpline(at, losses), bounds=limits).x))


def _choice_evidence(posterior: Posterior, found: Forecasts, events: np.ndarray) -> np.ndarray:
    """Minus log P(the chosen item) with all logits times each slope of the grid, (event, slope)."""
    history: History = found.history
    size = max(1, TABLE_SIZE // (posterior.layout.n_items * CHOICE_DRAWS))
    out = np.empty((len(events), len(SLOPE_GRID)))
    for at in range(0, len(events), size):
        part = events[at : at + size]
        index = torch.as_tensor(part, device=posterior.features.device)
        extra = circumstances_of_events(posterior, part, found.rows)
        logits = draw_predictors(posterior, found.belief(index), extra, CHOICE_DRAWS)
        kind = torch.as_tensor(history.kind_index[part], dtype=torch.long, device=index.device)
        logits = logits * reliability(posterior.values, kind)[:, None, None]
        own = torch.as_tensor(history.item_index[part], dtype=torch.long, device=index.device)
        for place, slope in enumerate(SLOPE_GRID):
            out[at : at + size, place] = _loss(logits * float(slope), own).cpu().numpy()
    return out


def _loss(logits: Tensor, own: Tensor) -> Tensor:
    """Minus log of the mean over draws of softmax at the own item, from (event, draw, item)."""
    mine = logits[torch.arange(len(own), device=own.device), :, own]
    each = (mine - torch.logsumexp(logits, -1)).double()
    out: Tensor = np.log(logits.shape[1]) - torch.logsumexp(each, 1)
    return out
