"""Change alarms: has a user's interest risen or fallen since a date, and how sure is that?

From the joint smoothed posterior of the two moments. Only the user's interest moves: what the
calendar adds (popularity, recency, running rates) is held at its value at the later moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.errors import InputError
from bayes_interest.events.split import moment_seconds
from bayes_interest.posterior.answers import find_users
from bayes_interest.posterior.draws import draws_interval, square_root
from bayes_interest.posterior.mixture import mixture_bounds, unseen_noise
from bayes_interest.posterior.online import moments_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    check_draws,
    check_prob,
    clock,
    extra_at,
    extra_tables,
    level_cut,
    novelty,
    predictors,
    sigmoid_moments,
)
from bayes_interest.posterior.target_interest import choice_shares
from bayes_interest.posterior.themes import Targets, make_targets
from bayes_interest.posterior.two_moments import Moments, TwoMoments, in_double
from bayes_interest.progress import bar
from bayes_interest.schema import LOWER, UPPER, USER_ID
from bayes_interest.text.encoder import Encoder

SINCE, AT, CHANGE = "since", "at", "change"
PROBABILITY_CHANGE, P_RISEN, P_FALLEN = "probability_change", "p_risen", "p_fallen"
FIGURES = [CHANGE, LOWER, UPPER, PROBABILITY_CHANGE, P_RISEN, P_FALLEN]


def changes(
    posterior: Posterior,
    users: Iterable[Any] | None,
    items: Iterable[Any] | None,
    themes: Mapping[str, object] | None,
    since: object,
    at: object,
    prob: float,
    top: int | None,
    n_draws: int,
    seed: int,
    encoder: Encoder | None,
) -> pd.DataFrame:
    """See `InterestModel.changes`."""
    check_prob(prob)
    check_draws(n_draws)
    _check_whole("top", top, 1)
    _check_whole("seed", seed, 0)
    posterior, who = find_users(posterior, users)
    begin, end = _span(posterior, since, at)
    targets = make_targets(posterior, items, themes, encoder)
    exact = [in_double(one) for one in posterior.each or (posterior,)]
    wide = [targets.of(in_double(one)) for one in targets.posterior.each or (targets.posterior,)]
    moments, calendar = (
        [Moments(one, who, begin, end) for one in exact],
        _Calendar(posterior, who, end),
    )
    tables = []
    for row, user in enumerate(bar(who, desc="changes", unit="user")):
        both, extra = [one.of(int(user)) for one in moments], calendar.extra(row)
        if posterior.choice:
            figures = _drawn(wide, both, extra, prob, n_draws, seed)
        else:
            figures = _exact(wide, both, extra, prob)
        figures = figures.assign(**{USER_ID: posterior.vocabulary.users.ids[user]})
        tables.append(figures if top is None else _most(figures, top))
    return _together(tables, targets.column, (begin, end), top)


def _together(
    tables: list[pd.DataFrame], column: str, span: tuple[float, float], top: int | None
) -> pd.DataFrame:
    names = [USER_ID, column, SINCE, AT, *FIGURES]
    if not tables:
        return pd.DataFrame({name: [] for name in names})
    out = pd.concat(tables, ignore_index=True)
    out = out if top is None else _most(out, top).reset_index(drop=True)
    moments = [pd.to_datetime(second, unit="s", utc=True) for second in span]
    return out.assign(**dict(zip((SINCE, AT), moments, strict=True)))[names]


def _check_whole(name: str, value: object, least: int) -> None:
    if value is None and name == "top":
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}={value!r}: expected a whole number >= {least}")


def _span(posterior: Posterior, since: object, at: object) -> tuple[float, float]:
    if since is None:
        raise InputError("changes needs since=: the date from which a change is counted")
    begin = moment_seconds(since)
    end = clock(posterior) if at is None else moment_seconds(at)
    if begin >= end:
        what = "the latest event" if at is None else f"at={at!r}"
        raise InputError(
            f"since={since!r} is not before {what} ({end:.0f} s): there is no time to change in"
        )
    return begin, end


class _Calendar:
    """What the later moment adds to the predictor of every item.

    For choice the user's own repeats, successions and likenesses are left out, as in trajectories.
    """

    def __init__(self, posterior: Posterior, users: np.ndarray, second: float) -> None:
        self.posterior = posterior
        self.shared = posterior.layout.emission == "choice"
        if self.shared:
            users = np.array([len(posterior.last_seconds)])
        self.rows = moments_of(posterior, users, np.full(len(users), second))
        self.novelty = novelty(posterior, np.array([second]))

    def extra(self, row: int) -> Tensor:
        """Of one user by place, (setting, 1, item)."""
        place = 0 if self.shared else row
        moment = self.rows.moment[place : place + 1]
        tables = extra_tables(self.posterior, replace(self.rows, moment=moment))
        return (tables + self.novelty).double()


def _exact(
    targets: list[Targets], both: list[TwoMoments], extra: Tensor, prob: float
) -> pd.DataFrame:
    """Scalar families: the change of the mean predictor of a target is a mixture of Gaussians, one
    for each draw of the globals.
    """
    parts = [_change(*one, extra) for one in zip(targets, both, strict=True)]
    mean, var, moved = (torch.stack([part[place] for part in parts]) for place in range(3))
    sd = var.clamp_min(torch.finfo(var.dtype).tiny).sqrt()
    risen = torch.special.ndtr(mean / sd).mean(0)
    edges = mixture_bounds(mean, var, prob)
    columns = [_column(x) for x in (mean.mean(0), *edges, moved.mean(0), risen, 1.0 - risen)]
    names = {targets[0].column: targets[0].names}
    return pd.DataFrame({**names, **dict(zip(FIGURES, columns, strict=True))})


def _change(targets: Targets, both: TwoMoments, extra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of the change of a target's predictor, and that of its probability.

    With `d = z_t - z_s ~ N(m, V)` and an item's vector `x ~ N(x, B)`: mean `x . m`, variance
    `x . V x + m . B m + tr(B V)`; offsets and everything else that stays cancel.
    """
    wide = targets.posterior
    vectors = targets.mean(wide.items.vectors)
    m, cov = both.change_mean, both.change_cov
    mean = vectors @ m
    block = wide.item_cov[:, :-1, :-1]
    own = torch.einsum("i,nij,j->n", m, block, m) + (block * cov).sum((-1, -2))
    var = ((vectors @ cov) * vectors).sum(1) + targets.mean(own, power=2)
    chances = []
    for belief in (both.before, both.after):
        found = predictors(wide, belief, targets.padded(extra))
        mean_now, link = found.mean[0] - level_cut(wide), wide.recalibration
        chances.append(sigmoid_moments(mean_now, found.var[0], link=link)[0])
    return mean, var, targets.mean(chances[1] - chances[0])


