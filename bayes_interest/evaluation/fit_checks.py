"""Did the fit settle, does interest move, and is there enough in the log to say so?"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr

from bayes_interest.evaluation.verdicts import Check, at_least, at_most
from bayes_interest.model.parameters import PRIOR_SCALES, SCALE_CENTRES
from bayes_interest.posterior.posterior import FitSummary, Posterior
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import elapsed_growth

SETTLING = (*SCALE_CENTRES, "log_drift", "log_event_drift", "log_reliability", "raw_cuts", "bias")
LEAST_DRAWS = 8
"""Globals of which it can be said that they settle, and draws that it takes to say so."""


def fit_checks(summary: FitSummary) -> list[Check]:
    """From the losses of the epochs; held back where there is a slice, else minus ELBO."""
    loss = np.array([row["loss"] for row in summary.epochs])
    held = np.array([row["held_back_loss"] for row in summary.epochs])
    watched = np.isfinite(held).all() and len(held) > 0
    series = held if watched else loss
    name = "held-back loss" if watched else "loss (minus ELBO)"
    found = [
        at_most(
            "still falling",
            _last_fall(series),
            0.01,
            0.05,
            f"How much the last epoch still lowered the {name}, in nats per event.",
            "the fit was cut short (after one epoch nobody can tell); more `max_epochs`.",
        ),
        at_most(
            "loss rose",
            float(loss[-1] - loss.min()) if len(loss) else np.nan,
            0.05,
            0.2,
            "Last loss (minus ELBO) above the lowest, in nats per event.",
            "the ascent runs away; a smaller `learning_rate` or more `site_steps`.",
        ),
    ]
    if watched and len(held) > 1:
        found.append(
            at_least(
                "best epoch",
                summary.best_epoch,
                2,
                1,
                "The epoch with the lowest held-back loss.",
                "later epochs only made the held-back slice worse; a smaller `learning_rate`, or "
                "the slice is unlike the rest.",
            )
        )
    return found


def _last_fall(series: np.ndarray) -> float:
    """Of the last epoch if it is the best one so far; NaN with fewer than two epochs."""
    if len(series) < 2:
        return float("nan")
    return float(max(0.0, series[:-1].min() - series[-1]))


def drift_checks(posterior: Posterior) -> list[Check]:
    """How much of interest is drift over a typical history, and whether the log taught that."""
    share = drift_shares(posterior)
    weight = (posterior.items.vectors.double() ** 2).mean(0).cpu().numpy()
    weight = weight / max(weight.sum(), 1e-12)
    by = ", ".join(f"{one:.2f}" for one in share)
    value = float((share * weight).sum())
    what = f"Share of interest's variance that a typical history's drift makes (by dimension {by})."
    moved = "interest hardly moves: a static model would say the same."
    flees = "drift swamps all else and old events say nothing; a `half_life_days`, more events."
    if value < 0.5:
        first = at_least("drift", value, 0.01, -1.0, what, moved)
    else:
        first = at_most("drift", value, 0.9, 0.99, what, flees)
    centre = np.array(posterior.layout.log_drift_centre)
    log_drift = posterior.values["log_drift"].double().cpu().numpy()
    told = float(np.abs(log_drift - centre).max() / PRIOR_SCALES["log_drift"])
    second = at_least(
        "drift identified",
        told,
        0.1,
        -1.0,
        "How far the log moved the drift scales from their prior centres, in prior sds.",
        "the log says nothing about how fast interest moves; the answer is the prior's.",
    )
    return [first, second]


def drift_shares(posterior: Posterior) -> np.ndarray:
    """`q / (1 + q)` by dimension, `q` the walk's variance over a typical history.

    Typical is the event-weighted mean span in days, and for event drift the number of events.
    """
    history, like = posterior.history, posterior.features
    use = history.take(history.absorb)
    start, length = use.start, use.lengths
    has = length > 0
    span = use.seconds[start[1:][has] - 1] - use.seconds[start[:-1][has]]
    days = float(np.average(span, weights=length[has])) / SECONDS_PER_DAY
    growth = elapsed_growth(like.new_tensor([days]), posterior.layout.half_life_days)[1]
    variance = growth * torch.exp(2.0 * posterior.values["log_drift"])
    if "log_event_drift" in posterior.values:
        steps = float(np.average(length[has], weights=length[has])) - 1.0
        variance = variance + steps * torch.exp(2.0 * posterior.values["log_event_drift"])
    shares: np.ndarray = (variance / (1.0 + variance)).double().cpu().numpy()
    return shares


def settled_checks(posterior: Posterior) -> list[Check]:
    """Whether draws of the globals, in the order in which they were made, still go one way.

    Of drift scales only their mean counts: dimensions may turn into each other, which changes no
    answer. Ten numbers of 16 draws reach a rank correlation of 0.85 by chance in 1 of 3,000 fits.
    """
    each = [one.values for one in posterior.members]
    if len(each) < LEAST_DRAWS:
        return []
    names = [name for name in SETTLING if name in each[0]]
    drawn = [torch.stack([_told_apart(name, one[name]) for one in each]) for name in names]
    owner = np.repeat(names, [part.shape[1] for part in drawn])
    columns = torch.cat(drawn, 1).double().cpu().numpy().T
    moves = np.ptp(columns, axis=1) > 0.0
    owner, columns = owner[moves], columns[moves]
    if not len(columns):
        return []
    trend = np.abs([spearmanr(np.arange(len(each)), column).statistic for column in columns])
    most = int(trend.argmax())
    return [
        at_most(
            "settled draws",
            float(trend[most]),
            0.85,
            0.95,
            "Greatest rank correlation of a global parameter's draws with the order in which they "
            f"were made, that of {owner[most]}.",
            "the draws still move one way, and so would the intervals; fewer dimensions or items, "
            "or n_members=1.",
        )
    ]


def _told_apart(name: str, value: torch.Tensor) -> torch.Tensor:
    """The numbers of a parameter, or their mean where dimensions have no order, (number,)."""
    return value.mean().reshape(1) if "drift" in name else value.reshape(-1)


def data_checks(posterior: Posterior) -> list[Check]:
    """Events per user and item, what they tell about states, and whether residuals are alive."""
    history, layout = posterior.history, posterior.layout
    use = history.absorb
    per_user = np.bincount(history.user_index[use], minlength=history.n_users)
    per_user = per_user[per_user > 0]
    per_item = np.bincount(history.item_index[use], minlength=layout.n_items)
    found = [
        at_least(
            "events per user",
            float(np.median(per_user)),
            5,
            2,
            "Median over users with events.",
            "most people are nearly unknown: intervals are wide, and rightly so.",
        ),
        at_least(
            "events per item",
            float(np.median(per_item)),
            5,
            1,
            "Median over all known items.",
            "most items are known by their texts alone; check that those are good.",
        ),
        at_least(
            "users known",
            known_share(posterior),
            0.05,
            -np.inf,
            "Share of the variance of states, at users' last events, that events took away.",
            "what is said of people is still the prior; more events, or fewer dimensions.",
        ),
    ]
    if layout.residuals:
        scale = posterior.values["log_residual_scale"] - SCALE_CENTRES["log_residual_scale"]
        found.append(
            at_least(
                "item residuals",
                float(torch.exp(2.0 * scale)),
                0.05,
                0.0,
                "Variance of item residuals, as a share of its prior's centre.",
                "residuals have collapsed: items are what their texts say and nothing else.",
            )
        )
    return found


def known_share(posterior: Posterior) -> float:
    """`1 - var / (1 + q)`, `q` the walk's variance since the user's first event: mean over users
    with events and over dimensions as item vectors weigh them.
    """
    var, like = posterior.belief.variance, posterior.features
    history = posterior.history.take(posterior.history.absorb)
    users, count = np.unique(history.user_index, return_counts=True)
    start = history.start
    span = history.seconds[start[users + 1] - 1] - history.seconds[start[users]]
    days = torch.as_tensor(span / SECONDS_PER_DAY).to(like)[:, None]
    decay, growth = elapsed_growth(days, posterior.layout.half_life_days)
    prior = decay**2 + growth * torch.exp(2.0 * posterior.values["log_drift"])
    if "log_event_drift" in posterior.values:
        steps = torch.as_tensor(count - 1).to(like)[:, None]
        prior = prior + steps * torch.exp(2.0 * posterior.values["log_event_drift"])
    known = (1.0 - var[torch.as_tensor(users, device=like.device)] / prior).mean(0)
    weight = (posterior.items.vectors**2).mean(0)
    return float((weight * known).sum() / weight.sum().clamp_min(1e-12))
