"""Running rates of single events, as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bayes_interest.events.history import History
from bayes_interest.events.running_rates import CAUTION, RATE_SHARES, SHARES, RateState

REMEMBERED = 4096
"""Latest events that can be taken back for one that lies before them."""


class RateStream:
    """Running rates after a log and after single events, none before its own user's last.

    Args:
        history: the log so far.
        n_items: items that there are; users may be added.
        top_outcome: the outcome that counts as one.
    """

    def __init__(self, history: History, n_items: int, top_outcome: float) -> None:
        self.n_items, self.top = n_items, top_outcome
        self.ring = np.empty((REMEMBERED, 14 + len(SHARES)))
        self.out = np.empty(len(RATE_SHARES) + 2, dtype=np.float32)
        self.state, self.count = RateState.empty(1, n_items), 0
        self._observe(0, 0, 0.0, 0.0)  # loads or compiles the step now, not with the first event
        self._restart(history, np.argsort(history.seconds, kind="stable"))

    def observe(
        self,
        user: int,
        item: int,
        seconds: float,
        outcome: float,
        everything: Callable[[], History],
    ) -> np.ndarray:
        """Rates just before an event, (share + 2,), which is then absorbed.

        Events of others after it are taken back meanwhile; if they are too many for that,
        `everything` before this event is gone through again.
        """
        self._make_room(user)
        if not self._observe(user, item, seconds, outcome):
            log = everything()
            order = np.argsort(log.seconds, kind="stable")
            cut = np.searchsorted(log.seconds[order], seconds, side="right")
            self._restart(log, order[:cut])
            self._make_room(user)
            self._observe(user, item, seconds, outcome)
            self._remember(log, order[cut:])
        return self.out

    def _make_room(self, user: int) -> None:
        users = self.state.users
        if user >= len(users):
            more = np.zeros((user + 1, users.shape[1]), users.dtype)
            self.state = replace(self.state, users=np.concatenate((users, more)))

    def _observe(self, user: int, item: int, seconds: float, outcome: float) -> bool:
        from bayes_interest.events.compiled import observe_rates

        state, share = self.state, outcome / self.top
        where = (state.users, state.items, state.overall, self.ring, self.count)
        done = observe_rates(*where, user, item, seconds, share, SHARES, CAUTION, self.out)
        self.count += done
        return bool(done)

    def _restart(self, log: History, order: np.ndarray) -> None:
        """From nothing, after the events of a log in `order`."""
        self.state, self.count = RateState.empty(max(1, log.n_users), self.n_items), 0
        self._remember(log, order)

    def _remember(self, log: History, order: np.ndarray) -> None:
        from bayes_interest.events.compiled import remember_rates

        state, order = self.state, order[log.absorb[order]]
        remember_rates(
            state.users, state.items, state.overall, self.ring, self.count, order,
            log.user_index, log.item_index, log.seconds, log.outcome / self.top, SHARES,
        )  # fmt: skip
        self.count += len(order)
