"""From tables to arrays: the family, the coding of outcomes, ids, kinds and item features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from bayes_interest.config import EmissionName, ModelConfig
from bayes_interest.errors import ConfigError, DataWarning, EventError, ItemError
from bayes_interest.events.columns import Coded
from bayes_interest.events.history import History, make_history
from bayes_interest.events.id_map import IdMap
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.schema import ITEM_ID, TEXT, VALUE
from bayes_interest.text.encoder import Encoder
from bayes_interest.text.precomputed import PrecomputedVectors

MAX_LEVELS = 20


@dataclass(frozen=True)
class Vocabulary:
    """External names and internal positions."""

    users: IdMap
    items: IdMap
    kinds: tuple[str, ...]  # the first is the reference
    levels: tuple[float, ...]  # rating: the values of the levels, increasing

    def level(self, threshold: float | None) -> int:
        """rating: values count from this level index on; without a threshold the upper half."""
        if threshold is None:
            return max(1, len(self.levels) // 2 + (len(self.levels) > 2))
        return int(np.clip(np.searchsorted(self.levels, threshold), 1, len(self.levels) - 1))


@dataclass(frozen=True)
class FamilyChoice:
    """The family of outcomes and why it was taken."""

    name: str
    reason: str


def choose_family(log: EventLog, config: ModelConfig) -> FamilyChoice:
    """The configured family, or the one that the values call for."""
    value = log.columns.value
    if config.emission in ("bernoulli", "rating") and value is None:
        raise EventError(_no_value(log, config.emission))
    if config.emission != "auto":
        return FamilyChoice(config.emission, "as configured")
    if value is None:
        return FamilyChoice("choice", "the log has no value column: every event is a choice")
    levels = log.columns.levels()
    if len(levels) == 1:
        return FamilyChoice("choice", f"all values are {levels[0]:g}: every event is a choice")
    if config.positive_threshold is not None:
        return FamilyChoice("bernoulli", f"values are cut at {config.positive_threshold:g}")
    if set(levels) == {0.0, 1.0}:
        return FamilyChoice("bernoulli", "values are 0 and 1: engaged or not, given shown")
    if len(levels) <= MAX_LEVELS:
        return FamilyChoice("rating", f"values have {len(levels)} ordered levels")
    raise ConfigError(
        f"value has {len(levels):,} different values, from {levels[0]:g} to {levels[-1]:g}: no "
        'family fits by itself. Pass positive_threshold= (bernoulli), or emission="choice" '
        "to take every event as a choice"
    )


def code_outcomes(
    log: EventLog, family: str, config: ModelConfig, levels: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes (event,) in the family's coding, and which events are learned from.

    bernoulli: 0 or 1. rating: the level's index. choice: 1 for a choice; events below
    `positive_threshold` were seen but not chosen, and are not learned from.
    """
    n_events = len(log)
    threshold, value = config.positive_threshold, log.columns.value
    if value is None:
        if family != "choice":
            raise EventError(_no_value(log, family))
        return np.ones(n_events), np.ones(n_events, dtype=bool)
    if family == "choice":
        chosen = np.ones(n_events, dtype=bool) if threshold is None else value >= threshold
        return chosen.astype(float), chosen
    if family == "bernoulli":
        if threshold is not None:
            return (value >= threshold).astype(float), np.ones(n_events, dtype=bool)
        _refuse(log, ~np.isin(value, (0.0, 1.0)), "0 or 1 (or pass positive_threshold=)", family)
        return value, np.ones(n_events, dtype=bool)
    index = np.searchsorted(np.asarray(levels), value).clip(0, len(levels) - 1)
    wanted = f"one of the levels {', '.join(f'{level:g}' for level in levels)}"
    _refuse(log, np.asarray(levels)[index] != value, wanted, family)
    return index.astype(float), np.ones(n_events, dtype=bool)


def _no_value(log: EventLog, family: str) -> str:
    return f'emission="{family}" needs a value column; the log has {list(log.frame.columns)}'


def _refuse(log: EventLog, wrong: np.ndarray, wanted: str, family: str) -> None:
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise EventError(
            f"value {log.frame[VALUE].iloc[at]:g} in row {log.row[at]} does not fit "
            f'emission="{family}": expected {wanted}; {int(wrong.sum())} rows are like it'
        )


