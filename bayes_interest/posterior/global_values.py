"""The global parameters in units that people read: scales instead of logarithms, named entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.model.parameters import COVARIATES, Globals
from bayes_interest.posterior.posterior import Posterior

DRIFT, EVENT_DRIFT = "drift_scale", "event_drift_scale"
STATE, CUT, KIND_AXIS, COVARIATE = "state_dim", "cut", "kind", "covariate"


@dataclass(frozen=True)
class Readable:
    """One parameter of `Globals` as it is shown."""

    source: str  # its name in the program
    axis: str | None  # what its entries are, None for a single number
    unit: str
    read: Callable[[Tensor], Tensor]


def _same(value: Tensor) -> Tensor:
    return value


def _with_reference(value: Tensor) -> Tensor:
    return torch.cat((value.new_zeros(1), value)).exp()


READABLE = {
    DRIFT: Readable("log_drift", STATE, "initial sd per sqrt day", torch.exp),
    EVENT_DRIFT: Readable("log_event_drift", STATE, "initial sd per event", torch.exp),
    "mean_state": Readable("mean", STATE, "initial sd", _same),
    "intercept": Readable("intercept", STATE, "logits per initial sd", _same),
    "bias": Readable("bias", None, "logits", _same),
    "cut_point": Readable("raw_cuts", CUT, "logits", increasing_cuts),
    "residual_scale": Readable("log_residual_scale", None, "logits per initial sd", torch.exp),
    "offset_scale": Readable("log_offset_scale", None, "logits", torch.exp),
    "reliability": Readable("log_reliability", KIND_AXIS, "factor", _with_reference),
    "covariate_weight": Readable(COVARIATES, COVARIATE, "logits per unit", _same),
}
"""Name to parameter, in the order in which they are shown; a model has some of them."""


def readable(values: Globals) -> dict[str, Tensor]:
    """The global parameters a model has, in the units of `READABLE`; items' own are left out."""
    return {
        name: one.read(values[one.source].detach().double())
        for name, one in READABLE.items()
        if one.source in values
    }


def drawn_values(posterior: Posterior) -> dict[str, Tensor]:
    """Those that the draws of the globals differ in, (draw, ...); empty for a point."""
    each = [readable(one.values) for one in posterior.members]
    if not each:
        return {}
    stacked = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    return {name: value for name, value in stacked.items() if bool((value != value[0]).any())}


def entries(posterior: Posterior, axis: str) -> list[str]:
    """Labels along an axis of `READABLE`."""
    if axis == STATE:
        return [str(place) for place in range(posterior.layout.state_dim)]
    if axis == CUT:
        return [f"rating >= {level:g}" for level in posterior.vocabulary.levels[1:]]
    if axis == KIND_AXIS:
        return list(posterior.vocabulary.kinds)
    return list(posterior.layout.kinds.names)
