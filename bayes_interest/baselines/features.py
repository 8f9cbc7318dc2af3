"""Naive Bayes on what the items are: categories of the item table, or clusters of the texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import logit

from bayes_interest.baselines.base import Baseline, check_option
from bayes_interest.baselines.rates import best_item_strength, item_rates
from bayes_interest.baselines.timeline import Timeline, ranges
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ItemError
from bayes_interest.text.encoder import Encoder

MAX_VALUES = 200  # a column with more different values names items rather than features


@dataclass(frozen=True)
class Features:
    """What `FeatureBayes` learns: which features items have, and how strongly to smooth."""

    columns: tuple[str, ...]  # of the item table; none: clusters of the text vectors
    centres: np.ndarray  # (cluster, embed_dim)
    item_strength: float  # bernoulli, rating: of the item's rate


class FeatureBayes(Baseline[Features]):
    """`P(i | u) = prior(i) prod_f P(f | u) / P(f)`, normalised: naive Bayes by item features.

    choice: `prior` is the item's share of all choices so far, `P(f)` the share of choices with
    feature `f`, and `P(f | u)` that of the user's own choices, smoothed towards `P(f)` with
    `strength` events. bernoulli, rating: the log odds of the item's rate, plus for each feature
    the log odds of the user's rate in it over everybody's. Features are the columns of the item
    table beside item_id and text that have 2 to 200 different values, else clusters of the text
    vectors. As naive Bayes counts dependent features twice, the probability goes through the
    usual link: a softmax with a scale, or a logistic curve, learned on late train. Source:
    Mooney and Roy (2000), "Content-based book recommending using learning for text
    categorization"; Manning et al. (2008), chapter 13.

    Args:
        config: see `Baseline`.
        encoder: turns item texts into vectors, where there are no columns.
        strength: of the smoothing, in events.
        n_clusters: of the text vectors, where there are no columns.
    """

    MIN_PRIOR: ClassVar[float] = 0.5
    """Choices added to every item's and feature's count."""

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        strength: float = 5.0,
        n_clusters: int = 20,
    ) -> None:
        super().__init__(config, encoder)
        check_option("strength", strength, strength > 0, "events > 0")
        check_option("n_clusters", n_clusters, n_clusters >= 2, "a whole number >= 2")
        self.strength, self.n_clusters = strength, n_clusters

    def _learn(self, past: Timeline, run: FitConfig) -> Features:
        table = past.catalogue.columns
        values = {name: table[name].astype(str).nunique() for name in table}
        columns = tuple(str(name) for name in table if 2 <= values[name] <= MAX_VALUES)
        centres = np.zeros((0, 1), dtype=np.float32)
        if not columns:
            centres = cluster_centres(past, self.n_clusters, run.seed)
        strength = 0.0 if past.emission == "choice" else best_item_strength(past)
        return Features(columns, centres, strength)

    def _scores(self, learned: Features, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        has = timeline.once("features", lambda: item_features(timeline, learned))
        if timeline.emission == "choice":
            return self._choice_scores(timeline, part, has)
        return self._rate_scores(learned, timeline, part, has)

    def _choice_scores(
        self, timeline: Timeline, part: np.ndarray, has: sparse.csr_matrix
    ) -> np.ndarray:
        counts = timeline.counts().rows(timeline.history.seconds[part]).astype(np.float64)
        own = timeline.own_past(part)
        n_events = counts.sum(1, keepdims=True)
        n_groups = has.sum() / max(timeline.n_items, 1)  # features of an item, on average
        share = counts @ has + self.MIN_PRIOR
        share = share * (n_groups / share.sum(1, keepdims=True))
        mine = np.asarray((own @ has).todense(), dtype=np.float64)
        n_own = np.asarray(own.sum(1), dtype=np.float64).reshape(-1, 1)
        given_user = (mine + self.strength * share) / (n_own + self.strength)
        ratio = np.log(given_user / share)
        prior = np.log(counts + self.MIN_PRIOR) - np.log(
            n_events + self.MIN_PRIOR * timeline.n_items
        )
        scores: np.ndarray = (prior + (has @ ratio.T).T).astype(np.float32)
        return scores

    def _rate_scores(
        self, learned: Features, timeline: Timeline, part: np.ndarray, has: sparse.csr_matrix
    ) -> np.ndarray:
        rates = logit(item_rates(timeline, part, learned.item_strength).astype(np.float64))
        seconds = timeline.history.seconds[part]
        hits = timeline.counts("positive").rows(seconds) @ has
        shown = timeline.counts("all").rows(seconds) @ has
        rate = (hits + 0.5) / (shown + 1.0)
        own_hits = np.asarray((timeline.own_past(part) @ has).todense())
        own_shown = np.asarray((own_events(timeline, part) @ has).todense())
        own_rate = (own_hits + self.strength * rate) / (own_shown + self.strength)
        ratio = logit(own_rate) - logit(rate)
        scores: np.ndarray = (rates + (has @ ratio.T).T).astype(np.float32)
        return scores


def own_events(timeline: Timeline, part: np.ndarray) -> sparse.csr_matrix:
    """All events per (event, item) of the event's user, strictly before it."""
    start, length = timeline.start[part], timeline.tied_first[part] - timeline.start[part]
    pointer = np.concatenate(([0], np.cumsum(length)))
    item = timeline.history.item_index[ranges(start, length)]
    shape = (len(part), timeline.n_items)
    return sparse.csr_matrix((np.ones(len(item), dtype=np.float32), item, pointer), shape=shape)


def item_features(timeline: Timeline, learned: Features) -> sparse.csr_matrix:
    """1.0 where an item has a feature, (item, feature); a missing value is no feature."""
    groups = []
    for name in learned.columns:
        if name in timeline.catalogue.columns:
            values = timeline.catalogue.columns[name]
            code, found = pd.factorize(values.astype(str).where(values.notna()))
            groups.append((code, len(found)))
    if not learned.columns:
        groups.append(nearest_centre(timeline, learned.centres))
    blocks = [
        sparse.csr_matrix(
            (np.ones((code >= 0).sum()), (np.flatnonzero(code >= 0), code[code >= 0])),
            shape=(timeline.n_items, max(size, 1)),
        )
        for code, size in groups
    ]
    return sparse.csr_matrix(sparse.hstack(blocks))


def nearest_centre(timeline: Timeline, centres: np.ndarray) -> tuple[np.ndarray, int]:
    """Cluster of each item, -1 without a vector, and the number of clusters."""
    catalogue = timeline.catalogue
    if catalogue.vectors.shape[1] != centres.shape[1]:
        return np.full(timeline.n_items, -1), len(centres)
    distance = (centres**2).sum(1) - 2.0 * catalogue.vectors @ centres.T
    return np.where(catalogue.has_vector, distance.argmin(1), -1), len(centres)


def cluster_centres(past: Timeline, n_clusters: int, seed: int) -> np.ndarray:
    """k-means centres of the items' text vectors. Raises ItemError without any."""
    from sklearn.cluster import KMeans

    vectors = past.catalogue.vectors[past.catalogue.has_vector]
    distinct = len(np.unique(vectors, axis=0))
    if distinct < 2:
        raise ItemError(
            "FeatureBayes needs item features: pass items= with a column beside item_id and text "
            "that has 2 to 200 different values, or texts that the encoder can tell apart"
        )
    found = KMeans(min(n_clusters, distinct), n_init=1, random_state=seed).fit(vectors)
    centres: np.ndarray = found.cluster_centers_.astype(np.float32)
    return centres
