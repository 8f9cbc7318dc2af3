"""Rivals of the benchmark that the package does not have: EASE, item neighbours and LightFM.

The first two are written for this benchmark from the papers, the third calls its library. All are
behind the package's `Baseline`, so that candidates, ranks and probabilities (a softmax or a
logistic curve, learned on late train) are those of all rivals. What has to be chosen is chosen on
the last 10 % of train by the mean reciprocal rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from scipy import sparse

from bayes_interest.baselines.base import Baseline, blocks, evenly
from bayes_interest.baselines.links import Link
from bayes_interest.baselines.timeline import Timeline, ranges
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError
from bayes_interest.text.encoder import Encoder

RIDGES = (10.0, 100.0, 500.0, 2000.0)
SHRINKS = (0.0, 10.0, 100.0)
NEIGHBOURS = 200
MAX_SIDE = 12_000  # rows of the matrix that EASE inverts
SIZES = (16.0, 64.0)
WARP_EPOCHS = 30
MAX_TUNE = 1_000  # late events of train
TUNE_SHARE = 0.1

Learned = TypeVar("Learned")
Scorer = Callable[[Timeline, np.ndarray], np.ndarray]


def met(past: Timeline) -> sparse.csr_matrix:
    """Whether the user has a positive event with the item, (user, item) float32."""
    use = past.positive
    pairs = past.history.user_index[use], past.history.item_index[use]
    shape = (past.history.n_users, past.n_items)
    table = sparse.csr_matrix((np.ones(int(use.sum()), dtype=np.float32), pairs), shape)
    table.sum_duplicates()
    table.data[:] = 1.0
    return table


def tuned(past: Timeline, options: tuple[float, ...], make: Callable[[Any, float], Any]) -> float:
    """The option whose model of early train ranks late train best, by mean reciprocal rank.

    `make(early, option)` is an object with `scores(timeline, part)`. Without an early part the
    first option.
    """
    late = past.in_time_order(past.last_of_train(TUNE_SHARE, positive_only=True))
    early = past.before(past.history.seconds[late[0]])
    if not early.positive.any():
        return options[0]
    some = evenly(late, MAX_TUNE)
    found = [reciprocal_rank(make(early, option).scores, past, some) for option in options]
    return options[int(np.argmax(found))]


def reciprocal_rank(scorer: Scorer, timeline: Timeline, part: np.ndarray) -> float:
    """Mean over events of 1 / rank among all items; ties count against the item."""
    total = 0.0
    for block in blocks(part, timeline.n_items):
        scores = scorer(timeline, block)
        own = scores[np.arange(len(block)), timeline.history.item_index[block]]
        total += float((1.0 / (scores >= own[:, None]).sum(1)).sum())
    return total / len(part)


def widened(scores: np.ndarray, n_items: int) -> np.ndarray:
    """Scores with a zero for every item that was not there in training."""
    out = np.zeros((len(scores), n_items), dtype=np.float32)
    out[:, : scores.shape[1]] = scores
    return out


# ------------------------------------------------------------------ EASE


@dataclass(frozen=True)
class Linear:
    """EASE: `h B` with `B = I - P / diag(P)`, `P = (X'X + ridge)^-1`.

    So `(h B)_j = h_j - (h P)_j / P_jj`. `P` is kept over the items, or, where there are fewer
    users than items, as `(I - X' M X) / ridge` with `M = (X X' + ridge)^-1` over the users.
    """

    met: sparse.csr_matrix  # X (user, item)
    inverse: np.ndarray  # P or M
    diagonal: np.ndarray  # of P, (item,)
    ridge: float
    by_user: bool

    @classmethod
    def of(cls, past: Timeline, ridge: float) -> Linear:
        """In closed form from train."""
        x = met(past)
        x = x[np.diff(x.indptr) > 0]
        by_user = x.shape[0] < x.shape[1]
        side = min(x.shape)
        if side > MAX_SIDE:
            raise InputError(f"EASE would invert {side:,} x {side:,}: over {MAX_SIDE:,}, left out")
        gram = (x @ x.T if by_user else x.T @ x).toarray().astype(np.float32)
        gram[np.diag_indices(side)] += ridge
        inverse = np.linalg.inv(gram)
        if not by_user:
            return cls(x, inverse, np.diag(inverse).copy(), ridge, by_user)
        inner = np.concatenate(
            [np.asarray(x.T[at : at + 2000] @ inverse) for at in range(0, x.shape[1], 2000)]
        )
        own = np.asarray(sparse.csr_matrix(x.T).multiply(inner).sum(1)).ravel()
        return cls(x, inverse, ((1.0 - own) / ridge).astype(np.float32), ridge, by_user)

    def scores(self, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """From everything that the user had met, (event, item)."""
        past = timeline.own_past(part)[:, : self.met.shape[1]]
        past.sum_duplicates()
        past.data[:] = 1.0
        dense = past.toarray()
        if self.by_user:
            inner = (past @ self.met.T).toarray() @ self.inverse
            through = (dense - inner @ self.met) / self.ridge
        else:
            through = past @ self.inverse
        return widened(dense - through / self.diagonal, timeline.n_items)


class Tuned(Baseline[Learned]):
    """A rival with one option, chosen once on late train and then kept for every fit."""

    holds_back: ClassVar[bool] = True
    options: ClassVar[tuple[float, ...]] = ()

    def _make(self, past: Timeline, option: float) -> Learned:
        raise NotImplementedError

    def _learn_all(self, past: Timeline, run: FitConfig) -> tuple[Learned, Link]:
        self.option = tuned(past, self.options, self._make)
        return super()._learn_all(past, run)

    def _learn(self, past: Timeline, run: FitConfig) -> Learned:
        return self._make(past, self.option)

    def _scores(self, learned: Any, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        scores: np.ndarray = learned.scores(timeline, part)
        return scores


class Ease(Tuned[Linear]):
    """EASE: the linear item-to-item model with a zero diagonal, in closed form.

    The user is the set of all earlier positive items, test ones too. Source: Steck (WWW 2019),
    "Embarrassingly shallow autoencoders for sparse data".
    """

    options: ClassVar[tuple[float, ...]] = RIDGES

    def _make(self, past: Timeline, option: float) -> Linear:
        return Linear.of(past, option)


# ------------------------------------------------------------------ neighbours


@dataclass(frozen=True)
class Neighbours:
    """Similar items: `c_ij / (sqrt(n_i n_j) + shrink)`, the most similar ones of each item."""

    similar: sparse.csr_matrix  # (item, item)
    last: int | None

    @classmethod
    def of(cls, past: Timeline, shrink: float, last: int | None) -> Neighbours:
        """From train. An item is a neighbour of itself where people meet items again."""
        x = met(past)
        repeats = x.nnz < past.positive.sum()
        size = np.sqrt(np.asarray(x.sum(0), dtype=np.float32).ravel())
        rows = []
        for at in range(0, x.shape[1], 1000):
            both = sparse.csr_matrix(x.T[at : at + 1000] @ x)
            row = at + np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
            both.data /= size[row] * size[both.indices] + np.float32(shrink)
            if not repeats:
                both.data[row == both.indices] = 0.0
            rows.append(_strongest(both))
        return cls(sparse.vstack(rows, format="csr"), last)

    def scores(self, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """Sum of similarities to what the user had met, (event, item)."""
        n_items = self.similar.shape[0]
        past = timeline.own_past(part) if self.last is None else _recent(timeline, part, self.last)
        past = past[:, :n_items]
        if self.last is None:
            past.sum_duplicates()
            past.data[:] = 1.0
        return widened((past @ self.similar).toarray(), timeline.n_items)


def _strongest(table: sparse.csr_matrix) -> sparse.csr_matrix:
    """The `NEIGHBOURS` largest values of each row, ties at the edge too."""
    for row in np.flatnonzero(np.diff(table.indptr) > NEIGHBOURS):
        own = table.data[table.indptr[row] : table.indptr[row + 1]]
        own[own < np.partition(own, -NEIGHBOURS)[-NEIGHBOURS]] = 0.0
    table.eliminate_zeros()
    return table


def _recent(timeline: Timeline, part: np.ndarray, last: int) -> sparse.csr_matrix:
    """The user's last positive events before each event: weight 1, then less by equal steps."""
    before = np.concatenate(([0], np.cumsum(timeline.positive)))
    high = before[timeline.tied_first[part]]
    low = np.maximum(before[timeline.start[part]], high - last)
    length = high - low
    place = ranges(low, length)
    age = np.repeat(high, length) - 1 - place
    weight = (1.0 - age / last).astype(np.float32)
    item = timeline.history.item_index[np.flatnonzero(timeline.positive)[place]]
    pointer = np.concatenate(([0], np.cumsum(length)))
    return sparse.csr_matrix((weight, item, pointer), shape=(len(part), timeline.n_items))


