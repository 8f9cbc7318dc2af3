"""A fitted model for ArviZ: draws with named dimensions, real ids and real timestamps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import version
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.posterior.answers import find_items, listed
from bayes_interest.posterior.global_values import (
    COVARIATE,
    CUT,
    KIND_AXIS,
    READABLE,
    STATE,
    drawn_values,
    entries,
    readable,
)
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_draws
from bayes_interest.report.path_draws import Asked, Draws, at_best, draw_posterior
from bayes_interest.report.prior_draws import draw_prior
from bayes_interest.schema import ITEM_ID, TIMESTAMP, USER_ID

if TYPE_CHECKING:
    import xarray as xr

SAMPLE, EVENT, ITEM, OUTCOME = ("chain", "draw"), "event", "item", "outcome"
NAMED_AXES = (CUT, KIND_AXIS, COVARIATE)
DRAWS_ABOUT = (
    "state is the latent interest at each event, given all events in posterior; interest is the "
    "interest probability of items just after it. Draws are independent: r_hat, ess and mcse "
    'mean nothing here, use az.summary(kind="stats")'
)
CONSTANT_ABOUT = "circumstances of the events, and global parameters that are points, not drawn"
MAX_NUMBERS = 60_000_000
"""In the posterior of an export: half a gigabyte."""
MAX_CELLS = 400_000_000
"""Probabilities computed for a choice, whose softmax is over all items: about a minute."""
Columns = dict[str, tuple[tuple[str, ...], Any]]


def to_arviz(
    posterior: Posterior,
    users: Iterable[Any] | None,
    items: Iterable[Any] | None,
    draws: int,
    seed: int,
    prior_draws: int,
    only_states: bool,
) -> Any:
    """See `InterestModel.to_arviz`."""
    _check(draws, seed, prior_draws)
    az = _arviz()
    if only_states:
        posterior = at_best(posterior)
    who = _users(posterior, users)
    what = np.zeros(0, dtype=np.int64) if items is None else find_items(posterior, items, "items")
    asked = Asked.of(posterior, who, what)
    _check_size(posterior, asked, draws, prior_draws)
    export = _Export(posterior, asked, who)
    found = draw_posterior(posterior, asked, draws, seed)
    groups = {
        "posterior": export.draws(found, drawn_values(posterior)),
        "posterior_predictive": export.outcomes(found),
        "log_likelihood": export.log_likelihood(found),
    }
    if prior_draws:
        before, values = draw_prior(posterior, asked, prior_draws, seed)
        each = [readable(one) for one in values]
        stacked = {name: torch.stack([one[name] for one in each]) for name in each[0]}
        groups["prior"] = export.draws(before, stacked)
        groups["prior_predictive"] = export.outcomes(before)
    groups["observed_data"] = export.observed()
    groups["constant_data"] = export.constants()
    return _container(az, groups)


def _check(draws: int, seed: int, prior_draws: int) -> None:
    check_draws(draws)
    for name, value in (("seed", seed), ("prior_draws", prior_draws)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ConfigError(f"{name}={value!r}: expected a whole number >= 0")


def _users(posterior: Posterior, users: Iterable[Any] | None) -> np.ndarray:
    """Positions of users that have events, in the model's order."""
    log = posterior.history
    active = np.unique(log.user_index[log.absorb])
    wanted = listed(users, "users")
    if wanted is None:
        if not len(active):
            raise InputError("the model has absorbed no event: there is nothing to export")
        return active
    found = posterior.vocabulary.users.index_of(wanted)
    if not wanted:
        raise InputError("users=[] is nobody: give user ids, or None for all with events")
    without = np.flatnonzero(~np.isin(found, active))
    if len(without):
        raise InputError(
            f"user {wanted[without[0]]!r} has no event that the model learned from: there is no "
            "path to export. Leave the user out"
        )
    return np.unique(found)


def _check_size(posterior: Posterior, asked: Asked, draws: int, prior_draws: int) -> None:
    n_events, n_items = len(asked.history), posterior.layout.n_items
    numbers = (
        max(draws, prior_draws) * n_events * (posterior.layout.state_dim + len(asked.items) + 2)
    )
    table = n_events * n_items if posterior.layout.emission == "choice" else 0
    cells = (draws + prior_draws) * table
    if max(numbers, table) > MAX_NUMBERS or cells > MAX_CELLS:
        raise InputError(
            f"{draws} draws at {n_events:,} events are too many for one export "
            f"({max(numbers, cells):,} numbers): choose users=, fewer items= or fewer draws="
        )


