"""The mean of a linear predictor as a sum over what it comes from: past events, prior, moment.

The filter's mean is linear in what it has seen. With predicted state `m-`, transition `A` and any
matrix `J` per event, let the weights `q` of the present state go back through the events, `q- = J'
q`; event t is given `q_t . m_t - q-_t . m-_t`, and the sum over events is the present predictor.
Two `J` mean something: the identity gives an event what it changed at its time, gain times
residual, carried on by `A`; the filter's own `I - K H` gives it gain times observation, times what
later events have left of that. Measured against leaving events out of the log
(`benchmarks/explanations.py`), the first is right for bernoulli and rating, where what an event
adds is what the running rates had not foretold; the second for choice, where interest moves with
every event and later ones overrule earlier ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_interest.events.history import History
from bayes_interest.model.choice_filter import absorb_choices
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import reliability
from bayes_interest.model.softmax import Choices, look
from bayes_interest.posterior.online import (
    Forecasts,
    filter_history,
    novelty_of_events,
    restarted,
)
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import level_cut
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import elapsed_growth

PARTS = ("text", "item", "level")
"""What an item's vector consists of; their sum is the vector."""


@dataclass(frozen=True)
class StateParts:
    """How the state's and the context's part of one predictor comes about, averaged over draws."""

    events: np.ndarray  # of each absorbed event of the user, (event,)
    events_text: np.ndarray  # of that, through the text's part of the item's vector, (event,)
    context: float
    context_text: float
    rest: float  # what the stored state holds beyond a filter pass over the log


@dataclass(frozen=True)
class ItemParts:
    """The predictor at the mean state without covariates, averaged over draws."""

    level: float  # of anybody and any item, less the cut of the stated level
    text: float
    item: float  # residual and offset


def vector_parts(posterior: Posterior, item: int) -> np.ndarray:
    """The item's vector in its `PARTS`, (part, state_dim), at one setting of the globals."""
    layout, values = posterior.layout, posterior.values
    scaled = posterior.features[item].double() / math.sqrt(layout.embed_dim)
    text = values["weight"].double() @ scaled / math.sqrt(layout.state_dim)
    zero = torch.zeros_like(text)
    residual = values["residual"][item].double() if layout.residuals else zero
    level = values["intercept"].double() if "intercept" in values else zero
    return _array(torch.stack((text, residual, level)))


def item_parts(posterior: Posterior, item: int) -> ItemParts:
    """See `ItemParts`."""
    found = [_item_parts(one, item) for one in posterior.each or (posterior,)]
    text, own, level = np.mean(found, axis=0)
    return ItemParts(float(level), float(text), float(own))


def _item_parts(posterior: Posterior, item: int) -> np.ndarray:
    values = posterior.values
    parts: np.ndarray = vector_parts(posterior, item) @ _array(values["mean"])
    scaled = posterior.features[item].double() / math.sqrt(posterior.layout.embed_dim)
    bias = float(values["bias"]) if "bias" in values else 0.0
    offsets = float(values["offset_weight"].double() @ scaled), float(values["offset"][item])
    parts += np.array([*offsets, bias - float(level_cut(posterior))])
    return parts


def own_events(posterior: Posterior, user: int) -> History:
    """The user's events in the posterior's history."""
    return posterior.history.take(posterior.history.user_index == user)


def state_parts(posterior: Posterior, user: int, item: int, now: Belief, at: float) -> StateParts:
    """Share the predictor's part by state and context out, `now` the belief at `at` seconds.

    Filters the user's own events once more, among everybody's.
    """
    own = own_events(posterior, user)
    start = restarted(posterior)
    others = posterior.history.take(posterior.history.user_index != user)
    found, after, _ = filter_history(replace(start, history=others), own)
    gap = (at - own.seconds[-1:]) / SECONDS_PER_DAY if len(own) else np.zeros(1)
    decay = float(elapsed_growth(torch.as_tensor(gap), posterior.layout.half_life_days)[0][0])
    settings = list(
        zip(
            posterior.each or (posterior,),
            found.members or (found,),
            after.members or (after,),
            now.members or (now,),
            strict=True,
        )
    )
    parts = [_state_parts(*one, (user, item), decay) for one in settings]
    return StateParts(*(np.mean(part, axis=0) for part in zip(*parts, strict=True)))


