"""The stages of one fit of the globals: a network first where asked for, then all around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from bayes_interest.config import FitConfig
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import GlobalFit, fit_globals
from bayes_interest.model.parameters import COVARIATES, Globals
from bayes_interest.model.problem import Problem
from bayes_interest.model.sequence_fit import fit_sequence, trains_first
from bayes_interest.posterior.ready import Prepared


class Watch(Protocol):
    """What tells how well a fit foretells events that it has not seen."""

    def loss(self, values: Globals, belief: Belief) -> float:
        """Minus mean log probability."""

    def sequence_loss(self, values: Globals) -> float:
        """The same of the context alone."""


def fitted(
    ready: Prepared,
    problem: Problem,
    fit: FitConfig,
    watch: Watch | None,
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


def scaled(result: GlobalFit, scale: float) -> GlobalFit:
    """With all of the context times `scale`."""
    if scale == 1.0:
        return result
    head = "context_head"
    values = result.values | {head: result.values[head] * scale}
    return replace(result, values=values, context_scale=scale)


def given_by(chosen: GlobalFit) -> Globals:
    """What the held-back slice has settled: a fit of everything keeps it."""
    return {name: value for name, value in chosen.values.items() if name == COVARIATES}
