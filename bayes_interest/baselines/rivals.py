"""What a user would try first, behind one protocol; every parameter is chosen on train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.special import expit, logit, logsumexp
from sklearn.linear_model import LogisticRegression

from bayes_interest.baselines.timeline import PastCounts, Timeline

WINDOW_DAYS = 7.0
TUNING_SHARE = 0.1  # the last part of train on which smoothing is chosen
COSINE_SHARE = 0.2  # the last part of train on which the cosine's logistic regression is fitted
STRENGTHS = np.geomspace(0.1, 1000.0, 25)
SMOOTHINGS = np.geomspace(1e-4, 100.0, 37)
SCALES = np.geomspace(0.5, 128.0, 17)
MAX_SCALE_EVENTS = 2_000  # at most, evenly spread over the tuning events
CELLS = 2_000_000  # of a table (event, item)


class Rival(Protocol):
    """Predicts events from what has a strictly earlier timestamp."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    def scores(self, part: np.ndarray) -> np.ndarray:
        """What the ranking sorts by, (event, item), for positions in order of time."""
        ...

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Interest probability of the events' own items, (event,), from rows and own scores."""
        ...


def make_rivals(timeline: Timeline, vectors: np.ndarray) -> list[Rival]:
    """The three rivals of a family, given raw text vectors (item, embed_dim)."""
    if timeline.emission == "choice":
        return [
            CountShare.fit(timeline, "popular_all_time", None),
            CountShare.fit(timeline, "popular_7_days", WINDOW_DAYS),
            TextCosine.fit(timeline, vectors),
        ]
    return [ItemRate.fit(timeline), RecentCount.fit(timeline), TextCosine.fit(timeline, vectors)]


def least(loss: Callable[[float], float], grid: np.ndarray) -> float:
    """The grid value with the smallest loss."""
    return float(grid[int(np.argmin([loss(float(value)) for value in grid]))])


@dataclass(frozen=True)
class CountShare:
    """choice: `(count + a) / sum (count + a)`, counts of the past 7 days or of all time.

    The smoothing `a` has the best log loss on the last 10 % of train.
    """

    name: str
    timeline: Timeline
    counts: PastCounts
    smoothing: float

    @classmethod
    def fit(cls, timeline: Timeline, name: str, window_days: float | None) -> CountShare:
        """Choose the smoothing."""
        history, n_items = timeline.history, timeline.n_items
        counts = PastCounts.of(timeline, timeline.positive, window_days)
        part = timeline.last_of_train(TUNING_SHARE, positive_only=True)
        own = counts.of_events(history.item_index[part], history.seconds[part])
        total = counts.totals(history.seconds[part])

        def loss(a: float) -> float:
            return -float(np.log((own + a) / (total + a * n_items)).mean())

        return cls(name, timeline, counts, least(loss, SMOOTHINGS))

    def scores(self, part: np.ndarray) -> np.ndarray:
        """Counts."""
        return self.counts.rows(self.timeline.history.seconds[part])

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The item's share."""
        total = scores.sum(1, dtype=np.float64) + self.smoothing * self.timeline.n_items
        share: np.ndarray = (own + self.smoothing) / total
        return share


@dataclass(frozen=True)
class ItemRate:
    """bernoulli, rating: `(positive + s m) / (n + s)` of the item's events so far.

    `m` is the positive rate of all events so far; the strength `s` has the best log loss on the
    last 10 % of train.
    """

    timeline: Timeline
    shown: PastCounts
    engaged: PastCounts
    strength: float
    name: str = "item_mean"

    @classmethod
    def fit(cls, timeline: Timeline) -> ItemRate:
        """Choose the strength."""
        history, positive = timeline.history, timeline.positive
        engaged = PastCounts.of(timeline, positive)
        shown = PastCounts.of(timeline, np.ones_like(positive))
        part = timeline.last_of_train(TUNING_SHARE, positive_only=False)
        item, seconds = history.item_index[part], history.seconds[part]
        hits, total = engaged.of_events(item, seconds), shown.of_events(item, seconds)
        rate = overall_rate(engaged, shown, seconds)

        def loss(s: float) -> float:
            chance = (hits + s * rate) / (total + s)
            return -float(np.log(np.where(positive[part], chance, 1.0 - chance)).mean())

        return cls(timeline, shown, engaged, least(loss, STRENGTHS))

    def scores(self, part: np.ndarray) -> np.ndarray:
        """Smoothed rates, in float32: 1 of 2 and 2 of 4 tie where the overall rate is a half."""
        seconds = self.timeline.history.seconds[part]
        rate = overall_rate(self.engaged, self.shown, seconds)[:, None]
        hits = self.engaged.rows(seconds) + self.strength * rate
        rates: np.ndarray = (hits / (self.shown.rows(seconds) + self.strength)).astype(np.float32)
        return rates

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The rate itself."""
        return own.astype(np.float64)


def overall_rate(engaged: PastCounts, shown: PastCounts, seconds: np.ndarray) -> np.ndarray:
    """Positive rate of all earlier events, a half where there are none, (event,)."""
    return (engaged.totals(seconds) + 0.5) / (shown.totals(seconds) + 1.0)


@dataclass(frozen=True)
class RecentCount:
    """bernoulli, rating: positive events of the item in the past 7 days.

    The probability is a logistic regression on log(1 + count), fitted on train.
    """

    timeline: Timeline
    counts: PastCounts
    curve: LogisticCurve
    name: str = "popular_7_days"

    @classmethod
    def fit(cls, timeline: Timeline) -> RecentCount:
        """Fit the regression on every train event, each with its own past."""
        history = timeline.history
        counts = PastCounts.of(timeline, timeline.positive, WINDOW_DAYS)
        part = np.flatnonzero(~timeline.is_test)
        own = counts.of_events(history.item_index[part], history.seconds[part])
        return cls(timeline, counts, LogisticCurve.fit(np.log1p(own), timeline.positive[part]))

    def scores(self, part: np.ndarray) -> np.ndarray:
        """Counts."""
        return self.counts.rows(self.timeline.history.seconds[part])

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """From the regression."""
        return self.curve.at(np.log1p(own.astype(np.float64)))


@dataclass(frozen=True)
class LogisticCurve:
    """`P(positive) = sigmoid(intercept + slope x)`."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, x: np.ndarray, outcome: np.ndarray) -> LogisticCurve:
        """By (nearly unpenalised) maximum likelihood; a constant where all outcomes are equal."""
        if outcome.all() or not outcome.any():
            return cls(0.0, float(logit((outcome.sum() + 0.5) / (len(outcome) + 1.0))))
        found = LogisticRegression(C=1e3).fit(x[:, None], outcome)
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]))

    def at(self, x: np.ndarray) -> np.ndarray:
        """Probabilities, of the shape of `x`."""
        chance: np.ndarray = expit(self.intercept + self.slope * x)
        return chance


