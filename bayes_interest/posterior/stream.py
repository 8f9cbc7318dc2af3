"""Events one by one, as a web service meets them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from bayes_interest.errors import ItemError, TimeOrderError
from bayes_interest.events.id_map import UNKNOWN
from bayes_interest.events.validate import quote
from bayes_interest.posterior.one_event import OutcomeReader, event_id, event_seconds
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.stream_settings import Forecast
from bayes_interest.posterior.stream_states import Event, states_of
from bayes_interest.schema import ITEM_ID, USER_ID

Model = TypeVar("Model")


class InterestStream(Generic[Model]):
    """A model that absorbs events one at a time, in microseconds; made by `InterestModel.stream`.

    `observe` forecasts and absorbs one event; `model` gives an InterestModel of everything absorbed
    so far, as `InterestModel.update` with those events would, to rounding. The model that the
    stream was made from stays as it was. Several threads may share a stream.

    bernoulli and rating models, without covariates or with running rates (the default), absorb an
    event in a compiled step whose time does not grow with the log; with draws of the globals, a
    step for each. choice, a context network, and covariates other than running rates go through
    the log for every event: the same answer, in milliseconds that grow with the log. So does,
    where there are running rates, an event that lies before more than 4,096 of other users.
    """

    def __init__(
        self, posterior: Posterior, door: Callable[[Posterior], Model], allow_future: bool
    ) -> None:
        self._door, self._allow_future, self._lock = door, allow_future, Lock()
        self._users, self._items = posterior.vocabulary.users, posterior.vocabulary.items
        self._new: dict[int | str, int] = {}
        self._outcomes = OutcomeReader.of(posterior.config, posterior.vocabulary)
        self._states = states_of(posterior)
        self._n_events = 0

    def observe(
        self,
        user_id: int | str,
        item_id: int | str,
        timestamp: object,
        value: float | None = None,
        kind: str | None = None,
    ) -> Forecast:
        """Absorb one event; returns what was believed of it just before.

        Args:
            user_id: an unknown user starts at the prior.
            item_id: one that the model knows.
            timestamp: unix seconds, a datetime (no zone means UTC) or an ISO 8601 string; not
                before the user's last event. Of events at one time the earlier call comes first.
            value: as in the log of the fit; a choice needs none.
            kind: as in the log of the fit; None is the most frequent kind there, which an unknown
                kind counts as, too, with a DataWarning.

        Raises:
            EventError: an id, a time or a value that is none, or that does not fit the family.
            ItemError: an unknown item.
            TimeOrderError: an event before the user's last one.

        After an error the stream is as before. An event given twice counts twice.
        """
        user_key, item = (
            event_id(user_id, USER_ID),
            self._items.position(event_id(item_id, ITEM_ID)),
        )
        if item == UNKNOWN:
            raise ItemError(
                f"item {quote(item_id)} is unknown to the model. Give its text with "
                "stream.model().update(events, items=...) and stream on from that model, or leave "
                "the event out"
            )
        seconds = event_seconds(timestamp, self._allow_future)
        outcome, absorbed = self._outcomes.outcome(value)
        place = self._outcomes.kind(kind)
        with self._lock:
            user, is_new = self._position(user_key)
            last = self._states.last_seconds(user)
            if seconds < last:
                raise TimeOrderError(
                    f"user {quote(user_id)} has an event at {seconds:.0f} s, before the last one "
                    f"absorbed at {last:.0f} s. Refit with it, or leave it out"
                )
            if is_new:
                self._new[user_key] = user
                self._states.add_user(user_key)
            event = Event(user, item, seconds, outcome, place, absorbed)
            found = self._states.observe(event)
            self._n_events += 1
        return found

    def _position(self, user_key: int | str) -> tuple[int, bool]:
        found = self._users.position(user_key)
        if found == UNKNOWN:
            found = self._new.get(user_key, UNKNOWN)
        return (len(self._users) + len(self._new), True) if found == UNKNOWN else (found, False)

    def model(self) -> Model:
        """An InterestModel of everything absorbed so far, which later events leave as it is.

        Copies the beliefs of all users and joins the logs: time that grows with both, so ask for it
        when a table is wanted, not with every event.
        """
        with self._lock:
            return self._door(self._states.posterior())

    def __len__(self) -> int:
        """Events absorbed since the stream was made."""
        return self._n_events

    def __repr__(self) -> str:
        return f"InterestStream({self._n_events:,} events since it was made)"