class _Export:
    """Datasets of one model about one log; every event carries who, what and when."""

    def __init__(self, posterior: Posterior, asked: Asked, users: np.ndarray) -> None:
        self.posterior, self.history, self.asked = posterior, asked.history, asked
        known, history = posterior.vocabulary, asked.history
        self.events: Columns = {
            USER_ID: ((EVENT,), _ids(known.users.ids[users[history.user_index]])),
            ITEM_ID: ((EVENT,), _ids(known.items.ids[history.item_index])),
            TIMESTAMP: ((EVENT,), pd.to_datetime(history.seconds, unit="s").to_numpy()),
        }

    def draws(self, found: Draws, drawn: Mapping[str, Tensor]) -> xr.Dataset:
        """States, interest probabilities and what is drawn of the globals."""
        columns: Columns = {"state": ((*SAMPLE, EVENT, STATE), found.state[None])}
        if len(self.asked.items):
            columns["interest"] = ((*SAMPLE, EVENT, ITEM), found.interest[None])
        turns = np.arange(len(found.state))
        for name, values in drawn.items():
            taken = values.cpu().numpy()[turns % len(values)]
            columns[name] = ((*SAMPLE, *_axes(name)), taken[None])
        return self._dataset(columns, DRAWS_ABOUT)

    def outcomes(self, found: Draws) -> xr.Dataset:
        """Drawn anew."""
        outcome = self._coded(found.outcome[None])
        return self._dataset({OUTCOME: ((*SAMPLE, EVENT), outcome)}, self._outcome_about())

    def log_likelihood(self, found: Draws) -> xr.Dataset:
        """Of each event's outcome."""
        columns: Columns = {OUTCOME: ((*SAMPLE, EVENT), found.log_likelihood[None])}
        return self._dataset(columns, "log probability of each event's outcome at the draw")

    def observed(self) -> xr.Dataset:
        """What came."""
        history = self.history
        choice = self.posterior.layout.emission == "choice"
        outcome = self._coded(history.item_index if choice else history.outcome)
        return self._dataset({OUTCOME: ((EVENT,), outcome)}, self._outcome_about())

    def constants(self) -> xr.Dataset:
        """Circumstances of the events, and the globals that are points."""
        known, history = self.posterior.vocabulary, self.history
        columns: Columns = {"elapsed_days": ((EVENT,), history.elapsed_days())}
        if len(known.kinds) > 1:
            kinds = np.array(known.kinds)[history.kind_index]
            columns["event_kind"] = ((EVENT,), kinds)
        if self.posterior.layout.emission == "choice":
            columns["choosable_item_id"] = (("choosable",), _ids(known.items.ids))
        drawn = drawn_values(self.posterior)
        for name, value in readable(self.posterior.values).items():
            if name not in drawn:
                columns[name] = (_axes(name), value.cpu().numpy())
        return self._dataset(columns, CONSTANT_ABOUT)

    def _coded(self, outcome: np.ndarray) -> np.ndarray:
        """In the units of the log; choice: positions in `choosable_item_id`."""
        if self.posterior.layout.emission == "rating":
            return np.asarray(self.posterior.vocabulary.levels)[outcome.astype(np.int64)]
        return outcome.astype(np.int64)

    def _outcome_about(self) -> str:
        return {
            "bernoulli": "1 where interest was shown, else 0",
            "rating": "the rating, in the units of the log",
            "choice": "the chosen item, as its position in constant_data's choosable_item_id",
        }[self.posterior.layout.emission]

    def _dataset(self, columns: Columns, about: str) -> xr.Dataset:
        """With coordinates for all its dimensions."""
        import xarray as xr

        coords: dict[str, Any] = {}
        for dims, values in columns.values():
            coords |= {dim: np.arange(n) for dim, n in zip(dims, np.shape(values), strict=True)}
        used = set(coords)
        if ITEM in used:
            coords[ITEM] = _ids(self.posterior.vocabulary.items.ids[self.asked.items])
        for axis in used & set(NAMED_AXES):
            coords[axis] = np.array(entries(self.posterior, axis))
        if EVENT in used:
            coords |= self.events
        attrs = {
            "inference_library": "bayes_interest",
            "inference_library_version": version("bayes-interest"),
            "emission": self.posterior.layout.emission,
            "about": about,
        }
        return xr.Dataset(columns, coords, attrs)


def _axes(name: str) -> tuple[str, ...]:
    axis = READABLE[name].axis
    return () if axis is None else (axis,)


def _ids(ids: np.ndarray) -> np.ndarray:
    """Ids as an array of numbers or of text, which can be written to files."""
    return np.array(ids.tolist()) if ids.dtype == object else ids


def _arviz() -> Any:
    try:
        try:
            return import_module("arviz")
        except FileNotFoundError:  # two processes wrote the date of its notice at once
            return import_module("arviz")
    except ImportError as cause:
        raise InputError(
            'to_arviz needs ArviZ, which is not installed: pip install "bayes-interest[report]"'
        ) from cause


def _container(az: Any, groups: dict[str, xr.Dataset]) -> Any:
    """InferenceData for ArviZ before 1, a DataTree from then on."""
    if "InferenceData" in vars(az):  # asking for the attribute of ArviZ 1 is a warning
        return az.InferenceData(**groups)
    import xarray as xr

    return xr.DataTree.from_dict(groups)
