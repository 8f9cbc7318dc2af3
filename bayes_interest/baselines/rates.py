"""Rivals of shown-and-answered logs: the item's rate, and the user's running rate beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from bayes_interest.baselines.base import (
    CHOICE_SHARE,
    CURVE_SHARE,
    Baseline,
    check_option,
)
from bayes_interest.baselines.links import Itself, Link, Sigmoid, binary_log_loss, least
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.encoder import Encoder

STRENGTHS = np.geomspace(0.1, 1000.0, 25)
DECAYS = (1.0, 0.995, 0.99, 0.98, 0.96, 0.93, 0.9, 0.85, 0.8, 0.7)  # per event
RATE_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
FIT_SHARE = 0.5  # the last part of train to which `RunningRate` fits its weights
BINARY = ("bernoulli", "rating")


class ItemMean(Baseline[float]):
    """`(positive + s m) / (n + s)` of the item's events so far; score and probability.

    `m` is the positive rate of all events so far; the strength `s` has the best log loss on the
    last 10 % of train. Source: the mean of a Beta posterior, Gelman et al., "Bayesian Data
    Analysis", section 2.4.

    Args:
        config: see `Baseline`.
        encoder: not used.
        strength: `s` in events; None takes the best of 0.1 to 1,000.
    """

    families: ClassVar[tuple[str, ...]] = BINARY

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        strength: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        check_option("strength", strength, strength is None or strength > 0, "events > 0 or None")
        self.strength = strength

    def _learn(self, past: Timeline, run: FitConfig) -> float:
        return self.strength or best_item_strength(past)

    def _scores(self, learned: float, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        return item_rates(timeline, part, learned)

    def _link(self, learned: float, past: Timeline, part: np.ndarray) -> Link:
        return Itself()


def best_item_strength(past: Timeline) -> float:
    """The strength with the best log loss on the last 10 % of train."""
    part = past.last_of_train(CHOICE_SHARE, positive_only=False)
    positive = past.positive[part]

    def loss(s: float) -> float:
        return binary_log_loss(own_item_rates(past, part, s), positive)

    return least(loss, STRENGTHS)


def item_rates(timeline: Timeline, part: np.ndarray, strength: float) -> np.ndarray:
    """Smoothed rates (event, item), in float32: 1 of 2 and 2 of 4 tie for a rate of a half."""
    seconds = timeline.history.seconds[part]
    engaged, shown = timeline.counts("positive"), timeline.counts("all")
    hits = engaged.rows(seconds) + strength * overall_rate(timeline, seconds)[:, None]
    rates: np.ndarray = (hits / (shown.rows(seconds) + strength)).astype(np.float32)
    return rates


def own_item_rates(timeline: Timeline, part: np.ndarray, strength: float) -> np.ndarray:
    """Smoothed rates of the events' own items, in any order, (event,)."""
    item, seconds = timeline.history.item_index[part], timeline.history.seconds[part]
    hits = timeline.counts("positive").of_events(item, seconds)
    total = timeline.counts("all").of_events(item, seconds)
    rates: np.ndarray = (hits + strength * overall_rate(timeline, seconds)) / (total + strength)
    return rates


def overall_rate(timeline: Timeline, seconds: np.ndarray) -> np.ndarray:
    """Positive rate of all earlier events, a half where there are none, (event,)."""
    engaged = timeline.counts("positive").totals(seconds)
    rate: np.ndarray = (engaged + 0.5) / (timeline.counts("all").totals(seconds) + 1.0)
    return rate


@dataclass(frozen=True)
class Running:
    """What `RunningRate` learns."""

    decay: float  # of the weight of a user's outcome, per later event of the user
    strength: float  # of the overall rate in the user's, in events
    item_strength: float
    weights: np.ndarray  # of user, its amount, item
    intercept: float