def check_informative(
    outcome: np.ndarray, absorb: np.ndarray, n_items: int, family: FamilyChoice
) -> None:
    """A fit needs at least two different outcomes, or for choice two items."""
    if family.name == "choice":
        if not absorb.any():
            raise EventError(
                "no event reaches positive_threshold: there is no choice to learn from"
            )
        if n_items < 2:
            raise EventError(
                "only one item was ever chosen: a choice needs at least two. With values of 0 "
                'and 1 per event, emission="bernoulli" can work on a single item'
            )
    elif len(pd.unique(outcome)) < 2:
        raise EventError(
            f'all {len(outcome)} outcomes are equal: emission="{family.name}" has nothing to '
            'learn from. If every event is a positive one, use emission="choice"'
        )


def kind_index(log: EventLog, kinds: tuple[str, ...]) -> np.ndarray:
    """Position of each event's kind; unknown kinds count as the reference, with a warning."""
    kind = log.columns.kind
    if kind is None or len(kinds) < 2:
        return np.zeros(len(log), dtype=np.int32)
    place = pd.Index(kinds).get_indexer(pd.Index(kind.ids)).astype(np.int32)
    found = place[kind.codes]
    if (found < 0).any():
        example = kind.ids[kind.codes[int(np.flatnonzero(found < 0)[0])]]
        warnings.warn(
            f"kind {example!r} was not in the training log: {int((found < 0).sum())} events are "
            f"taken as {kinds[0]!r}. Rename it to a kind of that log ({', '.join(kinds[:5])}), or "
            "fit again with events of it",
            DataWarning,
            stacklevel=3,
        )
    return found.clip(0)


def learn_vocabulary(
    log: EventLog, table: ItemTable | None, family: str, absorb: np.ndarray
) -> Vocabulary:
    """Users and items by first appearance in time (chosen items first), kinds by frequency."""
    columns = log.columns
    chosen = columns.item.ids[pd.unique(columns.item.codes[absorb])]
    items = IdMap.from_ids(chosen).extend(columns.item.ids)
    if table is not None:
        _check_same_type(columns.item.ids, table.frame[ITEM_ID])
        items = items.extend(table.frame[ITEM_ID].to_numpy())
    kinds: tuple[str, ...] = ("",)
    if columns.kind is not None:
        counts = np.bincount(columns.kind.codes, minlength=len(columns.kind.ids))
        pairs = zip(-counts, columns.kind.ids, strict=True)
        kinds = tuple(kind for _, kind in sorted(pairs))
    levels: tuple[float, ...] = ()
    if family == "rating":
        levels = tuple(columns.levels().tolist())
    return Vocabulary(IdMap.from_ids(columns.user.ids), items, kinds, levels)


def _check_same_type(events: np.ndarray, items: pd.Series[Any]) -> None:
    whole = [pd.api.types.is_integer_dtype(ids.dtype) for ids in (events, items)]
    if whole[0] != whole[1] and len(items):
        names = ["integers" if flag else "strings" for flag in whole]
        raise ItemError(
            f"item_id holds {names[0]} in the events but {names[1]} in the items: no item would "
            "be found. Convert one of the columns"
        )


def log_history(log: EventLog, vocabulary: Vocabulary, family: str, config: ModelConfig) -> History:
    """The log as a History; ids must be in the vocabulary."""
    outcome, absorb = code_outcomes(log, family, config, vocabulary.levels)
    columns = log.columns
    return make_history(
        _indexed(columns.user, vocabulary.users),
        _indexed(columns.item, vocabulary.items),
        log.seconds(),
        outcome,
        kind_index(log, vocabulary.kinds),
        len(vocabulary.users),
        absorb,
    )


def _indexed(column: Coded, known: IdMap) -> np.ndarray:
    """Positions of a column's ids in a map, (event,) int32."""
    place = known.index_of(column.ids).astype(np.int32)
    if np.array_equal(place, np.arange(len(place))):
        return column.codes  # the map was made of this column
    return place[column.codes]


