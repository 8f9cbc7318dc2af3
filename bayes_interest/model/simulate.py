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
    For the choice family the probability is that of the next choice among all items; at events
    among those that could be chosen.
    """

    events: EventLog
    vectors: pd.DataFrame
    event_truth: pd.DataFrame
    final_truth: pd.DataFrame
    truth: Truth

    def truth_after(self, days: float, seed: int = 0) -> pd.DataFrame:
        """The truth `days` after each user's last event: user_id, item_id, timestamp, probability.

        The states walk on from there. Users without an event are as they begin, asked at the end
        of the log.
        """
        truth, layout = self.truth, self.truth.layout
        seconds = pd.Series(self.events.seconds()).groupby(self.events.frame[USER_ID].to_numpy())
        users = self.final_truth[USER_ID].unique()
        last = seconds.max().reindex(users)
        gap = torch.as_tensor(days * last.notna().to_numpy(np.float64))[:, None]
        walk = transition(gap, truth.values["log_drift"].exp(), layout.half_life_days)
        generator = torch.Generator().manual_seed(seed)
        state = truth.states[:, -1]  # past a history's end the state stands still
        noise = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = walk.decay[:, 0] * state + walk.variance[:, 0].sqrt() * noise
        moments = (last + days * SECONDS_PER_DAY).fillna(self.events.seconds().max()).to_numpy()
        found = _final(truth, state @ truth.items.vectors.T + truth.items.offsets)
        found.insert(2, TIMESTAMP, np.repeat(moments, layout.n_items))
        return found


def simulate(
    n_users: int = 200,
    n_items: int = 100,
    events_per_user: int | Sequence[int] = 50,
    emission: EmissionName = "bernoulli",
    drift_scales: Sequence[float] = (0.02, 0.1),
    embed_dim: int = 8,
    days: float = 365.0,
    n_levels: int = 5,
    half_life_days: float | None = None,
    item_residuals: bool = True,
    exposure: Sequence[float] | None = None,
    from_prior: bool = False,
    seed: int = 0,
) -> Simulation:
    """Draw globals, states and a log from the prior.

    One state dimension per entry of `drift_scales` (per sqrt day). Users' histories have on
    average `events_per_user` events (at least 2), or as many as a sequence says for each (0: never
    seen), at uniform random times over `days`. Items are shown with chances in proportion to
    `exposure`, by default alike; one with 0 is cold: never shown, and for choice no candidate (the
    others all are). Bias, cut points and scales of effects are at the centre of their prior, so
    that most logs say something, and drift scales are those given; with `from_prior` they are
    drawn as well, drift scales around those given. Raises ConfigError for impossible sizes.
    """
    _check_sizes(n_users, n_items, events_per_user, drift_scales, emission)
    shares = _exposure(exposure, n_items)
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
    values = draw_prior(layout, generator, like)
    if not from_prior:
        values = _moderate(layout, values)
    features = torch.randn(n_items, embed_dim, generator=generator, dtype=torch.float64)
    shown = features[torch.as_tensor(shares > 0)]
    features = (features - shown.mean(0)) / shown.std(0)
    if np.ndim(events_per_user) == 0:
        length = np.maximum(2, rng.poisson(events_per_user, n_users))
    else:
        length = np.asarray(events_per_user)
    times = _event_times(rng, length, days)
    states = _draw_states(layout, values, times, generator)
    items = item_terms(layout, values, features)
    truth = Truth(layout, values, items, states, level=max(1, n_levels // 2 + (n_levels > 2)))
    return _assemble(truth, features, times, length, shares, rng, generator)


def _check_sizes(
    n_users: int,
    n_items: int,
    events_per_user: int | Sequence[int],
    drift_scales: Sequence[float],
    emission: str,
) -> None:
    one = np.ndim(events_per_user) == 0
    lengths = np.atleast_1d(np.asarray(events_per_user))
    if lengths.shape != (1 if one else n_users,) or lengths.dtype.kind not in "iu":
        raise ConfigError(
            f"events_per_user={events_per_user!r}: expected a whole number, or {n_users} of them"
        )
    if n_users < 1 or n_items < 2 or lengths.min() < one or lengths.sum() < 1:
        raise ConfigError("simulate needs n_users >= 1, n_items >= 2 and events_per_user >= 1")
    if emission not in ("bernoulli", "rating", "choice"):
        raise ConfigError(f"emission={emission!r}: expected bernoulli, rating or choice")
    if not drift_scales or not all(math.isfinite(s) and s > 0 for s in drift_scales):
        raise ConfigError(f"drift_scales={drift_scales!r}: expected positive numbers")


def _exposure(exposure: Sequence[float] | None, n_items: int) -> np.ndarray:
    """Chance of each item to be shown, (item,)."""
    shares = np.ones(n_items) if exposure is None else np.asarray(exposure, dtype=np.float64)
    fine = shares.shape == (n_items,) and bool(np.isfinite(shares).all())
    if not fine or shares.min() < 0 or (shares > 0).sum() < 2:
        raise ConfigError(
            f"exposure={exposure!r}: expected {n_items} numbers >= 0, two or more of them above 0"
        )
    total: np.ndarray = shares / shares.sum()
    return total


def _moderate(layout: Layout, values: Globals) -> Globals:
    """Pin what would often make a log uninformative: bias at 0, scales at their centres."""
    drift = torch.tensor(layout.log_drift_centre, dtype=torch.float64)
    fixed = values | {"log_drift": drift}
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
    shares: np.ndarray,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Simulation:
    real = ~np.isnan(times)
    user = np.repeat(np.arange(len(length)), length)
    table = truth.states @ truth.items.vectors.T + truth.items.offsets  # (user, step, item)
    flat = table[torch.as_tensor(real)]
    item, value, chance = _draw_outcomes(truth, flat, shares, rng, generator)
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
    last = table[torch.arange(len(length)), torch.as_tensor(length - 1).clamp_min(0)]
    vectors = pd.DataFrame(
        {
            ITEM_ID: [f"i{index:05d}" for index in range(len(features))],
            "vector": list(features.numpy().astype(np.float32)),
        }
    )
    return Simulation(log, vectors, event_truth, _final(truth, last), truth)


def _draw_outcomes(
    truth: Truth,
    flat: Tensor,
    shares: np.ndarray,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Items, values (None for choice) and true interest probabilities of all events."""
    if truth.layout.emission == "choice":
        probs = torch.softmax(flat.masked_fill(torch.as_tensor(shares == 0), -torch.inf), -1)
        chosen = torch.multinomial(probs, 1, generator=generator)
        return chosen[:, 0].numpy(), None, probs.gather(1, chosen)[:, 0].numpy()
    if (shares == shares[0]).all():
        item = rng.integers(0, len(shares), len(flat))
    else:
        item = rng.choice(len(shares), len(flat), p=shares)
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
