"""Filtering a log through a posterior: forecasts before each event, beliefs after the last."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import TimeOrderError
from bayes_interest.events.history import History, Padded, join_histories, padded_batches
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows, annotate, candidate_rows
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.filtering import Belief, filter_choice, filter_scalar
from bayes_interest.model.problem import event_positions
from bayes_interest.posterior.posterior import Posterior

FILTER_EVENTS = 16_384
ROUND_NUMBER = 64


@dataclass(frozen=True)
class Forecasts:
    """What was believed just before each event of a history, in its order."""

    history: History  # annotated with popularity and repeats
    state_mean: Tensor  # deviation, (event, state_dim)
    state_cov: Tensor | None  # (event, D, D), or (event, D) for choice; on request otherwise
    mean: Tensor | None  # scalar families: predictor of the event, (event,)
    var: Tensor | None  # likewise
    log_prob: Tensor | None  # choice: of the chosen item at the mean state, (event,)
    rows: CandidateRows | None  # choice: extra logits of the candidates


def check_order(posterior: Posterior, history: History) -> None:
    """Events must not lie before what their user's state has absorbed."""
    last = posterior.last_seconds[history.user_index]
    early = np.flatnonzero(history.seconds < last)
    if len(early):
        at = early[0]
        user = posterior.vocabulary.users.ids[history.user_index[at]]
        raise TimeOrderError(
            f"user {user!r} has an event at {history.seconds[at]:.0f} s, before the last one "
            f"absorbed at {last[at]:.0f} s ({len(early)} such events). Refit with them, or leave "
            "them out"
        )


def prepare_history(posterior: Posterior, history: History) -> History:
    """Fill in popularity and repeats, given the posterior's past and the history itself."""
    layout = posterior.layout
    recent = posterior.recent
    if recent is not None:
        keep = history.absorb
        recent = recent.extend(history.item_index[keep], history.seconds[keep], layout.n_items)
    return annotate(history, recent, layout.n_items, layout.repeats, posterior.chosen)


def filter_history(
    posterior: Posterior, history: History, keep_cov: bool = False
) -> tuple[Forecasts, Belief, np.ndarray]:
    """Forecast and absorb every event; returns also beliefs and times after each user's last.

    `history` must use the posterior's users and items. Nothing of `posterior` is changed.
    """
    check_order(posterior, history)
    history = prepare_history(posterior, history)
    out = _Collector(posterior, history, keep_cov)
    after = Belief(posterior.belief.mean.clone(), posterior.belief.cov.clone())
    events = EventTensors.of(history, out.mean.dtype, out.mean.device, posterior.last_seconds)
    for block in padded_batches(history, FILTER_EVENTS, out.mean.device):
        users, block = block.users, filled(block)
        start = Belief(after.mean[block.users], after.cov[block.users])
        end = out.run(Batch.of(events, block), block, start)
        after.mean[users], after.cov[users] = end.mean[: len(users)], end.cov[: len(users)]
    latest = np.full(len(posterior.last_seconds), -np.inf)
    np.maximum.at(latest, history.user_index, history.seconds)
    last = np.where(np.isfinite(latest), latest, posterior.last_seconds)
    return out.forecasts(), after, last


def filled(block: Padded) -> Padded:
    """The block with users without events added, up to a multiple of `ROUND_NUMBER`.

    Vector units treat the last few numbers of an array apart and may round them differently: so
    a user's bits do not depend on how many others there are.
    """
    extra = -len(block.users) % ROUND_NUMBER
    return Padded(
        torch.cat((block.users, block.users[:1].expand(extra))),
        torch.nn.functional.pad(block.event, (0, 0, 0, extra)),
        torch.nn.functional.pad(block.mask, (0, 0, 0, extra)),
    )


class _Collector:
    """Runs the family's filter block by block and keeps the forecasts in history order."""

    def __init__(self, posterior: Posterior, history: History, keep_cov: bool) -> None:
        self.posterior, self.history, self.keep_cov = posterior, history, keep_cov
        like, dim, n_events = posterior.features, posterior.layout.state_dim, len(history)
        self.choice = posterior.belief.diagonal
        self.rows = _rows(posterior, history) if self.choice else None
        self.mean, self.var, self.log_prob = like.new_zeros(3, n_events)
        self.state_mean = like.new_zeros(n_events, dim)
        shape = (n_events, dim) if self.choice else (n_events, dim, dim)
        self.state_cov = like.new_zeros(shape if self.choice or keep_cov else (0,))

    def run(self, batch: Batch, block: Padded, start: Belief) -> Belief:
        """Filter one block."""
        posterior, flat = self.posterior, block.event[block.mask]
        layout, values, items = posterior.layout, posterior.values, posterior.items
        if self.rows is not None:
            choices = flat_choices(values, batch, event_positions(block, batch.mask), self.rows)
            chosen, end = filter_choice(layout, values, items, batch, choices, start)
            self.log_prob[flat] = chosen.log_prob[block.mask]
            self.state_mean[flat] = chosen.mean[block.mask]
            self.state_cov[flat] = chosen.var[block.mask]
            return end
        found, end = filter_scalar(
            layout, values, items, posterior.item_cov, batch, start, self.keep_cov
        )
        self.mean[flat], self.var[flat] = found.mean[block.mask], found.var[block.mask]
        self.state_mean[flat] = found.state_mean[block.mask]
        if found.state_cov is not None:
            self.state_cov[flat] = found.state_cov[block.mask]
        return end

    def forecasts(self) -> Forecasts:
        """Everything in history order."""
        cov = self.state_cov if self.choice or self.keep_cov else None
        if self.choice:
            return Forecasts(
                self.history, self.state_mean, cov, None, None, self.log_prob, self.rows
            )
        return Forecasts(self.history, self.state_mean, cov, self.mean, self.var, None, None)


def _rows(posterior: Posterior, history: History) -> CandidateRows:
    layout, recent = posterior.layout, posterior.recent
    if recent is not None:
        keep = history.absorb
        recent = recent.extend(history.item_index[keep], history.seconds[keep], layout.n_items)
    return candidate_rows(history, recent, layout.n_items, layout.repeats, posterior.chosen)


def absorb(posterior: Posterior, history: History) -> Posterior:
    """The posterior after more events of its users and items: one filter step per event."""
    forecasts, belief, last = filter_history(posterior, history)
    recent = posterior.recent
    if recent is not None:
        keep = forecasts.history.absorb
        recent = recent.extend(
            history.item_index[keep], history.seconds[keep], posterior.layout.n_items
        )
    joined = join_histories(posterior.history, forecasts.history, len(posterior.vocabulary.users))
    return replace(posterior, belief=belief, last_seconds=last, history=joined, recent=recent)


def restarted(posterior: Posterior) -> Posterior:
    """The same globals with no user event absorbed: every user at the prior."""
    n_users = len(posterior.vocabulary.users)
    belief = Belief.prior(n_users, posterior.values, posterior.belief.diagonal)
    empty = posterior.history.take(np.zeros(0, dtype=np.int64))
    recent = posterior.recent
    if recent is not None:
        nothing = np.zeros(0, dtype=np.int64)
        recent = replace(recent, item_index=nothing, seconds=np.zeros(0))
    return replace(
        posterior,
        belief=belief,
        last_seconds=np.full(n_users, np.nan),
        history=empty,
        recent=recent,
    )
