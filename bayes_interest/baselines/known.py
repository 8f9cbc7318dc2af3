"""What a fitted rival knows of its log: family, ids, items, and the events it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_interest.baselines.catalogue import Catalogue
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import ModelConfig
from bayes_interest.events.history import History, join_histories, make_history
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.prepare import Vocabulary, log_history
from bayes_interest.posterior.ready import prepare
from bayes_interest.schema import ITEM_ID, USER_ID
from bayes_interest.text.encoder import Encoder


@dataclass(frozen=True)
class Known:
    """Family, coding and ids are chosen as `InterestModel.fit` chooses them."""

    config: ModelConfig  # every "auto" decided
    reason: str  # why this family
    vocabulary: Vocabulary  # without kinds: the rivals do not tell them apart
    catalogue: Catalogue
    history: History  # the events of train

    @classmethod
    def of(
        cls,
        log: EventLog,
        table: ItemTable | None,
        encoder: Encoder | None,
        config: ModelConfig,
        progress: bool,
    ) -> Known:
        """From the log and the items of a fit. Raises EventError, ItemError or ConfigError."""
        ready = prepare(log, table, None, config, progress)
        words = replace(ready.vocabulary, kinds=("",))
        catalogue = Catalogue.of(words.items.ids, log, table, encoder, progress)
        return cls(ready.config, ready.family.reason, words, catalogue, ready.history)

    @property
    def level(self) -> int:
        """rating: an outcome is positive from this level index on, as for the model."""
        return self.vocabulary.level(self.config.positive_threshold)

    def widened(self, log: EventLog, table: ItemTable | None) -> Known:
        """Also with the users and items of a log and the items of a table."""
        wanted = log.frame[ITEM_ID].to_numpy()
        if table is not None:
            wanted = np.concatenate((table.frame[ITEM_ID].to_numpy(), wanted))
        items = self.vocabulary.items.extend(wanted)
        new = items.ids[len(self.vocabulary.items) :]
        wider = self.with_users(log.frame[USER_ID].to_numpy())
        return replace(
            wider,
            vocabulary=replace(wider.vocabulary, items=items),
            catalogue=self.catalogue.extended(new, log, table),
        )

    def with_users(self, ids: np.ndarray) -> Known:
        """Also with these users, without events so far."""
        users = self.vocabulary.users.extend(ids)
        return replace(self, vocabulary=replace(self.vocabulary, users=users))

    def timeline(self) -> Timeline:
        """The events of train."""
        return self._timeline(self.history, len(self.history))

    def timeline_with(self, log: EventLog) -> Timeline:
        """The events of train and, as test, those of a log whose ids are known."""
        config = self.config
        return self._joined(log_history(log, self.vocabulary, config.emission, config))

    def timeline_at(self, users: np.ndarray, seconds: float) -> Timeline:
        """The events of train and, as test, one empty moment per user (positions, distinct).

        `seconds` lies after all of train, so no moment is evidence for another.
        """
        zeros = np.zeros(len(users), dtype=np.int64)
        nothing = np.zeros(len(users), dtype=bool)
        moments = np.full(len(users), seconds)
        n_users = len(self.vocabulary.users)
        return self._joined(
            make_history(users, zeros, moments, zeros.astype(float), zeros, n_users, nothing)
        )

    def _joined(self, later: History) -> Timeline:
        joined = join_histories(self.history, later, len(self.vocabulary.users))
        return self._timeline(joined, len(self.history))

    def _timeline(self, history: History, n_train: int) -> Timeline:
        emission = self.config.emission
        if emission == "choice":
            positive = history.absorb
        else:
            positive = history.outcome >= (self.level if emission == "rating" else 1)
        return Timeline(history, positive, history.order >= n_train, emission, self.catalogue)
