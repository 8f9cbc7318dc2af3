"""Logistic regression with a bias for each user and each item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit

from bayes_interest.baselines.base import CURVE_SHARE, MAX_CURVE, Baseline, check_option, evenly
from bayes_interest.baselines.links import Link, Sigmoid, binary_log_loss, least
from bayes_interest.baselines.rates import BINARY
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.text.encoder import Encoder

RIDGES = (0.3, 1.0, 3.0, 10.0)
NEWTON_STEPS = 8
MAX_SWEEPS = 1000
ROUGH = 1e-3  # tolerance of the fits that only choose a ridge


@dataclass(frozen=True)
class Biases:
    """What `UserItemBias` learns."""

    intercept: float
    item: np.ndarray  # log odds of train's items, (item,)
    user_ridge: float


class UserItemBias(Baseline[Biases]):
    """`P(positive) = sigmoid(mu + b_user + b_item)` with a ridge on both biases.

    `mu` and the item biases are fitted on train by penalised maximum likelihood together with the
    users' biases. For a prediction the user's bias is fitted again, to all outcomes of the user so
    far, given the others. New items have no bias. Source: the biases of Koren, Bell and Volinsky
    (2009), "Matrix factorization techniques for recommender systems", with a logistic loss.

    Args:
        config: see `Baseline`.
        encoder: not used.
        user_ridge: penalty `user_ridge / 2 b_user^2`, an inverse prior variance; None takes, of
            0.3 to 10, the one with the best log loss on the last 20 % of train (at most 5,000
            events, evenly spread) after a fit to what came before.
        item_ridge: the same for items.
    """

    families: ClassVar[tuple[str, ...]] = BINARY

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        user_ridge: float | None = None,
        item_ridge: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        for name, value in (("user_ridge", user_ridge), ("item_ridge", item_ridge)):
            check_option(name, value, value is None or value > 0, "a penalty > 0 or None")
        self.user_ridge, self.item_ridge = user_ridge, item_ridge

    def _learn(self, past: Timeline, run: FitConfig) -> Biases:
        user, item = self._ridges(past)
        return fit_biases(past, user, item)

    def _ridges(self, past: Timeline) -> tuple[float, float]:
        """Given, or chosen one after the other on late events of train."""
        part = past.last_of_train(CURVE_SHARE, positive_only=False)
        early = past.before(past.history.seconds[part].min())
        if early.positive.all() or not early.positive.any():
            return self.user_ridge or 1.0, self.item_ridge or 1.0
        part = evenly(past.in_time_order(part), MAX_CURVE)

        def loss(biases: Biases) -> float:
            return binary_log_loss(expit(own_bias_scores(past, part, biases)), past.positive[part])

        def chosen(given: float | None, make: Callable[[float], Biases]) -> float:
            return given or least(lambda ridge: loss(make(ridge)), np.array(RIDGES))

        item = chosen(self.item_ridge, lambda ridge: fit_biases(early, 1.0, ridge, ROUGH))
        user = chosen(self.user_ridge, lambda ridge: fit_biases(early, ridge, item, ROUGH))
        return user, item

    def _scores(self, learned: Biases, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        item = np.zeros(timeline.n_items)
        item[: len(learned.item)] = learned.item
        own = learned.intercept + user_biases(timeline, part, learned)
        scores: np.ndarray = (own[:, None] + item).astype(np.float32)
        return scores

    def _link(self, learned: Biases, past: Timeline, part: np.ndarray) -> Link:
        return Sigmoid()


def fit_biases(past: Timeline, user_ridge: float, item_ridge: float, tol: float = 1e-5) -> Biases:
    """Penalised maximum likelihood by Newton steps on users, items and `mu` in turn.

    The Hessian of each of the three parts is diagonal. Ends where no bias moves by `tol`.
    """
    history, outcome = past.history, past.positive.astype(np.float64)
    everybody = np.zeros(len(history), dtype=np.int64)
    mu = logit(np.array([(outcome.sum() + 0.5) / (len(outcome) + 1.0)]))
    user, item = np.zeros(history.n_users), np.zeros(past.n_items)
    parts = (
        (user, history.user_index, user_ridge),
        (item, history.item_index, item_ridge),
        (mu, everybody, 0.0 if 0.0 < outcome.mean() < 1.0 else 1.0),
    )
    odds = np.full(len(outcome), mu[0])
    for _ in range(MAX_SWEEPS):
        moved = 0.0
        for bias, index, ridge in parts:
            step = newton_step(bias, index, odds, outcome, ridge)
            bias += step
            odds += step[index]
            moved = max(moved, float(np.abs(step).max()))
        if moved < tol:
            break
    return Biases(float(mu[0]), item, user_ridge)


def newton_step(
    bias: np.ndarray, index: np.ndarray, odds: np.ndarray, outcome: np.ndarray, ridge: float
) -> np.ndarray:
    """Of biases (m,) that are added to the log odds of outcomes (event,) at `index`; at most 1."""
    chance = expit(odds)
    gradient = np.bincount(index, outcome - chance, len(bias)) - ridge * bias
    curvature = np.bincount(index, chance * (1.0 - chance), len(bias)) + ridge
    step: np.ndarray = np.clip(gradient / curvature, -1.0, 1.0)
    return step


def user_biases(timeline: Timeline, part: np.ndarray, biases: Biases) -> np.ndarray:
    """Of each event's user, from all outcomes strictly before the event, by Newton steps."""
    row, position = timeline.past_pairs(part)
    item = np.zeros(timeline.n_items)
    item[: len(biases.item)] = biases.item
    base = biases.intercept + item[timeline.history.item_index[position]]
    outcome, bias = timeline.positive[position].astype(np.float64), np.zeros(len(part))
    for _ in range(NEWTON_STEPS):
        bias += newton_step(bias, row, base + bias[row], outcome, biases.user_ridge)
    return bias


def own_bias_scores(timeline: Timeline, part: np.ndarray, biases: Biases) -> np.ndarray:
    """Log odds of the events' own items, (event,)."""
    item = biases.item[timeline.history.item_index[part]]
    scores: np.ndarray = biases.intercept + user_biases(timeline, part, biases) + item
    return scores
