"""The globals as the compiled step of one event reads them, and what it foresees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from bayes_interest.emissions.logistic import N_SCALES, scale_mixture
from bayes_interest.emissions.quadrature import nodes_and_weights
from bayes_interest.model.filtering import global_parts, pull_back
from bayes_interest.model.parameters import COVARIATES, emission_of, reliability
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.probability_map import EDGE, ProbabilityMap
from bayes_interest.posterior.score import interest_level
from bayes_interest.statespace.kalman import as_array

LEAST_CHANCE = 1e-30


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was believed of an event just before it.

    Attributes:
        mean: posterior mean of the interest probability, as `score_events` has it.
        sd: its posterior standard deviation.
        log_prob: log probability of the outcome; NaN where the event is no outcome of the family.
    """

    mean: float
    sd: float
    log_prob: float


@dataclass(frozen=True)
class Settings:
    """The globals as the compiled step reads them; first axes are settings, the best one first."""

    vectors: np.ndarray
    offsets: np.ndarray
    item_cov: np.ndarray
    walk: np.ndarray  # mean state, drift and event drift, (setting, 3, dim)
    rho: np.ndarray  # (setting, kind)
    edges: np.ndarray  # (setting, level + 1)
    weights: np.ndarray  # of the covariates
    kappa: Any
    square: np.ndarray  # of the scales of the logistic mixture
    weight: np.ndarray
    stated: int  # outcomes from here on are interest
    mapped: Mapped | None

    @classmethod
    def of(cls, posterior: Posterior) -> Settings:
        """Those of a posterior; without draws of the globals nothing is copied that grows."""
        each = (posterior, *posterior.each)
        layout, like = posterior.layout, posterior.items.vectors
        parts = [
            [as_array(p) for p in global_parts(one.values, one.items, one.item_cov)] for one in each
        ]
        vectors, item_cov, *walk = (stacked(list(part)) for part in zip(*parts, strict=True))
        kinds = torch.arange(layout.n_kinds)
        none = like.new_zeros(0)
        cuts = [as_array(emission_of(layout, one.values).cuts) for one in each]
        far = np.full((len(each), 1), np.inf, dtype=cuts[0].dtype)
        scales, weight = scale_mixture(N_SCALES[like.dtype])
        return cls(
            vectors,
            stacked([as_array(one.items.offsets) for one in each]),
            item_cov,
            np.stack(walk, axis=1),
            stacked([as_array(reliability(one.values, kinds)) for one in each]),
            np.concatenate((-far, np.stack(cuts), far), axis=1),
            stacked([as_array(one.values.get(COVARIATES, none)) for one in each]),
            pull_back(layout, like),
            scales**2,
            weight,
            interest_level(posterior),
            None if posterior.recalibration is None else Mapped(posterior.recalibration),
        )

    def forecast(self, out: np.ndarray, outcome: float) -> Forecast:
        """From what the compiled step fills: a mixture over draws of the globals, if there are."""
        rows = out[1:] if len(out) > 1 else out
        means = np.add.reduce(rows) / len(rows)  # quicker than `mean`
        first, second, chance, above, _, _ = means.tolist()
        chance = max(chance, LEAST_CHANCE)
        if self.mapped is not None:
            mean, sd, factor = self.mapped.summary(rows, first, above, outcome >= self.stated)
            return Forecast(mean, sd, math.log(chance * factor))
        return Forecast(first, math.sqrt(max(second - first * first, 0.0)), math.log(chance))


class Mapped:
    """Recalibrated forecasts, see `predict.interest_interval` and `predict.side_factors`."""

    def __init__(self, link: ProbabilityMap) -> None:
        self.link = link
        nodes, weights = nodes_and_weights(torch.zeros(1, dtype=torch.float64))
        self.nodes, self.weights = nodes.numpy(), weights.numpy()

    def summary(
        self, rows: np.ndarray, mean: float, above: float, interested: bool
    ) -> tuple[float, float, float]:
        """Mapped mean, sd of the mapped probability, and the factor of the outcome's chance."""
        centre, spread = rows[:, 4, None], np.sqrt(rows[:, 5, None].clip(0.0))
        raw = min(max(above, EDGE), 1.0 - EDGE)
        asked = np.append(expit(centre + spread * self.nodes).ravel(), (mean, raw))
        found = self.link.of_arrays(asked)
        values = found[:-2].reshape(len(rows), -1)
        first = float((values @ self.weights).mean())
        second = float(((values**2) @ self.weights).mean())
        factor = found[-1] / raw if interested else (1.0 - found[-1]) / (1.0 - raw)
        return float(found[-2]), math.sqrt(max(second - first * first, 0.0)), float(factor)


def stacked(parts: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """Along a new axis; of one part a view."""
    return np.expand_dims(parts[0], axis) if len(parts) == 1 else np.stack(parts, axis)
