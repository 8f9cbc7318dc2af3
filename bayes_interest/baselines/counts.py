"""Rivals that count: what is popular, what was popular lately, what the user takes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayes_interest.baselines.base import (
    CHOICE_SHARE,
    MAX_CHOICES,
    Baseline,
    check_option,
    evenly,
)
from bayes_interest.baselines.links import Link, LogisticCurve, Share, least
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.text.encoder import Encoder

SMOOTHINGS = np.geomspace(1e-4, 100.0, 37)
HALF_LIVES = (0.25, 1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)
PRIOR_EVENTS = np.geomspace(0.1, 1000.0, 25)


class Popularity(Baseline[None]):
    """Positive events of the item in the last `window_days`, or ever.

    choice: P = (count + a) / sum (count + a), where `a` has the best log loss on the last 10 % of
    train. bernoulli, rating: a logistic regression on log(1 + count), fitted on every train event
    with its own past. Source: Cremonesi, Koren and Turrin (RecSys 2010), "TopPop"; for the window
    Ji et al. (2020), "A re-visit of the popularity baseline in recommender systems".

    Args:
        config: see `Baseline`.
        encoder: not used.
        window_days: length of the window in days; None counts everything.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        window_days: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        good = window_days is None or window_days > 0
        check_option("window_days", window_days, good, "days > 0 or None")
        self.window_days = window_days

    def _learn(self, past: Timeline, run: FitConfig) -> None:
        return None

    def _scores(self, learned: None, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        return timeline.counts("positive", self.window_days).rows(timeline.history.seconds[part])

    def _link(self, learned: None, past: Timeline, part: np.ndarray) -> Link:
        counts = past.counts("positive", self.window_days)
        if past.emission != "choice":
            part = np.arange(len(past.history))
        item, seconds = past.history.item_index[part], past.history.seconds[part]
        own = counts.of_events(item, seconds)
        if past.emission == "choice":
            return best_share(own, counts.totals(seconds), past.n_items)
        return LogisticCurve.fit(own, past.positive[part], log1p=True)


def best_share(own: np.ndarray, total: np.ndarray, n_items: int) -> Share:
    """The smoothing with the best log loss of choices with these counts (event,)."""

    def loss(a: float) -> float:
        return -float(np.log((own + a) / (total + a * n_items)).mean())

    return Share(least(loss, SMOOTHINGS))


class DecayedPopularity(Baseline[float]):
    """Positive events of the item, one of `d` days ago counting `0.5 ** (d / half_life_days)`.

    Probabilities as for `Popularity`, with decayed counts. Source: exponential smoothing; as a
    rival in Ji et al. (2020), "A re-visit of the popularity baseline in recommender systems".

    Args:
        config: see `Baseline`.
        encoder: not used.
        half_life_days: None takes, of a quarter of a day to a year, the one with the best log
            loss on the last 10 % of train.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        half_life_days: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        good = half_life_days is None or half_life_days > 0
        check_option("half_life_days", half_life_days, good, "days > 0 or None")
        self.half_life_days = half_life_days

    def _learn(self, past: Timeline, run: FitConfig) -> float:
        if self.half_life_days is not None:
            return self.half_life_days
        choice = past.emission == "choice"
        part = past.last_of_train(CHOICE_SHARE, positive_only=choice)
        part = evenly(past.in_time_order(part), MAX_CHOICES)
        return least(lambda days: self._fit_link(days, past, part)[1], np.array(HALF_LIVES))

    def _scores(self, learned: float, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        return decayed_counts(timeline, part, learned)

    def _link(self, learned: float, past: Timeline, part: np.ndarray) -> Link:
        return self._fit_link(learned, past, evenly(part, MAX_CHOICES))[0]

    def _fit_link(self, days: float, past: Timeline, part: np.ndarray) -> tuple[Link, float]:
        """The link of a half-life, and its log loss on the events that it was fitted to."""
        found = [(own, scores.sum(1)) for scores, own in self._scored(days, past, part)]
        own, total = (
            np.concatenate(column).astype(np.float64) for column in zip(*found, strict=True)
        )
        positive = past.positive[part]
        if past.emission == "choice":
            share = best_share(own, total, past.n_items)
            chance = (own + share.smoothing) / (total + share.smoothing * past.n_items)
            return share, -float(np.log(chance).mean())
        curve = LogisticCurve.fit(own, positive, log1p=True)
        chance = np.where(positive, curve.at(own), 1.0 - curve.at(own))
        return curve, -float(np.log(chance).mean())


def decayed_counts(timeline: Timeline, part: np.ndarray, half_life_days: float) -> np.ndarray:
    """Decayed positive events per item strictly before events in order of time, (event, item)."""
    counts = timeline.counts("positive")
    moments = timeline.history.seconds[part]
    half_life = half_life_days * SECONDS_PER_DAY
    end = np.searchsorted(counts.seconds, moments, side="left")
    begin = np.concatenate(([0], end[:-1]))
    before = np.concatenate((moments[:1], moments[:-1]))
    decay = np.exp2((before - moments) / half_life)
    table = np.empty((len(part), timeline.n_items), dtype=np.float32)
    level = np.zeros(timeline.n_items)
    for row, now in enumerate(moments):
        new = slice(begin[row], end[row])
        weight = np.exp2((counts.seconds[new] - now) / half_life)
        level = level * decay[row]
        np.add.at(level, counts.item_index[new], weight)
        table[row] = level
    return table


@dataclass(frozen=True)
class Own:
    """What `OwnMostFrequent` learns."""

    prior_events: float  # a: what the popularity weighs, in events of the user
    smoothing: float  # of the popularity


class OwnMostFrequent(Baseline[Own]):
    """choice: the user's own most frequent items, backed off to popularity.

    Score and probability are `(own count + a share) / (own events + a)` with the item's smoothed
    share of all choices so far: the predictive of a Dirichlet prior, whose `a` has the best log
    loss on the last 10 % of train. Source: MacKay and Peto (1995), "A hierarchical Dirichlet
    language model"; as "P-Pop" a strong rival in next-basket recommendation: Hu et al. (SIGIR
    2020), "Modeling personalized item frequency information for next-basket recommendation".

    Args:
        config: see `Baseline`.
        encoder: not used.
        prior_events: `a`; None takes the best of 0.1 to 1,000.
    """

    families: ClassVar[tuple[str, ...]] = ("choice",)

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        prior_events: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        good = prior_events is None or prior_events > 0
        check_option("prior_events", prior_events, good, "events > 0 or None")
        self.prior_events = prior_events

    def _learn(self, past: Timeline, run: FitConfig) -> Own:
        part = past.last_of_train(CHOICE_SHARE, positive_only=True)
        counts, item = past.counts(), past.history.item_index[part]
        seconds = past.history.seconds[part]
        own, total = counts.of_events(item, seconds), counts.totals(seconds)
        smoothing = best_share(own, total, past.n_items).smoothing
        share = (own + smoothing) / (total + smoothing * past.n_items)
        mine = past.own_past(part)
        again = np.asarray(mine[np.arange(len(part)), item]).ravel().astype(np.float64)
        events = np.asarray(mine.sum(1), dtype=np.float64).ravel()

        def loss(a: float) -> float:
            return -float(np.log((again + a * share) / (events + a)).mean())

        return Own(self.prior_events or least(loss, PRIOR_EVENTS), smoothing)

    def _scores(self, learned: Own, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        counts = timeline.counts().rows(timeline.history.seconds[part]) + learned.smoothing
        table = counts * (learned.prior_events / counts.sum(1, keepdims=True))
        own = timeline.own_past(part)
        row = np.repeat(np.arange(len(part)), np.diff(own.indptr))
        np.add.at(table, (row, own.indices), own.data)
        scores: np.ndarray = table.astype(np.float32)
        return scores

    def _link(self, learned: Own, past: Timeline, part: np.ndarray) -> Link:
        return Share(0.0)
