"""How far probabilities lie from frequencies by chance alone."""

from __future__ import annotations

import numpy as np

from bayes_interest.evaluation.metrics import calibration_error

N_DRAWN, MARGIN = 200, 0.02


def calibration_limit(chance: np.ndarray, seed: int) -> float:
    """The 95 % quantile of the calibration error of outcomes drawn from `chance`, plus 0.02."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((N_DRAWN, len(chance))) < chance
    errors = [calibration_error(one.astype(float), chance) for one in drawn]
    return float(np.quantile(errors, 0.95)) + MARGIN
