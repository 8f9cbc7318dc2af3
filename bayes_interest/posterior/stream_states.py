"""States that absorb one event at a time: compiled for bernoulli and rating, or by the filter."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from bayes_interest.emissions.ordered import FAR
from bayes_interest.events.history import History, join_histories, make_history
from bayes_interest.events.rate_stream import RateStream
from bayes_interest.model.filtering import Belief, compilable
from bayes_interest.model.parameters import emission_of
from bayes_interest.posterior.online import absorb
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.score import score_history
from bayes_interest.posterior.stream_settings import Forecast, Settings, stacked
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.kalman import as_array
from bayes_interest.statespace.sites import SMALLEST_SHARE

BLOCK = 64  # users for whom there is room at once
INTERVAL, N_DRAWS = 0.9, 64
NOTHING = np.empty(0, dtype=np.float32)


class Event(NamedTuple):
    """One event by positions, its outcome in the family's coding."""

    user: int
    item: int
    seconds: float
    outcome: float
    kind: int
    absorb: bool


class States(Protocol):
    """What a stream keeps of its users."""

    def add_user(self, user_id: int | str) -> None:
        """One more user, after those known, at the prior."""
        ...

    def last_seconds(self, user: int) -> float:
        """Time of the user's latest event, NaN without one."""
        ...

    def observe(self, event: Event) -> Forecast:
        """Forecast an event that is not before the user's last, and absorb it."""
        ...

    def posterior(self) -> Posterior:
        """Everything absorbed."""
        ...


def states_of(posterior: Posterior) -> States:
    """The compiled states where there is a compiled step, the general ones otherwise."""
    layout = posterior.layout
    others = replace(layout.kinds, rates=False).names
    emission = emission_of(layout, posterior.values)
    quick = compilable(emission, posterior.items, posterior.item_cov, posterior.belief)
    if quick and not posterior.choice and not others and not layout.context_layers:
        return CompiledStates(posterior)
    return FilteredStates(posterior)


class FilteredStates:
    """Every event by the filter of logs: any family, any covariates; reads the log each time."""

    def __init__(self, posterior: Posterior) -> None:
        self._posterior = posterior

    def add_user(self, user_id: int | str) -> None:
        """See `States`."""
        self._posterior = self._posterior.with_users(np.array([user_id], dtype=object))

    def last_seconds(self, user: int) -> float:
        """See `States`."""
        last = self._posterior.last_seconds
        return float(last[user]) if user < len(last) else math.nan

    def observe(self, event: Event) -> Forecast:
        """See `States`."""
        posterior = self._posterior
        pending = _Pending()
        pending.append(event)
        history = pending.history(len(posterior.vocabulary.users))
        scores, _ = score_history(posterior, history, INTERVAL, True, N_DRAWS)
        self._posterior = absorb(posterior, history)
        interval = scores.interval
        return Forecast(float(interval.mean[0]), float(interval.sd[0]), float(scores.log_prob[0]))

    def posterior(self) -> Posterior:
        """See `States`."""
        return self._posterior


