"""The global parameters as a table, in words that a reader of it can use."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from bayes_interest.posterior.global_values import (
    COVARIATE,
    DRIFT,
    EVENT_DRIFT,
    KIND_AXIS,
    READABLE,
    drawn_values,
    entries,
    readable,
)
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_prob
from bayes_interest.schema import LOWER, MEAN, SD, UPPER

PARAMETER, DIMENSION, UNIT, MEANING = "parameter", "dimension", "unit", "meaning"
COLUMNS = [PARAMETER, DIMENSION, MEAN, SD, LOWER, UPPER, UNIT, MEANING]
COLD_SHIFT, ITEM_SPREAD = "cold_item_shift", "item_spread"
DAYS_PER_YEAR = 365.25


def summary(posterior: Posterior, prob: float) -> pd.DataFrame:
    """See `InterestModel.summary`."""
    check_prob(prob)
    drawn, rows = drawn_values(posterior), []
    for name, value in readable(posterior.values).items():
        about = READABLE[name]
        if name in drawn:
            table = drawn[name].cpu().numpy().reshape(len(drawn[name]), -1)
            tails = np.quantile(table, [0.5 - prob / 2.0, 0.5 + prob / 2.0], axis=0)
            figures = np.stack([table.mean(0), table.std(0, ddof=1), *tails], 1)
        else:
            point = value.cpu().numpy().reshape(-1, 1)
            figures = np.concatenate((point, np.full((len(point), 3), np.nan)), 1)
        labels = [""] if about.axis is None else entries(posterior, about.axis)
        for label, row in zip(labels, figures, strict=True):
            meaning = _meaning(posterior, name, label, float(row[0]))
            fixed = about.axis == KIND_AXIS and label == labels[0]
            shown = [1.0, *[np.nan] * 3] if fixed else row.tolist()
            rows.append([name, label, *shown, about.unit, meaning])
    if posterior.cold_shift:
        rows.append(_cold(posterior.cold_shift))
    if posterior.item_spread != 1.0:
        rows.append(_item_spread(posterior.item_spread))
    table_of = pd.DataFrame(rows, columns=COLUMNS)
    table_of.attrs = {
        "emission": posterior.layout.emission,
        "n_draws": len(posterior.members),
        "prob": prob,
    }
    return table_of


def _cold(shift: float) -> list[object]:
    """choice: what the fit learned of items that nobody has met yet."""
    meaning = "Added to the predictor of items without an earlier event."
    return [COLD_SHIFT, "", shift, *[float("nan")] * 3, "logits", meaning]


def _item_spread(factor: float) -> list[object]:
    """bernoulli, rating: what the fit learned of how sure items are."""
    meaning = "Factor of what is left unsure of all items, from the held-back slice of time."
    return [ITEM_SPREAD, "", factor, *[float("nan")] * 3, "variance ratio", meaning]


def _meaning(posterior: Posterior, name: str, label: str, value: float) -> str:
    if name == DRIFT:
        return _drift(value, posterior.layout.half_life_days)
    if name == EVENT_DRIFT:
        return _event_drift(value)
    if name == COVARIATE + "_weight":
        return f"Logits per unit of the covariate: {_covariate(label)}."
    if name == "reliability":
        return _reliability(label, posterior.vocabulary.kinds[0], value)
    return MEANINGS[name](label)


MEANINGS: dict[str, Callable[[str], str]] = {
    "mean_state": lambda _: "Where people's interest starts on average, along this dimension.",
    "intercept": lambda _: "Pull of every item along this dimension, before its text and residual.",
    "bias": lambda _: "Predictor of an average item for an average person.",
    "cut_point": lambda label: f"Predictor at which a {label} is as likely as not.",
    "residual_scale": lambda _: (
        "How far items' vectors differ beyond what their texts say, by dimension (sd)."
    ),
    "offset_scale": lambda _: (
        "How far items' appeal to everybody differs beyond what their texts say (sd)."
    ),
}


def _drift(scale: float, half_life_days: float | None) -> str:
    """When half of what is known of a state is forgotten: the walk has added as much variance as
    is left of the initial one, `A(d)^2 = g(d) s^2`.
    """
    growth = scale**2
    if not growth > 0.0:
        return "Interest does not move with time along this dimension."
    if half_life_days is None:
        days = 1.0 / growth
    else:
        kappa = math.log(2.0) / half_life_days
        days = math.log1p(2.0 * kappa / growth) / (2.0 * kappa)
    return (
        f"Interest seen once and not again is half forgotten after {_span(days)}: drift has then "
        "added as much variance as is left of what people differ by."
    )


def _event_drift(scale: float) -> str:
    if not scale > 0.0:
        return "Interest does not move with events along this dimension."
    return (
        f"Beside time: after {_count(1.0 / scale**2)} further events of the user drift has added "
        "as much variance as people differ by."
    )


def _span(days: float) -> str:
    if days >= 100.0 * DAYS_PER_YEAR:
        return "more than 100 years"
    if days >= 2.0 * DAYS_PER_YEAR:
        return f"{days / DAYS_PER_YEAR:.1f} years"
    if days >= 1.0:
        return f"{days:.3g} days"
    return f"{24.0 * days:.2g} hours"


def _count(number: float) -> str:
    return f"{number:.3g}" if number < 1000.0 else f"{number:,.0f}"


def _reliability(kind: str, reference: str, value: float) -> str:
    if kind == reference:
        return "The kind that the others are measured by."
    more = "more" if value > 1.0 else "less"
    return f"An event of kind {kind!r} says {more} of interest than one of kind {reference!r}."


def _covariate(name: str) -> str:
    """Words for a name of `Kinds.names`."""
    stem = name.removesuffix("_days")
    for begin, words in COVARIATE_WORDS.items():
        if stem.startswith(begin):
            return words.format(stem.removeprefix(begin))
    return name


COVARIATE_WORDS = {
    "popularity_": "how often anybody met the item, fading with a half-life of {} days",
    "recency": "how lately anybody met the item",
    "age": "how lately anybody met the item first",
    "repeats_": "how often the user met the item, fading over {} days",
    "repeats": "how often the user met the item",
    "succession": "what usually follows the user's last items",
    "likeness_last": "likeness of the item's text to that of the user's last item",
    "likeness_recent": "likeness of the item's text to those of the user's last items",
    "user_rate_": "the user's running rate, the latest event weighing {}",
    "item_rate": "the item's rate so far",
    "level": "one at every event, an intercept beside the rates",
}
"""Beginning of a name to words; the rest of the name is filled in."""