class ItemKNN(Tuned[Neighbours]):
    """Cosine neighbours of the items that the user had met, all of them or the last ones.

    Sources: Sarwar et al. (WWW 2001), "Item-based collaborative filtering recommendation
    algorithms"; the few last items with falling weights as in the session neighbours of Ludewig
    and Jannach (UMUAI 2018), "Evaluation of session-based recommendation algorithms"; as rivals
    that are hard to beat, Ferrari Dacrema et al. (RecSys 2019), "Are we really making much
    progress?"

    Args:
        config, encoder: see `Baseline`.
        last: how many events of the user count, the latest the most; None: all alike.
    """

    options: ClassVar[tuple[float, ...]] = SHRINKS

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        last: int | None = None,
    ) -> None:
        super().__init__(config, encoder)
        self.last = last

    def _make(self, past: Timeline, option: float) -> Neighbours:
        return Neighbours.of(past, option, self.last)


# ------------------------------------------------------------------ LightFM


@dataclass(frozen=True)
class Factors:
    """`u_j` of the items met and `v_i` of the items shown: `mean_j u_j . v_i + b_i`."""

    of_met: np.ndarray  # (item, dim)
    of_shown: np.ndarray  # (item, dim)
    biases: np.ndarray  # (item,)

    @classmethod
    def of(cls, past: Timeline, size: float) -> Factors:
        """By LightFM with the WARP loss; a user's features are the items that the user met."""
        from lightfm import LightFM

        x = met(past)
        x = x[np.diff(x.indptr) > 0]
        model = LightFM(no_components=int(size), loss="warp", random_state=0)
        model.fit(x.tocoo(), user_features=_shares(x), epochs=WARP_EPOCHS, num_threads=1)
        return cls(model.user_embeddings, model.item_embeddings, model.item_biases)

    def scores(self, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """From everything that the user had met, (event, item)."""
        past = timeline.own_past(part)[:, : len(self.biases)]
        past.sum_duplicates()
        past.data[:] = 1.0
        user = np.asarray(_shares(past) @ self.of_met)
        return widened(user @ self.of_shown.T + self.biases, timeline.n_items)


def _shares(table: sparse.csr_matrix) -> sparse.csr_matrix:
    """Every row divided by its sum."""
    length = np.diff(table.indptr)
    weight = (1.0 / np.maximum(np.repeat(length, length), 1)).astype(np.float32)
    return sparse.csr_matrix((weight, table.indices, table.indptr), table.shape)


class LightFMFactors(Tuned[Factors]):
    """LightFM with users described by what they met, so that new users need no new fit.

    Sources: Kula (CBRecSys 2015), "Metadata embeddings for user and item cold-start
    recommendations"; the loss is WARP of Weston et al. (IJCAI 2011). Needs lightfm-next.
    """

    options: ClassVar[tuple[float, ...]] = SIZES

    def _make(self, past: Timeline, option: float) -> Factors:
        return Factors.of(past, option)
