"""The space of a search: which fields of the configurations may take which values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError

Space = Mapping[str, Sequence[Any]]
MODEL_FIELDS = tuple(field.name for field in fields(ModelConfig))
FIT_FIELDS = tuple(field.name for field in fields(FitConfig))
# Log losses of other outcomes cannot be compared; the last two are not the model's quality.
FIXED_FIELDS = ("emission", "positive_threshold", "device", "progress")


def check_space(space: Space) -> None:
    """Raise InputError for a field that is unknown or fixed, or for an impossible range."""
    if not space:
        raise InputError("space is empty: name a field of ModelConfig or FitConfig and its values")
    for name, domain in space.items():
        if name not in (*MODEL_FIELDS, *FIT_FIELDS):
            raise InputError(
                f"space: {name!r} is no field of ModelConfig ({', '.join(MODEL_FIELDS)}) or "
                f"FitConfig ({', '.join(FIT_FIELDS)})"
            )
        if name in FIXED_FIELDS:
            raise InputError(f"space: {name!r} cannot be searched: log losses would not compare")
        if isinstance(domain, list):
            _check_choices(name, domain)
        elif isinstance(domain, tuple):
            _check_range(name, domain)
        else:
            raise InputError(
                f"space: {name!r} is {domain!r}, expected a list of values or a tuple (low, high) "
                'or (low, high, "log")'
            )


def _check_choices(name: str, domain: list[Any]) -> None:
    plain = (str, int, float, bool, type(None))
    odd = [value for value in domain if not isinstance(value, plain)]
    if not domain or odd:
        raise InputError(f"space: {name!r} lists {odd or 'nothing'}, expected plain values")


def _check_range(name: str, domain: tuple[Any, ...]) -> None:
    wanted = 'expected (low, high) or (low, high, "log") with low < high, above 0 for "log"'
    numbers = [
        value for value in domain[:2] if isinstance(value, int | float) and math.isfinite(value)
    ]
    if (
        len(numbers) < 2
        or domain[2:] not in ((), ("log",))
        or numbers[0] >= numbers[1]
        or (domain[2:] and numbers[0] <= 0)
    ):
        raise InputError(f"space: {name!r} is {domain!r}, {wanted}")


def suggest(trial: Any, name: str, domain: Sequence[Any]) -> Any:
    """A value of an Optuna trial: one of a list, or between the ends of a tuple."""
    if isinstance(domain, list):
        return trial.suggest_categorical(name, domain)
    low, high, log = domain[0], domain[1], len(domain) == 3
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def configs(
    chosen: Mapping[str, Any], base: ModelConfig, run: FitConfig
) -> tuple[ModelConfig, FitConfig]:
    """Both configurations with the chosen fields. Raises ConfigError for an impossible value."""
    model = {name: value for name, value in chosen.items() if name in MODEL_FIELDS}
    fit = {name: value for name, value in chosen.items() if name in FIT_FIELDS}
    return replace(base, **model), replace(run, **fit)
