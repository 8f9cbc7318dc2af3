"""What a backtest asks of a model, so that any recommender can stand beside ours."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import pandas as pd

from bayes_interest.config import FitConfig
from bayes_interest.errors import InputError

METHODS = ("fit", "score_events")
THIS = "bayes_interest"


class Recommender(Protocol):
    """A model that learns from a log and then predicts a later log event by event."""

    def fit(self, events: Any, items: Any | None = None, config: FitConfig | None = None) -> Any:
        """Learn from a log and item texts in place; a second fit forgets the first."""
        ...

    def score_events(
        self,
        events: Any,
        items: Any | None = None,
        exclude_seen: bool = True,
        *,
        k: int | None = None,
    ) -> pd.DataFrame:
        """Predict each event from its strict past, then absorb it; the model stays as it is.

        Rows in the caller's order, with user_id, item_id, timestamp and

        - `mean`: probability that the outcome is positive; for choices, that it is this item.
        - `lower`, `upper` (may be left out): the interval of that probability.
        - `log_prob` (may be left out): of the outcome; NaN where the model says nothing.
        - `rank`: of the item among the items that the user has not seen (among all where
          `exclude_seen` is False), 1 is first, ties count against the item.
        - `slate` with `k`: a list of the k best item ids just before the event.

        A model may also take `detail=True`, and then add the columns that
        `InterestModel.score_events` describes, for `calibration`.
        """
        ...


def named_models(models: object) -> dict[str, Recommender]:
    """Models by name: one alone is called "bayes_interest", as in `evaluate`.

    Raises:
        InputError: no model, a name that is no string, or one without `fit` or `score_events`.
    """
    named: dict[Any, Any] = dict(models) if isinstance(models, Mapping) else {THIS: models}
    if not named:
        raise InputError("models is empty: pass a model, or a mapping of names to models")
    for name, model in named.items():
        if not isinstance(name, str):
            raise InputError(f"models: the name {name!r} is not a string")
        for method in METHODS:
            if isinstance(model, type) or not callable(getattr(model, method, None)):
                raise InputError(
                    f"model {name!r} ({_what(model)}) has no method {method}: pass an object with "
                    f"{' and '.join(METHODS)}, as `Recommender` describes"
                )
    return named


def _what(model: object) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__


def gives_slates(model: Recommender) -> bool:
    """Whether `score_events` takes `k`."""
    parameters = inspect.signature(model.score_events).parameters.values()
    return any(entry.name == "k" or entry.kind is entry.VAR_KEYWORD for entry in parameters)


def gives_detail(model: Recommender) -> bool:
    """Whether `score_events` names `detail` among what it takes."""
    return "detail" in inspect.signature(model.score_events).parameters
