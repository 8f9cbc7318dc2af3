"""What a held-back last slice of time decides: the epochs, weights, and what was left open."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayes_interest.config import FitConfig
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import GlobalFit
from bayes_interest.model.members import count_members, draws_all
from bayes_interest.model.parameters import COVARIATES, Globals
from bayes_interest.model.prepare import Standardizer
from bayes_interest.model.problem import Problem
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.covariates import Tuned, tune_covariates
from bayes_interest.posterior.item_spread import tuned_spread
from bayes_interest.posterior.online import filter_history, sequence_loss
from bayes_interest.posterior.posterior import Posterior, cold_items
from bayes_interest.posterior.predict import held_back_loss
from bayes_interest.posterior.ready import Prepared, before_events, problem_of
from bayes_interest.posterior.stages import fitted, given_by, scaled

MIN_HELD_BACK = 20
STRONG = 3.0
"""Nats that the slice must gain by more of a model: strong evidence (Kass & Raftery 1995)."""
LEFT_OPEN: dict[str, tuple[Any, Any]] = {"event_drift": (False, True), "context_layers": (0, 1)}
"""Fields that may still be "auto" when a fit begins: without, and with."""

EXTRAS: dict[str, Any] = {
    "popularity_days": None,
    "repeats": False,
    "succession": False,
    "likeness": False,
    "event_drift": False,
}
"""What a choice has by default, and how it is without. Where a log is small, weights of what it has
none of tell lies about items with few events."""


def with_fields(ready: Prepared, fields: dict[str, Any]) -> Prepared:
    """With some fields of the model's configuration changed."""
    return replace(ready, config=replace(ready.config, **fields))


def left_open(ready: Prepared) -> dict[str, Any]:
    """What the held-back slice is to decide, without it for a start."""
    return {
        name: pair[0] for name, pair in LEFT_OPEN.items() if getattr(ready.config, name) == "auto"
    }


class Trial:
    """The fit before the held-back slice, and what the slice says of it."""

    def __init__(self, ready: Prepared, device: torch.device, fit: FitConfig) -> None:
        self.ready, self.full, self.fit = ready, problem_of(ready, device), fit
        self.chosen, self.shift, self.notes = _choose_epochs(ready, self.full, fit)
        self.loss = min((record.held_back_loss for record in self.chosen.epochs), default=math.inf)

    def beats(self, less: Trial) -> bool:
        """Whether the slice speaks strongly for this one, which has more in it."""
        n_late = int((~_early(self.full, self.fit)).sum())
        return (less.loss - self.loss) * n_late > STRONG


def choose(ready: Prepared, device: torch.device, fit: FitConfig) -> Trial:
    """The fit before the held-back slice, with what is left open as the slice speaks for it.

    One after the other; without a slice to ask, or if it says little, it is left out.
    """
    still = left_open(ready)
    best, notes = Trial(with_fields(ready, still), device, fit), list[str]()
    best = _without_extras(best, device, fit, notes)
    for name in still if best.shift is not None else {}:
        without = best
        with_it = Trial(with_fields(best.ready, {name: LEFT_OPEN[name][1]}), device, fit)
        for trial in (without, with_it):
            value = getattr(trial.ready.config, name)
            notes.append(f"{name}={value}: held-back loss {trial.loss:.4f}")
        best = with_it if with_it.beats(without) else without
    best.notes += notes
    return best


def _without_extras(best: Trial, device: torch.device, fit: FitConfig, notes: list[str]) -> Trial:
    """A choice model without what nobody has asked for, unless the slice speaks for it.

    Of small logs only; in a large one what is not there gets a weight near zero.
    """
    plain = {name: off for name, off in EXTRAS.items() if name in best.ready.auto}
    choice = best.ready.config.emission == "choice"
    if not plain or not choice or best.shift is None or not draws_all(best.full):
        return best
    without = Trial(with_fields(best.ready, plain), device, fit)
    notes.append(f"{', '.join(plain)}: held-back loss {best.loss:.4f}, without {without.loss:.4f}")
    return best if best.beats(without) else without


