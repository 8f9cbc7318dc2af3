"""Matrix factorisation for implicit feedback, through the optional library `implicit`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from bayes_interest.baselines.base import Baseline, check_option
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import BayesInterestError
from bayes_interest.text.encoder import Encoder


@dataclass(frozen=True)
class Factors:
    """What `MatrixFactorization` learns."""

    items: np.ndarray  # (item, factor) float32
    gram: np.ndarray  # items' items + ridge, (factor, factor) float64


class MatrixFactorization(Baseline[Factors]):
    """iALS: weighted matrix factorisation of the positive events per user and item.

    Minimises `sum_ui c_ui (p_ui - x_u . y_i)^2 + ridge (|x|^2 + |y|^2)` with p = 1 and
    c = 1 + alpha * count where the user has positive events with the item, else p = 0 and c = 1.
    For a prediction the user's vector is solved for in closed form from the user's earlier
    positive items, given the item factors of train; a new user and a new item score zero. The
    probability goes through the usual link (softmax or logistic curve), learned on late train
    with factors of the earlier part. Source: Hu, Koren and Volinsky (ICDM 2008), "Collaborative
    filtering for implicit feedback datasets".

    Args:
        config: see `Baseline`.
        encoder: not used.
        factors: length of the vectors.
        ridge: penalty on both sides.
        alpha: additional confidence of one positive event.
        iterations: alternations of the solver.
    """

    holds_back: ClassVar[bool] = True

    def __init__(
        self,
        config: ModelConfig | None = None,
        encoder: Encoder | None = None,
        *,
        factors: int = 32,
        ridge: float = 1.0,
        alpha: float = 10.0,
        iterations: int = 15,
    ) -> None:
        super().__init__(config, encoder)
        check_option("factors", factors, factors >= 1, "a whole number >= 1")
        check_option("ridge", ridge, ridge > 0, "a penalty > 0")
        check_option("alpha", alpha, alpha > 0, "a confidence > 0")
        check_option("iterations", iterations, iterations >= 1, "a whole number >= 1")
        self.factors, self.ridge, self.alpha, self.iterations = factors, ridge, alpha, iterations

    def _learn(self, past: Timeline, run: FitConfig) -> Factors:
        use = past.positive
        user, item = past.history.user_index[use], past.history.item_index[use]
        shape = (past.history.n_users, past.n_items)
        counts = sparse.csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), shape)
        counts.sum_duplicates()
        counts.data = 1.0 + self.alpha * counts.data
        items = self._factorize(counts, run)
        wide = items.astype(np.float64)
        return Factors(items, wide.T @ wide + self.ridge * np.eye(self.factors))

    def _factorize(self, confidence: sparse.csr_matrix, run: FitConfig) -> np.ndarray:
        """Item factors (item, factor). One BLAS thread, as `implicit` asks for; then as before."""
        threadpools = import_module("threadpoolctl")  # comes with scikit-learn
        with threadpools.threadpool_limits(1, "blas"):
            solver = implicit_als()(
                factors=self.factors,
                regularization=self.ridge,
                alpha=1.0,
                iterations=self.iterations,
                num_threads=1,
                use_cg=False,
                random_state=run.seed,
            )
            solver.fit(confidence, show_progress=run.progress)
        items: np.ndarray = np.asarray(solver.item_factors, dtype=np.float32)
        return items

    def _scores(self, learned: Factors, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        users = fold_in(timeline.own_past(part), learned, self.alpha)
        scores = np.zeros((len(part), timeline.n_items), dtype=np.float32)
        scores[:, : len(learned.items)] = users @ learned.items.T
        return scores


def fold_in(past: sparse.csr_matrix, factors: Factors, alpha: float) -> np.ndarray:
    """User vectors (row, factor) from positive events per (row, item), given the items' vectors.

    Solves `(Y'Y + ridge + Y'(C - 1)Y) x = Y'C p` for each row. Items behind the last of
    `factors.items` are new: their vector is zero.
    """
    past = past[:, : len(factors.items)].copy()
    past.sum_duplicates()
    length = np.diff(past.indptr)
    users = np.zeros((len(length), factors.items.shape[1]), dtype=np.float32)
    for row in np.flatnonzero(length):
        at = slice(past.indptr[row], past.indptr[row + 1])
        y = factors.items[past.indices[at]].astype(np.float64)
        extra = alpha * past.data[at].astype(np.float64)
        matrix = factors.gram + (y * extra[:, None]).T @ y
        users[row] = np.linalg.solve(matrix, (1.0 + extra) @ y)
    return users


def implicit_als() -> Any:
    """The solver. Raises BayesInterestError where the library is missing."""
    try:
        return import_module("implicit.cpu.als").AlternatingLeastSquares
    except ImportError as err:
        raise BayesInterestError(
            'MatrixFactorization needs the library implicit: pip install "bayes-interest[implicit]"'
        ) from err
