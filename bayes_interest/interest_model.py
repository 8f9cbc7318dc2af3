"""The thin door: what people call. No maths lives here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import NotFittedError
from bayes_interest.events.read import read_events, read_items
from bayes_interest.posterior import answers
from bayes_interest.posterior.learn import learn
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.probability_map import MethodName
from bayes_interest.posterior.recalibration import recalibrated
from bayes_interest.posterior.storage import load_posterior, save_posterior
from bayes_interest.ranking.recommend import recommend
from bayes_interest.text.encoder import Encoder, TextEncoder, encoder_from_spec


class InterestModel:
    """Each user's changing interests, learned from a log and item texts, with uncertainty.

    Args:
        config: what the model is; the default chooses the family from the data.
        encoder: turns item texts into vectors: `TextEncoder` (the default), `HashingEncoder`, or
            `PrecomputedVectors`.
    """

    def __init__(self, config: ModelConfig | None = None, encoder: Encoder | None = None) -> None:
        self.config = config or ModelConfig()
        self.encoder: Encoder = encoder or TextEncoder()
        self._posterior: Posterior | None = None

    @property
    def posterior(self) -> Posterior:
        """The fitted state of the model. Raises NotFittedError before `fit`."""
        if self._posterior is None:
            raise NotFittedError("this model is not fitted yet: call fit(events, items) first")
        return self._posterior

    def fit(
        self, events: object, items: object | None = None, config: FitConfig | None = None
    ) -> InterestModel:
        """Learn from a log (anything `read_events` takes) and item texts; returns self.

        A second fit forgets the first. Items without text are known by their events alone.
        Raises EventError, ItemError, ConfigError, DeviceError or EncoderError, and leaves an
        earlier fit as it was.
        """
        log = read_events(events)
        table = None if items is None else read_items(items)
        run = config or FitConfig()
        self._posterior = learn(log, table, self.encoder, self.config, run)
        return self

    def fit_report(self) -> pd.DataFrame:
        """One row per epoch: loss, held-back loss, seconds. `attrs` holds family, reason, notes."""
        return answers.fit_report(self.posterior)

    def interest(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        at: object = None,
        prob: float = 0.9,
        n_draws: int = 400,
        *,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Interest probabilities: user_id, item_id, mean, sd, lower, upper, a row per pair.

        `None` takes all users or items. `at` is a time not before the users' last events, by
        default the latest the model has absorbed. What the probability means: bernoulli P(engaged,
        given shown); rating P(rating >= the threshold's level), with `expected_rating` beside it;
        choice P(the next choice is this item, among all known items), from `n_draws` joint draws.
        `mean` is its posterior mean, `lower` and `upper` bound its equal-tailed interval of mass
        `prob`. Unknown users are at the prior; an unknown item is an ItemError. `raw` leaves out
        what `recalibrate` has learned.
        """
        return answers.interest(self._answering(raw), users, items, at, prob, n_draws)

    def rank(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        by: str = "mean",
        at: object = None,
        candidates: Iterable[Any] | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 200,
        seed: int = 0,
        *,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Slates: user_id, rank, item_id, score, mean, sd, lower, upper, p_top_k.

        `by` is "mean", "lower" (careful), "upper" (curious), "thompson" (one joint draw, by
        `seed`) or "p_top_k" (probability of being among the k best). For choice the probabilities
        are among the candidates allowed for the user. Fewer than k rows where fewer are allowed.
        `raw` leaves out what `recalibrate` has learned.
        """
        return recommend(
            self._answering(raw), users, k, by, at, candidates, exclude_seen, prob, n_draws, seed
        )

    def trajectory(
        self,
        users: Iterable[Any],
        items: Iterable[Any],
        every_days: float | None = None,
        prob: float = 0.9,
        *,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Interest over time given all events: user_id, item_id, timestamp, mean, ..., upper.

        At each of the user's events, or on a grid of `every_days`. Smoothed: never use it to
        score the past. `raw` leaves out what `recalibrate` has learned.
        """
        return answers.trajectory(self._answering(raw), users, items, every_days, prob)

    def update(self, events: object, items: object | None = None) -> InterestModel:
        """Absorb new events, one filter step each; globals stay. Returns self.

        New users start at the prior. New items need a text (in `items` or the events) or are an
        ItemError. Events before a user's last absorbed one are a TimeOrderError. Nothing changes
        on an error. In any split of the new events (in time order) the result is the same.
        """
        table = None if items is None else read_items(items)
        log = read_events(events, allow_empty=True)
        self._posterior = answers.update(self.posterior, log, table, self.encoder)
        return self

    def recalibrate(
        self,
        events: object | None,
        items: object | None = None,
        method: MethodName = "auto",
        memory: int = 0,
    ) -> InterestModel:
        """Learn a monotone map of probabilities from later events; returns self.

        Every event is predicted one step ahead, as `score_events` does; the map that brings the
        predictions nearest to the outcomes is then part of every answer, of `save`, and of the
        model after `update`, until the next `fit`; `raw=True` and `recalibrate(None)` leave it out.
        The events are not absorbed: `update` with them afterwards. Of the events of former
        recalibrations the last `memory` count, too, as they were predicted then. To judge the map
        take events later than these (`RecalibratedInterest` does so in a backtest).

        Methods: "temperature" divides logits by a number, and is all that a choice allows, there
        for the whole softmax; "platt" moves them, too; "isotonic" is any increasing curve, for
        thousands of events; "identity" changes nothing; "auto" takes the one that, learned from
        the earlier half of the events, predicts the later half best, and learns it from all.

        bernoulli, rating: `mean` is mapped as the probability that it is, bounds with it, and `sd`
        by the map's slope there; the order of items stays. rating: P(value >= threshold) is mapped;
        the rating given its side of the threshold keeps its distribution.

        Raises TimeOrderError for events that are not after the latest one absorbed, EventError for
        fewer than 20 or all of one outcome, ConfigError for a method that the family has not; the
        model then stays as it was.
        """
        if events is None:
            self._posterior = replace(self.posterior, recalibration=None)
            return self
        posterior, log = self.posterior, read_events(events)
        table = None if items is None else read_items(items)
        self._posterior = recalibrated(posterior, log, table, self.encoder, method, memory)
        return self

    def _answering(self, raw: bool) -> Posterior:
        return replace(self.posterior, recalibration=None) if raw else self.posterior

    def score_events(
        self,
        events: object,
        items: object | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 64,
        *,
        k: int | None = None,
        detail: bool = False,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Predict every event from what came before it, then absorb it; the model stays as it is.

        Rows in the caller's order: user_id, item_id, timestamp, mean, sd, lower, upper (interest
        probability just before the event), log_prob (of the outcome; missing where the event is
        no outcome of the family), rank (of the item among all items known to the model that the
        user has not seen, 1 is first, ties count against it; with `exclude_seen=False` among all),
        and with `k` a column `slate`: the k best of those items, best first. `raw` leaves out what
        `recalibrate` has learned.

        `detail` adds what `calibration` can use beside: for ratings a column "p_level=..." per
        level, its probability; for choices `p_top`, the probability of the most probable item,
        `top_hit`, whether that was the choice, `p_above`, the mass of items more probable than the
        chosen one, and `p_tied`, that of the chosen one and those exactly as probable.
        """
        table = None if items is None else read_items(items)
        log = read_events(events)
        return answers.score_events(
            self._answering(raw), log, table, self.encoder, exclude_seen, prob, n_draws, k,
            detail=detail,
        )  # fmt: skip

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder; an earlier model there stays whole until this one is."""
        save_posterior(self.posterior, folder)

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "cpu", encoder: Encoder | None = None
    ) -> InterestModel:
        """Read a saved model. Its encoder is rebuilt from the folder when a new text needs it."""
        posterior = load_posterior(folder, device)
        if encoder is None and posterior.encoder_spec is not None:
            encoder = encoder_from_spec(posterior.encoder_spec)
        model = cls(posterior.config, encoder)
        model._posterior = posterior
        return model

    def __repr__(self) -> str:
        if self._posterior is None:
            return f"InterestModel({self.config.emission}, not fitted)"
        known = self._posterior.vocabulary
        return (
            f"InterestModel({self._posterior.config.emission}, {len(known.users):,} users, "
            f"{len(known.items):,} items, {len(self._posterior.history):,} events)"
        )
