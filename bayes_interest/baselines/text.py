"""Rivals that read the items' texts: near what the user took before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.baselines.base import (
    CHOICE_SHARE,
    MAX_CHOICES,
    MAX_CURVE,
    Baseline,
    check_option,
    evenly,
)
from bayes_interest.baselines.links import Link, LogisticCurve, Softmax, softmax_log_prob
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.schema import ITEM_ID, MEAN, USER_ID
from bayes_interest.text.encoder import Encoder

MAX_TUNING = 500  # choices on which a half-life is chosen, at most, evenly spread
HALF_LIVES = (0.1, 1.0, 7.0, 30.0, 180.0)
DOT_SCALES = np.geomspace(1e-3, 1e3, 49)


@dataclass(frozen=True)
class Texts:
    """Each different vector once, so that items with equal texts tie exactly."""

    unit: np.ndarray  # of length one or zero, (text, embed_dim)
    text_index: np.ndarray  # position of each item's vector in `unit`, (item,)


def texts_of(timeline: Timeline) -> Texts:
    """Of the timeline's items, kept with it."""

    def make() -> Texts:
        raw = np.ascontiguousarray(timeline.catalogue.vectors, dtype=np.float32)
        text_index, _ = pd.factorize(np.array([row.tobytes() for row in raw], dtype=object))
        _, first = np.unique(text_index, return_index=True)
        return Texts(unit_rows(raw[first]), text_index)

    found: Texts = timeline.once("texts", make)
    return found


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows at length one; zero stays zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


class TextCosine(Baseline[float | None]):
    """Cosine of the item's text vector with the mean over the user's earlier positive items.

    Zero for users without such items. bernoulli, rating: the probability is a logistic regression
    on the cosine, fitted on the last 20 % of train. choice: softmax(scale * cosine), the scale
    with the best log loss on the last 10 % of train (at most 2,000 events of it, evenly spread).
    With a sentence encoder this is the usual "BERT and cosine" content rival: Lops, de Gemmis and
    Semeraro (2011), "Content-based recommender systems"; Reimers and Gurevych (EMNLP 2019).
    """

    def _learn(self, past: Timeline, run: FitConfig) -> float | None:
        return None

    def _profiles(self, learned: float | None, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """Vectors of the events' users just before, at length one, (event, embed_dim)."""
        return unit_rows(timeline.own_past(part, learned) @ timeline.catalogue.vectors)

    def _scores(self, learned: float | None, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        texts = texts_of(timeline)
        cosines: np.ndarray = self._profiles(learned, timeline, part) @ texts.unit.T
        return cosines[:, texts.text_index]

    def _link(self, learned: float | None, past: Timeline, part: np.ndarray) -> Link:
        if past.emission == "choice":
            return super()._link(learned, past, part)
        own = self._own_cosines(learned, past, part)
        return LogisticCurve.fit(own.astype(np.float64), past.positive[part])

    def _own_cosines(self, learned: float | None, past: Timeline, part: np.ndarray) -> np.ndarray:
        """Of the events' own items, (event,)."""
        texts = texts_of(past)
        own = texts.unit[texts.text_index[past.history.item_index[part]]]
        cosines: np.ndarray = (self._profiles(learned, past, part) * own).sum(1)
        return cosines


class RecencyWeightedText(TextCosine):
    """`TextCosine` with a weight `0.5 ** (days ago / half_life_days)` for each earlier item.

    Source: time weights of Ding and Li (CIKM 2005), "Time weight collaborative filtering", on
    text vectors.

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors.
        half_life_days: None takes, of 0.1 to 180 days and no decay at all, the one with the best
            log loss on the last 10 % of train (at most 500 choices or 5,000 outcomes of it).
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

    def _learn(self, past: Timeline, run: FitConfig) -> float | None:
        if self.half_life_days is not None:
            return self.half_life_days
        choice = past.emission == "choice"
        part = past.in_time_order(past.last_of_train(CHOICE_SHARE, positive_only=choice))
        part = evenly(part, MAX_TUNING if choice else MAX_CURVE)
        options = (*HALF_LIVES, None)
        losses = [self._loss(days, past, part) for days in options]
        return options[int(np.argmin(losses))]

    def _loss(self, days: float | None, past: Timeline, part: np.ndarray) -> float:
        link = self._link(days, past, part)
        if isinstance(link, Softmax):
            parts = [
                softmax_log_prob(*found, link.scale) for found in self._scored(days, past, part)
            ]
            return -float(np.concatenate(parts).mean())
        assert isinstance(link, LogisticCurve)
        chance = link.at(self._own_cosines(days, past, part).astype(np.float64))
        return -float(np.log(np.where(past.positive[part], chance, 1.0 - chance)).mean())


class TextSoftmax(Baseline[None]):
    """`P(i | u) = exp(s w_i . v_u) / sum_j exp(s w_j . v_u)`: an often copied interest formula.

    `w_i` is the item's text vector and `v_u` the mean of those of the user's earlier positive
    items; zero, so all items alike, for users without any. The scale `s` has the best log loss
    on the last 10 % of train. bernoulli, rating: a logistic regression on `w_i . v_u`. Source: the
    softmax of Bridle (1990) over inner products, as in Covington et al. (RecSys 2016).

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors.
        scale: choice: `s`; None takes the best of 0.001 to 1,000.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        scale: float | None = None,
    ) -> None:
        super().__init__(config, encoder)
        check_option("scale", scale, scale is None or scale > 0, "a factor > 0 or None")
        self.scale = scale

    def _learn(self, past: Timeline, run: FitConfig) -> None:
        return None

    def _scores(self, learned: None, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self._profiles(timeline, part) @ timeline.catalogue.vectors.T
        return scores

    def _profiles(self, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """Mean vectors of the events' users just before, (event, embed_dim)."""
        past = timeline.own_past(part)
        count = np.maximum(np.asarray(past.sum(1)).reshape(-1, 1), 1.0).astype(np.float32)
        profiles: np.ndarray = (past @ timeline.catalogue.vectors) / count
        return profiles

    def _link(self, learned: None, past: Timeline, part: np.ndarray) -> Link:
        if past.emission == "choice":
            if self.scale is not None:
                return Softmax(self.scale)
            some = evenly(part, MAX_CHOICES)
            return Softmax.fit(self._scored(learned, past, some), DOT_SCALES)
        some = evenly(part, MAX_CURVE)
        own = past.catalogue.vectors[past.history.item_index[some]]
        scores = (self._profiles(past, some) * own).sum(1)
        return LogisticCurve.fit(scores.astype(np.float64), past.positive[some])

    def threshold_list(
        self, user: Any, p: float, at: object = None, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """Items with P > `p` for one user, best first: user_id, item_id, mean.

        `at` and `exclude_seen` as in `rank`. Raises InputError unless 0 <= p < 1.
        """
        if not 0.0 <= p < 1.0:
            raise InputError(f"p={p!r}: expected a probability in [0, 1)")
        n_items = len(self.fitted.known.catalogue)
        table = self.rank([user], n_items, at, exclude_seen=exclude_seen)
        out = table.loc[table[MEAN] > p, [USER_ID, ITEM_ID, MEAN]]
        return out.sort_values(MEAN, ascending=False, kind="stable", ignore_index=True)
