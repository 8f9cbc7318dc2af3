"""Outcomes so far, less the mean outcome of the whole log so far: of users and of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bayes_interest.events.history import History
from bayes_interest.events.own_past import OwnPast

CAUTION = 5.0
RATE_SHARES = (0.3, 0.1, 0.02)
"""Weight of the latest event in the user's running rates."""
SHARES = np.array(RATE_SHARES)


@dataclass(frozen=True)
class RateState:
    """What running rates come from after some events, none later than the last: see `compiled`."""

    users: np.ndarray  # (user, share) float32
    items: np.ndarray  # (item, 5)
    overall: np.ndarray  # (5,)

    @classmethod
    def empty(cls, n_users: int, n_items: int) -> RateState:
        """After nothing."""
        users = np.zeros((n_users, len(RATE_SHARES)), dtype=np.float32)
        items, overall = np.zeros((n_items, 5)), np.zeros(5)
        items[:, -1] = overall[-1] = -np.inf
        return cls(users, items, overall)


def rates_of_events(log: History, n_items: int, top_outcome: float) -> np.ndarray:
    """Rates at every event of a log for its own item, (event, share + 2) float32."""
    from bayes_interest.events.compiled import replay_rates

    order = np.argsort(log.seconds, kind="stable")
    state = RateState.empty(int(log.user_index.max(initial=-1)) + 1, n_items)
    found = np.empty((len(log), len(RATE_SHARES) + 2), dtype=np.float32)
    in_time = (log.user_index, log.item_index, log.seconds, log.outcome / top_outcome, log.absorb)
    replay_rates(
        state.users, state.items, state.overall, *(column[order] for column in in_time), SHARES,
        CAUTION, found,
    )  # fmt: skip
    out = np.empty_like(found)
    out[order] = found
    return out


@dataclass(frozen=True)
class Rates:
    """Running rates of users after every absorbed event of a log, and of items at any time."""

    after: np.ndarray  # the user's rates, (absorbed event, share) float32
    item: np.ndarray  # absorbed events by item and then time, (absorbed event,)
    seconds: np.ndarray
    total: np.ndarray  # running sum of the excess outcomes in that order, with a zero before

    @classmethod
    def of(cls, log: History, own: OwnPast, top_outcome: float) -> Rates:
        """From a log with outcomes up to `top_outcome`."""
        from bayes_interest.events.compiled import group_kernel

        outcome = log.outcome[log.absorb] / top_outcome
        in_time = np.argsort(own.seconds, kind="stable")
        excess = outcome - _earlier_mean(outcome, own.seconds, in_time)
        after = _kernels()[0](own.user, excess, SHARES)
        order = in_time[group_kernel(own.item[in_time], int(own.item.max(initial=-1)) + 1)]
        total = np.concatenate(([0.0], np.cumsum(excess[order])))
        return cls(after, own.item[order], own.seconds[order], total)

    def of_users(self, own: OwnPast, moments: np.ndarray) -> np.ndarray:
        """Rates of the users at some moments, and a one, (moment, share + 1) float32."""
        out = np.zeros((len(moments), self.after.shape[1] + 1), dtype=np.float32)
        out[:, -1] = 1.0
        low, high = own.span(moments)
        met = high > low
        out[met, :-1] = self.after[high[met] - 1]
        return out

    def user_effects(self, own: OwnPast, events: np.ndarray, moment: int) -> np.ndarray:
        """What the user's rates would lose without each of the user's absorbed `events` (positions
        in the log, all of those before `moment`), (event, share).

        An event moves a rate by its share of what was new in it; later ones leave `1 - share` of
        that. The mean outcome of the log is taken as it is.
        """
        rates = self.of_users(own, np.append(events, moment))[:, :-1].astype(float)  # before each
        age = np.arange(len(events))[::-1]
        moved: np.ndarray = np.diff(rates, axis=0) * (1.0 - SHARES) ** age[:, None]
        return moved

    def of_item(self, item: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Rate of one item at one moment each, from what is strictly earlier."""
        start = np.searchsorted(self.item, item, side="left")
        end = np.searchsorted(self.item, item, side="right")
        stop = _kernels()[1](self.seconds, start, end, seconds)
        rates: np.ndarray = (self.total[stop] - self.total[start]) / (CAUTION + stop - start)
        return rates

    def of_some(self, items: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Of some items at some moments, (moment, item)."""
        item = np.tile(items, len(seconds))
        rates = self.of_item(item, np.repeat(seconds, len(items)))
        return rates.reshape(len(seconds), len(items))


def _earlier_mean(outcome: np.ndarray, seconds: np.ndarray, in_time: np.ndarray) -> np.ndarray:
    """Mean of all strictly earlier outcomes, cautiously a half without any, (event,)."""
    total, now = np.concatenate(([0.0], np.cumsum(outcome[in_time]))), seconds[in_time]
    place = np.arange(len(now))
    place[1:][now[1:] == now[:-1]] = 0
    count = np.maximum.accumulate(place)  # events before the first one of this time
    mean = np.empty_like(outcome)
    mean[in_time] = (total[count] + 0.5) / (count + 1.0)
    return mean


@lru_cache(maxsize=1)
def _kernels() -> tuple[Callable[..., Any], ...]:
    """Compiled loops; numba is imported when they are first needed."""
    from numba import njit

    @njit(cache=True)
    def averages(user, excess, shares):  # type: ignore[no-untyped-def]
        out = np.zeros((len(user), len(shares)), np.float32)
        for event in range(len(user)):
            for s in range(len(shares)):
                before = 0.0
                if event > 0 and user[event] == user[event - 1]:
                    before = out[event - 1, s]
                out[event, s] = before + shares[s] * (excess[event] - before)
        return out

    @njit(cache=True)
    def searches(seconds, start, end, at):  # type: ignore[no-untyped-def]
        stop = np.empty(len(start), np.int64)
        for k in range(len(start)):
            stop[k] = start[k] + np.searchsorted(seconds[start[k] : end[k]], at[k])
        return stop

    return averages, searches
