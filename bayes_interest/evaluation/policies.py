"""Who chooses what to show in a closed loop: our rankings, chance, the truth, or a caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import pandas as pd

from bayes_interest.errors import ConfigError
from bayes_interest.evaluation.world import World
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.posterior.answers import update
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.batch import slates_at_once
from bayes_interest.ranking.scores import RankBy, check_exploration, check_rank_arguments
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


@dataclass(frozen=True)
class ModelRanking:
    """How the model ranks and learns in `simulate_feedback`. Raises ConfigError if impossible."""

    by: str = "mean"
    """As in `InterestModel.rank`; for "thompson" with its `exploration`."""
    exploration: float = 1.0
    learn_items: bool = True
    """Whether events teach about items, too; as in `InterestModel.update`."""
    refit_every: int | None = None
    """Rounds after which the model is fitted anew to everything so far; None: never."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_rank_arguments(self.by, 1, 0)
        check_exploration(self.exploration, self.by)
        every = self.refit_every
        if every is not None and (
            not isinstance(every, int) or isinstance(every, bool) or every < 1
        ):
            raise ConfigError(f"refit_every={every!r}: expected a number of rounds >= 1, or None")


class ModelPolicy:
    """Shows what `InterestModel.rank` puts first and learns by `InterestModel.update`.

    Args:
        posterior: a fitted bernoulli or rating model that knows all users and items.
        encoder: of the items, as for `InterestModel`.
        start: users, items and times of the loop.
        ranking: what is shown and what is learned; prob and n_draws as in `rank`. The seed of a
            round's draws is `start.seed * 1_000_003 + round_number`.
        refit: gives the posterior of a log, for `refit_every`.
    """

    def __init__(
        self,
        posterior: Posterior,
        encoder: Encoder,
        start: FeedbackStart,
        ranking: ModelRanking,
        prob: float = 0.9,
        n_draws: int = 200,
        refit: Callable[[EventLog], Posterior] | None = None,
    ) -> None:
        if ranking.refit_every is not None and refit is None:
            raise ConfigError(f"refit_every={ranking.refit_every}: needs refit")
        self.posterior, self.encoder, self.start = posterior, encoder, start
        self.ranking, self.prob, self.n_draws = ranking, prob, n_draws
        self.refit, self.seen = refit, [start.events.frame]

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        """The k best items by the present posterior, (user, k)."""
        start, known = self.start, self.posterior.vocabulary
        shown = slates_at_once(
            self.posterior,
            known.users.index_of(users),
            np.full(len(users), start.seconds[round_number]),
            start.k,
            self.ranking.by,
            self.prob,
            self.n_draws,
            start.seed * ROUND_SEEDS + round_number,
            self.ranking.exploration,
        )
        items: np.ndarray = known.items.ids[shown]
        return items

    def observe(self, events: pd.DataFrame) -> None:
        """One filter step per event, or a fit of everything."""
        log, every = read_events(events), self.ranking.refit_every
        self.seen.append(log.frame)
        if every is not None and (len(self.seen) - 1) % every == 0:  # the first: warm-up
            assert self.refit is not None
            self.posterior = self.refit(read_events(pd.concat(self.seen, ignore_index=True)))
        else:
            learn_items = self.ranking.learn_items
            self.posterior = update(self.posterior, log, None, self.encoder, learn_items)


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
