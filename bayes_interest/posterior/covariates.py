"""Weights of covariates and context by the one-step-ahead predictions of a later slice of time.

The ascent of the ELBO weighs them beside states that have seen the future, so what the
past alone says about an event is undervalued. Here the states are those of the filter: the
weights maximise the log predictive probability of events that the fit has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from bayes_interest.model.parameters import COVARIATES, PRIOR_SCALES, emission_of, reliability
from bayes_interest.posterior.online import Forecasts
from bayes_interest.posterior.posterior import Posterior, cold_terms

MAX_CELLS = 12_000_000  # of the table (event, item); more events are thinned out evenly
MOST_UNMET = 4096
"""Items that nobody met and that stand for all such, or as many as others if those are more."""
MAX_STEPS = 40
SHIFT_SPREAD, SCALE_SPREAD = 3.0, 1.0
LEAST_GAIN, CHANCE = 1e-3, 0.01  # nats an event; of weights where there is nothing to weigh


@dataclass(frozen=True)
class Tuned:
    """What the slice says."""

    weight: Tensor | None  # (covariate,), None without covariates
    cold_shift: float  # logit of items without an earlier event
    context_scale: float = 1.0  # by which the context is multiplied
    item_spread: float = 1.0  # by which the items' covariances are multiplied


def tune_covariates(posterior: Posterior, found: Forecasts, unmet: Tensor | None = None) -> Tuned:
    """Weights, cold shift and scale of the context that predict the events of `found` best.

    `unmet` are features (item, embed_dim) of items of the catalogue that nobody met, in or before
    the slice: of choice, candidates that were turned down every time.

    The weights have their Normal prior around the fitted ones, the shift (of choice) one around
    zero, the scale (of choice with a context) one around 1. For the scalar families weights stay as
    they are unless they gain more than chance would give them (likelihood ratio test; Wilks 1938).
    """
    if found.mean is not None:
        return _tune_scalar(posterior, found)
    return _tune_choice(posterior, found, posterior.features[:0] if unmet is None else unmet)


def _tune_scalar(posterior: Posterior, found: Forecasts) -> Tuned:
    if COVARIATES not in posterior.values:
        return Tuned(None, 0.0)
    assert found.mean is not None
    assert found.var is not None
    first = posterior.values[COVARIATES].detach().clone()
    emission = emission_of(posterior.layout, posterior.values)
    values = torch.as_tensor(found.rows.own()).to(first)
    outcome = torch.as_tensor(found.history.outcome).to(first)
    mean, var = found.mean, found.var
    rho = _reliability(posterior, found.history.kind_index)

    def loss(weight: Tensor) -> Tensor:
        moved = mean + rho * (values @ (weight - first))
        chance = emission.predictive(moved, var, outcome)
        return -chance.clamp_min(1e-30).log().mean()

    weight = _least(loss, first, len(outcome))
    gain = float(loss(first) - loss(weight))
    by_chance = float(chi2.isf(CHANCE, len(weight))) / (2.0 * len(outcome))
    return Tuned(weight if gain > max(by_chance, LEAST_GAIN) else first, 0.0)


def _least(loss: Callable[[Tensor], Tensor], first: Tensor, n_events: int) -> Tensor:
    """The minimum of a loss with the prior's penalty around `first`."""
    weight = first.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [weight], max_iter=MAX_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-6
    )

    def penalised() -> Tensor:
        search.zero_grad()
        penalty = ((weight - first) / PRIOR_SCALES[COVARIATES]).square().sum()
        total = loss(weight) + 0.5 * penalty / n_events
        total.backward()
        return total

    search.step(penalised)
    return weight.detach()