class CompiledStates:
    """bernoulli and rating without covariates or with running rates: a compiled step an event.

    A user's belief at every setting of the globals moves in a copy: with draws of the globals that
    of all users, which lies user by user, else one that is made with the user's first event.
    """

    def __init__(self, posterior: Posterior) -> None:
        self._base = posterior
        self._globals = Settings.of(posterior)
        n, dim = len(self._globals.vectors), posterior.layout.state_dim
        real = self._globals.vectors.dtype
        self._close()
        self._free: tuple[np.ndarray, ...] = (
            np.empty((0, n, dim), real),
            np.empty((0, n, dim, dim), real),
        )
        self._pending = _Pending()
        self._new: list[int | str] = []
        self._out = np.empty((n, 6))
        self._rates: RateStream | None = None
        if posterior.layout.rates:
            n_items, top = posterior.layout.n_items, posterior.layout.kinds.top_outcome
            self._rates = RateStream(posterior.history, n_items, top)
        self._beliefs, self._own = _beliefs(posterior), n > 1
        self._warm_up()

    def _warm_up(self) -> None:
        """Load or compile the step now, on a spare state, and not with the first event."""
        spare = Event(0, 0, 0.0, 0.0, 0, True)
        mean, cov = (np.zeros(part.shape[1:], part.dtype) for part in self._free)
        covariates = NOTHING if self._rates is None else np.zeros_like(self._rates.out)
        self._step(mean, cov, spare, math.nan, covariates)

    def add_user(self, user_id: int | str) -> None:
        """See `States`."""
        self._new.append(user_id)

    def last_seconds(self, user: int) -> float:
        """See `States`."""
        slot = self._slots.get(user)
        if slot is not None:
            return self._last[slot]
        last = self._base.last_seconds
        return float(last[user]) if user < len(last) else math.nan

    def observe(self, event: Event) -> Forecast:
        """See `States`."""
        last, covariates = self.last_seconds(event.user), NOTHING
        if self._rates is not None:
            about = (event.user, event.item, event.seconds, event.outcome)
            covariates = self._rates.observe(*about, lambda: self.posterior().history)
        slot = self._slots.get(event.user)
        if slot is None:
            slot = self._open(event.user)
        self._step(self._means[slot], self._covs[slot], event, last, covariates)
        self._last[slot] = event.seconds
        self._pending.append(event)
        return self._globals.forecast(self._out, event.outcome)

    def _step(
        self, mean: np.ndarray, cov: np.ndarray, event: Event, last: float, covariates: np.ndarray
    ) -> None:
        """Fill `_out` and move a user's beliefs past an event."""
        from bayes_interest.model.compiled import observe_kernel

        told, known = self._globals, last == last  # NaN: no earlier event
        days = (event.seconds - last) / SECONDS_PER_DAY if known else 0.0
        observe_kernel(
            told.vectors, told.offsets, told.item_cov, told.walk, told.rho, told.edges,
            told.weights, covariates, told.kappa, FAR, SMALLEST_SHARE, told.square, told.weight,
            mean, cov, event.item, event.kind, days, float(known), int(event.outcome),
            told.stated, self._out,
        )  # fmt: skip

    def _open(self, user: int) -> int:
        """A slot for a user's belief, which starts at that of the posterior or at the prior."""
        slot, (means, covs) = len(self._last), self._beliefs
        known = user < len(means)
        if known and self._own:
            mean, cov = means[user], covs[user]
        else:
            row = self._used % BLOCK
            if row == 0:
                self._free = tuple(np.empty((BLOCK, *p.shape[1:]), p.dtype) for p in self._free)
            mean, cov = (part[row] for part in self._free)
            mean[:] = means[user] if known else 0.0
            cov[:] = covs[user] if known else np.eye(means.shape[2])
            self._used += 1
        self._slots[user] = slot
        self._means.append(mean)
        self._covs.append(cov)
        self._last.append(math.nan)
        return slot

    def _close(self) -> None:
        """Begin without slots."""
        self._slots: dict[int, int] = {}
        self._means: list[np.ndarray] = []  # by slot, (setting, dim)
        self._covs: list[np.ndarray] = []
        self._last: list[float] = []
        self._used = 0  # of the memory in blocks

    def posterior(self) -> Posterior:
        """See `States`. What it returns is what later events build upon."""
        if self._new or len(self._pending):
            wider = self._base.with_users(np.array(self._new, dtype=object))
            last, users = wider.last_seconds.copy(), np.array(list(self._slots), dtype=np.int64)
            last[users] = self._last
            more = self._pending.history(len(last))
            self._base = replace(
                wider,
                belief=self._belief(wider.belief, users),
                last_seconds=last,
                history=join_histories(wider.history, more, len(last)),
            )
            self._beliefs = _beliefs(self._base)
            self._pending, self._new = _Pending(), []
            self._close()
        return self._base

    def _belief(self, before: Belief, users: np.ndarray) -> Belief:
        """That of all users, with the slots put in place."""
        index, found = torch.as_tensor(users), []
        if not len(users):
            return before
        means, covs = (torch.as_tensor(np.stack(part)) for part in (self._means, self._covs))
        for setting, old in enumerate((before, *before.members)):
            mean, cov = old.mean.clone(), old.cov.clone()
            mean[index], cov[index] = means[:, setting], covs[:, setting]
            found.append(Belief(mean, cov))
        return replace(found[0], members=tuple(found[1:]))


class _Pending:
    """Events not yet in the log, as columns of numbers: no objects that pile up."""

    def __init__(self) -> None:
        self.columns: tuple[array[Any], ...] = tuple(
            array(code) for code in "qqddqb"
        )  # as the fields of Event

    def __len__(self) -> int:
        return len(self.columns[0])

    def append(self, event: Event) -> None:
        """One more."""
        for column, value in zip(self.columns, event, strict=True):
            column.append(value)

    def history(self, n_users: int) -> History:
        """All of them."""
        user, item, seconds, outcome, kind, absorbed = (np.array(part) for part in self.columns)
        return make_history(user, item, seconds, outcome, kind, n_users, absorbed.astype(bool))


def _beliefs(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Means (user, setting, dim) and covariances of all users, the best setting first.

    A user's lie side by side, so that to read them is to read one piece of memory. Copies, unless
    there is one setting only.
    """
    each = (posterior.belief, *posterior.belief.members)
    means, covs = [as_array(one.mean) for one in each], [as_array(one.cov) for one in each]
    return stacked(means, axis=1), stacked(covs, axis=1)