def item_texts(ids: np.ndarray, log: EventLog | None, table: ItemTable | None) -> list[str]:
    """The text of each item: from the item table, else from its first event with text, else ""."""
    known: dict[object, str] = {}
    columns = None if log is None else log.columns
    if columns is not None and columns.text is not None:
        event = np.flatnonzero((columns.text.ids != "")[columns.text.codes])
        item, first = np.unique(columns.item.codes[event], return_index=True)
        texts = columns.text.ids[columns.text.codes[event[first]]]
        known.update(zip(columns.item.ids[item].tolist(), texts.tolist(), strict=True))
    if table is not None:
        filled = table.frame[table.frame[TEXT] != ""]
        known.update(zip(filled[ITEM_ID].tolist(), filled[TEXT].tolist(), strict=True))
    return [known.get(item, "") for item in ids.tolist()]


POPULARITY_DAYS = (0.1, 1.0, 10.0, 100.0)
TEXT_DIRECTIONS = 64


@dataclass(frozen=True)
class Embedded:
    """Raw item vectors and which items have one."""

    vectors: np.ndarray  # (item, embed_dim) float32, zero where unknown
    known: np.ndarray  # (item,) bool


def embed_items(
    ids: np.ndarray, texts: list[str], encoder: Encoder | None, progress: bool
) -> Embedded:
    """Vectors of items by their texts, or by lookup for precomputed vectors."""
    if isinstance(encoder, PrecomputedVectors):
        vectors, known = encoder.lookup(ids.tolist())
        return Embedded(np.asarray(vectors, dtype=np.float32), np.asarray(known, dtype=bool))
    known = np.array([text.strip() != "" for text in texts], dtype=bool)
    if encoder is None or not known.any():
        return Embedded(np.zeros((len(ids), 1), dtype=np.float32), np.zeros(len(ids), dtype=bool))
    return Embedded(encoder.encode(texts, progress=progress), known)


@dataclass(frozen=True)
class Standardizer:
    """`(phi - mean) / scale` per dimension, from the items with events; no text gives zero."""

    mean: np.ndarray  # (embed_dim,)
    scale: np.ndarray  # (embed_dim,)
    axes: np.ndarray  # principal axes of the features, (embed_dim, text_dim)

    @classmethod
    def of(cls, embedded: Embedded, n_fit: int) -> Standardizer:
        """Learned from the first `n_fit` items that have a vector."""
        part = embedded.vectors[:n_fit][embedded.known[:n_fit]].astype(np.float64)
        dim = embedded.vectors.shape[1]
        if len(part) < 2:
            return cls(np.zeros(dim), np.ones(dim), np.eye(dim)[:, :TEXT_DIRECTIONS])
        scale = part.std(0)
        scale = np.where(scale > 1e-8, scale, 1.0)
        features = (part - part.mean(0)) / scale
        axes = np.linalg.eigh(features.T @ features)[1][:, ::-1]
        return cls(part.mean(0), scale, axes[:, :TEXT_DIRECTIONS].copy())

    def apply(self, embedded: Embedded) -> np.ndarray:
        """Features (item, embed_dim), float64."""
        features = (embedded.vectors - self.mean) / self.scale
        features[~embedded.known] = 0.0
        return features

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Where features point along the principal axes, unit vectors (item, text_dim) float32;
        zero without text.
        """
        along = features @ self.axes
        length = np.linalg.norm(along, axis=1, keepdims=True)
        found: np.ndarray = (along / np.maximum(length, 1e-12)).astype(np.float32)
        return found


def windows(days: float | tuple[float, ...] | str | None) -> tuple[float, ...]:
    """Popularity windows as a tuple, of a decided configuration."""
    if days is None or isinstance(days, str):
        return ()
    return tuple(days) if isinstance(days, tuple) else (float(days),)


def resolved(config: ModelConfig, family: str) -> ModelConfig:
    """The configuration with every "auto" decided that the family decides."""
    days = config.popularity_days
    if days == "auto":
        days = POPULARITY_DAYS if family == "choice" else None
    repeats = family == "choice" if config.repeats == "auto" else config.repeats
    follows = family == "choice" if config.succession == "auto" else config.succession
    alike = family == "choice" if config.likeness == "auto" else config.likeness
    rates = family != "choice" if config.rates == "auto" else config.rates
    moves = True if family == "choice" and config.event_drift == "auto" else config.event_drift
    return replace(
        config,
        emission=cast(EmissionName, family),
        popularity_days=days,
        repeats=bool(repeats),
        succession=bool(follows),
        likeness=bool(alike),
        rates=bool(rates) and family != "choice",
        event_drift=moves,
    )
