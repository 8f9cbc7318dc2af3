"""Is this fit to be trusted? Checks with a figure, a limit, a verdict and plain words.

Checks of the fit, of the guide against the exact posterior, of left-out events, of drawn logs
against the log, and of what the log could tell at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral

import numpy as np
import pandas as pd

from bayes_interest.errors import ConfigError
from bayes_interest.evaluation.fit_checks import (
    data_checks,
    drift_checks,
    fit_checks,
    settled_checks,
)
from bayes_interest.evaluation.guide_sample import GuideSample, draw_guide
from bayes_interest.evaluation.metrics import calibration_error
from bayes_interest.evaluation.pareto import effective_share, pareto_k
from bayes_interest.evaluation.predictive_checks import figures, tail_probability
from bayes_interest.evaluation.reliability import calibration_limit
from bayes_interest.evaluation.verdicts import (
    DISTRUST,
    GOOD,
    LOOK,
    Check,
    at_least,
    at_most,
)
from bayes_interest.events.history import History
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.score import score_history

MIN_DRAWS, FAR_SD, MIN_TAIL = 100, 6.0, 0.005
K_HAT, UNEVEN, NEARLY_EVEN = 0.7, 0.5, 0.9
"""k-hat above which importance weights have no usable variance (Vehtari et al. 2024), and shares of
effective draws."""


@dataclass(frozen=True)
class _Absent:
    """A check that has nothing to look at, and why."""

    check: str
    reason: str


def diagnose(
    posterior: Posterior, later: History | None, n_users: int, n_draws: int, seed: int
) -> pd.DataFrame:
    """See `InterestModel.diagnose`; `later` are events after those absorbed."""
    for name, value, least in (("n_users", n_users, 1), ("n_draws", n_draws, MIN_DRAWS)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ConfigError(f"{name}={value!r}: expected a whole number, at least {least}")
    found: list[Check | _Absent] = []
    found += fit_checks(posterior.summary)
    if posterior.history.absorb.any():
        sample = draw_guide(posterior, n_users, n_draws, seed)
        found += [_guide_check(sample), *_left_out_checks(sample, seed), *_predictive(sample)]
        found += _of_later(posterior, later, seed)
        found += [*settled_checks(posterior), *drift_checks(posterior)]
        found += data_checks(posterior)
    else:
        found.append(_Absent("all but the fit", "the model has absorbed no event"))
    table = pd.DataFrame([asdict(one) for one in found if isinstance(one, Check)])
    table.attrs = {
        "emission": posterior.config.emission,
        "absent": {one.check: one.reason for one in found if isinstance(one, _Absent)},
    }
    return table


def _guide_check(sample: GuideSample) -> Check:
    """k-hat knows the shape of the tail and not its size: of weights that are all but equal it may
    be as large as it likes, so it counts only where they are not.
    """
    k_hat, share = pareto_k(sample.log_ratio), effective_share(sample.log_ratio)
    bad = (share < UNEVEN) | ((k_hat > K_HAT) & (share < NEARLY_EVEN))
    return at_most(
        "guide against the exact posterior",
        float(bad.mean()),
        0.15,
        0.5,
        f"Share of {sample.history.n_users} users whose guide is off: effective share of draws "
        f"below {UNEVEN} (median {np.median(share):.2f}), or below {NEARLY_EVEN} with Pareto k-hat "
        f"above {K_HAT} (median {np.median(k_hat):.2f}).",
        "their intervals do not have the shape of the exact posterior; fewer state dimensions or "
        "the bernoulli family come closer to it.",
    )


def _left_out_checks(sample: GuideSample, seed: int) -> list[Check | _Absent]:
    if sample.loo is None:
        reason = "choice: a site of the softmax has no exact cavity"
        names = ("left-out loss", "optimism", "influence", "saturation", "calibration")
        return [_Absent(name, reason) for name in names]
    loo, outcome = sample.loo, sample.observed
    level = sample.posterior.level if sample.posterior.layout.emission == "rating" else 1
    share = np.bincount(outcome.astype(np.int64)) / len(outcome)
    plain = float((share[share > 0] * np.log(share[share > 0])).sum())
    extreme = (loo.chance < 0.01) | (loo.chance > 0.99)
    many = int((loo.leverage > 0.5).sum())
    return [
        at_least(
            "left-out loss",
            float(loo.log_prob.mean()) - plain,
            0.01,
            0.0,
            f"Log probability of an event left out ({loo.log_prob.mean():.3f}) less that of the "
            "mere frequencies of outcomes, in nats.",
            "the model predicts hardly better than counting; look at texts, at what the values "
            "mean, and whether there is enough per user.",
        ),
        at_most(
            "optimism",
            float((loo.in_sample - loo.log_prob).mean()),
            0.2,
            0.4,
            "Log probability of an event when known less when left out, in nats.",
            "states follow single outcomes; fewer state dimensions, or more events per user.",
        ),
        at_most(
            "influence",
            many / len(outcome),
            0.05,
            0.25,
            f"Share of events ({many}) that say more about their own predictor than all else does.",
            "single events decide; check those users for outliers and for very few events.",
        ),
        at_most(
            "saturation",
            float(extreme.mean()),
            0.2,
            0.6,
            "Share of left-out probabilities below 0.01 or above 0.99.",
            "most is taken as certain; check for values that follow from the item or the user "
            "alone, and for scales that ran away.",
        ),
        _calibration("calibration", loo.chance, outcome >= level, "left-out events", seed),
    ]


def _calibration(name: str, chance: np.ndarray, positive: np.ndarray, of: str, seed: int) -> Check:
    limit = calibration_limit(chance, seed)
    return at_most(
        name,
        calibration_error(positive.astype(float), chance),
        limit,
        limit + 0.1,
        f"Mean distance of probability and frequency in bins of {len(chance)} {of}; the limit is "
        "what chance alone gives, plus 0.02.",
        "probabilities are off; compare `score_events` with what came, and fit with a held-back "
        "slice (`holdout`).",
    )


def _of_later(posterior: Posterior, later: History | None, seed: int) -> list[Check | _Absent]:
    name = "calibration of later events"
    if later is None:
        return [_Absent(name, "no events after the fit were given (diagnose(events=...))")]
    if posterior.choice:
        return [_Absent(name, "choice: probabilities of the chosen item alone have no frequency")]
    scores, history = score_history(posterior, later, 0.9, False, 64)
    level = posterior.level if posterior.layout.emission == "rating" else 1
    plain = history.kind_index == 0  # what the interest probability is about
    if not plain.any():
        return [_Absent(name, "no later event is of the reference kind")]
    chance = scores.interval.mean.cpu().numpy()[plain]
    return [_calibration(name, chance, history.outcome[plain] >= level, "later events", seed)]


def _predictive(sample: GuideSample) -> list[Check | _Absent]:
    """One check per figure: outside of all drawn logs is worth a look, far outside is worse."""
    found: list[Check | _Absent] = []
    for name, figure in figures(sample).items():
        observed = figure(sample.observed)
        drawn = np.array([figure(one) for one in sample.replicated])
        chance = tail_probability(observed, drawn)
        limit = max(MIN_TAIL, 2.0 / (len(drawn) + 1))
        far = abs(observed - drawn.mean()) > FAR_SD * max(float(drawn.std()), 1e-12)
        outside = chance <= limit
        verdict = (DISTRUST if far else LOOK) if outside else GOOD
        low, high = np.quantile(drawn, [0.05, 0.95])
        meaning = f"Observed {observed:.3f}, in logs drawn from the model {low:.3f} to {high:.3f}"
        meaning += "." if not outside else "; the model cannot reproduce it: " + _CURES[name]
        found.append(Check(f"drawn logs: {name}", chance, limit, verdict, meaning))
    if not sample.posterior.choice:
        reason = f"{sample.posterior.layout.emission}: what is met next is not modelled"
        found.append(_Absent("drawn logs: repeats", reason))
    return found


_CURES = {
    "spread of users' rates": "more state dimensions, or `rates`.",
    "spread of items' rates": "turn on `item_residuals`, and fit longer.",
    "share of the head items": "turn on `item_residuals` or `popularity_days`, and fit longer.",
    "autocorrelation of outcomes": "interest may drift faster than the model allows; `rates`.",
    "repeats": "turn on `repeats`.",
    "likeness of successive items": "turn on `event_drift`, `likeness` or `context_layers`.",
}
