"""The speed section of texts: how rankings are compared and goals judged."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.speed.encode import HALF, goals
from benchmarks.speed.encode_texts import kendall
from benchmarks.speed.rows import OURS, row


def test_kendall_counts_pairs_in_another_order_and_leaves_repeats_out() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert kendall(a, a + 7.0, None) == pytest.approx(1.0)
    swapped = np.array([[1.0, 3.0, 2.0, 4.0]])
    assert kendall(a, swapped, None) == pytest.approx(1.0 - 2.0 / 6.0)
    vectors = np.random.default_rng(0).normal(size=(11, 5))
    texts = [f"text {i}" for i in range(11)]
    again = [*range(11), 3, 3]
    repeated = kendall(vectors[again], -2.0 * vectors[again], [texts[i] for i in again])
    assert repeated == pytest.approx(1.0)  # cosines of opposite vectors are the same
    noise = np.random.default_rng(1).normal(size=vectors.shape)
    expected = kendall(vectors, vectors + noise, texts)
    assert 0.0 < expected < 0.9
    both = kendall(vectors[again], (vectors + noise)[again], [texts[i] for i in again])
    assert both != pytest.approx(1.0)
    assert both == pytest.approx(expected)


def test_goals_are_judged_from_the_rows() -> None:
    rows = [
        row("titles", OURS, [2.0], tau=0.995),
        row("titles", HALF, [1.0], tau=0.993),
        row("titles", "sentence-transformers 6", [7.0], tau=1.0),
        row("questions", OURS, [2.0], tau=0.9),
        row("questions", HALF, [1.6], tau=0.994),
        row("questions", "sentence-transformers 6", [4.0], tau=1.0),
        row("fit and rank all items", OURS, [9.0], tau=0.95),
        row("second run, 7 texts cached", OURS, [0.9]),
        row("bayes-interest --help", OURS, [0.6]),
    ]
    assert [(goal.reached, goal.met) for goal in goals(rows)] == [
        ("3.50x", True),
        ("2.00x", False),
        ("0.90000", False),
        ("7.00x", True),
        ("2.50x", False),
        ("0.99300", True),
        ("0.90 s", True),
        ("0.60 s", False),
    ]