@dataclass(frozen=True)
class TextCosine:
    """Cosine of the item's text vector with the mean over the user's earlier positive items.

    Zero for users without such items. The probability is a logistic regression on the cosine,
    fitted on the last 20 % of train; for choice softmax(scale * cosine), the scale with the best
    log loss on the last 10 % of train (at most 2,000 events of it, evenly spread).
    """

    timeline: Timeline
    vectors: np.ndarray  # raw, (item, embed_dim) float32
    unit: np.ndarray  # each different vector once, of length one or zero, (text, embed_dim)
    text_index: np.ndarray  # position of each item's vector in `unit`, (item,)
    link: LogisticCurve | float  # float: the scale of the softmax
    name: str = "text_cosine"

    @classmethod
    def fit(cls, timeline: Timeline, vectors: np.ndarray) -> TextCosine:
        """Fit the link. Equal texts share one row of `unit`, so that their scores tie exactly."""
        raw = np.ascontiguousarray(vectors, dtype=np.float32)
        text_index, _ = pd.factorize(np.array([row.tobytes() for row in raw], dtype=object))
        _, first = np.unique(text_index, return_index=True)
        bare = cls(timeline, raw, unit_rows(raw[first]), text_index, 0.0)
        link: LogisticCurve | float
        if timeline.emission == "choice":
            link = bare._best_scale()
        else:
            part = timeline.last_of_train(COSINE_SHARE, positive_only=False)
            own = timeline.history.item_index[part]
            cosine = (bare.profiles(part) * bare.unit[text_index[own]]).sum(1)
            link = LogisticCurve.fit(cosine.astype(np.float64), timeline.positive[part])
        return cls(timeline, raw, bare.unit, text_index, link)

    def _best_scale(self) -> float:
        part = self.timeline.last_of_train(TUNING_SHARE, positive_only=True)
        some = np.linspace(0, len(part) - 1, min(len(part), MAX_SCALE_EVENTS)).astype(np.int64)
        part, total = part[some], np.zeros(len(SCALES))
        size = max(1, CELLS // self.timeline.n_items)
        for begin in range(0, len(part), size):
            block = part[begin : begin + size]
            scores = self.scores(block)
            own = scores[np.arange(len(block)), self.timeline.history.item_index[block]]
            total += [softmax_log_prob(scores, own, scale).sum() for scale in SCALES]
        return float(SCALES[int(np.argmax(total))])

    def profiles(self, part: np.ndarray) -> np.ndarray:
        """Mean vectors of the events' users just before, at length one, (event, embed_dim)."""
        return unit_rows(self.timeline.own_past(part) @ self.vectors)

    def scores(self, part: np.ndarray) -> np.ndarray:
        """Cosines."""
        cosines: np.ndarray = (self.profiles(part) @ self.unit.T)[:, self.text_index]
        return cosines

    def chances(self, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
        """By the family's link."""
        if isinstance(self.link, LogisticCurve):
            return self.link.at(own.astype(np.float64))
        chance: np.ndarray = np.exp(softmax_log_prob(scores, own, self.link))
        return chance


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows at length one; zero stays zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


def softmax_log_prob(scores: np.ndarray, own: np.ndarray, scale: float) -> np.ndarray:
    """Of the events' own items, (event,), among all: `scale own - logsumexp(scale scores)`."""
    logits = scores * np.float32(scale)
    total = logsumexp(logits, axis=1).astype(np.float64)
    log_prob: np.ndarray = scale * own.astype(np.float64) - total
    return log_prob