class RunningRate(Baseline[Running]):
    """The user's own running rate beside the item's rate, in a logistic regression.

    The running rate is `(sum_j g^j y_j + s m) / (sum_j g^j + s)` over the user's earlier
    outcomes, `j` counted backwards from the last one. Regressors are its log odds relative to the
    overall rate `m`, the same times the share that is the user's own, `n / (n + s)`, and the log
    odds of `ItemMean`. Weights are fitted on the last half of train, each event with its own past,
    and the decay `g` and strength `s` are those with the best log loss on its last 20 %. Source:
    exponential smoothing (Gardner 2006, "Exponential smoothing: the state of the art II").

    Args:
        config: see `Baseline`.
        encoder: not used.
        decay: `g`; None takes the best of 0.7 to 1.
        strength: `s`; None takes the best of a half to 8 events.
    """

    families: ClassVar[tuple[str, ...]] = BINARY

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        decay: float | None = None,
        strength: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        check_option("decay", decay, decay is None or 0 < decay <= 1, "in (0, 1] or None")
        check_option("strength", strength, strength is None or strength > 0, "events > 0 or None")
        self.decay, self.strength = decay, strength

    def _learn(self, past: Timeline, run: FitConfig) -> Running:
        item_strength = best_item_strength(past)
        part = past.last_of_train(FIT_SHARE, positive_only=False)
        late = np.isin(part, past.last_of_train(CURVE_SHARE, positive_only=False))
        item = logit(own_item_rates(past, part, item_strength))
        positive = past.positive[part]
        found: tuple[float, Running] | None = None
        for decay in DECAYS if self.decay is None else (self.decay,):
            for strength in RATE_STRENGTHS if self.strength is None else (self.strength,):
                user = user_regressors(past, part, decay, strength)
                x = np.column_stack((user, item))
                weights, intercept = logistic(x, positive)
                chance = expit(x[late] @ weights + intercept)
                loss = binary_log_loss(chance, positive[late])
                if found is None or loss < found[0]:
                    found = loss, Running(decay, strength, item_strength, weights, intercept)
        assert found is not None
        return found[1]

    def _scores(self, learned: Running, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        user = user_regressors(timeline, part, learned.decay, learned.strength)
        own = user @ learned.weights[:2] + learned.intercept
        item = logit(item_rates(timeline, part, learned.item_strength))
        scores: np.ndarray = (own[:, None] + learned.weights[2] * item).astype(np.float32)
        return scores

    def _link(self, learned: Running, past: Timeline, part: np.ndarray) -> Link:
        return Sigmoid()


def logistic(x: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and intercept of a nearly unpenalised logistic regression on (event, m)."""
    if positive.all() or not positive.any():
        rate = (positive.sum() + 0.5) / (len(positive) + 1.0)
        return np.zeros(x.shape[1]), float(logit(rate))
    found = LogisticRegression(C=1e3).fit(x, positive)
    return found.coef_[0], float(found.intercept_[0])


def user_regressors(
    timeline: Timeline, part: np.ndarray, decay: float, strength: float
) -> np.ndarray:
    """Log odds of the running rate over the overall rate, alone and times its own share."""
    key = ("running", decay)
    hits, count = timeline.once(key, lambda: decayed_outcomes(timeline, decay))
    rate = overall_rate(timeline, timeline.history.seconds[part])
    hits, count = hits[part], count[part]
    odds = logit((hits + strength * rate) / (count + strength)) - logit(rate)
    return np.column_stack((odds, odds * count / (count + strength)))


def decayed_outcomes(timeline: Timeline, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Decayed positive and all earlier events of each event's user, (event,) each."""
    history = timeline.history
    start, length = history.start[:-1], history.lengths
    busy = np.argsort(-length, kind="stable")
    sums = np.zeros((len(history) + 1, 2))  # before each event, by position
    level = np.zeros((len(busy), 2))
    for step in range(int(length.max(initial=0))):
        going = int(np.searchsorted(-length[busy], -step, side="left"))  # longer than `step`
        at = start[busy[:going]] + step
        sums[at] = level[:going]
        seen = np.column_stack((timeline.positive[at], np.ones(going)))
        level[:going] = decay * level[:going] + seen
    strict = sums[timeline.tied_first]
    return strict[:, 0], strict[:, 1]
