"""Inference for the choice family: one chain per state dimension, sites from the softmax.

The expected log softmax has no closed form: it is taken at one reparameterised draw of the
smoothed marginals per event, the KL exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_interest.emissions.choice import choice_site
from bayes_interest.model.batch import Batch
from bayes_interest.model.candidates import CandidateRows
from bayes_interest.model.parameters import Globals, Items, Layout, reliability
from bayes_interest.model.softmax import Choices, Sample, gradient_sums, look
from bayes_interest.statespace.diagonal import (
    DiagonalFiltered,
    DiagonalSites,
    DiagonalSmoothed,
    filter_diagonal,
    kl_to_prior_diagonal,
    smooth_diagonal,
)


@dataclass(frozen=True)
class ChoicePosterior:
    """The guide of a batch of users at given globals."""

    sites: DiagonalSites  # after the step
    forward: DiagonalFiltered  # at the sites before it, as are all below
    smoothed: DiagonalSmoothed
    elbo: Tensor  # (user,), unbiased: one draw per event
    gradients: dict[str, Tensor]  # of the expected log likelihood
    curvature: Tensor  # precision of residual and offset by item, (item, state_dim + 1)


def flat_choices(values: Globals, batch: Batch, events: np.ndarray, rows: CandidateRows) -> Choices:
    """The real events of a batch in (user, step) order; `events` are their history positions."""
    kind = batch.kind[batch.mask]
    return Choices(
        batch.item[batch.mask],
        reliability(values, kind).detach(),
        kind,
        batch.covariates[batch.mask],
        events,
        rows,
    )


def zero_choice_sites(batch: Batch, like: Tensor) -> DiagonalSites:
    """No information yet."""
    zero = like.new_zeros(*batch.mask.shape, like.shape[-1])
    return DiagonalSites(zero, zero)


def fit_choice_sites(
    layout: Layout,
    values: Globals,
    items: Items,
    batch: Batch,
    choices: Choices,
    sites: DiagonalSites,
    step_size: float,
    generator: torch.Generator,
    sample: Sample | None = None,
) -> ChoicePosterior:
    """Smooth at the given sites, look at the softmax at one draw, and step the sites."""
    with torch.no_grad():
        walk = batch.walk(layout, values)
        forward = filter_diagonal(sites, walk)
        smoothed = smooth_diagonal(sites, walk, forward)
        mask = batch.mask
        mean, sd = smoothed.mean[mask], smoothed.var[mask].clamp_min(0.0).sqrt()
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)  # of any dtype
        states = mean + sd * noise.to(mean)
        gradients = gradient_sums(values, items)
        if batch.context is not None:
            states = states + batch.context[mask]
        seen = look(values, items, choices, states, sample, gradients)
        chosen = items.vectors[choices.item]
        if batch.context is not None:
            gradients["context"] = choices.rho[:, None] * (chosen - seen.moments.mean)
        linear, precision = choice_site(chosen, seen.moments, mean, choices.rho)
        stepped = DiagonalSites(sites.linear.clone(), sites.precision.clone())
        stepped.linear[mask] += step_size * (linear - stepped.linear[mask])
        stepped.precision[mask] += step_size * (precision - stepped.precision[mask])
        fit = torch.zeros_like(mask, dtype=mean.dtype)
        fit[mask] = seen.log_prob
        elbo = fit.sum(-1) - kl_to_prior_diagonal(sites, smoothed, forward.log_evidence)
        curvature = gradients.pop("curvature")
        return ChoicePosterior(stepped, forward, smoothed, elbo, gradients, curvature)


def choice_objective(
    layout: Layout, values: Globals, items: Items, batch: Batch, posterior: ChoicePosterior
) -> Tensor:
    """A scalar whose gradient in the globals is the ELBO's at the batch's present guide."""
    parts = {"vectors": items.vectors, "offsets": items.offsets} | values
    if batch.context is not None:
        parts["context"] = batch.context[batch.mask]
    total = sum((parts[name] * slope).sum() for name, slope in posterior.gradients.items())
    walk = batch.walk(layout, values)
    return total + (posterior.smoothed.variance_score * walk.variance).sum()
