"""Who chooses what to show in a closed loop: our rankings, chance, the truth, or a caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import pandas as pd

from bayes_interest.evaluation.world import World
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.posterior.answers import update
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.batch import slates_at_once
from bayes_interest.ranking.scores import RankBy
from bayes_interest.text.encoder import Encoder

RANDOM, ORACLE = "random", "oracle"
MODEL_POLICIES: tuple[str, ...] = get_args(RankBy)
ROUND_SEEDS = 1_000_003
"""Between the seeds of two loops; within one, each round has a seed of its own."""


@dataclass(frozen=True)
class FeedbackStart:
    """What a policy may know before the first round of `simulate_feedback`.

    `events` is the warm-up log, of items shown at random; `vectors` has item_id and a list column
    `vector`; `seconds` is the unix time of each round; `k` the length of a slate.
    """

    events: EventLog
    vectors: pd.DataFrame
    users: np.ndarray  # ids, (user,)
    items: np.ndarray  # ids, (item,)
    seconds: np.ndarray  # (round,)
    k: int
    seed: int


class Policy(Protocol):
    """Chooses slates and learns from what comes of them. Any object with these two methods."""

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        """Items to show: ids (user, k) for user ids (user,), best first, none twice in a row."""
        ...

    def observe(self, events: pd.DataFrame) -> None:
        """What came of a round: user_id, item_id, timestamp (unix seconds), value per item shown.

        A value is 1 for taken and 0 for ignored, or a rating.
        """
        ...


PolicyFactory = Callable[[FeedbackStart], Policy]


class ModelPolicy:
    """Shows what `InterestModel.rank` puts first and learns by `InterestModel.update`.

    Args:
        posterior: a fitted bernoulli or rating model that knows all users and items.
        encoder: of the items, as for `InterestModel`.
        start: users, items and times of the loop.
        by: what the ranking sorts by; prob and n_draws as in `rank`. The seed of a round's draws
            is `start.seed * 1_000_003 + round_number`.
    """

    def __init__(
        self,
        posterior: Posterior,
        encoder: Encoder,
        start: FeedbackStart,
        by: str,
        prob: float = 0.9,
        n_draws: int = 200,
    ) -> None:
        self.posterior, self.encoder, self.start = posterior, encoder, start
        self.by, self.prob, self.n_draws = by, prob, n_draws

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        """The k best items by the present posterior, (user, k)."""
        start, known = self.start, self.posterior.vocabulary
        shown = slates_at_once(
            self.posterior,
            known.users.index_of(users),
            np.full(len(users), start.seconds[round_number]),
            start.k,
            self.by,
            self.prob,
            self.n_draws,
            start.seed * ROUND_SEEDS + round_number,
        )
        items: np.ndarray = known.items.ids[shown]
        return items

    def observe(self, events: pd.DataFrame) -> None:
        """One filter step per event; globals stay."""
        self.posterior = update(self.posterior, read_events(events), None, self.encoder)


class RandomPolicy:
    """Shows items uniformly at random."""

    def __init__(self, start: FeedbackStart) -> None:
        self.start, self.rng = start, np.random.default_rng(start.seed)

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        """Different items for each user, (user, k)."""
        noise = self.rng.random((len(users), len(self.start.items)))
        items: np.ndarray = self.start.items[np.argsort(noise, axis=1)[:, : self.start.k]]
        return items

    def observe(self, events: pd.DataFrame) -> None:
        """Chance learns nothing."""


class OraclePolicy:
    """Shows what is best in truth: no policy can expect more."""

    def __init__(self, start: FeedbackStart, world: World) -> None:
        self.start, self.engagement = start, world.engagement

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        """The k most engaging items, (user, k)."""
        best = np.argsort(-self.engagement[round_number], axis=1, kind="stable")
        items: np.ndarray = self.start.items[best[:, : self.start.k]]
        return items

    def observe(self, events: pd.DataFrame) -> None:
        """There is nothing to learn."""
