"""Conjugate-computation variational inference: each event's likelihood as a Gaussian site.

At the optimum a site matches the expected derivatives of the log likelihood at its own smoothed
marginal (Khan & Lin 2017): `lam = -E[l'']`, `h = E[l'] + lam * E[a]`. A natural-gradient step of
size one sets exactly that; smaller steps average natural parameters.
"""

from __future__ import annotations

from torch import Tensor

from bayes_interest.statespace.kalman import ScalarSites

SMALLEST_SHARE = 1e-4
"""Of its variance a predictor keeps at least this share after one event."""


def matched_site(first: Tensor, second: Tensor, mean: Tensor) -> ScalarSites:
    """The site with the expected derivatives `first`, `second` at predictor mean `mean`."""
    precision = (-second).clamp_min(0.0)
    return ScalarSites(first + precision * mean, precision)


def matched_moments(mean: Tensor, var: Tensor, first: Tensor, second: Tensor) -> ScalarSites:
    """The site after which a predictor `N(mean, var)` has mean `m + v d`, variance `v + v^2 c`.

    These are its moments under an exact likelihood, with `d` and `c` (`first`, `second`) the
    derivatives of the log evidence in the mean (Minka 2001).
    """
    shrink = (1.0 + var * second).clamp(SMALLEST_SHARE, 1.0)
    precision = -second.clamp_max(0.0) / shrink
    return ScalarSites(first / shrink + precision * mean, precision)


def step_sites(old: ScalarSites, new: ScalarSites, size: float | Tensor) -> ScalarSites:
    """Natural-gradient step of `size` in (0, 1] from `old` to `new`."""
    return ScalarSites(
        old.linear + size * (new.linear - old.linear),
        old.precision + size * (new.precision - old.precision),
    )


def site_change(old: ScalarSites, new: ScalarSites) -> float:
    """Largest absolute change of a natural parameter."""
    linear = (new.linear - old.linear).abs().max().item()
    return max(linear, (new.precision - old.precision).abs().max().item())
