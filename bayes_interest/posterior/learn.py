"""From a log to a posterior: prepare, fit with early stopping, refit, filter once more."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, DeviceError
from bayes_interest.events.history import History
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.choice_items import can_integrate, integrated_covs
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import GlobalFit, fit_globals
from bayes_interest.model.members import draw_members, draws_all
from bayes_interest.model.parameters import COVARIATES, Globals, Layout
from bayes_interest.model.prepare import (
    Embedded,
    FamilyChoice,
    Standardizer,
    Vocabulary,
    check_informative,
    choose_family,
    code_outcomes,
    embed_items,
    item_texts,
    learn_vocabulary,
    log_history,
    resolved,
    windows,
)
from bayes_interest.model.problem import Problem, torch_dtype
from bayes_interest.model.seeding import seeded
from bayes_interest.model.sequence_fit import fit_sequence, trains_first
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.covariates import Tuned, tune_covariates
from bayes_interest.posterior.item_spread import tuned_spread
from bayes_interest.posterior.online import absorb, filter_history, restarted, sequence_loss
from bayes_interest.posterior.posterior import FitSummary, Member, Posterior, cold_items
from bayes_interest.posterior.predict import held_back_loss
from bayes_interest.progress import logger, shown, shown_if
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.text.encoder import Encoder

MIN_HELD_BACK = 20
MIN_DRIFT_DAYS = 1e-3
AUTO_MEMBERS = 16


@dataclass(frozen=True)
class Prepared:
    """Everything a fit needs, with external names resolved."""

    config: ModelConfig
    family: FamilyChoice
    vocabulary: Vocabulary
    embedded: Embedded
    history: History
    n_fit: int  # items with an event to learn from come first


def prepare(
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder | None,
    config: ModelConfig,
    progress: bool,
) -> Prepared:
    """Choose the family, code outcomes, map ids, embed texts."""
    family = choose_family(log, config)
    levels = ()
    if family.name == "rating":
        levels = tuple(log.columns.levels().tolist())
    outcome, use = code_outcomes(log, family.name, config, levels)
    n_fit = len(pd.unique(log.columns.item.codes[use]))
    check_informative(outcome, use, n_fit, family)
    vocabulary = learn_vocabulary(log, table, family.name, use)
    history = log_history(log, vocabulary, family.name, config)
    texts = item_texts(vocabulary.items.ids, log, table)
    embedded = embed_items(vocabulary.items.ids, texts, encoder, progress)
    return Prepared(resolved(config, family.name), family, vocabulary, embedded, history, n_fit)


def resolve_device(name: str) -> torch.device:
    """A torch device; "auto" is CUDA where there is one. Raises DeviceError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise DeviceError(
            f'device="{name}" cannot be used on this machine '
            f'({torch.cuda.device_count()} CUDA devices found); pass device="auto" or "cpu"'
        ) from err
    return device


def make_layout(ready: Prepared, features_dim: int) -> Layout:
    """Sizes of the model for the items with events."""
    config, history = ready.config, ready.history
    return Layout(
        config.emission,
        config.state_dim,
        features_dim,
        ready.n_fit,
        n_kinds=len(ready.vocabulary.kinds),
        n_levels=max(2, len(ready.vocabulary.levels)),
        residuals=config.item_residuals,
        popularity_days=windows(config.popularity_days),
        repeats=bool(config.repeats),
        succession=bool(config.succession),
        likeness=bool(config.likeness),
        rates=bool(config.rates),
        context_layers=int(config.context_layers),
        context_dim=config.context_dim,
        context_events=config.context_events,
        half_life_days=config.half_life_days,
        log_drift_centre=drift_centres(history, config.state_dim),
        event_drift=bool(config.event_drift),
    )


def drift_centres(history: History, state_dim: int) -> tuple[float, ...]:
    """Log drift scales to start from: variance over a typical history from 0.03 to 3.

    The typical history is the event-weighted mean span of the users, in days.
    """
    start, length = history.start, history.lengths
    has = length > 1
    if not has.any():
        typical = 1.0
    else:
        span = history.seconds[start[1:][has] - 1] - history.seconds[start[:-1][has]]
        typical = float(np.average(span, weights=length[has])) / SECONDS_PER_DAY
    variance = np.geomspace(0.03, 3.0, state_dim) if state_dim > 1 else np.array([0.3])
    return tuple((0.5 * np.log(variance / max(typical, MIN_DRIFT_DAYS))).tolist())


