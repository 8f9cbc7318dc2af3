"""Posterior predictive checks: figures of the log against the same figures of drawn logs.

Drawn logs keep who met what and when, and the covariates; states are drawn from the guide and
outcomes (for choice, items) from the states. What the model cannot reproduce, it does not know.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayes_interest.evaluation.guide_sample import GuideSample
from bayes_interest.events.history import History

HEAD = 0.1  # share of the items that is called the head

Figure = Callable[[np.ndarray], float]


def tail_probability(observed: float, drawn: np.ndarray) -> float:
    """Two-sided: `2 min(P(drawn <= observed), P(drawn >= observed))`, the observed counted in."""
    n = len(drawn) + 1
    low, high = ((drawn <= observed).sum() + 1) / n, ((drawn >= observed).sum() + 1) / n
    return float(min(1.0, 2.0 * min(low, high)))


def figures(sample: GuideSample) -> dict[str, Figure]:
    """Name to a figure of outcomes (for choice, items) (event,); those that the log allows.

    A drawn event follows the past of the log, which its covariates know, not that of other drawn
    events: so figures of succession set it beside what truly came before.
    """
    history, truth = sample.history, sample.observed
    if sample.posterior.choice:
        vectors = sample.posterior.items.vectors.double().cpu().numpy()
        vectors = vectors - vectors.mean(0)
        n_items, before = len(vectors), _earlier_items(history)
        found: dict[str, Figure] = {
            "share of the head items": lambda y: head_share(y.astype(np.int64), n_items),
            "repeats": lambda y: _repeat_rate(y.astype(np.int64), before, n_items, history),
        }
        if (np.diff(history.user_index) == 0).sum() > 1:
            found["likeness of successive items"] = lambda y: _theme(
                vectors[y.astype(np.int64)], vectors[truth], history
            )
        return found
    user = history.user_index
    level = sample.posterior.level if sample.posterior.layout.emission == "rating" else 1
    n_items = sample.posterior.layout.n_items
    found = {
        "spread of users' rates": lambda y: rate_spread(y, user),
        "spread of items' rates": lambda y: rate_spread(y, history.item_index),
        "share of the head items": lambda y: head_share(history.item_index[y >= level], n_items),
    }
    if (np.diff(user) == 0).sum() > 1:
        found["autocorrelation of outcomes"] = lambda y: autocorrelation(
            y, truth, history.user_index
        )
    return found


def rate_spread(outcome: np.ndarray, group: np.ndarray) -> float:
    """Standard deviation over users or items, `group` (event,), of their mean outcome."""
    count = np.bincount(group)
    return float((np.bincount(group, weights=outcome)[count > 0] / count[count > 0]).std())


def head_share(item: np.ndarray, n_items: int) -> float:
    """Share of events with the tenth of the items that have most of them."""
    count = np.sort(np.bincount(item, minlength=n_items))[::-1]
    return float(count[: max(1, round(HEAD * n_items))].sum() / max(1, count.sum()))


def autocorrelation(outcome: np.ndarray, truth: np.ndarray, user: np.ndarray) -> float:
    """Correlation of outcomes with the true ones just before, each less the true mean."""
    before, after = truth[:-1] - truth.mean(), outcome[1:] - truth.mean()
    same = np.diff(user) == 0
    return float((before * after)[same].mean() / max(float(truth.var()), 1e-12))


def _theme(vectors: np.ndarray, truth: np.ndarray, history: History) -> float:
    """Mean product of the vectors of items and of the true ones just before, over the true mean
    square; (event, state_dim) each.
    """
    same = np.diff(history.user_index) == 0
    product = (truth[:-1] * vectors[1:]).sum(1)[same].mean()
    return float(product / max((truth**2).sum(1).mean(), 1e-12))


def _earlier_items(history: History) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) pairs as one number, sorted, with the position of their first event."""
    width = int(history.item_index.max()) + 1
    pair = history.user_index.astype(np.int64) * width + history.item_index
    unique, first = np.unique(pair, return_index=True)
    return unique, first


def _repeat_rate(
    item: np.ndarray, before: tuple[np.ndarray, np.ndarray], n_items: int, history: History
) -> float:
    """Share of choices of an item that the user had truly chosen before."""
    unique, first = before
    width = history.item_index.max() + 1
    pair = history.user_index.astype(np.int64) * width + np.minimum(item, width - 1)
    place = np.searchsorted(unique, pair).clip(0, len(unique) - 1)
    met = (unique[place] == pair) & (item < width) & (first[place] < np.arange(len(item)))
    return float(met.mean())
