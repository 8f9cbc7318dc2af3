"""One user at one moment with the items that may be shown: what every ranking starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.blocks import in_blocks
from bayes_interest.posterior.draws import draw_predictors, draws_interval
from bayes_interest.posterior.exposure import ExposedUsers
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    Predictors,
    advanced_belief,
    circumstances,
    interest_interval,
    interest_mean,
    interest_probabilities,
    level_cut,
    predictors,
)
from bayes_interest.posterior.products import PAIR_BY_PAIR
from bayes_interest.progress import bar


@dataclass(frozen=True, eq=False)
class Together:
    """Some users at their moments, whose predictors are computed together."""

    posterior: Posterior
    belief: Belief
    extra: Tensor  # what the moments add to the predictor, (setting, user, item)

    @cached_property
    def found(self) -> Predictors:
        """Moments of every item's predictor, (user, item)."""
        return predictors(self.posterior, self.belief, self.extra, PAIR_BY_PAIR)


@dataclass(frozen=True, eq=False)
class Asked:
    """A user, what is believed of them, and the allowed items."""

    row: int  # place among the users asked about
    user: int  # position in the posterior
    among: Together
    place: int  # in `among`
    allowed: Tensor  # (item,) bool

    @property
    def belief(self) -> Belief:
        """Of one user, at the moment."""
        return self.among.belief.take(slice(self.place, self.place + 1))

    @property
    def extra(self) -> Tensor:
        """What the moment adds to the predictor, (setting, 1, item)."""
        return self.among.extra[:, self.place : self.place + 1]

    @property
    def found(self) -> Predictors:
        """Moments of the items' predictors, (item,)."""
        return self.among.found.of(self.place, slice(None))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Joint draws of one user's items."""

    order: Tensor  # numbers whose order is the order of the items, (draw, item)
    probs: Tensor  # probabilities, (draw, item)
    mean: Tensor  # of these, (item,)
    interval: Callable[[Tensor], Interval]  # of those of some items (some,)


def each_user(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    exclude_seen: bool,
) -> Iterator[Asked]:
    """Users (positions) at moments (user,) with their allowed items, of which there may be none."""
    belief = advanced_belief(posterior, users, seconds)

    def extras(rows: slice) -> Tensor:
        return circumstances(posterior, users[rows], seconds[rows])

    with bar(total=len(users), desc="users", unit="user") as shown:
        for rows, extra in in_blocks(len(users), extras):
            among = Together(posterior, belief.take(rows), extra)
            for place, row in enumerate(range(rows.start, rows.stop)):
                allowed = np.zeros(posterior.layout.n_items, dtype=bool)
                allowed[candidates] = True
                if exclude_seen:
                    allowed[posterior.seen_by(users[row])] = False
                mask = torch.as_tensor(allowed, device=extra.device)
                yield Asked(row, int(users[row]), among, place, mask)
                shown.update()


def draw_user(
    posterior: Posterior,
    asked: Asked,
    prob: float,
    n_draws: int,
    seed: int,
    exposure: ExposedUsers | None = None,
) -> Drawn:
    """Joint draws of a user's items and the interval of every probability.

    A choice is among the allowed candidates, so the probabilities of the others are zero. With
    `exposure` probabilities are those of meeting the item next, and of interest.
    """
    order = draw_predictors(posterior, asked.belief, asked.extra, n_draws, seed)[0]
    allowed = asked.allowed
    if posterior.choice:
        masked = torch.where(allowed, order, order.new_tensor(-torch.inf))
        return _by_draws(order, interest_probabilities(posterior, masked), prob)
    probs = interest_probabilities(posterior, order)
    if exposure is not None:
        probs = probs * exposure.draws(asked.row, allowed)
        return _by_draws(probs, probs, prob)
    found, cut, mapped = asked.found, level_cut(posterior), posterior.recalibration

    def interval(items: Tensor) -> Interval:
        return interest_interval(found.some(items), prob, cut, mapped)

    return Drawn(order, probs, interest_mean(found, cut, mapped), interval)


def _by_draws(order: Tensor, probs: Tensor, prob: float) -> Drawn:
    return Drawn(order, probs, probs.mean(0), lambda items: draws_interval(probs[:, items], prob))


def with_stranger(posterior: Posterior) -> tuple[Posterior, int]:
    """The posterior with a nameless user at the prior added, and that user's position."""
    n_users = len(posterior.last_seconds)
    wider = replace(
        posterior,
        belief=posterior.belief.extended(1, posterior.values),
        last_seconds=np.append(posterior.last_seconds, np.nan),
        history=replace(posterior.history, n_users=n_users + 1),
    )
    return wider, n_users