def _state_parts(
    posterior: Posterior,
    found: Forecasts,
    after: Belief,
    now: Belief,
    pair: tuple[int, int],
    decay: float,
) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """The fields of StateParts at one setting of the globals."""
    user, item = pair
    parts = vector_parts(posterior, item)
    targets = np.stack((parts.sum(0), parts[0]))
    stored, again = (_array(one.mean[user]) for one in (posterior.belief, after))
    context = targets @ (_array(now.mean[0]) - decay * stored)
    shares = shared_out(posterior, found, again, decay * targets)[found.history.absorb]
    rest = float(decay * targets[0] @ (stored - again))
    return shares[:, 0], shares[:, 1], float(context[0]), float(context[1]), rest


def shared_out(
    posterior: Posterior, found: Forecasts, last: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """`targets . last` as a sum over the events of one user's history, (event, target).

    Args:
        posterior: one setting of the globals.
        found: forecasts of the user's events.
        last: the state's mean after the last of them, (state_dim,).
        targets: weights of that state, (target, state_dim).
    """
    history, before = found.history, _array(found.state_mean)
    days = torch.as_tensor(history.elapsed_days())
    decay = elapsed_growth(days, posterior.layout.half_life_days)[0].numpy()
    kept = kept_of_states(posterior, found) if posterior.choice else None
    out = np.zeros((len(history), len(targets)))
    weights, held = targets, targets @ last
    for event in reversed(range(len(history))):
        if kept is not None and history.absorb[event]:
            weights = weights @ kept[event] if kept.ndim == 3 else weights * kept[event]
        rest = weights @ before[event]
        out[event], held = held - rest, rest
        weights = weights * decay[event]
    return out


def kept_of_states(posterior: Posterior, found: Forecasts) -> np.ndarray:
    """choice: what each event leaves of the state before it, `P_after / P_before` as in the filter:
    (event, state_dim), or (event, state_dim, state_dim) of full covariances.
    """
    assert found.state_cov is not None
    if found.state_cov.ndim == 3:
        return _kept_of_full_states(posterior, found)
    history, values, like = found.history, posterior.values, found.state_mean
    item, kind = (
        torch.as_tensor(index, dtype=torch.long, device=like.device)
        for index in (history.item_index, history.kind_index)
    )
    rho, state = reliability(values, kind), found.state_mean
    if found.context is not None:
        state = state + found.context
    covariates = torch.as_tensor(found.rows.own()).to(like)
    choices = Choices(item, rho, kind, covariates, np.arange(len(history)), found.rows)
    seen = look(values, posterior.items, choices, state).moments.var
    return _array(1.0 / (1.0 + rho[:, None] ** 2 * seen * found.state_cov))


def _kept_of_full_states(posterior: Posterior, found: Forecasts) -> np.ndarray:
    """`P_after P_before^-1` of every event."""
    assert found.state_cov is not None
    history, everything = found.history, np.arange(len(found.history))
    item, kind = (torch.as_tensor(one) for one in (history.item_index, history.kind_index))
    items = posterior.items
    base = found.rows.dense(everything, posterior.values) + items.offsets
    base = base + novelty_of_events(posterior, found.rows, everything)
    before = Belief(found.state_mean.double(), found.state_cov.double())
    after = absorb_choices(posterior.values, items, base, item.long(), kind.long(), before)
    return _array(torch.linalg.solve(before.cov, after.cov).mT)


def _array(values: Tensor) -> np.ndarray:
    out: np.ndarray = values.detach().double().cpu().numpy()
    return out
