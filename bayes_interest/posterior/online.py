"""Filtering a log through a posterior: forecasts before each event, beliefs after the last."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import TimeOrderError
from bayes_interest.events.history import (
    History,
    Padded,
    join_histories,
    length_batches,
    make_history,
    padded_batches,
)
from bayes_interest.events.surroundings import surroundings_of
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.choice_filter import filter_choices
from bayes_interest.model.context import Tokens, context_after, encode_events, reach
from bayes_interest.model.filtering import (
    Belief,
    ChoiceForecasts,
    compilable,
    filter_choice,
    filter_events,
    filter_scalar,
)
from bayes_interest.model.parameters import COVARIATES, emission_of
from bayes_interest.model.problem import event_positions
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.progress import bar
from bayes_interest.schema import SECONDS_PER_DAY

FILTER_EVENTS = 16_384
CHOICE_FILTER_EVENTS = 131_072
"""A step of the filter looks at the softmax of all users at once: the more, the fewer steps."""
ROUND_NUMBER = 64
CONTEXT_EVENTS = 4_096
ABSORB_EVENTS = 250_000
SEQUENCE_CELLS = 12_000_000  # of the table (event, item)
FULL_CELLS = 4_000_000  # of the same, in float64


@dataclass(frozen=True)
class Forecasts:
    """What was believed just before each event of a history, in its order."""

    history: History
    state_mean: Tensor  # deviation, (event, state_dim)
    state_cov: Tensor | None  # (event, D, D), or (event, D) as beliefs are; on request, or choice
    mean: Tensor | None  # scalar families: predictor of the event, (event,)
    var: Tensor | None  # likewise
    log_prob: Tensor | None  # choice: of the chosen item at the mean state, (event,)
    rows: CandidateRows  # covariates of every item
    context: Tensor | None  # c_u(t), (event, state_dim)
    members: tuple[Forecasts, ...] = ()  # at each draw of the globals

    def belief(self, index: Tensor) -> Belief:
        """About `y + c` just before some events; needs `state_cov`."""
        mean = self.state_mean[index]
        if self.context is not None:
            mean = mean + self.context[index]
        cov = mean.new_zeros(0) if self.state_cov is None else self.state_cov[index]
        return Belief(mean, cov, tuple(member.belief(index) for member in self.members))


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


def candidate_rows(posterior: Posterior, history: History) -> CandidateRows:
    """Covariates of a history's events, given the posterior's past and the history itself."""
    layout, past = posterior.layout, posterior.history
    asks = layout.kinds.rates and not history.absorb.any()
    rates = posterior.rates if asks else None  # found once for all questions
    return CandidateRows(
        *surroundings_of(past, history, layout.n_items, layout.kinds, posterior.texts, rates)
    )


def filter_history(
    posterior: Posterior, history: History, keep_cov: bool = False, keep: bool = True
) -> tuple[Forecasts, Belief, np.ndarray]:
    """Forecast and absorb every event; returns also beliefs and times after each user's last.

    `history` must use the posterior's users and items. Nothing of `posterior` is changed. Without
    `keep` forecasts may be left empty: for those who want the beliefs alone.
    """
    check_order(posterior, history)
    rows = candidate_rows(posterior, history)
    own = rows.own()
    found, after = _filtered(posterior, history, rows, own, keep, keep_cov)
    if posterior.members:
        parts = [_filtered(one, history, rows, own, keep, keep_cov) for one in posterior.each]
        found = replace(found, members=tuple(part[0] for part in parts))
        after = Belief(after.mean, after.cov, tuple(part[1] for part in parts))
    latest = np.full(len(posterior.last_seconds), -np.inf)
    np.maximum.at(latest, history.user_index, history.seconds)
    return found, after, np.where(np.isfinite(latest), latest, posterior.last_seconds)


def _filtered(
    posterior: Posterior,
    history: History,
    rows: CandidateRows,
    own: np.ndarray,
    keep: bool,
    keep_cov: bool,
) -> tuple[Forecasts, Belief]:
    """At one setting of the globals; `own` are the covariates of the events' items."""
    like, context = posterior.features, contexts(posterior, rows)
    last = posterior.last_seconds
    events = EventTensors.of(history, like.dtype, like.device, last, own, context)
    layout, values, items = posterior.layout, posterior.values, posterior.items
    cov, before = posterior.item_cov, posterior.belief
    if posterior.choice and not before.diagonal:
        return _filtered_choices(posterior, history, rows, events)
    if compilable(emission_of(layout, values), items, cov, before):
        found, after = filter_events(
            layout, values, items, cov, events, history.start, before, keep, keep_cov
        )
        seen = (found.state_mean, found.state_cov, found.mean, found.var)
        return Forecasts(history, *seen, None, rows, context), after
    out = _Collector(posterior, history, rows, keep_cov)
    after = Belief(posterior.belief.mean.clone(), posterior.belief.cov.clone())
    size = CHOICE_FILTER_EVENTS if posterior.choice else FILTER_EVENTS
    blocks = padded_batches(history, size, out.mean.device)
    total = len(length_batches(history.lengths, size))
    for block in bar(blocks, total=total, desc="filter", unit="block"):
        users, block = block.users, filled(block)
        start = Belief(after.mean[block.users], after.cov[block.users])
        end = out.run(Batch.of(events, block), block, start)
        after.mean[users], after.cov[users] = end.mean[: len(users)], end.cov[: len(users)]
    return out.forecasts(context), after