def _choose_epochs(
    ready: Prepared, full: Problem, fit: FitConfig
) -> tuple[GlobalFit, float | None, list[str]]:
    """Fit before the held-back slice and watch it. Returns the fit and the cold-item shift.

    Without a usable slice the fit is a placeholder of no epochs and the shift is None.
    """
    empty = full.features.new_zeros(0)
    none = GlobalFit({}, empty, empty, (), fit.max_epochs, False)
    if fit.holdout == 0:
        return none, None, ["no held-back slice: holdout=0"]
    early = _early(full, fit)
    n_late, n_items = int((~early).sum()), 0
    if early.any():
        n_items = int(full.history.item_index[early].max()) + 1
    usable = n_late >= MIN_HELD_BACK and n_items >= 2 and _varied(full, early)
    if not usable:
        return none, None, ["the log is too small to hold back a slice of time"]
    part = full.before(early, n_items)
    points = count_members(full, fit) == 1
    watch = _Watch(ready, part, full, early, spread=fit.item_spread and points)
    chosen, tuned = _search(ready, part, fit, watch, {})
    if full.layout.rates and bool(chosen.values[COVARIATES].any()):
        # The states had to carry what the rates foretell: once more, without that load.
        chosen, tuned = _search(ready, part, fit, watch, given_by(chosen))
    notes = [f"{n_late} of {len(early)} events held back to choose the epochs"]
    if chosen.context_epochs:
        notes.append(f"network of the context: {chosen.context_epochs} epochs")
    return chosen, tuned.cold_shift, notes


def _early(full: Problem, fit: FitConfig) -> np.ndarray:
    """Which events come before the held-back slice, (event,)."""
    cut = np.quantile(full.history.seconds, 1.0 - fit.holdout, method="higher")
    return np.asarray(full.history.seconds < cut)


def _search(
    ready: Prepared, part: Problem, fit: FitConfig, watch: _Watch, given: Globals
) -> tuple[GlobalFit, Tuned]:
    """The epoch that the held-back slice likes best, with covariates weighed by it."""
    chosen = fitted(ready, part, fit, watch, given)
    tuned = watch.tuned(chosen)
    if tuned.weight is not None:
        chosen = replace(chosen, values=chosen.values | {COVARIATES: tuned.weight})
    chosen = replace(chosen, item_spread=tuned.item_spread)
    return scaled(chosen, tuned.context_scale), tuned


def _varied(full: Problem, early: np.ndarray) -> bool:
    if full.layout.emission == "choice":
        return True
    return len(pd.unique(full.history.outcome[early])) == len(pd.unique(full.history.outcome))


class _Watch:
    """One-step-ahead loss on the held-back slice, from the states before it."""

    def __init__(
        self, ready: Prepared, part: Problem, full: Problem, early: np.ndarray, spread: bool
    ) -> None:
        self.ready, self.part, self.full, self.spread = ready, part, full, spread
        self.late = full.history.take(~early)
        self.last = np.full(part.history.n_users, np.nan)
        np.fmax.at(self.last, part.history.user_index, part.history.seconds)

    def _posterior(
        self, values: Globals, belief: Belief, item_cov: torch.Tensor | None
    ) -> Posterior:
        part, full = self.part, self.full
        if item_cov is None:  # the choice of epochs does without the items' uncertainty
            dim = part.layout.state_dim + 1
            shape = (
                (part.layout.n_items, dim) if belief.diagonal else (part.layout.n_items, dim, dim)
            )
            item_cov = full.features.new_zeros(shape)
        new = full.layout.n_items - part.layout.n_items
        shell = before_events(self.ready, full, **cold_items(part.layout, values, item_cov, new))
        return replace(shell, belief=belief, last_seconds=self.last, history=part.history)

    def loss(self, values: Globals, belief: Belief) -> float:
        """Minus mean log probability of the slice."""
        posterior = self._posterior(values, belief, None)
        found, _, _ = filter_history(posterior, self.late)
        return held_back_loss(posterior, found)

    def sequence_loss(self, values: Globals) -> float:
        """The same of the context alone: no state, no covariates."""
        belief = Belief.prior(self.part.history.n_users, values, diagonal=True)
        return sequence_loss(self._posterior(values, belief, None), self.late)

    def tuned(self, chosen: GlobalFit) -> Tuned:
        """How unsure items are, covariates' weights, and more, as the slice likes them."""
        assert chosen.beliefs is not None
        posterior = self._posterior(chosen.values, chosen.beliefs, chosen.item_cov)
        spread = 1.0
        if self.spread:
            layout, features = posterior.layout, self.full.features
            cov = with_text_variance(
                layout, posterior.values, posterior.item_cov, features, chosen.text_cov
            )
            spread = tuned_spread(replace(posterior, item_cov=cov), self.late)
            posterior = replace(posterior, item_cov=spread * cov)
        found, _, _ = filter_history(posterior, self.late)
        tuned = tune_covariates(posterior, found, self._unmet() if posterior.choice else None)
        return replace(tuned, item_spread=spread)

    def _unmet(self) -> torch.Tensor:
        """Features of items of the catalogue that no event is of, (item, embed_dim)."""
        embedded, n_fit = self.ready.embedded, self.ready.n_fit
        features = Standardizer.of(embedded, n_fit).apply(embedded)[n_fit:]
        return torch.as_tensor(features).to(self.full.features)
