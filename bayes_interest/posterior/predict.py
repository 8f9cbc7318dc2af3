"""Interest probabilities with intervals, from states, items and families.

What the probability means: bernoulli P(engaged, given shown); rating P(rating >= the stated
level); choice P(the next choice is this item, given the candidates). `mean` is its posterior
mean, `lower` and `upper` its equal-tailed interval; noise of the outcome itself is not mixed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from bayes_interest.emissions.logistic import sigmoid_and_slope
from bayes_interest.emissions.ordered import increasing_cuts
from bayes_interest.emissions.quadrature import nodes_and_weights
from bayes_interest.errors import ConfigError, InputError, TimeOrderError
from bayes_interest.model.candidates import CandidateRows, covariate_tables
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import COVARIATES, emission_of
from bayes_interest.posterior.mixture import mixture_bounds
from bayes_interest.posterior.online import (
    Forecasts,
    contexts,
    moments_of,
    novelty_of_events,
)
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.probability_map import EDGE, ProbabilityMap
from bayes_interest.posterior.products import TOGETHER, Products
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import elapsed_growth

RANK_NODES = 8
"""Of the quadrature that only orders items."""


@dataclass(frozen=True)
class Interval:
    """Summaries of probabilities, all of one shape."""

    mean: Tensor
    sd: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class Predictors:
    """Linear predictors of some users for all items: Gaussian, items given the state apart."""

    mean: Tensor  # (user, item)
    state_var: Tensor  # x_i . P x_i, (user, item)
    item_var: Tensor  # from residual and offset, independent between items, (user, item)
    members: tuple[Predictors, ...] = ()  # at each draw of the globals; above: their mixture's

    def of(self, user: int, items: Tensor | slice) -> Predictors:
        """Those of one user for some items, (item,)."""
        members = tuple(member.of(user, items) for member in self.members)
        mean, state_var = self.mean[user, items], self.state_var[user, items]
        return Predictors(mean, state_var, self.item_var[user, items], members)

    def some(self, items: Tensor) -> Predictors:
        """Of one user's (item,) those of some items."""
        members = tuple(member.some(items) for member in self.members)
        mean, state_var = self.mean[items], self.state_var[items]
        return Predictors(mean, state_var, self.item_var[items], members)

    @property
    def each(self) -> tuple[Predictors, ...]:
        """At each draw of the globals; itself where there is none."""
        return self.members or (self,)

    @property
    def var(self) -> Tensor:
        """Total variance."""
        return self.state_var + self.item_var


def check_prob(prob: float) -> None:
    """An interval's mass lies strictly between 0 and 1."""
    if not 0.0 < prob < 1.0:
        raise InputError(f"prob={prob!r}: expected the mass of the interval, between 0 and 1")


def check_draws(n_draws: int) -> None:
    """Summaries need at least two joint draws."""
    if isinstance(n_draws, bool) or not isinstance(n_draws, Integral) or n_draws < 2:
        raise ConfigError(f"n_draws={n_draws!r}: expected a whole number, at least 2")


def clock(posterior: Posterior) -> float:
    """The latest time the model has absorbed, in unix seconds."""
    last = posterior.last_seconds
    return float(np.nanmax(last)) if np.isfinite(last).any() else 0.0


def advanced_belief(posterior: Posterior, users: np.ndarray, seconds: np.ndarray) -> Belief:
    """Beliefs at moments (user,) not before each user's last absorbed event.

    Where the model has a context, it is added to the mean: `y + c`.
    """
    last = posterior.last_seconds[users]
    late = np.flatnonzero(seconds < last)
    if len(late):
        at = late[0]
        raise TimeOrderError(
            f"at={seconds[at]:.0f} s lies before the last absorbed event of user "
            f"{posterior.vocabulary.users.ids[users[at]]!r} at {last[at]:.0f} s; the state there "
            "has seen its future. Use trajectory() for the past"
        )
    later = _advanced(posterior, users, seconds, last)
    members = tuple(_advanced(one, users, seconds, last) for one in posterior.each)
    return replace(later, members=members)


