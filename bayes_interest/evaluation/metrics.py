"""Figures of merit on arrays: of ranks, and of probabilities of outcomes that are 0 or 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

N_BINS = 15


def hit_rate(rank: np.ndarray, k: int) -> float:
    """Share of ranks (1 is first) at or above place `k`; NaN without any."""
    return float((rank <= k).mean()) if len(rank) else float("nan")


def ndcg(rank: np.ndarray, k: int) -> float:
    """Mean of `1 / log2(1 + rank)`, zero after place `k`; NaN without any.

    The normalised discounted cumulative gain of slates with one relevant item each.
    """
    if not len(rank):
        return float("nan")
    return float(np.where(rank <= k, 1.0 / np.log2(1.0 + rank), 0.0).mean())


def calibration_error(outcome: np.ndarray, prob: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error over bins of equal mass.

    `sum_b n_b / n |mean outcome - mean prob|`. A bin starts at every n / n_bins-th sorted
    probability; equal probabilities share a bin, so the order of rows does not matter.
    """
    if not len(prob):
        return float("nan")
    bins = calibration_bins(prob, n_bins)
    excess = np.bincount(bins, weights=outcome - prob, minlength=n_bins)
    return float(np.abs(excess).sum() / len(prob))


def calibration_bins(prob: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each probability, 0 to n_bins - 1, (event,); see `calibration_error`."""
    edges = np.sort(prob)[np.arange(1, n_bins) * len(prob) // n_bins]
    bins: np.ndarray = np.searchsorted(edges, prob, side="right")
    return bins


def binary_metrics(outcome: np.ndarray, prob: np.ndarray) -> dict[str, float]:
    """log_loss, auc (NaN where all outcomes are equal), brier and calibration_error."""
    if not len(outcome):
        return dict.fromkeys(("log_loss", "auc", "brier", "calibration_error"), float("nan"))
    hits = outcome.astype(np.int64)
    varied = len(pd.unique(hits)) == 2
    return {
        "log_loss": float(log_loss(hits, prob, labels=[0, 1])),
        "auc": float(roc_auc_score(hits, prob)) if varied else float("nan"),
        "brier": float(brier_score_loss(hits, prob, pos_label=1)),
        "calibration_error": calibration_error(outcome.astype(np.float64), prob),
    }
