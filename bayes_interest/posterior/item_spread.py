"""How unsure items are, set by the one-step-ahead predictions of a later slice of time.

Around point estimates of the globals, items and users' states are known independently of each
other, though an event tells of their product. To count both in full can make probabilities of
outcomes too unsure; on which log by how much, the slice says.
"""

from __future__ import annotations

import math
from dataclasses import replace

from scipy.optimize import minimize_scalar

from bayes_interest.events.history import History
from bayes_interest.posterior.online import filter_history
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import held_back_loss

LEAST, MOST = 0.1, 3.0
LOG_SPREAD = 0.5
"""Prior sd of the factor's logarithm, around no change: small slices say little."""
TOLERANCE = 0.05


def tuned_spread(posterior: Posterior, late: History) -> float:
    """The factor of all items' covariances under which the events of `late` are likeliest.

    bernoulli and rating; a choice's forecasts in the fit do without the items' variance.
    """
    if posterior.layout.emission == "choice":
        return 1.0

    def loss(log_factor: float) -> float:
        scaled = replace(posterior, item_cov=math.exp(log_factor) * posterior.item_cov)
        found, _, _ = filter_history(scaled, late)
        return len(late) * held_back_loss(scaled, found) + 0.5 * (log_factor / LOG_SPREAD) ** 2

    bounds = (math.log(LEAST), math.log(MOST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": TOLERANCE})
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0