def learn(
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder | None,
    config: ModelConfig,
    fit: FitConfig,
) -> Posterior:
    """Fit a posterior; see `InterestModel.fit`."""
    with shown_if(fit.progress):
        posterior = _learned(log, table, encoder, config, fit)
    summary = posterior.summary
    logger.info(
        "fitted %s for %d epochs in %.1f s, with %d draws of the globals",
        posterior.config.emission, summary.best_epoch, summary.seconds, len(posterior.members),
    )  # fmt: skip
    for note in summary.notes:
        logger.info("note: %s", note)
    return posterior


def _tell_family(ready: Prepared) -> None:
    """Which family was taken and why, for whoever looks on, and for the log."""
    message = f"emission: {ready.family.name} ({ready.family.reason})"
    if shown():
        from tqdm.auto import tqdm

        tqdm.write(message, file=sys.stderr)
    known = ready.vocabulary
    logger.info(
        "%s; %d events of %d users, %d items",
        message, len(ready.history), len(known.users), len(known.items),
    )  # fmt: skip


def _learned(
    log: EventLog,
    table: ItemTable | None,
    encoder: Encoder | None,
    config: ModelConfig,
    fit: FitConfig,
) -> Posterior:
    """The fit itself."""
    began = time.perf_counter()
    device = resolve_device(fit.device)
    ready = prepare(log, table, encoder, config, fit.progress)
    _tell_family(ready)
    kind, layers = ready.config.emission, ready.config.context_layers
    if fit.context_epochs and (kind != "choice" or layers == 0):
        raise ConfigError(
            f"context_epochs={fit.context_epochs}: there is no network to train first. Set "
            f"ModelConfig(context_layers=...) with emission='choice' (this is {kind}), "
            "or leave it at 0"
        )
    if fit.n_members not in ("auto", 1):  # before the work, not after it
        check_members(_problem(_with(ready, _left_open(ready)), device), fit)
    with seeded(fit.seed, device):
        best = _choose(ready, device, fit)
        ready, full, chosen, held = best.ready, best.full, best.chosen, best.shift
        result = chosen
        if held is None or fit.refit:
            result = _fitted(
                ready, full, fit, None, _given(chosen), chosen if held is not None else None
            )
            result = _scaled(result, chosen.context_scale)
            result = replace(result, item_spread=chosen.item_spread)
            if can_integrate(full):
                item_cov, text_cov = integrated_covs(full, result.values)
                result = replace(result, item_cov=item_cov, text_cov=text_cov)
    summary = FitSummary(
        ready.family.reason,
        tuple(vars(record) for record in chosen.epochs or result.epochs),
        chosen.best_epoch,
        chosen.stopped_early,
        time.perf_counter() - began,
        tuple(best.notes),
    )
    posterior = _posterior(ready, full, result, summary, 0.0 if held is None else held, encoder)
    return absorb(with_members(posterior, full, fit), ready.history)


def check_members(full: Problem, fit: FitConfig) -> int:
    """How many draws of the globals there will be. Raises ConfigError for more than can be."""
    everything = draws_all(full)
    if fit.n_members == "auto":
        return AUTO_MEMBERS if everything else 1
    large = full.layout.emission == "choice" and not everything
    if fit.n_members > 1 and (full.layout.context_layers or large):
        raise ConfigError(
            f"n_members={fit.n_members}: a model with context, and one of choice with so large a "
            "log and catalogue, take 1 only"
        )
    return fit.n_members