def _filtered_choices(
    posterior: Posterior, history: History, rows: CandidateRows, events: EventTensors
) -> tuple[Forecasts, Belief]:
    """Of choices with full covariances, so many users at a time as the logits leave room for."""
    layout, values, items = posterior.layout, posterior.values, posterior.items
    ends, parts = list[Belief](), list[ChoiceForecasts]()
    for first, last in history.user_ranges(max(1, FULL_CELLS // layout.n_items)):
        part = np.arange(*history.start[[first, last]])
        base = rows.dense(part, values) + items.offsets
        base = base + novelty_of_events(posterior, rows, part)
        own, belief = events.at(part), posterior.belief.take(slice(first, last))
        start = history.start[first : last + 1] - history.start[first]
        seen, end = filter_choices(layout, values, items, base, own, start, belief)
        ends.append(end)
        parts.append(seen)
    mean, cov, log_prob = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "cov", "log_prob")
    )
    found = Forecasts(history, mean, cov, None, None, log_prob, rows, None)
    return found, Belief(torch.cat([e.mean for e in ends]), torch.cat([e.cov for e in ends]))


def novelty_of_events(posterior: Posterior, rows: CandidateRows, part: np.ndarray) -> Tensor:
    """`cold_shift` for items without an event before some of the events of `rows`.

    (event, item), or (1, 1) where there is no shift.
    """
    if posterior.cold_shift == 0.0:
        return posterior.features.new_zeros(1, 1)
    log, first = rows.surroundings.log, np.full(posterior.layout.n_items, np.inf)
    np.minimum.at(first, log.item_index[log.absorb], log.seconds[log.absorb])
    cold = torch.as_tensor(first[None, :] >= log.seconds[rows.moment[part], None])
    return posterior.cold_shift * cold.to(posterior.features)


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

    def __init__(
        self, posterior: Posterior, history: History, rows: CandidateRows, keep_cov: bool
    ) -> None:
        self.posterior, self.history, self.keep_cov = posterior, history, keep_cov
        like, dim, n_events = posterior.features, posterior.layout.state_dim, len(history)
        self.choice = posterior.choice
        self.rows = rows
        self.mean, self.var, self.log_prob = like.new_zeros(3, n_events)
        self.state_mean = like.new_zeros(n_events, dim)
        shape = (n_events, dim) if self.choice else (n_events, dim, dim)
        self.state_cov = like.new_zeros(shape if self.choice or keep_cov else (0,))

    def run(self, batch: Batch, block: Padded, start: Belief) -> Belief:
        """Filter one block."""
        posterior, flat = self.posterior, block.event[block.mask]
        layout, values, items = posterior.layout, posterior.values, posterior.items
        if self.choice:
            choices = flat_choices(values, batch, event_positions(block, batch.mask), self.rows)
            chosen, end = filter_choice(layout, values, items, batch, choices, start)
            self.log_prob[flat] = chosen.log_prob[block.mask]
            self.state_mean[flat] = chosen.mean[block.mask]
            self.state_cov[flat] = chosen.cov[block.mask]
            return end
        found, end = filter_scalar(
            layout, values, items, posterior.item_cov, batch, start, self.keep_cov
        )
        self.mean[flat], self.var[flat] = found.mean[block.mask], found.var[block.mask]
        self.state_mean[flat] = found.state_mean[block.mask]
        if found.state_cov is not None:
            self.state_cov[flat] = found.state_cov[block.mask]
        return end

    def forecasts(self, context: Tensor | None) -> Forecasts:
        """Everything in history order."""
        cov = self.state_cov if self.choice or self.keep_cov else None
        return Forecasts(
            self.history,
            self.state_mean,
            cov,
            None if self.choice else self.mean,
            None if self.choice else self.var,
            self.log_prob if self.choice else None,
            self.rows,
            context,
        )