def _column(values: Tensor) -> np.ndarray:
    out: np.ndarray = values.double().cpu().numpy()
    return out


def _drawn(
    each: list[Targets],
    both: list[TwoMoments],
    extra: Tensor,
    prob: float,
    n_draws: int,
    seed: int,
) -> pd.DataFrame:
    """Choice: joint draws of the log probability of a target among all items at both moments.

    Draws of the globals, where there are some, take turns; of those not made see `unseen_noise`.
    """
    targets, drawn, means = each[0], [], []
    for turn, (own, moments) in enumerate(zip(each, both, strict=True)):
        count = len(range(turn, n_draws, len(both)))
        padded = extra_at(targets.padded(extra), turn)
        logits, mean = _two_logits(own.posterior, moments, padded, count, seed + turn)
        drawn.append(logits)
        means.append(mean)
    both_logits = torch.cat(drawn, 1) + unseen_noise(torch.stack(means, 1), n_draws, seed - 1)
    chances = [choice_shares(targets, logits).log() for logits in both_logits]
    apart = chances[1] - chances[0]
    found = draws_interval(apart, prob)
    risen = (apart > 0).double().mean(0) + 0.5 * (apart == 0).double().mean(0)
    moved = (chances[1].exp() - chances[0].exp()).mean(0)
    parts = (found.mean, found.lower, found.upper, moved, risen, 1.0 - risen)
    columns = {name: _column(part) for name, part in zip(FIGURES, parts, strict=True)}
    return pd.DataFrame({targets.column: targets.names, **columns})


def _two_logits(
    posterior: Posterior, both: TwoMoments, extra: Tensor, n_draws: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Joint draws of every item's logit at both moments, (2, draw, item), and means (2, item).

    An item's residual and offset are the same at both moments: with variances `B` their part of
    the logits has the covariance `sum_d B_d E[z_sd z_td] + B_offset`.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(width: int) -> Tensor:
        shape = (n_draws, width)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(extra)

    m = posterior.values["mean"]
    dim, n_items = len(m), extra.shape[-1]
    first, second = (
        predictors(posterior, both.before, extra),
        predictors(posterior, both.after, extra),
    )
    joint = both.joint_cov
    together = joint[:dim, dim:].diagonal()
    product = (m + both.before.mean[0]) * (m + both.after.mean[0]) + together
    shared = posterior.item_cov @ torch.cat((product, product.new_ones(1)))
    states = (noise(2 * dim) @ square_root(joint).T).unflatten(1, (2, dim)).transpose(0, 1)
    items = _pair(first.item_var[0], second.item_var[0], shared, noise(n_items), noise(n_items))
    vectors = posterior.items.vectors.T
    means = torch.stack((first.mean, second.mean))
    return means + states @ vectors + torch.stack(items), means[:, 0]


def _pair(
    var: Tensor, other: Tensor, cov: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    """Two zero-mean Gaussians with these variances and this covariance, from standard noise."""
    sd = var.clamp_min(torch.finfo(var.dtype).tiny).sqrt()
    along = cov / sd
    rest = (other - along**2).clamp_min(0.0).sqrt()
    return sd * first, along * first + rest * second


def _most(figures: pd.DataFrame, top: int) -> pd.DataFrame:
    """The largest credible changes: their interval leaves out zero; by its inner end."""
    lower, upper = figures[LOWER].to_numpy(), figures[UPPER].to_numpy()
    credible = np.maximum(lower, -upper)
    order = np.argsort(-credible, kind="stable")
    kept: pd.DataFrame = figures.iloc[order[credible[order] > 0.0][:top]]
    return kept
