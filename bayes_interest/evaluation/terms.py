"""What each event adds to each figure: a numerator and a denominator per event.

A figure is the sum of its numerators over the sum of its denominators, over any group of events.
Numerators are 0 where the denominator is 0. Keys are (metric, k), with k None where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from bayes_interest.evaluation.slates import Catalogue, diversity, mean_of_slate

Terms = dict[tuple[str, int | None], tuple[np.ndarray, np.ndarray]]
TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's predictions of the events of a backtest; NaN where it says nothing."""

    emission: str
    positive: np.ndarray  # (event,) bool
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    log_prob: np.ndarray
    rank: np.ndarray
    true_prob: np.ndarray
    slates: np.ndarray  # item positions, (event, longest), -1 where there is none
    item: np.ndarray  # position in the catalogue, (event,)
    window: np.ndarray  # (event,)

    @property
    def binary(self) -> bool:
        """Whether `mean` is the probability of an outcome that is either positive or not."""
        return self.emission != "choice"


def event_terms(found: Predictions, ks: tuple[int, ...], catalogue: Catalogue | None) -> Terms:
    """All figures that are ratios of sums over events. A figure without an event is left out.

    Without a catalogue those that need to know the items of training are left out.
    """
    terms = _log_loss_terms(found)
    if found.binary:
        terms |= _decision_terms(found)
    terms |= _interval_terms(found) | _rank_terms(found, ks)
    if catalogue is not None:
        for k in ks:
            terms |= _catalogue_terms(found, k, catalogue)
    return {key: pair for key, pair in terms.items() if pair[1].any()}


def _mean_of(values: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(values)
    if counts is not None:
        known &= counts
    return np.where(known, values, 0.0), known.astype(float)


def _log_loss_terms(found: Predictions) -> Terms:
    """`log_loss` of the outcome; for ratings of "value >= threshold", the rating's own beside."""
    own = _mean_of(-found.log_prob)
    if found.emission == "choice":
        return {("log_loss", None): own}
    if found.emission == "bernoulli" and own[1].any():
        return {("log_loss", None): own}
    chance = np.where(found.positive, found.mean, 1.0 - found.mean)
    terms: Terms = {("log_loss", None): _mean_of(-np.log(np.clip(chance, TINY, 1.0)))}
    if found.emission == "rating":
        terms["ordinal_log_loss", None] = own
    return terms


def _decision_terms(found: Predictions) -> Terms:
    """Brier score, and decisions "positive where the probability is at least one half"."""
    known = ~np.isnan(found.mean)
    said, is_so = found.mean >= 0.5, found.positive & known
    hit = (said & is_so).astype(float)
    return {
        ("brier", None): _mean_of((found.mean - found.positive) ** 2),
        ("accuracy", None): _mean_of((said == found.positive).astype(float), known),
        ("precision", None): (hit, said.astype(float)),
        ("recall", None): (hit, is_so.astype(float)),
        ("f1", None): (2.0 * hit, said.astype(float) + is_so),
    }


def _interval_terms(found: Predictions) -> Terms:
    """How often [lower, upper] holds the true probability, and its width, where that is known; its
    width in logits anywhere.
    """
    known = ~np.isnan(found.lower + found.upper + found.true_prob)
    inside = (found.lower <= found.true_prob) & (found.true_prob <= found.upper)
    low, high = np.clip(found.lower, TINY, 1.0 - TINY), np.clip(found.upper, TINY, 1.0 - TINY)
    return {
        ("interval_logit_width", None): _mean_of(logit(high) - logit(low)),
        ("interval_coverage", None): _mean_of(inside.astype(float), known),
        ("interval_width", None): _mean_of(found.upper - found.lower, known),
    }


def _rank_terms(found: Predictions, ks: tuple[int, ...]) -> Terms:
    """From the ranks of positive events, each a query with one relevant item.

    So recall@k is the hit rate, precision@k a k-th of it, and f1@k their harmonic mean.
    """
    rank = np.where(found.positive, found.rank, np.nan)
    terms: Terms = {("mrr", None): _mean_of(1.0 / rank), ("mean_rank", None): _mean_of(rank)}
    for k in ks:
        hit = np.where(np.isnan(rank), np.nan, (rank <= k).astype(float))
        terms["ndcg", k] = _mean_of(hit / np.log2(1.0 + rank))
        terms["hit_rate", k] = terms["recall", k] = _mean_of(hit)
        terms["precision", k] = _mean_of(hit / k)
        terms["f1", k] = _mean_of(hit * 2.0 / (k + 1.0))
    return terms


def _catalogue_terms(found: Predictions, k: int, catalogue: Catalogue) -> Terms:
    """Serendipity of positive events, and figures of the slates before all events.

    The serendipity is that of Ge, Delgado-Battenfeld and Jannach (2010): relevant and not what a
    primitive model would show, here the k most popular items of training.
    """
    rank = np.where(found.positive, found.rank, np.nan)
    surprising = catalogue.place[found.window, found.item] > k
    terms: Terms = {
        ("serendipity", k): _mean_of(((rank <= k) & surprising).astype(float), ~np.isnan(rank))
    }
    if not found.slates.size:
        return terms
    slates, window = found.slates[:, :k], found.window
    means = {
        "novelty": catalogue.information,
        "popularity": catalogue.percentile,
        "tail_share": catalogue.tail,
    }
    for metric, values in means.items():
        terms[metric, k] = _mean_of(mean_of_slate(values, window, slates))
    if catalogue.vectors is not None:
        terms["diversity", k] = _mean_of(diversity(slates, catalogue.vectors))
    return terms