def _advanced(
    posterior: Posterior, users: np.ndarray, seconds: np.ndarray, last: np.ndarray
) -> Belief:
    """At one setting of the globals."""
    gap = np.nan_to_num((seconds - last) / SECONDS_PER_DAY)
    days = torch.as_tensor(gap).to(posterior.features)[:, None]
    decay, growth = elapsed_growth(days, posterior.layout.half_life_days)
    index = _index(users, days.device)
    belief = Belief(posterior.belief.mean[index], posterior.belief.cov[index])
    variance = growth * (2.0 * posterior.values["log_drift"]).exp()
    if "log_event_drift" in posterior.values:  # the event asked about would be one more
        moved = torch.as_tensor(np.isfinite(last)).to(days)[:, None]
        variance = variance + moved * (2.0 * posterior.values["log_event_drift"]).exp()
    later = belief.advanced(decay, variance)
    if not posterior.layout.context_layers:
        return later
    context = contexts(posterior, moments_of(posterior, users, seconds))
    assert context is not None
    return Belief(later.mean + context, later.cov)


def _index(users: np.ndarray, device: torch.device) -> slice | Tensor:
    """What takes the rows of some users (positions); what lies in one piece is not copied."""
    first = int(users[0]) if len(users) else 0
    if np.array_equal(users, np.arange(first, first + len(users))):
        return slice(first, first + len(users))
    return torch.as_tensor(users, device=device)


def circumstances(posterior: Posterior, users: np.ndarray, seconds: np.ndarray) -> Tensor:
    """Extra predictor of every item for users at moments: popularity, repeats, novelty.

    (setting, user, item): one setting, or one for each draw of the globals where the weights of the
    covariates are among them.
    """
    weight = posterior.values.get(COVARIATES)
    if weight is None or not bool(weight.any()):  # then nobody need look through the log
        nothing = posterior.features.new_zeros(1, len(users), posterior.layout.n_items)
        return nothing + novelty(posterior, seconds)
    rows = moments_of(posterior, users, seconds)
    return extra_tables(posterior, rows) + novelty(posterior, seconds)


def extra_tables(
    posterior: Posterior, rows: CandidateRows, items: np.ndarray | None = None
) -> Tensor:
    """What the covariates add at the moments of `rows`, (setting, moment, item), of all items or
    those at some positions.
    """
    each = [posterior.values]
    if posterior.layout.emission == "choice" and posterior.members:
        each = [one.values for one in posterior.members]
    return covariate_tables(rows.surroundings, rows.moment, each, items)


def extra_at(extra: Tensor, turn: int) -> Tensor:
    """Of (setting, user, item) that of one draw of the globals, (1, user, item)."""
    return extra if len(extra) == 1 else extra[turn : turn + 1]


def circumstances_of_events(posterior: Posterior, part: np.ndarray, rows: CandidateRows) -> Tensor:
    """Extra predictor of every item just before some events of a filtered history.

    (setting, event, item), as in `circumstances`.
    """
    extra = extra_tables(posterior, replace(rows, moment=rows.moment[part]))
    return extra + novelty_of_events(posterior, rows, part)


def novelty(posterior: Posterior, seconds: np.ndarray) -> Tensor:
    """`cold_shift` for items without an event before the moment, (moment, item)."""
    if posterior.cold_shift == 0.0:
        return posterior.features.new_zeros(1, 1)
    cold = posterior.first_seconds[None, :] >= seconds[:, None]
    return posterior.cold_shift * torch.as_tensor(cold).to(posterior.features)


def predictors(
    posterior: Posterior, belief: Belief, extra: Tensor, products: Products = TOGETHER
) -> Predictors:
    """Moments of the linear predictor of every item, for users with these beliefs.

    `extra` (setting, user, item) is what the moment adds, see `circumstances`, for the items that
    `products` wants.
    With draws of the globals, those of the mixture; what the draws differ by counts to the state,
    and what their cut points differ by to the mean.
    """
    if not belief.members:
        return _predictors(posterior, belief, extra[0], products)
    pairs = zip(posterior.each, belief.members, strict=True)
    cut = level_cut(posterior)
    found = tuple(
        _predictors(one, own, extra_at(extra, turn)[0] + cut - level_cut(one), products)
        for turn, (one, own) in enumerate(pairs)
    )
    mean = torch.stack([one.mean for one in found])
    within = torch.stack([one.state_var for one in found]).mean(0)
    item_var = torch.stack([one.item_var for one in found]).mean(0)
    return Predictors(mean.mean(0), within + mean.var(0, correction=0), item_var, found)