def contexts(posterior: Posterior, rows: CandidateRows) -> Tensor | None:
    """`c_u(t)` of moments from the user's absorbed events before them, (moment, state_dim)."""
    layout, values, like = posterior.layout, posterior.values, posterior.features
    if not layout.context_layers:
        return None
    log = rows.surroundings.log
    moment, out = rows.moment, like.new_zeros(len(rows.moment), layout.state_dim)
    if not len(moment):
        return out
    use = needed(log, moment, reach(layout) + 1)
    past = log.take(use)
    gap = np.diff(log.seconds[log.absorb], prepend=0.0)[use[log.absorb]] / SECONDS_PER_DAY
    follows = np.diff(past.user_index, prepend=-1) == 0
    events = EventTensors.of(past, like.dtype, like.device)
    days = torch.as_tensor(np.where(follows, gap, 0.0)).to(like)
    hidden = like.new_zeros(len(past), layout.context_dim)
    for block in padded_batches(past, CONTEXT_EVENTS, like.device):
        tokens = Tokens(
            block.gather(events.item),
            block.gather(events.outcome),
            block.gather(events.kind),
            block.gather(days),
        )
        found = encode_events(layout, values, posterior.items.vectors, tokens)
        hidden[block.event[block.mask]] = found[block.mask]
    last = np.cumsum(use)[moment] - use[moment] - 1  # the absorbed event before each moment
    some = np.flatnonzero(last >= 0)
    some = some[past.user_index[last[some]] == log.user_index[moment[some]]]
    waited = (log.seconds[moment[some]] - past.seconds[last[some]]) / SECONDS_PER_DAY
    index = torch.as_tensor(some, device=like.device)
    seen = hidden[torch.as_tensor(last[some], device=like.device)]
    out[index] = context_after(values, seen, torch.as_tensor(waited).to(like))
    return out


