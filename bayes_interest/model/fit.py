"""Fitting the globals: stochastic ascent of the collapsed ELBO, sites on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bayes_interest.config import FitConfig
from bayes_interest.errors import ConfigError
from bayes_interest.model.families import ChoiceFamily, Family, ScalarFamily
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import (
    BY_MOMENTS,
    CONTEXT,
    COVARIATES,
    PRIOR_SCALES,
    SCALE_CENTRES,
    Globals,
    Layout,
    flat_prior,
    flat_values,
    initial_globals,
    item_terms,
)
from bayes_interest.model.problem import Problem
from bayes_interest.model.text_posterior import diagonal_of, text_posterior_cov
from bayes_interest.progress import bar, shown_if

GRADIENT_NORM = 1.0
COVARIATE_PACE, CONTEXT_PACE = 2.0, 0.15
FIRST_LENGTH = 0.36
"""Mean square of item vectors to start from, as `initial_globals` has it."""
Validate = Callable[[Globals, Belief], float]


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the log."""

    epoch: int
    loss: float  # minus ELBO of the users per event, at the globals of the moment
    held_back_loss: float  # minus mean log predictive of the held-back slice; NaN without one
    seconds: float


@dataclass(frozen=True)
class GlobalFit:
    """Point estimates of the globals and the Gaussian posterior of the items around them."""

    values: Globals
    item_cov: Tensor  # of (residual, offset): (item, D + 1, D + 1) or diagonal (item, D + 1)
    text_cov: Tensor  # of the text weights, (2, embed_dim, embed_dim); empty for choice
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    stopped_early: bool
    beliefs: Belief | None = None  # at the best epoch, where one was looked for
    context_epochs: int = 0  # of the network that was trained before
    context_scale: float = 1.0  # by which the held-back slice had the context multiplied
    item_spread: float = 1.0  # by which it has the items' covariances multiplied

    def to_frame(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.DataFrame([vars(record) for record in self.epochs])


def fit_globals(
    problem: Problem,
    config: FitConfig,
    n_candidates: int | None = None,
    validate: Validate | None = None,
    n_epochs: int | None = None,
    label: str = "fit",
    given: Globals | None = None,
) -> GlobalFit:
    """Ascend the ELBO for at most `config.max_epochs` epochs, or stop after exactly `n_epochs`.

    With `validate` the epoch of the lowest held-back loss is returned, and the ascent stops
    `config.patience` epochs after it. Parameters in `given` stay as they are;
    item vectors only up to one matrix, which the network beside them makes up for.
    """
    run = _Run(problem, config, n_candidates, given or {})
    records: list[EpochRecord] = []
    best: tuple[float, GlobalFit] | None = None
    last = n_epochs or config.max_epochs
    with shown_if(config.progress), bar(total=last, desc=label, unit="epoch") as shown:
        for epoch in range(1, last + 1):
            record = run.epoch(epoch, validate)
            records.append(record)
            shown.update()
            shown.set_postfix(loss=f"{record.loss:.4f}", held_back=f"{record.held_back_loss:.4f}")
            if validate is not None and (best is None or record.held_back_loss < best[0]):
                best = (record.held_back_loss, replace(run.result(epoch), beliefs=run.beliefs()))
            if best is not None and epoch - best[1].best_epoch >= config.patience:
                break
    if best is None:
        return replace(run.result(len(records)), epochs=tuple(records))
    early = len(records) < config.max_epochs
    return replace(best[1], epochs=tuple(records), stopped_early=early)


class _Run:
    """The moving parts of one fit."""

    def __init__(
        self, problem: Problem, config: FitConfig, n_candidates: int | None, given: Globals
    ) -> None:
        self.problem, self.rate = _lightened(problem, given), config.learning_rate
        problem = self.problem
        self.generator = torch.Generator().manual_seed(config.seed)
        layout = problem.layout
        self.values = initial_globals(layout, self.generator, problem.features.new_zeros(1))
        self.values |= {name: value.clone() for name, value in given.items()}
        self.family = self._family(config, n_candidates)
        self.groups = problem.groups(config.batch_events)
        self.n_events = len(problem.history)
        for name, value in self.values.items():
            value.requires_grad_(name not in BY_MOMENTS and name not in given)
        self._leave_rates(given)
        self.items_given = "weight" in given
        self.mix = torch.eye(layout.state_dim, dtype=problem.features.dtype)
        self.mix = self.mix.to(problem.features.device)
        if self.items_given:  # states of unit variance need shorter vectors than the network does
            square = item_terms(layout, self.values, problem.features).vectors.square().sum(1)
            self.mix *= (FIRST_LENGTH / square.mean()).sqrt().detach()
            self._fold()
        self.mix.requires_grad_()
        self.trained = [value for value in self.values.values() if value.requires_grad]
        self.trained.append(self.mix)
        groups = self._paces(config.learning_rate)
        self.optimizer = torch.optim.Adam(
            groups, config.learning_rate, betas=(0.9, 0.99), fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [group["lr"] for group in groups],
            config.max_epochs * len(self.groups),
            pct_start=0.2001,  # a fifth of five steps is a rise in no steps, which torch divides by
            div_factor=5.0,
            final_div_factor=20.0,
            cycle_momentum=False,
        )
        self.item_cov = self.text_cov = problem.features.new_zeros(0)

    def _leave_rates(self, given: Globals) -> None:
        """The weights of running rates are for the held-back slice to say: smoothed states have
        seen what the rates foretell.
        """
        rates = self.problem.layout.kinds.columns("rates")
        if self.problem.layout.rates and COVARIATES not in given:
            keep = torch.ones_like(self.values[COVARIATES])
            keep[rates] = 0.0
            self.values[COVARIATES].register_hook(lambda slope: slope * keep)

    def _paces(self, rate: float) -> list[dict[str, Any]]:
        """Covariates' few weights have far to go; the context's many had better go slowly."""
        groups: dict[float, list[Tensor]] = {1.0: [self.mix]}
        for name, value in self.values.items():
            if value.requires_grad:
                pace = COVARIATE_PACE if name == COVARIATES else 1.0
                pace = CONTEXT_PACE if name.startswith(CONTEXT) else pace
                groups.setdefault(pace, []).append(value)
        return [{"params": part, "lr": pace * rate} for pace, part in groups.items()]

    def _family(self, config: FitConfig, n_candidates: int | None) -> Family:
        if self.problem.layout.emission == "choice":
            return ChoiceFamily(self.problem, self.generator, n_candidates)
        return ScalarFamily(self.problem, config.site_steps)

    def epoch(self, number: int, validate: Validate | None) -> EpochRecord:
        """Visit every block once, in random order."""
        began, elbo = time.perf_counter(), 0.0
        self._hold_prior()
        try:
            for index in torch.randperm(len(self.groups), generator=self.generator).tolist():
                elbo += self._visit(index, size=max(0.3, 1.0 / number))
            self._fold()
            self._update_items(number)
        except torch.linalg.LinAlgError as err:  # type: ignore[attr-defined]
            raise self._diverged(number) from err
        total = sum(float(value.detach().sum()) for value in self.values.values())
        if not math.isfinite(elbo + total):
            raise self._diverged(number)
        held_back = float("nan") if validate is None else validate(self.snapshot(), self.beliefs())
        loss = -elbo / self.n_events
        return EpochRecord(number, loss, held_back, time.perf_counter() - began)

    def _diverged(self, number: int) -> ConfigError:
        return ConfigError(
            f"the fit diverged in epoch {number}: learning_rate={self.rate:g} is too large for "
            f"this log. Pass a smaller one; the default is {FitConfig.learning_rate}"
        )

    def _hold_prior(self) -> None:
        """Scales of effects change between epochs only, and with them the prior."""
        self.centre, scale = flat_prior(self.problem.layout, self.snapshot())
        self.tightness = scale**-2.0

    def _visit(self, index: int, size: float) -> float:
        layout, block = self.problem.layout, self.problem.block(self.groups[index])
        values = self._mixed()
        items = item_terms(layout, values, self.problem.features)
        result = self.family.step(values, items, block, size)
        away = flat_values(layout, values) - self.centre
        target = result.objective - 0.5 * (away * away * self.tightness).sum() / len(self.groups)
        self.optimizer.zero_grad(set_to_none=True)
        (-target * len(self.groups) / self.n_events).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        return result.elbo

    def _mixed(self) -> Globals:
        """The globals with state dimensions mixed by a square matrix that is trained beside them.

        The matrix adds nothing to the model: it rotates and scales all item vectors at once, a
        direction in which their own noisy gradients crawl. `_fold` takes it into them. Where they
        are given it is all that is found of them: the scale and the covariance of states in their
        space. Their context then stays what it was, `x . c = (x mix) . (mix^-1 c)`.
        """
        values = dict(self.values)
        values["weight"] = self.mix.T @ values["weight"]
        for name in ("residual", "intercept"):
            if name in values:
                values[name] = values[name] @ self.mix
        if self.items_given:
            inverse = torch.linalg.inv(self.mix)
            values["context_head"] = inverse @ values["context_head"]
            values["context_item"] = values["context_item"] @ inverse.detach().T
        return values

    def _fold(self) -> None:
        with torch.no_grad():
            for name, value in self._mixed().items():
                self.values[name].copy_(value)
            self.mix.copy_(torch.eye(len(self.mix), dtype=self.mix.dtype))

    def _update_items(self, number: int) -> None:
        """Posterior covariance of the items, and their prior scales by expected moments."""
        values, layout = self.snapshot(), self.problem.layout
        precision = self.family.item_precision()
        self.item_cov = item_posterior_cov(layout, values, precision)
        self.text_cov = text_posterior_cov(layout, values, precision, self.problem.features)
        if self.items_given:  # points, as the network is that they belong to
            self.item_cov = torch.zeros_like(self.item_cov)
        if number < 2:
            return  # sites are still settling
        variance = diagonal_of(self.item_cov)
        with torch.no_grad():
            if not self.items_given:
                move_into_text(layout, self.values, variance, self.problem.features)
            for name, var in (("offset", variance[:, -1]), ("residual", variance[:, :-1])):
                if name in values:
                    scale = f"log_{name}_scale"
                    self.values[scale].copy_(
                        evidence_scale(values[name], var, values[scale], scale)
                    )

    def result(self, epoch: int) -> GlobalFit:
        """The fit as it stands after `epoch`."""
        return GlobalFit(self.snapshot(), self.item_cov, self.text_cov, (), epoch, False)

    def beliefs(self) -> Belief:
        """Every user's state after the last event at the globals of the moment."""
        values = self.snapshot()
        with torch.no_grad():
            items = item_terms(self.problem.layout, values, self.problem.features)
            return self.family.beliefs(values, items)

    def snapshot(self) -> Globals:
        """A detached copy of the globals."""
        return {name: value.detach().clone() for name, value in self.values.items()}


def _lightened(problem: Problem, given: Globals) -> Problem:
    """Without covariates where their weights are zero and stay so, see `_Run._leave_rates`."""
    kinds = problem.layout.kinds
    only_rates = len(kinds.names[kinds.columns("rates")]) == len(kinds.names) > 0
    idle = only_rates and not bool(given.get(COVARIATES, torch.zeros(1)).any())
    return replace(problem, weightless=True) if idle else problem


def move_into_text(layout: Layout, values: Globals, var: Tensor, features: Tensor) -> None:
    """Let the text weights explain what residuals and offsets hold, in place.

    Gradients are slow along this direction, since the likelihood sees only the sums. It is the
    ridge regression of item vectors and offsets on the features, each item weighted by the share
    `1 - var / scale^2` that its events determine; such an item keeps its vector, an item
    without events follows its text.
    """
    scaled = features / math.sqrt(layout.embed_dim)
    pairs = [("offset", "offset_weight", var[:, -1:], 1.0)]
    if layout.residuals:
        pairs.append(("residual", "weight", var[:, :-1], math.sqrt(layout.state_dim)))
    for effect, weight, variance, divisor in pairs:
        scale = values[f"log_{effect}_scale"].exp()
        known = (1.0 - variance / scale**2).clamp(0.0, 1.0).mean(1, keepdim=True)
        old = values[effect].reshape(len(features), -1)
        total = old + scaled @ values[weight].reshape(-1, layout.embed_dim).T / divisor
        gram = scaled.T @ (known * scaled) / divisor**2
        ridge = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * scale**2
        solution = torch.linalg.solve(gram + ridge, scaled.T @ (known * total) / divisor)
        rest = total - scaled @ solution / divisor
        values[weight].copy_(solution.mT.reshape(values[weight].shape))
        values[effect].copy_(((1.0 - known) * old + known * rest).reshape(values[effect].shape))


def item_posterior_cov(layout: Layout, values: Globals, precision: Tensor) -> Tensor:
    """Covariance of (residual, offset) per item: inverse of prior plus likelihood precision.

    Without residuals their block is zero.
    """
    dim = layout.state_dim
    prior = torch.empty(dim + 1, dtype=precision.dtype, device=precision.device)
    prior[-1] = torch.exp(-2.0 * values["log_offset_scale"])
    if layout.residuals:
        prior[:-1] = torch.exp(-2.0 * values["log_residual_scale"])
    else:
        prior[:-1] = torch.inf
    if precision.ndim == 2:
        return 1.0 / (precision + prior)
    scale = prior.rsqrt()  # zero where there is no residual
    inner = torch.eye(dim + 1, dtype=precision.dtype, device=precision.device)
    inner = inner + scale[:, None] * precision * scale
    return scale[:, None] * torch.linalg.inv(inner) * scale


def evidence_scale(effects: Tensor, var: Tensor, log_scale: Tensor, name: str) -> Tensor:
    """Log prior scale of zero-mean effects by MacKay's fixed point (1992), far faster than EM.

    `gamma = sum (1 - var / scale^2)` counts the effects that the data determine; the new scale
    solves `sum effects^2 / scale^2 = gamma` together with the Normal prior on its logarithm.
    """
    centre, spread = SCALE_CENTRES[name], PRIOR_SCALES[name]
    gamma = (1.0 - var * torch.exp(-2.0 * log_scale)).clamp_min(0.0).sum()
    total, new = (effects**2).sum(), log_scale.clone()
    for _ in range(20):
        pull = total * torch.exp(-2.0 * new)
        step = (pull - gamma - (new - centre) / spread**2) / (2.0 * pull + 1.0 / spread**2)
        new = new + step.clamp(-1.0, 1.0)
    return 0.5 * (log_scale + new)
