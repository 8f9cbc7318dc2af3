"""From a log to a posterior: prepare, fit with early stopping, refit, filter once more."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import torch

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.choice_items import can_integrate, integrated_covs
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import GlobalFit
from bayes_interest.model.members import count_members, draw_members, draws_all
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.model.problem import Problem
from bayes_interest.model.seeding import seeded
from bayes_interest.model.text_posterior import with_text_variance
from bayes_interest.posterior.held_back import choose, left_open, with_fields
from bayes_interest.posterior.online import absorb
from bayes_interest.posterior.posterior import FitSummary, Member, Posterior, cold_items
from bayes_interest.posterior.ready import (
    Prepared,
    before_events,
    prepare,
    problem_of,
    resolve_device,
)
from bayes_interest.posterior.stages import fitted, given_by, scaled
from bayes_interest.progress import logger, shown, shown_if
from bayes_interest.text.encoder import Encoder

UNMET = (
    "{:,} items of the catalogue that nobody chose are as likely as their texts say: there is no "
    "held-back slice to say how likely such items are"
)
POINTS = (
    "global parameters are points, which makes intervals too narrow: drawing them would take long, "
    "or cannot be done beside a context network; FitConfig(n_members=16) asks for it"
)


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
        count_members(problem_of(with_fields(ready, left_open(ready)), device), fit)
    with seeded(fit.seed, device):
        best = choose(ready, device, fit)
        ready, full, chosen, held = best.ready, best.full, best.chosen, best.shift
        if held is None and kind == "choice":
            ready, full = with_catalogue(ready, full, device)
            if unmet := len(ready.vocabulary.items) - ready.n_fit:
                best.notes.append(UNMET.format(unmet))
        if fit.n_members == "auto" and full.layout.emission != "choice" and not draws_all(full):
            best.notes.append(POINTS)
        result = chosen
        if held is None or fit.refit:
            result = fitted(
                ready, full, fit, None, given_by(chosen), chosen if held is not None else None
            )
            result = scaled(result, chosen.context_scale)
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
    posterior = absorb(with_members(posterior, full, fit), ready.history)
    return replace(posterior, summary=replace(summary, seconds=time.perf_counter() - began))


def with_catalogue(
    ready: Prepared, full: Problem, device: torch.device
) -> tuple[Prepared, Problem]:
    """All known items as candidates of a small log's choices, those that nobody took among them.

    Else these count as new; how likely new items are is for a held-back slice to say.
    """
    n_items = len(ready.vocabulary.items)
    if not draws_all(replace(full, layout=replace(full.layout, n_items=n_items))):
        return ready, full
    ready = replace(ready, n_fit=n_items)
    return ready, problem_of(ready, device)


def with_members(posterior: Posterior, full: Problem, fit: FitConfig) -> Posterior:
    """With draws of the globals, as many as `fit` asks for."""
    n_members = count_members(full, fit)
    if n_members == 1:
        return posterior
    n_fit, n_items = full.layout.n_items, posterior.layout.n_items
    values = dict(posterior.values)
    values |= {name: values[name][:n_fit] for name in ("offset", "residual") if name in values}
    members, nothing = [], torch.zeros_like(posterior.item_cov[:n_fit])  # one for all
    for drawn in draw_members(full, values, n_members, fit.seed, posterior.cold_shift):
        parts = cold_items(full.layout, drawn, nothing, n_items - n_fit)
        members.append(Member(parts["values"], parts["item_cov"]))
    belief = replace(posterior.belief, members=(posterior.belief,) * n_members)
    if full.layout.emission == "choice" and full.layout.kinds.names:
        # So that what the covariates add on average is what they add by these.
        mean = torch.stack([one.values[COVARIATES] for one in members]).mean(0)
        posterior = replace(posterior, values=posterior.values | {COVARIATES: mean})
    return replace(posterior, members=tuple(members), belief=belief)


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
    shell = before_events(
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
    diagonal = full.layout.emission == "choice" and not draws_all(full)
    return replace(
        shell,
        belief=Belief.prior(len(shell.last_seconds), shell.values, diagonal),
        features=features,
        has_text=ready.embedded.known,
        item_cov=(result.item_spread * cov).contiguous(),  # what LAPACK gives lies in columns
        item_spread=result.item_spread,
    )