def with_members(posterior: Posterior, full: Problem, fit: FitConfig) -> Posterior:
    """With draws of the globals, as many as `fit` asks for."""
    n_members, everything = check_members(full, fit), draws_all(full)
    if n_members == 1:
        return posterior
    n_fit, n_items = full.layout.n_items, posterior.layout.n_items
    values = dict(posterior.values)
    values |= {name: values[name][:n_fit] for name in ("offset", "residual") if name in values}
    members = []
    for drawn in draw_members(full, values, n_members, fit.seed, posterior.cold_shift):
        nothing = torch.zeros_like(posterior.item_cov[:n_fit])
        parts = cold_items(full.layout, drawn, nothing, n_items - n_fit)
        cov = parts["item_cov"] if everything else posterior.item_cov
        members.append(Member(parts["values"], cov))
    belief = replace(posterior.belief, members=(posterior.belief,) * n_members)
    if full.layout.emission == "choice" and full.layout.kinds.names:
        # So that what the covariates add on average is what they add by these.
        mean = torch.stack([one.values[COVARIATES] for one in members]).mean(0)
        posterior = replace(posterior, values=posterior.values | {COVARIATES: mean})
    return replace(posterior, members=tuple(members), belief=belief)


def _given(chosen: GlobalFit) -> Globals:
    """What the held-back slice has settled: a fit of everything keeps it."""
    return {name: value for name, value in chosen.values.items() if name == COVARIATES}


def _problem(ready: Prepared, device: torch.device) -> Problem:
    config, history = ready.config, ready.history
    standardizer = Standardizer.of(ready.embedded, ready.n_fit)
    features = standardizer.apply(ready.embedded)[: ready.n_fit]
    texts = standardizer.directions(features) if config.likeness else None
    on_device = torch.as_tensor(features).to(device, torch_dtype(config.dtype))
    use = history.take(history.absorb)
    return Problem(make_layout(ready, features.shape[1]), on_device, use, texts)


LEFT_OPEN: dict[str, tuple[Any, Any]] = {"event_drift": (False, True), "context_layers": (0, 1)}
"""Fields that may still be "auto" when a fit begins: without, and with."""


def _with(ready: Prepared, fields: dict[str, Any]) -> Prepared:
    return replace(ready, config=replace(ready.config, **fields))


def _left_open(ready: Prepared) -> dict[str, Any]:
    """What the held-back slice is to decide, without it for a start."""
    return {
        name: pair[0] for name, pair in LEFT_OPEN.items() if getattr(ready.config, name) == "auto"
    }


class _Trial:
    """The fit before the held-back slice, and what the slice says of it."""

    def __init__(self, ready: Prepared, device: torch.device, fit: FitConfig) -> None:
        self.ready, self.full = ready, _problem(ready, device)
        self.chosen, self.shift, self.notes = _choose_epochs(ready, self.full, fit)
        self.loss = min((record.held_back_loss for record in self.chosen.epochs), default=math.inf)


def _choose(ready: Prepared, device: torch.device, fit: FitConfig) -> _Trial:
    """The fit before the held-back slice, with what is left open as the slice likes better.

    One after the other; without a slice to ask, it is left out.
    """
    still = _left_open(ready)
    best, notes = _Trial(_with(ready, still), device, fit), []
    for name in still if best.shift is not None else {}:
        without = best
        with_it = _Trial(_with(best.ready, {name: LEFT_OPEN[name][1]}), device, fit)
        for trial in (without, with_it):
            value = getattr(trial.ready.config, name)
            notes.append(f"{name}={value}: held-back loss {trial.loss:.4f}")
        best = min(without, with_it, key=lambda trial: trial.loss)
    best.notes += notes
    return best


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
    cut = np.quantile(full.history.seconds, 1.0 - fit.holdout, method="higher")
    early = full.history.seconds < cut
    n_late, n_items = int((~early).sum()), 0
    if early.any():
        n_items = int(full.history.item_index[early].max()) + 1
    usable = n_late >= MIN_HELD_BACK and n_items >= 2 and _varied(full, early)
    if not usable:
        return none, None, ["the log is too small to hold back a slice of time"]
    part = full.before(early, n_items)
    points = fit.n_members == 1 or not draws_all(full)
    watch = _Watch(ready, part, full, early, spread=fit.item_spread and points)
    chosen, tuned = _search(ready, part, fit, watch, {})
    if full.layout.rates and bool(chosen.values[COVARIATES].any()):
        # The states had to carry what the rates foretell: once more, without that load.
        chosen, tuned = _search(ready, part, fit, watch, _given(chosen))
    notes = [f"{n_late} of {len(early)} events held back to choose the epochs"]
    if chosen.context_epochs:
        notes.append(f"network of the context: {chosen.context_epochs} epochs")
    return chosen, tuned.cold_shift, notes