def sequence_loss(posterior: Posterior, history: History) -> float:
    """Minus mean log probability of a history's choices by the context alone: no state, no
    covariates. Of many events some, evenly spread.
    """
    rows, items = candidate_rows(posterior, history), posterior.items
    count = min(len(history), max(1, SEQUENCE_CELLS // posterior.layout.n_items))
    part = np.unique(np.linspace(0, len(history) - 1, count).astype(np.int64))
    context = contexts(posterior, CandidateRows(rows.surroundings, rows.moment[part]))
    assert context is not None
    logits = torch.addmm(items.offsets, context, items.vectors.T)
    own = torch.as_tensor(history.item_index[part], dtype=torch.long, device=logits.device)
    return float(torch.nn.functional.cross_entropy(logits, own))


def needed(log: History, moments: np.ndarray, reach: int) -> np.ndarray:
    """Which absorbed events lie within `reach` events before one of the moments, (event,) bool."""
    before = np.concatenate(([0], np.cumsum(log.absorb)))
    high = before[moments]
    low = np.maximum(before[log.start[log.user_index[moments]]], high - reach)
    change = np.zeros(before[-1] + 1, dtype=np.int64)
    np.add.at(change, low, 1)
    np.add.at(change, high, -1)
    use = np.zeros(len(log), dtype=bool)
    use[np.flatnonzero(log.absorb)] = np.cumsum(change)[:-1] > 0
    return use


def moments_of(posterior: Posterior, users: np.ndarray, seconds: np.ndarray) -> CandidateRows:
    """The surroundings of users at moments that hold no event."""
    nothing = np.zeros(len(users), dtype=np.int64)
    never = np.zeros(len(users), dtype=bool)
    n_users = posterior.history.n_users
    looks = make_history(users, nothing, seconds, nothing, nothing, n_users, never)
    found = candidate_rows(posterior, looks)
    back = np.empty(len(users), dtype=np.int64)
    back[looks.order] = np.arange(len(users))
    return CandidateRows(found.surroundings, found.moment[back])


def absorb(posterior: Posterior, history: History) -> Posterior:
    """The posterior after more events of its users and items: one filter step per event.

    Users are filtered so many events at a time, and forecasts of no more than these are held.
    """
    check_order(posterior, history)
    each = posterior.each or (posterior,)
    weights = [one.values[COVARIATES] for one in each if COVARIATES in one.values]
    idle = not any(bool(weight.any()) for weight in weights)
    rows = replace(candidate_rows(posterior, history), weightless=idle)
    after, last = posterior.belief.copy(), posterior.last_seconds.copy()
    ranges = list(history.user_ranges(ABSORB_EVENTS))
    for users in bar(ranges, desc="filter", unit="block"):
        _absorb_users(posterior, history, rows, slice(*users), (after, last))
    joined = join_histories(posterior.history, history, len(posterior.vocabulary.users))
    return replace(posterior, belief=after, last_seconds=last, history=joined)


def _absorb_users(
    posterior: Posterior,
    history: History,
    rows: CandidateRows,
    users: slice,
    out: tuple[Belief, np.ndarray],
) -> None:
    """Write the states and last times of some users after their events to `out`."""
    (after, last), part = out, history.of_users(users.start, users.stop)
    events = slice(*history.start[[users.start, users.stop]])
    own = replace(
        posterior,
        belief=posterior.belief.take(users),
        last_seconds=posterior.last_seconds[users],
    )
    found = replace(rows, moment=rows.moment[events])
    covariates = found.own()
    pairs = zip((after, *after.members), (own, *own.each), strict=True)
    for whole, one in pairs:
        end = _filtered(one, part, found, covariates, keep=False, keep_cov=False)[1]
        whole.mean[users], whole.cov[users] = end.mean, end.cov
    some = np.flatnonzero(part.lengths)
    last[users.start + some] = part.seconds[part.start[some + 1] - 1]


def restarted(posterior: Posterior) -> Posterior:
    """The same globals with no user event absorbed: every user at the prior."""
    n_users = len(posterior.vocabulary.users)
    belief = Belief.prior(n_users, posterior.values, posterior.belief.diagonal)
    belief = replace(belief, members=(belief,) * len(posterior.members))
    empty = posterior.history.take(np.zeros(0, dtype=np.int64))
    return replace(
        posterior,
        belief=belief,
        last_seconds=np.full(n_users, np.nan),
        history=empty,
    )
