"""A log drawn from the model's own prior, with everything that is hidden in real logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.config import EmissionName
from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.errors import ConfigError
from bayes_interest.events.read import EventLog, read_events
from bayes_interest.model.parameters import (
    SCALE_CENTRES,
    Globals,
    Items,
    Layout,
    draw_prior,
    emission_of,
    item_terms,
)
from bayes_interest.schema import ITEM_ID, SECONDS_PER_DAY, TIMESTAMP, USER_ID, VALUE
from bayes_interest.statespace.random_walk import transition

START_SECONDS = 1_700_000_000.0


@dataclass(frozen=True)
class Truth:
    """What the log was drawn from."""

    layout: Layout
    values: Globals
    items: Items
    states: Tensor  # deviation y_u at every event, (user, step, state_dim)
    level: int  # rating: interest is P(level index >= this)

    @property
    def drift_scales(self) -> np.ndarray:
        """Per sqrt day, (state_dim,)."""
        scales: np.ndarray = self.values["log_drift"].exp().numpy()
        return scales

    def probability(self, predictor: Tensor) -> Tensor:
        """True interest probability at a predictor."""
        if self.layout.emission == "rating":
            return torch.sigmoid(
                predictor - increasing_cuts(self.values["raw_cuts"])[self.level - 1]
            )
        return torch.sigmoid(predictor)


@dataclass(frozen=True)
class Simulation:
    """A drawn log: `events`, item `vectors` (item_id and a list column), and the hidden truth.

    `event_truth` has one row per event of `events.frame`: user_id, item_id, timestamp,
    probability. `final_truth` has every user with every item at the user's last event.
    For the choice family the probability is that of the next choice among all items.
    """

    events: EventLog
    vectors: pd.DataFrame
    event_truth: pd.DataFrame
    final_truth: pd.DataFrame
    truth: Truth


def simulate(
    n_users: int = 200,
    n_items: int = 100,
    events_per_user: int = 50,
    emission: EmissionName = "bernoulli",
    drift_scales: Sequence[float] = (0.02, 0.1),
    embed_dim: int = 8,
    days: float = 365.0,
    n_levels: int = 5,
    half_life_days: float | None = None,
    item_residuals: bool = True,
    seed: int = 0,
) -> Simulation:
    """Draw globals, states and a log from the prior.

    One state dimension per entry of `drift_scales` (per sqrt day). Users' histories have on
    average `events_per_user` events (at least 2) at uniform random times over `days`; items are
    shown uniformly at random. Raises ConfigError for impossible sizes.
    """
    _check_sizes(n_users, n_items, events_per_user, drift_scales, emission)
    layout = Layout(
        emission,
        len(drift_scales),
        embed_dim,
        n_items,
        n_levels=n_levels,
        residuals=item_residuals,
        half_life_days=half_life_days,
        log_drift_centre=tuple(math.log(scale) for scale in drift_scales),
    )
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    like = torch.zeros(1, dtype=torch.float64)
    values = draw_prior(layout, generator, like) | {
        "log_drift": torch.tensor(layout.log_drift_centre, dtype=torch.float64)
    }
    values = _moderate(values)
    features = torch.randn(n_items, embed_dim, generator=generator, dtype=torch.float64)
    features = (features - features.mean(0)) / features.std(0)
    length = np.maximum(2, rng.poisson(events_per_user, n_users))
    times = _event_times(rng, length, days)
    states = _draw_states(layout, values, times, generator)
    items = item_terms(layout, values, features)
    truth = Truth(layout, values, items, states, level=max(1, n_levels // 2 + (n_levels > 2)))
    return _assemble(truth, features, times, length, rng, generator)


def _check_sizes(
    n_users: int, n_items: int, events_per_user: int, drift_scales: Sequence[float], emission: str
) -> None:
    if min(n_users, n_items, events_per_user) < 1 or n_items < 2:
        raise ConfigError("simulate needs n_users >= 1, n_items >= 2 and events_per_user >= 1")
    if emission not in ("bernoulli", "rating", "choice"):
        raise ConfigError(f"emission={emission!r}: expected bernoulli, rating or choice")
    if not drift_scales or not all(math.isfinite(s) and s > 0 for s in drift_scales):
        raise ConfigError(f"drift_scales={drift_scales!r}: expected positive numbers")


def _moderate(values: Globals) -> Globals:
    """Pin what would often make a log uninformative: bias at 0, item scales at their centres."""
    fixed = dict(values)
    if "bias" in fixed:
        fixed["bias"] = torch.zeros_like(fixed["bias"])
    if "raw_cuts" in fixed:
        levels = len(fixed["raw_cuts"]) + 1
        cuts = torch.linspace(-1.5, 1.5, levels - 1, dtype=torch.float64)
        fixed["raw_cuts"] = torch.cat((cuts[:1], torch.log(torch.diff(cuts))))
    for scale, centre in SCALE_CENTRES.items():
        name = scale.removeprefix("log_").removesuffix("_scale")
        if name in fixed:
            fixed[name] = fixed[name] / fixed[scale].exp() * math.exp(centre)
            fixed[scale] = torch.full_like(fixed[scale], centre)
    return fixed


def _event_times(rng: np.random.Generator, length: np.ndarray, days: float) -> np.ndarray:
    """Sorted times in days, (user, step), NaN where padded."""
    times = rng.uniform(0.0, days, (len(length), int(length.max())))
    times[np.arange(times.shape[1])[None, :] >= length[:, None]] = np.nan
    return np.sort(times, axis=1)


def _draw_states(
    layout: Layout, values: Globals, times: np.ndarray, generator: torch.Generator
) -> Tensor:
    gaps = np.nan_to_num(np.diff(times, prepend=times[:, :1]))
    walk = transition(torch.as_tensor(gaps), values["log_drift"].exp(), layout.half_life_days)
    shape = (*times.shape, layout.state_dim)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    states = torch.empty_like(noise)
    state = noise[:, 0]
    for t in range(shape[1]):
        if t:
            state = walk.decay[:, t] * state + walk.variance[:, t].sqrt() * noise[:, t]
        states[:, t] = state
    return states


def _assemble(
    truth: Truth,
    features: Tensor,
    times: np.ndarray,
    length: np.ndarray,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Simulation:
    real = ~np.isnan(times)
    user = np.repeat(np.arange(len(length)), length)
    table = truth.states @ truth.items.vectors.T + truth.items.offsets  # (user, step, item)
    flat = table[torch.as_tensor(real)]
    item, value, chance = _draw_outcomes(truth, flat, rng, generator)
    frame = pd.DataFrame(
        {
            USER_ID: [f"u{index:05d}" for index in user],
            ITEM_ID: [f"i{index:05d}" for index in item],
            TIMESTAMP: START_SECONDS + np.floor(times[real] * SECONDS_PER_DAY),
        }
    )
    if value is not None:
        frame[VALUE] = value
    log = read_events(frame)
    event_truth = frame[[USER_ID, ITEM_ID, TIMESTAMP]].assign(probability=chance)
    event_truth = event_truth.iloc[log.row].reset_index(drop=True)
    event_truth[TIMESTAMP] = log.frame[TIMESTAMP].to_numpy()
    last = table[torch.arange(len(length)), torch.as_tensor(length - 1)]
    vectors = pd.DataFrame(
        {
            ITEM_ID: [f"i{index:05d}" for index in range(len(features))],
            "vector": list(features.numpy().astype(np.float32)),
        }
    )
    return Simulation(log, vectors, event_truth, _final(truth, last), truth)


def _draw_outcomes(
    truth: Truth, flat: Tensor, rng: np.random.Generator, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Items, values (None for choice) and true interest probabilities of all events."""
    if truth.layout.emission == "choice":
        probs = torch.softmax(flat, -1)
        chosen = torch.multinomial(probs, 1, generator=generator)
        return chosen[:, 0].numpy(), None, probs.gather(1, chosen)[:, 0].numpy()
    item = rng.integers(0, truth.layout.n_items, len(flat))
    predictor = flat[torch.arange(len(flat)), torch.as_tensor(item)]
    chance = truth.probability(predictor).numpy()
    if truth.layout.emission == "bernoulli":
        return item, rng.binomial(1, chance).astype(float), chance
    levels = torch.arange(truth.layout.n_levels)
    log_probs = emission_of(truth.layout, truth.values).log_prob(
        predictor[:, None].expand(-1, len(levels)), levels.expand(len(flat), -1)
    )
    drawn = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
    return item, drawn.numpy().astype(float), chance


def _final(truth: Truth, last: Tensor) -> pd.DataFrame:
    n_users, n_items = last.shape
    if truth.layout.emission == "choice":
        chance = torch.softmax(last, -1)
    else:
        chance = truth.probability(last)
    return pd.DataFrame(
        {
            USER_ID: np.repeat([f"u{index:05d}" for index in range(n_users)], n_items),
            ITEM_ID: np.tile([f"i{index:05d}" for index in range(n_items)], n_users),
            "probability": chance.numpy().reshape(-1),
        }
    )
