"""Everything a fit needs: a log and a catalogue with names resolved, and the shape of the model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayes_interest.config import ModelConfig
from bayes_interest.errors import DeviceError
from bayes_interest.events.history import History
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Layout
from bayes_interest.model.prepare import (
    Embedded,
    FamilyChoice,
    Standardizer,
    Vocabulary,
    check_informative,
    choose_family,
    code_outcomes,
    embed_items,
    item_texts,
    learn_vocabulary,
    log_history,
    resolved,
    windows,
)
from bayes_interest.model.problem import Problem, torch_dtype
from bayes_interest.posterior.online import restarted
from bayes_interest.posterior.posterior import FitSummary, Posterior
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.text.encoder import Encoder

MIN_DRIFT_DAYS = 1e-3


@dataclass(frozen=True)
class Prepared:
    """Everything a fit needs, with external names resolved."""

    config: ModelConfig
    family: FamilyChoice
    vocabulary: Vocabulary
    embedded: Embedded
    history: History
    n_fit: int  # items with an event to learn from come first; of those of small choices, all
    auto: frozenset[str]  # fields of the configuration that were left to us


def prepare(
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder | None,
    config: ModelConfig,
    progress: bool,
) -> Prepared:
    """Choose the family, code outcomes, map ids, embed texts."""
    family = choose_family(log, config)
    levels = ()
    if family.name == "rating":
        levels = tuple(log.columns.levels().tolist())
    outcome, use = code_outcomes(log, family.name, config, levels)
    n_fit = len(pd.unique(log.columns.item.codes[use]))
    check_informative(outcome, use, n_fit, family)
    vocabulary = learn_vocabulary(log, table, family.name, use)
    history = log_history(log, vocabulary, family.name, config)
    texts = item_texts(vocabulary.items.ids, log, table)
    embedded = embed_items(vocabulary.items.ids, texts, encoder, progress)
    auto = frozenset(
        field.name for field in fields(config) if getattr(config, field.name) == "auto"
    )
    decided = resolved(config, family.name)
    return Prepared(decided, family, vocabulary, embedded, history, n_fit, auto)


def resolve_device(name: str) -> torch.device:
    """A torch device; "auto" is CUDA where there is one. Raises DeviceError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise DeviceError(
            f'device="{name}" cannot be used on this machine '
            f'({torch.cuda.device_count()} CUDA devices found); pass device="auto" or "cpu"'
        ) from err
    return device


def make_layout(ready: Prepared, features_dim: int) -> Layout:
    """Sizes of the model for the items that are fitted."""
    config, history = ready.config, ready.history
    return Layout(
        config.emission,
        config.state_dim,
        features_dim,
        ready.n_fit,
        n_kinds=len(ready.vocabulary.kinds),
        n_levels=max(2, len(ready.vocabulary.levels)),
        residuals=config.item_residuals,
        popularity_days=windows(config.popularity_days),
        repeats=bool(config.repeats),
        succession=bool(config.succession),
        likeness=bool(config.likeness),
        rates=bool(config.rates),
        context_layers=int(config.context_layers),
        context_dim=config.context_dim,
        context_events=config.context_events,
        half_life_days=config.half_life_days,
        log_drift_centre=drift_centres(history, config.state_dim),
        event_drift=bool(config.event_drift),
    )


def drift_centres(history: History, state_dim: int) -> tuple[float, ...]:
    """Log drift scales to start from: variance over a typical history from 0.03 to 3.

    The typical history is the event-weighted mean span of the users, in days.
    """
    start, length = history.start, history.lengths
    has = length > 1
    if not has.any():
        typical = 1.0
    else:
        span = history.seconds[start[1:][has] - 1] - history.seconds[start[:-1][has]]
        typical = float(np.average(span, weights=length[has])) / SECONDS_PER_DAY
    variance = np.geomspace(0.03, 3.0, state_dim) if state_dim > 1 else np.array([0.3])
    return tuple((0.5 * np.log(variance / max(typical, MIN_DRIFT_DAYS))).tolist())


def problem_of(ready: Prepared, device: torch.device) -> Problem:
    """The absorbed events and the items they are of, as tensors."""
    config, history = ready.config, ready.history
    standardizer = Standardizer.of(ready.embedded, ready.n_fit)
    features = standardizer.apply(ready.embedded)[: ready.n_fit]
    texts = standardizer.directions(features) if config.likeness else None
    on_device = torch.as_tensor(features).to(device, torch_dtype(config.dtype))
    use = history.take(history.absorb)
    return Problem(make_layout(ready, features.shape[1]), on_device, use, texts)


def before_events(ready: Prepared, full: Problem, **parts: Any) -> Posterior:
    """A posterior before any event, over the items that are fitted."""
    layout, values = parts["layout"], parts["values"]
    diagonal = layout.emission == "choice"
    n_users = len(ready.vocabulary.users)
    shell = Posterior(
        config=ready.config,
        vocabulary=ready.vocabulary,
        standardizer=Standardizer.of(ready.embedded, ready.n_fit),
        features=full.features,
        has_text=ready.embedded.known[: ready.n_fit],
        text_cov=parts.pop("text_cov", full.features.new_zeros(0)),
        cold_shift=parts.pop("cold_shift", 0.0),
        belief=Belief.prior(n_users, values, diagonal),
        last_seconds=np.full(n_users, np.nan),
        history=ready.history,
        summary=parts.pop("summary", FitSummary("", (), 0, False, 0.0, ())),
        encoder_spec=parts.pop("encoder_spec", None),
        **parts,
    )
    return restarted(shell)