def settings(posterior: Posterior, belief: Belief) -> list[tuple[Posterior, Belief]]:
    """The draws of the globals with what is believed at each, or the only setting there is."""
    if not belief.members:
        return [(posterior, belief)]
    return list(zip(posterior.each, belief.members, strict=True))


def _predictors(
    posterior: Posterior, belief: Belief, extra: Tensor, products: Products
) -> Predictors:
    """At one setting of the globals."""
    items = posterior.items
    mean = products.dots(belief.mean, items.vectors) + products.of(items.offsets) + extra
    if belief.diagonal:
        state_var = products.dots(belief.cov, items.vectors**2)
    else:
        state_var = products.forms(belief.cov, items.vectors)
    return Predictors(mean, state_var.clamp_min(0.0), item_variance(posterior, belief, products))


def item_variance(posterior: Posterior, belief: Belief, products: Products = TOGETHER) -> Tensor:
    """Variance by what is not known of the items themselves, (user, item)."""
    cov = posterior.item_cov
    state = posterior.values["mean"] + belief.mean
    if posterior.items_known:
        return state.new_zeros(len(state), len(products.of(posterior.items.offsets)))
    one = torch.ones_like(state[:, :1])
    if cov.ndim == 2:
        return products.dots(torch.cat((state**2 + belief.variance, one), 1), cov)
    extended = torch.cat((state, one), 1)
    second = extended[:, :, None] * extended[:, None, :]
    second[:, :-1, :-1] += belief.cov
    return products.dots(second.flatten(1), cov.flatten(1)).clamp_min(0.0)


def level_cut(posterior: Posterior) -> Tensor:
    """Interest is `sigmoid(a - cut)`: 0, or for ratings the cut of the stated level."""
    if posterior.layout.emission != "rating":
        return posterior.features.new_zeros(())
    return increasing_cuts(posterior.values["raw_cuts"])[posterior.level - 1]


def interest_interval(
    found: Predictors,
    prob: float,
    cut: Tensor | float = 0.0,
    mapped: ProbabilityMap | None = None,
) -> Interval:
    """Of `sigmoid(a - cut)`, by the mixture over draws of the globals where there are some.

    Recalibrated, the bounds are mapped, and so is the mean, as the probability that the map was
    fitted on; the sd is that of mapped probabilities, by quadrature.
    """
    plain = _raw_interval(found, prob, cut)
    if mapped is None:
        return plain
    each = [sigmoid_moments(one.mean - cut, one.var, link=mapped) for one in found.each]
    first, second = (torch.stack(part).mean(0) for part in zip(*each, strict=True))
    spread = (second - first**2).clamp_min(0.0).sqrt()
    return Interval(mapped(plain.mean), spread, mapped(plain.lower), mapped(plain.upper))


def interest_mean(
    found: Predictors, cut: Tensor | float = 0.0, mapped: ProbabilityMap | None = None
) -> Tensor:
    """Of `interest_interval` the mean alone."""
    each = [sigmoid_and_slope(one.mean - cut, one.var)[0] for one in found.each]
    plain = torch.stack(each).mean(0)
    return plain if mapped is None else mapped(plain)


def _raw_interval(found: Predictors, prob: float, cut: Tensor | float) -> Interval:
    if not found.members:
        return sigmoid_interval(found.mean - cut, found.var, prob)
    mean = torch.stack([one.mean - cut for one in found.members])
    var = torch.stack([one.var for one in found.members])
    first, second = (part.mean(0) for part in sigmoid_moments(mean, var))
    edges = mixture_bounds(mean, var, prob)
    spread = (second - first**2).clamp_min(0.0).sqrt()
    return Interval(first, spread, torch.sigmoid(edges[0]), torch.sigmoid(edges[1]))


def sigmoid_interval(mean: Tensor, var: Tensor, prob: float) -> Interval:
    """Of `sigmoid(a)`, `a ~ N(mean, var)`."""
    first, second = sigmoid_moments(mean, var)
    half = float(ndtri(0.5 + prob / 2.0)) * var.clamp_min(0.0).sqrt()
    spread = (second - first**2).clamp_min(0.0).sqrt()
    return Interval(first, spread, torch.sigmoid(mean - half), torch.sigmoid(mean + half))


