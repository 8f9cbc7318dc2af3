"""Updates that teach about items, too: residuals, offsets and their covariances move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bayes_interest.errors import ConfigError
from bayes_interest.events.history import History, join_histories
from bayes_interest.model.batch import EventTensors
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Globals, Items
from bayes_interest.posterior.online import candidate_rows, check_order, contexts
from bayes_interest.posterior.posterior import Member, Posterior


def check_learns_items(posterior: Posterior) -> None:
    """Raise ConfigError for choice, whose every event is about all items."""
    if posterior.choice:
        raise ConfigError(
            "learn_items=True: a choice model learns about items in fitting only; expected "
            "bernoulli or rating"
        )


def absorb_together(posterior: Posterior, history: History) -> Posterior:
    """As `absorb`, and every event moves its item beside its user, in order of time."""
    check_order(posterior, history)
    rows = candidate_rows(posterior, history)
    own = rows.own()
    best, *others = (_moved(one, history, rows, own) for one in (posterior, *posterior.each))
    last = posterior.last_seconds.copy()
    np.fmax.at(last, history.user_index, history.seconds)
    return replace(
        posterior,
        values=best[0],
        item_cov=best[1],
        members=tuple(Member(values, cov) for values, cov, _ in others),
        belief=replace(best[2], members=tuple(after for _, _, after in others)),
        last_seconds=last,
        history=join_histories(posterior.history, history, len(posterior.vocabulary.users)),
    )


def _moved(
    posterior: Posterior, history: History, rows: CandidateRows, own: np.ndarray
) -> tuple[Globals, torch.Tensor, Belief]:
    """Globals, item covariance and users' beliefs at one setting of the globals."""
    from bayes_interest.model.together import filter_together  # numba is slow to load

    like, layout = posterior.features, posterior.layout
    context = contexts(posterior, rows)
    here = torch.device("cpu")
    events = EventTensors.of(
        history,
        like.dtype,
        here,
        posterior.last_seconds,
        own,
        None if context is None else context.cpu(),
    )
    values = {name: value.cpu() for name, value in posterior.values.items()}
    items = Items(posterior.items.vectors.cpu(), posterior.items.offsets.cpu())
    before = Belief(posterior.belief.mean.cpu(), posterior.belief.cov.cpu())
    after, learned, cov = filter_together(
        layout, values, items, posterior.item_cov.cpu(), events, history, before
    )
    values["offset"] = values["offset"] + learned[:, -1]
    if layout.residuals:
        values["residual"] = values["residual"] + learned[:, :-1]
    moved = {name: value.to(like.device) for name, value in values.items()}
    belief = Belief(after.mean.to(like.device), after.cov.to(like.device))
    return moved, cov.to(like.device), belief
