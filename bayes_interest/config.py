"""Frozen configurations: what a model is, and how a fit runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from bayes_interest.errors import ConfigError

EmissionName = Literal["auto", "bernoulli", "choice", "rating"]
DTypeName = Literal["float32", "float64"]


def _check(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{name}={value!r}: expected {wanted}")


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _windows(days: object) -> bool:
    if isinstance(days, tuple):
        return len(days) > 0 and len(set(days)) == len(days) and all(map(_positive, days))
    return not isinstance(days, str) and _positive(days)


@dataclass(frozen=True)
class ModelConfig:
    """What the model is. Every field changes the answers."""

    emission: EmissionName = "auto"
    """Family of outcomes; "auto" chooses from the data and says what and why."""
    state_dim: int = 16
    """Dimensions of a user's latent interest."""
    positive_threshold: float | None = None
    """bernoulli: outcome is 1 where value >= threshold. choice: events below it are left out.
    rating: the level whose P(rating >= level) is the interest probability."""
    half_life_days: float | None = None
    """Mean reversion of interest with this half-life in days; None is a pure random walk."""
    item_residuals: bool = True
    """Learn a residual vector for each item beside what its text says."""
    popularity_days: float | tuple[float, ...] | Literal["auto"] | None = "auto"
    """Half-life in days, or several, of the recent popularity that shifts an item, and with it how
    long ago anybody met the item last and first; None leaves all of it out, "auto" is 0.1, 1, 10
    and 100 days for choice and none otherwise. A small log of choices does without whatever of
    this, `repeats`, `succession`, `likeness` and `event_drift` is "auto", unless its held-back
    slice of time speaks strongly for it."""
    repeats: bool | Literal["auto"] = "auto"
    """Let a user's own earlier events of an item raise or lower it; "auto": for choice."""
    succession: bool | Literal["auto"] = "auto"
    """Let what usually follows the user's last items raise an item; "auto": for choice."""
    likeness: bool | Literal["auto"] = "auto"
    """Let texts like those of the user's last items raise an item; "auto": for choice."""
    rates: bool | Literal["auto"] = "auto"
    """bernoulli, rating: let running rates of user and item shift the predictor, by as much as
    predicts the held-back slice of time best, if by more than chance; "auto": on. Needs `holdout` >
    0 and is nothing to choice."""
    context_layers: int | Literal["auto"] = 0
    """Layers of the causal network that adds a short-term context to the state; 0 leaves it out,
    "auto" tries 0 and 1 and takes 1 if the held-back slice of time speaks strongly for it."""
    context_dim: int = 64
    """Width of the context network, an even number."""
    context_events: int = 50
    """How many events back each layer of the context network looks."""
    event_drift: bool | Literal["auto"] = "auto"
    """Interest also moves with every event, not only with time. "auto": for choice; bernoulli and
    rating try both, and it does if the held-back slice of time speaks strongly for it."""
    n_candidates: int | None = None
    """choice: number of sampled candidates per step in fitting; None is the full softmax."""
    dtype: DTypeName = "float32"
    """Precision of all tensors."""

    def __post_init__(self) -> None:
        """Check every field."""
        names = get_args(EmissionName)
        _check(self.emission in names, "emission", self.emission, f"one of {names}")
        _check(_whole(self.state_dim, 1), "state_dim", self.state_dim, "a whole number >= 1")
        threshold = self.positive_threshold
        _check(
            threshold is None or (isinstance(threshold, (int, float)) and math.isfinite(threshold)),
            "positive_threshold",
            threshold,
            "a finite number or None",
        )
        half = self.half_life_days
        _check(half is None or _positive(half), "half_life_days", half, "days > 0 or None")
        days = self.popularity_days
        _check(
            days is None or days == "auto" or _windows(days),
            "popularity_days",
            days,
            'days > 0, a tuple of different ones, None or "auto"',
        )
        for name in ("repeats", "succession", "likeness", "rates", "event_drift"):
            value = getattr(self, name)
            _check(value in (True, False, "auto"), name, value, 'True, False or "auto"')
        layers = self.context_layers
        _check(
            layers == "auto" or _whole(layers, 0),
            "context_layers",
            layers,
            'a whole number >= 0 or "auto"',
        )
        for name, least in (("context_dim", 2), ("context_events", 2)):
            value = getattr(self, name)
            _check(_whole(value, least), name, value, f"a whole number >= {least}")
        _check(self.context_dim % 2 == 0, "context_dim", self.context_dim, "an even number")
        count = self.n_candidates
        _check(count is None or _whole(count, 2), "n_candidates", count, "None or >= 2")
        _check(
            self.dtype in get_args(DTypeName), "dtype", self.dtype, f"one of {get_args(DTypeName)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild from `to_dict`; an unknown field is a ConfigError."""
        unknown = set(values) - {field.name for field in fields(cls)}
        _check(not unknown, "ModelConfig", sorted(unknown), "known fields only")
        days = values.get("popularity_days")
        return cls(**values | ({"popularity_days": tuple(days)} if isinstance(days, list) else {}))


@dataclass(frozen=True)
class FitConfig:
    """How a fit runs."""

    device: str = "auto"
    """"auto" takes CUDA where there is one; else any torch device name."""
    seed: int = 0
    """Same seed, same bits on one machine."""
    max_epochs: int = 30
    """Passes over the log at most."""
    learning_rate: float = 0.02
    """Peak of the one-cycle schedule of Adam."""
    batch_events: int = 4096
    """Events of a mini-batch of whole user histories, padding included."""
    context_epochs: int = 0
    """choice with a context: passes over the log that train network and items first, as a sequence
    model by themselves (the best one is kept); 0 trains them beside the states. Meant for large
    logs: compare the held-back losses."""
    site_steps: int = 4
    """Natural-gradient steps on the sites per visit of a batch (bernoulli, rating). With one or two
    the sites lag behind the globals, and drift scales can run away."""
    holdout: float = 0.1
    """Last share of time held back to stop early; 0 trains for max_epochs."""
    patience: int = 3
    """Epochs without a better held-back log loss before stopping."""
    refit: bool = True
    """After early stopping, fit everything, held-back slice too, for the best number of epochs."""
    item_spread: bool = False
    """bernoulli, rating, without draws of all globals: let the held-back slice set one factor of
    the items' covariances. Probabilities of outcomes get better; intervals of interest narrower,
    and where they held too little before, they hold less."""
    n_members: int | Literal["auto"] = "auto"
    """Without context: draws of the global parameters over which predictions integrate; 1 keeps
    their best values, and intervals are too narrow. "auto": 16 where that takes minutes at most,
    otherwise 1. bernoulli and rating take any number on any log; choice 1 only on large ones."""
    progress: bool = True
    """Show bars of what takes over two seconds, on a terminal or in a notebook; the environment
    variable BAYES_INTEREST_PROGRESS=0 silences them everywhere."""

    def __post_init__(self) -> None:
        """Check every field."""
        _check(isinstance(self.device, str), "device", self.device, "a device name")
        _check(_whole(self.seed, 0), "seed", self.seed, "a whole number >= 0")
        for name in ("max_epochs", "batch_events", "site_steps", "patience"):
            value = getattr(self, name)
            _check(_whole(value, 1), name, value, "a whole number >= 1")
        first = self.context_epochs
        _check(_whole(first, 0), "context_epochs", first, "a whole number >= 0")
        spread = self.item_spread
        _check(isinstance(spread, bool), "item_spread", spread, "True or False")
        many = self.n_members
        wanted = 'a whole number >= 1 or "auto"'
        _check(many == "auto" or _whole(many, 1), "n_members", many, wanted)
        _check(_positive(self.learning_rate), "learning_rate", self.learning_rate, "> 0")
        _check(
            isinstance(self.holdout, (int, float)) and 0 <= self.holdout < 0.9,
            "holdout",
            self.holdout,
            "a share in [0, 0.9)",
        )

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain values, for JSON."""
        return asdict(self)
