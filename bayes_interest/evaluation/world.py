"""The hidden side of a closed loop: users whose true interest goes on drifting after the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.model.parameters import emission_of
from bayes_interest.model.simulate import START_SECONDS, Simulation, Truth
from bayes_interest.schema import ITEM_ID, SECONDS_PER_DAY, TIMESTAMP, USER_ID, VALUE
from bayes_interest.statespace.random_walk import transition


@dataclass(frozen=True)
class World:
    """What is true at every round of a loop. Common to all policies, chance included."""

    truth: Truth
    users: np.ndarray  # ids, (user,)
    items: np.ndarray  # ids, (item,)
    seconds: np.ndarray  # of each round, unix, (round,)
    predictor: Tensor  # true linear predictor, (round, user, item)
    noise: np.ndarray  # uniform: of the outcome at a place of the slate, (round, user, k)

    @property
    def engagement(self) -> np.ndarray:
        """P(taken, given shown), (round, user, item)."""
        chance: np.ndarray = self.truth.probability(self.predictor).numpy()
        return chance

    def outcomes(self, round_number: int, shown: np.ndarray) -> np.ndarray:
        """Values drawn for the items shown (user, k): 0 and 1, or a rating's level."""
        rows = torch.arange(len(shown))[:, None]
        predictor = self.predictor[round_number][rows, torch.as_tensor(shown)]
        noise = self.noise[round_number]
        if self.truth.layout.emission == "bernoulli":
            chance = self.truth.probability(predictor).numpy()
            return np.asarray(noise < chance, dtype=np.float64)
        n_levels = self.truth.layout.n_levels
        log_probs = emission_of(self.truth.layout, self.truth.values).log_prob(
            predictor[..., None].expand(-1, -1, n_levels),
            torch.arange(n_levels).expand(*predictor.shape, n_levels),
        )
        # From the top level down, so that little noise is a high level, as it is a 1 above.
        above = np.cumsum(log_probs.exp().numpy()[..., :0:-1], axis=-1)
        return np.asarray((noise[..., None] < above).sum(-1), dtype=np.float64)

    def taken(self, value: np.ndarray) -> np.ndarray:
        """Which values count as engagement: 1, or a level at or above the truth's."""
        if self.truth.layout.emission == "bernoulli":
            return np.asarray(value > 0)
        return np.asarray(value >= self.truth.level)

    def events(self, round_number: int, shown: np.ndarray, value: np.ndarray) -> pd.DataFrame:
        """A round as a log: user_id, item_id, timestamp, value; one row per item shown."""
        return pd.DataFrame(
            {
                USER_ID: np.repeat(self.users, shown.shape[1]),
                ITEM_ID: self.items[shown.reshape(-1)],
                TIMESTAMP: self.seconds[round_number],
                VALUE: value.reshape(-1),
            }
        )


def world_after(
    simulation: Simulation, days: float, n_rounds: int, days_per_round: float, k: int, seed: int
) -> World:
    """Let the truth of a simulated log of `days` walk on for `n_rounds`.

    The first round lies `days_per_round` after the end of the log's time span.
    """
    truth, frame = simulation.truth, simulation.events.frame
    at = days + days_per_round * np.arange(1, n_rounds + 1)
    seconds = START_SECONDS + np.floor(at * SECONDS_PER_DAY)
    users = simulation.final_truth[USER_ID].unique()
    last = pd.Series(simulation.events.seconds()).groupby(frame[USER_ID].to_numpy()).max()
    begin = last.loc[users].to_numpy()[:, None]
    gaps = np.diff(np.tile(seconds, (len(users), 1)), prepend=begin, axis=1) / SECONDS_PER_DAY
    walk = transition(
        torch.as_tensor(gaps), truth.values["log_drift"].exp(), truth.layout.half_life_days
    )
    generator = torch.Generator().manual_seed(seed)
    state = truth.states[:, -1]  # past a history's end the state stands still
    rounds = []
    for t in range(n_rounds):
        step = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = walk.decay[:, t] * state + walk.variance[:, t].sqrt() * step
        rounds.append(state @ truth.items.vectors.T + truth.items.offsets)
    noise = np.random.default_rng(seed).random((n_rounds, len(users), k))
    items = simulation.vectors[ITEM_ID].to_numpy()
    return World(truth, np.asarray(users), items, seconds, torch.stack(rounds), noise)