def _search(
    ready: Prepared, part: Problem, fit: FitConfig, watch: _Watch, given: Globals
) -> tuple[GlobalFit, Tuned]:
    """The epoch that the held-back slice likes best, with covariates weighed by it."""
    chosen = _fitted(ready, part, fit, watch, given)
    tuned = watch.tuned(chosen)
    if tuned.weight is not None:
        chosen = replace(chosen, values=chosen.values | {COVARIATES: tuned.weight})
    chosen = replace(chosen, item_spread=tuned.item_spread)
    return _scaled(chosen, tuned.context_scale), tuned


def _scaled(result: GlobalFit, scale: float) -> GlobalFit:
    """With all of the context times `scale`."""
    if scale == 1.0:
        return result
    head = "context_head"
    values = result.values | {head: result.values[head] * scale}
    return replace(result, values=values, context_scale=scale)


def _fitted(
    ready: Prepared,
    problem: Problem,
    fit: FitConfig,
    watch: _Watch | None,
    given: Globals,
    like: GlobalFit | None = None,
) -> GlobalFit:
    """The network of a choice and its items first, where that is asked for, then all around them.

    With `watch` until the held-back slice likes no later epoch better, else for as many epochs as
    `like` had, or all.
    """
    context_epochs = 0
    if trains_first(problem.layout, fit):
        found, context_epochs = fit_sequence(
            problem,
            fit,
            validate=None if watch is None else watch.sequence_loss,
            n_epochs=None if like is None else like.context_epochs,
        )
        given = given | found
    fitted = fit_globals(
        problem,
        fit,
        ready.config.n_candidates,
        validate=None if watch is None else watch.loss,
        n_epochs=None if like is None else like.best_epoch,
        label="fit" if watch is None else "choose epochs",
        given=given,
    )
    return replace(fitted, context_epochs=context_epochs)


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
        shell = _shell(self.ready, full, **cold_items(part.layout, values, item_cov, new))
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
        return replace(tune_covariates(posterior, found), item_spread=spread)


def _shell(ready: Prepared, full: Problem, **parts: Any) -> Posterior:
    """A posterior before any event, over the items with events."""
    layout, values = parts["layout"], parts["values"]
    diagonal = layout.emission == "choice"
    n_users = len(ready.vocabulary.users)
    shell = Posterior(
        config=ready.config,
        vocabulary=ready.vocabulary,
        standardizer=Standardizer.of(ready.embedded, ready.n_fit),
        features=full.features,
        has_text=ready.embedded.known[: ready.n_fit],
        text_cov=parts.pop("text_cov", full.features.new_zeros(0)),
        cold_shift=parts.pop("cold_shift", 0.0),
        belief=Belief.prior(n_users, values, diagonal),
        last_seconds=np.full(n_users, np.nan),
        history=ready.history,
        summary=parts.pop("summary", FitSummary("", (), 0, False, 0.0, ())),
        encoder_spec=parts.pop("encoder_spec", None),
        **parts,
    )
    return restarted(shell)


def _posterior(
    ready: Prepared,
    full: Problem,
    result: GlobalFit,
    summary: FitSummary,
    shift: float,
    encoder: Encoder | None,
) -> Posterior:
    new = len(ready.vocabulary.items) - ready.n_fit
    if result.values["offset"].shape[0] < ready.n_fit:  # not refitted: late items are cold
        new += ready.n_fit - result.values["offset"].shape[0]
    layout = replace(full.layout, n_items=result.values["offset"].shape[0])
    parts = cold_items(layout, result.values, result.item_cov, new)
    shell = _shell(
        ready,
        full,
        **parts,
        text_cov=result.text_cov,
        cold_shift=shift,
        summary=summary,
        encoder_spec=None if encoder is None else encoder.spec(),
    )
    features = torch.as_tensor(shell.standardizer.apply(ready.embedded)).to(full.features)
    cov = with_text_variance(shell.layout, shell.values, shell.item_cov, features, result.text_cov)
    return replace(
        shell,
        features=features,
        has_text=ready.embedded.known,
        item_cov=result.item_spread * cov,
        item_spread=result.item_spread,
    )
