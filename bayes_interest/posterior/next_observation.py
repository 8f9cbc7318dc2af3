"""What one more observation would do to the variance of one predictor: expected, per candidate.

bernoulli and rating: an event with item j has one of the family's outcomes, each with its
predictive probability; after each of them the filter's own site leaves a mean and a variance, and
the expectation over outcomes is exact. choice: the next choice is item j, and the filter's own step
follows; where states have variances only, its site's precision is the same whatever is chosen, and
candidates differ by the state's mean alone.

Covariates and, where there is one, the context stay as they are: the former bear on no variance.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.choice_filter import absorb_choices
from bayes_interest.model.filtering import Belief, moment_site
from bayes_interest.model.parameters import emission_of
from bayes_interest.model.softmax import Choices, look
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    extra_tables,
    level_cut,
    novelty,
    predictors,
    settings,
)
from bayes_interest.statespace.kalman import gain_and_pull


def expected_variances(
    posterior: Posterior, now: Belief, rows: CandidateRows, item: int, candidates: np.ndarray
) -> np.ndarray:
    """Expected variance of the predictor of `item` after one event with each candidate.

    Args:
        posterior: the model.
        now: what is believed of one user at the moment.
        rows: the surroundings of that moment, a single row.
        item: position of the item whose predictor it is.
        candidates: positions of items, (candidate,).
    """
    index = torch.as_tensor(candidates, device=now.mean.device)
    each = settings(posterior, now)
    if posterior.choice:
        after = [_after_choice(one, own, rows, item, index) for one, own in each]
        mean, var = (torch.stack(part) for part in zip(*after, strict=True))
        return _array(var.mean(0) + mean.var(0, correction=0))
    extra = extra_tables(posterior, rows)
    found = [_after_outcomes(one, own, extra, item, index) for one, own in each]
    chance, mean, var = (torch.stack(part) for part in zip(*found, strict=True))
    total = var.mean(0) + mean.var(0, correction=0)
    return _array((chance.mean(0) * total).sum(0))


def _array(values: Tensor) -> np.ndarray:
    out: np.ndarray = values.cpu().numpy()
    return out


def _after_outcomes(
    posterior: Posterior, now: Belief, extra: Tensor, item: int, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of each outcome, and the predictor's mean and variance after it.

    (outcome, candidate) each, at one setting of the globals.
    """
    found, vectors = predictors(posterior, now, extra), posterior.items.vectors.double()
    x, cov = vectors[candidates], now.cov[0].double()
    along = x @ cov
    var = (along * x).sum(1)
    mean = found.mean[0, candidates].double()
    total = var + found.item_var[0, candidates].double()
    levels = torch.arange(posterior.layout.n_levels, device=x.device).double()
    outcome = levels[:, None].expand(-1, len(candidates))
    double = {name: value.double() for name, value in posterior.values.items()}
    emission = emission_of(posterior.layout, double)
    mean, total = mean.expand_as(outcome), total.expand_as(outcome)
    chance = emission.predictive(mean, total, outcome)
    slope = emission.evidence(mean, total, outcome).slope
    at = (x @ now.mean[0].double()).expand_as(outcome)
    gain, pull = gain_and_pull(at, var, *moment_site(slope, at, var))
    cross = along @ vectors[item]
    block = posterior.item_cov[item].double()
    slant, curve = _item_terms(posterior, now, block, along)
    own_mean = float(found.mean[0, item] - level_cut(posterior)) + pull * cross
    own_var = float(found.var[0, item]) - gain * cross**2
    own_var = own_var + 2.0 * pull * slant + (pull**2 - gain) * curve
    return chance, own_mean, own_var + _asked_again(posterior, item)


def _item_terms(
    posterior: Posterior, now: Belief, block: Tensor, along: Tensor
) -> tuple[Tensor, Tensor]:
    """`d . (B m + b)` and `d . B d` for moves `d` (candidate, state_dim) of the state's mean `m`.

    `B` and `b` are the covariance of the item's residual, and that with its offset.
    """
    state = posterior.values["mean"].double() + now.mean[0].double()
    inner = block[:-1, :-1]
    return along @ (inner @ state + block[:-1, -1]), (along @ inner * along).sum(1)


def _asked_again(posterior: Posterior, item: int) -> float:
    """Variance that the move of interest with the next event adds once there is one event more."""
    if "log_event_drift" not in posterior.values:
        return 0.0
    moved = torch.exp(2.0 * posterior.values["log_event_drift"].double())
    block = posterior.item_cov[item].double()
    own = block[:-1] if block.ndim == 1 else block.diagonal()[:-1]
    return float((posterior.items.vectors[item].double() ** 2 + own) @ moved)


def _after_choice(
    posterior: Posterior, now: Belief, rows: CandidateRows, item: int, candidates: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the predictor after each candidate was chosen, (candidate,) each.

    At one setting of the globals.
    """
    if not now.diagonal:
        return _after_choices(posterior, now, rows, item, candidates)
    values, device = posterior.values, now.mean.device
    one = torch.tensor([item], device=device)
    own = torch.as_tensor(rows.own()).to(now.mean)
    choices = Choices(one, torch.ones_like(own[:, 0]), 0 * one, own, np.arange(1), rows)
    seen = look(values, posterior.items, choices, now.mean).moments
    vectors, var = posterior.items.vectors.double(), now.cov[0].double()
    after = var / (1.0 + seen.var[0].double() * var)
    moved = now.mean[0].double() + after * (vectors[candidates] - seen.mean[0].double())
    mean, total = moved @ vectors[item], values["mean"].double() + moved
    extra = extra_tables(posterior, rows)[0, 0, item]
    block = posterior.item_cov[item].double()
    fixed = (vectors[item] ** 2 + block[:-1]) @ after + block[-1] + _asked_again(posterior, item)
    return mean + posterior.items.offsets[item] + extra, total**2 @ block[:-1] + fixed


def _after_choices(
    posterior: Posterior, now: Belief, rows: CandidateRows, item: int, candidates: Tensor
) -> tuple[Tensor, Tensor]:
    """The same of full covariances, by the filter's own step."""
    n, items = len(candidates), posterior.items
    moment = rows.surroundings.log.seconds[rows.moment]
    extra = extra_tables(posterior, rows)[0]
    base = (items.offsets + extra + novelty(posterior, moment)).expand(n, -1)
    before = Belief(now.mean.double().expand(n, -1), now.cov.double().expand(n, -1, -1))
    kind = torch.zeros_like(candidates)
    after = absorb_choices(posterior.values, items, base, candidates, kind, before)
    x, block = items.vectors[item].double(), posterior.item_cov[item].double()
    total = posterior.values["mean"].double() + after.mean
    var = (after.cov @ x) @ x + (total**2 + after.variance) @ block[:-1] + block[-1]
    mean = after.mean @ x + items.offsets[item] + extra[0, item]
    return mean, var + _asked_again(posterior, item)