def _tune_choice(posterior: Posterior, found: Forecasts, unmet: Tensor) -> Tuned:
    n_items, n_unmet = posterior.layout.n_items, len(unmet)
    unmet = unmet[_spread_out(n_unmet, max(MOST_UNMET, n_items))]
    each = math.log(n_unmet / len(unmet)) if n_unmet else 0.0
    count = max(1, MAX_CELLS // (n_items + len(unmet)))
    n_events = len(found.history)
    part = _spread_out(n_events, count)
    problem = _Slice.of(posterior, found, part, unmet, each)
    start = posterior.values.get(COVARIATES)
    given = posterior.features.new_zeros(0) if start is None else start.detach()
    # The shift and what is added to the scale are two more weights, on scales of their own.
    first = torch.cat((given, given.new_zeros(2)))
    shift, scale = (spread / PRIOR_SCALES[COVARIATES] for spread in (SHIFT_SPREAD, SCALE_SPREAD))
    best = _least(
        lambda w: problem.loss(w[:-2], shift * w[-2], 1.0 + scale * w[-1]), first, len(part)
    )
    weight = None if start is None else best[:-2]
    return Tuned(weight, float(shift * best[-2]), 1.0 + float(scale * best[-1]))


def _spread_out(count: int, most: int) -> np.ndarray:
    """Positions among `count`, at most so many, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _reliability(posterior: Posterior, kind_index: np.ndarray) -> Tensor:
    device = posterior.features.device
    kind = torch.as_tensor(kind_index, dtype=torch.long, device=device)
    return reliability(posterior.values, kind).detach()


@dataclass(frozen=True)
class _Slice:
    """Logits of some events without covariates and context, and these.

    After the items that the log has come those of the catalogue that nobody met.
    """

    base: Tensor  # (event, item)
    context: Tensor | None  # what the context adds to it, likewise
    rho: Tensor  # reliability: multiplies every logit, (event,)
    own: Tensor  # the chosen item, (event,)
    cold: Tensor  # items without an earlier event, (event, item)
    entries: list[tuple[slice, Tensor, Tensor]]  # which, place in the flat table, values
    alike: Tensor  # likeness, (covariate, event, item)
    which: slice  # its columns
    stands_for: Tensor  # log of how many items each is, (item,)

    @classmethod
    def of(
        cls, posterior: Posterior, found: Forecasts, part: np.ndarray, unmet: Tensor, each: float
    ) -> _Slice:
        history, known = found.history, posterior.items
        new = cold_terms(posterior.layout, posterior.values, unmet)
        vectors = torch.cat((known.vectors, new.vectors)).T
        offsets = torch.cat((known.offsets, new.offsets))
        index = torch.as_tensor(part, device=offsets.device)
        base = torch.addmm(offsets, found.state_mean[index], vectors)
        context = None if found.context is None else found.context[index] @ vectors
        first = np.append(posterior.first_seconds, np.full(len(unmet), np.inf))
        np.minimum.at(first, history.item_index, history.seconds)
        cold = torch.as_tensor(first[None, :] >= history.seconds[part, None]).to(base)
        own = torch.as_tensor(history.item_index[part], dtype=torch.long, device=base.device)
        entries = [
            (columns, (row * base.shape[1] + item).to(base.device), value.to(base))
            for columns, row, item, value in found.rows.entries(part)
        ]
        rho = _reliability(posterior, history.kind_index[part])
        alike, kinds = base.new_zeros(0, *base.shape), posterior.layout.kinds
        if kinds.likeness:
            features = torch.cat((posterior.features, unmet)).cpu().double().numpy()
            texts = torch.as_tensor(posterior.standardizer.directions(features)).to(base)
            alike = found.rows.likeness(part).to(base).transpose(0, 1) @ texts.T
        which, stands_for = kinds.columns("likeness"), torch.zeros_like(offsets)
        stands_for[len(known.offsets) :] = each
        return cls(base, context, rho, own, cold, entries, alike, which, stands_for)

    def loss(self, weight: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Minus mean log probability of what was chosen."""
        base = self.base if self.context is None else self.base + scale * self.context
        logits = (base + shift * self.cold).reshape(-1)
        for columns, place, value in self.entries:
            logits = logits.scatter_add(0, place, value @ weight[columns])
        table = logits.reshape(self.base.shape)
        for one, values in zip(weight[self.which], self.alike, strict=True):
            table = table + one * values
        table = table * self.rho[:, None] + self.stands_for
        return torch.nn.functional.cross_entropy(table, self.own)