def sigmoid_moments(
    mean: Tensor, var: Tensor, link: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """`E[sigmoid(a)]` and `E[sigmoid(a)^2] = E[sigmoid(a)] - E[sigmoid'(a)]`, exactly; or those of
    `link(sigmoid(a))`, by quadrature.
    """
    if link is None:
        first, slope = sigmoid_and_slope(mean, var)
        return first, first - slope
    nodes, weights = nodes_and_weights(mean)
    sd = var.clamp_min(0.0).sqrt()
    first, second = torch.zeros_like(mean), torch.zeros_like(mean)
    for node, weight in zip(nodes, weights, strict=True):
        value = link(torch.sigmoid(mean + node * sd))
        first += weight * value
        second += weight * value**2
    return first, second


def level_survival(posterior: Posterior, found: Predictors) -> Tensor:
    """rating: P(level index >= k) at predictors, k from 1, recalibrated where it is, (k, ...)."""
    return recalibrated_survival(posterior, _survival(posterior, found))


def _survival(posterior: Posterior, found: Predictors) -> Tensor:
    if found.members:
        cut, each = level_cut(posterior), []
        for one, own in zip(posterior.each, found.members, strict=True):
            each.append(_survival(one, replace(own, mean=own.mean - cut + level_cut(one))))
        return torch.stack(each).mean(0)
    cuts = increasing_cuts(posterior.values["raw_cuts"])
    return torch.stack([sigmoid_moments(found.mean - cut, found.var)[0] for cut in cuts])


def recalibrated_survival(posterior: Posterior, plain: Tensor) -> Tensor:
    """P(level index >= k), k from 1, (k, ...), from raw ones.

    The map changes P(rating >= the stated level); what is known of the rating given the side of
    that level it falls on stays (Jeffrey's rule).
    """
    if posterior.recalibration is None:
        return plain
    above, below = side_factors(posterior, plain[posterior.level - 1])
    rest = 1.0 - (1.0 - plain) * below
    stated = torch.arange(1, len(plain) + 1, device=plain.device) >= posterior.level
    return torch.where(stated.view(-1, *[1] * (plain.ndim - 1)), plain * above, rest).to(plain)


def side_factors(posterior: Posterior, plain: Tensor) -> tuple[Tensor, Tensor]:
    """What recalibration multiplies probabilities of outcomes by: those of interest, the others.

    `plain` is the raw P(interest).
    """
    assert posterior.recalibration is not None
    raw = plain.double().clamp(EDGE, 1.0 - EDGE)
    mapped = posterior.recalibration(raw)
    return mapped / raw, (1.0 - mapped) / (1.0 - raw)


def expected_rating(posterior: Posterior, found: Predictors) -> Tensor:
    """`E[rating]` at predictors: the lowest level plus every step times P(it is taken)."""
    levels = posterior.vocabulary.levels
    total = torch.full_like(found.mean, levels[0])
    for taken, step in zip(level_survival(posterior, found), np.diff(levels), strict=True):
        total += float(step) * taken
    return total


def interest_probabilities(posterior: Posterior, drawn: Tensor) -> Tensor:
    """Predictor draws (draw, item) as probabilities of the family, recalibrated where they are."""
    mapped = posterior.recalibration
    if posterior.layout.emission == "choice":
        return torch.softmax(drawn if mapped is None else mapped.slope * drawn, -1)
    plain = torch.sigmoid(drawn - level_cut(posterior))
    return plain if mapped is None else mapped(plain)


def held_back_loss(posterior: Posterior, found: Forecasts) -> float:
    """Minus mean log probability of the outcomes; choices at the mean state."""
    if found.log_prob is not None:
        return -float(found.log_prob.double().mean())
    assert found.mean is not None
    assert found.var is not None
    outcome = torch.as_tensor(found.history.outcome).to(posterior.features)
    emission = emission_of(posterior.layout, posterior.values)
    chance = emission.predictive(found.mean, found.var, outcome)
    return -float(chance.clamp_min(1e-30).log().double().mean())
