"""Whether outcomes fall evenly over their predicted distributions, and how far they fall.

The probability integral transform of an outcome is the predicted probability of everything below
it. An outcome with mass of its own gets a uniform draw within it (Smith 1985; Czado, Gneiting and
Held 2009), so that under the truth the transforms of one-step-ahead predictions are independent and
uniform (Diebold, Gunther and Tay 1998).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import kstest

from bayes_interest.schema import MEAN, P_ABOVE, P_LEVEL, P_TIED

N_BINS = 20


def pit_edges(
    emission: str, table: pd.DataFrame, positive: np.ndarray, value: np.ndarray | None
) -> tuple[str, np.ndarray, np.ndarray]:
    """What is transformed, and the ends (event,) of the mass that each outcome has.

    "rating": over the levels, where `table` has their probabilities. "choice": over the items,
    the most probable first. "binary": a negative outcome first. NaN where nothing is said.
    """
    if emission == "choice":
        if P_ABOVE not in table:
            nothing = np.full(len(table), np.nan)
            return "choice", nothing, nothing
        low = table[P_ABOVE].to_numpy(dtype=float)
        return "choice", low, low + table[P_TIED].to_numpy(dtype=float)
    levels, probs = level_table(table)
    if emission == "rating" and len(levels) and value is not None:
        edges = np.cumsum(np.column_stack((np.zeros(len(probs)), probs)), axis=1)
        at, known = _place(levels, value)
        row = np.arange(len(value))
        low, high = edges[row, at], edges[row, at + 1]
        return "rating", np.where(known, low, np.nan), np.where(known, high, np.nan)
    miss = 1.0 - table[MEAN].to_numpy(dtype=float)
    return "binary", np.where(positive, miss, 0.0 * miss), np.where(positive, 1.0 + 0 * miss, miss)


def level_table(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Levels (level,) in increasing order and their probabilities (event, level)."""
    names = [c for c in table if isinstance(c, str) and c.startswith(P_LEVEL)]
    levels = np.array([float(name.removeprefix(P_LEVEL)) for name in names])
    order = np.argsort(levels)
    return levels[order], table[[names[i] for i in order]].to_numpy(dtype=float)


def _place(levels: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each value among the levels, and whether it is one of them."""
    at = np.minimum(np.searchsorted(levels, value), len(levels) - 1)
    return at, levels[at] == value


def transforms(low: np.ndarray, high: np.ndarray, seed: int) -> np.ndarray:
    """A uniform draw between the ends, (event,)."""
    draw = np.random.default_rng(seed).random(len(low))
    out: np.ndarray = np.clip(low + draw * (high - low), 0.0, 1.0)
    return out


def histogram(pit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the transforms in each of 20 equal parts of [0, 1], (bin,), and edges (bin + 1,)."""
    count, edges = np.histogram(pit, N_BINS, (0.0, 1.0))
    return count / max(1, len(pit)), edges


def uniformity(pit: np.ndarray) -> tuple[float, float]:
    """Largest distance of the empirical from the uniform distribution, and its p-value.

    Kolmogorov and Smirnov's test. With many events it finds differences that are of no account:
    look at the distance first.
    """
    found = kstest(pit, "uniform")
    return float(found.statistic), float(found.pvalue)


def rating_crps(table: pd.DataFrame, value: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of each rating, in units of the rating, (event,).

    `sum_k (F_k - 1[value <= level_k])^2 (level_{k+1} - level_k)`: the ranked probability score of
    Epstein (1969), with the levels' distances (Gneiting and Raftery 2007). NaN for no level.
    """
    levels, probs = level_table(table)
    if len(levels) < 2:
        return np.full(len(value), np.nan)
    below = value[:, None] <= levels[:-1]
    score = ((np.cumsum(probs, axis=1)[:, :-1] - below) ** 2) @ np.diff(levels)
    out: np.ndarray = np.where(_place(levels, value)[1], score, np.nan)
    return out
