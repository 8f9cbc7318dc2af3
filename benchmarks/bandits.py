"""Linear bandits of mabwiser as policies of `simulate_feedback`, in three formulations.

Its linear bandits keep one ridge regression per arm and give each arm an expectation (for LinUCB
an upper bound) at a context. All that is written here is what an arm and a context are:

- "user": an arm per user, the item's vector as context: each user has a regression of their own;
- "item": an arm per item, what the user has shown so far as context: mabwiser's textbook use;
- "pooled": one arm, and as context the item's vector, the user's features and their products.

A user's features are a fading mean of (value - mean value) times the vector of the item, and of
(value - mean value) alone; the fading is by the number of events. With `window_days` regressions
forget: they are fitted again each round on the last days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from mabwiser.mab import MAB, LearningPolicy

from bayes_interest.evaluation.policies import FeedbackStart
from bayes_interest.schema import SECONDS_PER_DAY

FADE = 0.95  # of a user's features with every event
FORMS = ("user", "item", "pooled")


@dataclass(frozen=True)
class Settings:
    """A bandit: LinUCB where `alpha` is given, else the ridge mean with a share of chance."""

    form: str
    l2_lambda: float
    alpha: float | None = None
    epsilon: float = 0.0
    window_days: float | None = None

    def __call__(self, start: FeedbackStart) -> LinearBandit:
        return LinearBandit(start, self)


class LinearBandit:
    """One of mabwiser's linear bandits in a closed loop, fitted on the warm-up log first."""

    def __init__(self, start: FeedbackStart, settings: Settings) -> None:
        self.start, self.settings = start, settings
        vectors = np.stack(start.vectors["vector"].tolist()).astype(np.float64)
        vectors = (vectors - vectors.mean(0)) / vectors.std(0)
        self.vectors = vectors / np.sqrt(vectors.shape[1])
        self.rng = np.random.default_rng(start.seed)
        self.users, self.items = pd.Index(start.users), pd.Index(start.items)
        self.features = np.zeros((len(self.users), vectors.shape[1] + 1))
        self.mean = float(start.events.frame["value"].mean())
        if settings.alpha is None:
            policy = LearningPolicy.LinGreedy(epsilon=0.0, l2_lambda=settings.l2_lambda)
        else:
            policy = LearningPolicy.LinUCB(alpha=settings.alpha, l2_lambda=settings.l2_lambda)
        arms = {"user": len(self.users), "item": len(self.items), "pooled": 1}[settings.form]
        self.mab = MAB(list(range(arms)), policy, seed=start.seed)
        log = start.events.frame.assign(timestamp=start.events.seconds())
        self.kept = self._coded(log)
        self._fit(self.kept)

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        scores = self._scores()
        lucky = self.rng.random(len(users)) < self.settings.epsilon
        scores[lucky] = self.rng.random((int(lucky.sum()), scores.shape[1]))
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.start.k]
        return self.start.items[best]

    def observe(self, events: pd.DataFrame) -> None:
        new = self._coded(events)
        if self.settings.window_days is None:
            self.mab.partial_fit(*(new[name] for name in ("arm", "reward", "context")))
            return
        kept = {name: np.concatenate((self.kept[name], new[name])) for name in new}
        since = kept["seconds"].max() - self.settings.window_days * SECONDS_PER_DAY
        self.kept = {name: values[kept["seconds"] > since] for name, values in kept.items()}
        self._fit(self.kept)

    def _fit(self, kept: dict[str, np.ndarray]) -> None:
        self.mab.fit(*(kept[name] for name in ("arm", "reward", "context")))

    def _coded(self, events: pd.DataFrame) -> dict[str, np.ndarray]:
        """Events as arms, rewards and contexts; users' features move on with each event."""
        user = self.users.get_indexer(events["user_id"])
        item = self.items.get_indexer(events["item_id"])
        reward = events["value"].to_numpy(dtype=float)
        before = np.empty((len(events), self.features.shape[1]))
        for row, (u, i, value) in enumerate(zip(user, item, reward, strict=True)):
            before[row] = self.features[u]
            signal = (value - self.mean) * np.append(self.vectors[i], 1.0)
            self.features[u] = FADE * self.features[u] + (1.0 - FADE) * signal
        form = self.settings.form
        arm = {"user": user, "item": item, "pooled": np.zeros_like(user)}[form]
        seconds = events["timestamp"].to_numpy(dtype=float)
        context = self._contexts(before, self.vectors[item])
        return {"arm": arm, "reward": reward, "context": context, "seconds": seconds}

    def _contexts(self, features: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        one = np.ones((len(vectors), 1))
        scaled = features / (1.0 - FADE) ** 0.5  # of the size of the vectors
        if self.settings.form == "user":
            return np.hstack((one, vectors))
        if self.settings.form == "item":
            return np.hstack((np.ones((len(features), 1)), scaled))
        products = (scaled[:, :, None] * vectors[:, None, :]).reshape(len(vectors), -1)
        root = np.sqrt(vectors.shape[1])
        return np.hstack((one, vectors, scaled, products * root))

    def _scores(self) -> np.ndarray:
        """The library's expectation of every pair, (user, item)."""
        n_users, n_items = len(self.users), len(self.items)
        if self.settings.form == "user":
            found = self.mab.predict_expectations(self._contexts(self.features, self.vectors))
            return _table(found).T
        if self.settings.form == "item":
            return _table(
                self.mab.predict_expectations(self._contexts(self.features, self.vectors))
            )
        pairs = self._contexts(
            np.repeat(self.features, n_items, axis=0), np.tile(self.vectors, (n_users, 1))
        )
        return _table(self.mab.predict_expectations(pairs)).reshape(n_users, n_items)


def _table(found: list[dict[int, float]]) -> np.ndarray:
    """(context, arm)."""
    return np.array([list(row.values()) for row in found], dtype=float)


@dataclass(frozen=True)
class MeanSettings:
    """The item taken most often, of all users, with a share `epsilon` of chance; no context."""

    epsilon: float

    def __call__(self, start: FeedbackStart) -> MeanBandit:
        return MeanBandit(start, self.epsilon)


class MeanBandit:
    """mabwiser's EpsilonGreedy with an arm per item."""

    def __init__(self, start: FeedbackStart, epsilon: float) -> None:
        self.start = start
        self.mab = MAB(
            start.items.tolist(), LearningPolicy.EpsilonGreedy(epsilon=epsilon), seed=start.seed
        )
        frame = start.events.frame
        self.mab.fit(frame["item_id"].to_numpy(), frame["value"].to_numpy())

    def choose(self, users: np.ndarray, round_number: int) -> np.ndarray:
        found = _table([self.mab.predict_expectations() for _ in users])
        return self.start.items[np.argsort(-found, axis=1, kind="stable")[:, : self.start.k]]

    def observe(self, events: pd.DataFrame) -> None:
        self.mab.partial_fit(events["item_id"].to_numpy(), events["value"].to_numpy())
