"""Matrix factorisation: the fold-in against a dense solve, and products by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from bayes_interest.baselines import factorization
from bayes_interest.baselines.factorization import Factors, fold_in
from bayes_interest.errors import BayesInterestError
from tests.baselines.logs import cut, fit, make_frame

BLAS_SCRIPT = """
import warnings
import numpy as np, pandas as pd, threadpoolctl
import bayes_interest as bi
from bayes_interest.baselines import MatrixFactorization
warnings.simplefilter("error")
log = pd.DataFrame({"user_id": list("aabbcc") * 9, "item_id": list("xyyzzx") * 9,
                    "timestamp": 1_600_000_000 + 60 * np.arange(54)})
def threads():
    return [api["num_threads"] for api in threadpoolctl.threadpool_info()]
rival = MatrixFactorization(bi.ModelConfig(emission="choice"), bi.HashingEncoder(), factors=2)
before = threads()
rival.fit(log, config=bi.FitConfig(progress=False, device="cpu"))
assert threads() == before, (threads(), before)
"""


def some_factors(n_items: int = 7, n_factors: int = 3, ridge: float = 0.7) -> Factors:
    items = np.random.default_rng(1).normal(size=(n_items, n_factors)).astype(np.float32)
    wide = items.astype(np.float64)
    return Factors(items, wide.T @ wide + ridge * np.eye(n_factors))


def test_the_fold_in_is_the_weighted_least_squares_solution() -> None:
    factors, alpha, ridge = some_factors(), 4.0, 0.7
    past = sparse.csr_matrix(
        np.array([[0, 1, 0, 2, 0, 0, 1, 5], [0] * 8, [3, 0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    )
    users = fold_in(past, factors, alpha)
    y = factors.items.astype(np.float64)
    for row, counts in enumerate(past.toarray()[:, :7]):  # the eighth item is new
        root = np.sqrt(1.0 + alpha * counts)[:, None]
        design = np.vstack((root * y, np.sqrt(ridge) * np.eye(3)))
        target = np.concatenate((root[:, 0] * (counts > 0), np.zeros(3)))
        slow = np.linalg.lstsq(design, target, rcond=None)[0]
        np.testing.assert_allclose(users[row], slow, atol=1e-5)


def test_scores_are_products_with_the_items_by_hand() -> None:
    """A user (0.1, 0.2, 0.3, 0.4) and three items: 0.625, 0.775 and 0.500.

    The user has one item with just that vector `u`: `(1.7 + |u|^2) x = 2 u` has `x = u`.
    """
    user = [0.1, 0.2, 0.3, 0.4]
    items = [user, [0.5, 0.6, 0.75, 0.575], [0.65, 0.75, 0.8, 0.8], [0.5, 0.5, 0.5, 0.5]]
    factors = Factors(np.array(items, dtype=np.float32), 1.7 * np.eye(4))
    past = sparse.csr_matrix(np.array([[1, 0, 0, 0]], dtype=np.float32))
    found = fold_in(past, factors, alpha=1.0)
    np.testing.assert_allclose(found, [user], rtol=1e-5)
    np.testing.assert_allclose(found @ factors.items.T, [[0.3, 0.625, 0.775, 0.5]], rtol=1e-5)


def test_the_fold_in_of_train_users_is_the_solvers_own_step() -> None:
    """From the item factors of the fit, each user's vector is a stationary point of the loss."""
    rival = fit("choice", "matrix_factorization", iterations=30)
    learned, timeline = rival.fitted.learned, rival.fitted.known.timeline()
    counts = np.zeros((timeline.history.n_users, timeline.n_items))
    use = timeline.positive
    np.add.at(counts, (timeline.history.user_index[use], timeline.history.item_index[use]), 1.0)
    users = fold_in(sparse.csr_matrix(counts), learned, 10.0).astype(np.float64)
    y, ridge = learned.items.astype(np.float64), 1.0
    confidence = 1.0 + 10.0 * counts
    for item in range(timeline.n_items):  # the other half of the alternation is at rest, too
        weight = confidence[:, item]
        matrix = (users * weight[:, None]).T @ users + ridge * np.eye(y.shape[1])
        slow = np.linalg.solve(matrix, users.T @ (weight * (counts[:, item] > 0)))
        np.testing.assert_allclose(y[item], slow, atol=0.02)


def test_new_users_and_items_score_zero() -> None:
    rival = fit("choice", "matrix_factorization")
    assert (rival.rank(["nobody"], k=3)["score"] == 0.0).all()
    test = cut(make_frame("choice"))[1]
    test.loc[test.index[-1], "item_id"] = "fresh"
    assert len(rival.score_events(test)) == len(test)


def test_the_library_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(factorization, "import_module", missing)
    with pytest.raises(BayesInterestError, match=r'pip install "bayes-interest\[implicit\]"'):
        factorization.implicit_als()


def test_no_warning_about_threads_and_none_left_changed() -> None:
    """In a new process with two BLAS threads, where `implicit` would warn."""
    environment = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", BLAS_SCRIPT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
