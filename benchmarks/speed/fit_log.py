"""The log of section `fit`, what every contender sees of it, and the one measure for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

import bayes_interest as bi
from bayes_interest.events.read import EventLog
from bayes_interest.model.parameters import BY_MOMENTS, Layout, prior
from bayes_interest.schema import ITEM_ID, SECONDS_PER_DAY, TIMESTAMP, USER_ID, VALUE

TEST = 5
"""Events of every user that are held out, the latest."""
SMALLEST_GAP = 1e-6
"""Days between events for rivals, whose densities need a positive scale."""
Moments = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A Bernoulli log in which every user has as many events, so that nobody needs padding."""

    train: EventLog
    test: EventLog
    vectors: pd.DataFrame
    steps: int
    dim: int
    truth_loss: float  # held-out log loss of the true probabilities

    @cached_property
    def rounds(self) -> list[EventLog]:
        """The first held-out event of every user, the second, ..."""
        frame = self.test.frame
        place = frame.groupby(USER_ID).cumcount()
        return [bi.read_events(frame[place == number]) for number in range(TEST)]


@dataclass(frozen=True)
class Arrays:
    """The same log for rivals, with the priors of ours: (user, step) arrays and item features."""

    layout: Layout
    features: np.ndarray  # standardised, over root of embed_dim, (item, embed_dim), float32
    item: np.ndarray
    outcome: np.ndarray
    gap: np.ndarray  # days since the event before, (user, step); 0 first
    test_item: np.ndarray  # (user, TEST)
    test_outcome: np.ndarray
    test_wait: np.ndarray  # days since the last train event, (user, TEST)


def draw_task(n_users: int, steps: int, dim: int, n_items: int = 200, seed: int = 0) -> Task:
    """Keep the first `steps + TEST` events of users drawn with about twice as many."""
    drawn = bi.simulate(
        n_users=n_users, n_items=n_items, events_per_user=2 * (steps + TEST), embed_dim=8,
        drift_scales=tuple(np.geomspace(0.01, 0.1, dim)), days=365.0, seed=seed,
    )  # fmt: skip
    frame = drawn.events.frame.assign(chance=drawn.event_truth["probability"].to_numpy())
    place = frame.groupby(USER_ID).cumcount()
    held = frame[(place >= steps) & (place < steps + TEST)]
    chance = np.where(held[VALUE] > 0, held["chance"], 1.0 - held["chance"])
    columns = [USER_ID, ITEM_ID, TIMESTAMP, VALUE]
    train, test = (bi.read_events(part[columns]) for part in (frame[place < steps], held))
    return Task(train, test, drawn.vectors, steps, dim, float(-np.log(chance).mean()))


def arrays_of(task: Task, model: bi.InterestModel) -> Arrays:
    """Coded as the fitted `model` codes them, so that priors and features are the same."""
    known = model.posterior
    n_users = len(known.vocabulary.users)
    coded = {}
    for name, log in (("train", task.train), ("test", task.test)):
        frame = log.frame.sort_values([USER_ID, TIMESTAMP], kind="stable")
        days = frame[TIMESTAMP].astype("datetime64[ns, UTC]").astype("int64").to_numpy()
        item = known.vocabulary.items.index_of(frame[ITEM_ID].to_numpy())
        if (item < 0).any():
            raise ValueError(
                f"{name}: an item without a train event; draw more events or fewer items"
            )
        shape = (n_users, -1)
        coded[name] = (
            item.reshape(shape),
            frame[VALUE].to_numpy(np.float32).reshape(shape),
            (days / 1e9 / SECONDS_PER_DAY).reshape(shape),
        )
    (item, outcome, days), (test_item, test_outcome, later) = coded["train"], coded["test"]
    gap = np.diff(days, axis=1, prepend=days[:, :1])
    gap[:, 1:] = np.maximum(gap[:, 1:], SMALLEST_GAP)
    features = known.features.numpy() / np.sqrt(known.layout.embed_dim)
    return Arrays(
        known.layout, features.astype(np.float32), item, outcome, gap.astype(np.float32),
        test_item, test_outcome, (later - days[:, -1:]).astype(np.float32),
    )  # fmt: skip


def fixed_priors(layout: Layout) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and scale of every global, (shape); for effects at scale one, theirs is a global."""
    import torch

    like = torch.zeros(1)
    ones = {name: torch.zeros(()) for name in BY_MOMENTS}
    priors = {}
    for name, shape in layout.shapes().items():
        mean, scale = prior(layout, name, ones, like)
        priors[name] = (mean.expand(shape).numpy(), scale.expand(shape).numpy())
    return priors


# ------------------------------------------------------------------ the measure


def our_loss(model: bi.InterestModel, task: Task) -> float:
    """Held-out log loss from the state after the last train event.

    Round by round: within one there is a single event per user, so that none is absorbed before
    another is predicted.
    """
    parts = [model.score_events(part, exclude_seen=False)["log_prob"] for part in task.rounds]
    return float(-np.mean(np.concatenate([part.to_numpy() for part in parts])))


def rival_loss(data: Arrays, guide: Mapping[str, Moments], last: Moments) -> float:
    """The same of a mean-field guide: means and sds of globals, and of the last states.

    Predictors get their exact mean and variance under the guide, and their probability by
    quadrature: a Gaussian predictor, as ours has.
    """
    (mean, sd), layout = last, data.layout
    drift = np.exp(guide["log_drift"][0])
    x, x_var, offset, offset_var = item_moments(data, guide)
    z = mean[:, None] + guide["mean"][0]  # (user, 1, dim)
    z_var = sd[:, None] ** 2 + guide["mean"][1] ** 2 + data.test_wait[..., None] * drift**2
    own, own_var = x[data.test_item], x_var[data.test_item]  # (user, TEST, dim)
    mu = (own * z).sum(-1) + offset[data.test_item]
    var = (own**2 * z_var + own_var * (z**2 + z_var)).sum(-1) + offset_var[data.test_item]
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    sign = 2.0 * data.test_outcome - 1.0
    logits = sign[..., None] * (mu[..., None] + np.sqrt(var)[..., None] * nodes)
    chance = (weights / weights.sum() / (1.0 + np.exp(-logits))).sum(-1)
    assert layout.emission == "bernoulli"
    return float(-np.log(chance).mean())


def item_moments(
    data: Arrays, guide: Mapping[str, Moments]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance of item vectors and offsets under a mean-field guide."""
    f, root = data.features, np.sqrt(data.layout.state_dim)
    weight, weight_sd = guide["weight"]
    x = f @ weight.T / root + guide["intercept"][0]
    x_var = f**2 @ (weight_sd.T / root) ** 2 + guide["intercept"][1] ** 2
    x, x_var = x + guide["residual"][0], x_var + guide["residual"][1] ** 2
    offset = f @ guide["offset_weight"][0] + guide["offset"][0] + guide["bias"][0]
    offset_var = f**2 @ guide["offset_weight"][1] ** 2 + guide["offset"][1] ** 2
    return x, x_var, offset, offset_var + guide["bias"][1] ** 2


def last_states(data: Arrays, guide: Mapping[str, Moments], centred: bool) -> Moments:
    """Mean and sd of every user's state at the last train event, (user, dim)."""
    if centred:
        mean, sd = guide["state"]
        return mean[:, -1], sd[:, -1]
    mean, sd = guide["innovation"]
    scale = np.sqrt(data.gap)[..., None] * np.exp(guide["log_drift"][0])
    scale[:, 0] = 1.0
    return (scale * mean).sum(1), np.sqrt(((scale * sd) ** 2).sum(1))
