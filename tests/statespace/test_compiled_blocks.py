"""Sites on all state dimensions: against dense algebra."""

from __future__ import annotations

import numpy as np
import torch

from bayes_interest.statespace.compiled_blocks import (
    filter_blocks,
    smooth_covs,
    smooth_means,
    states_of,
    told_forward,
)
from tests.oracles import walk_covariance

STEPS, DIM = 7, 3


def test_against_dense_algebra() -> None:
    rng = np.random.default_rng(0)
    decay, variance = rng.uniform(0.7, 1.0, STEPS), rng.uniform(0.0, 0.5, (STEPS, DIM))
    variance[0], decay[0], variance[3], decay[3] = 0.0, 1.0, 0.0, 1.0  # a tie in time
    root = rng.standard_normal((STEPS, DIM, DIM))
    curvature = root @ root.transpose(0, 2, 1)
    curvature[5] = 0.0  # nothing was seen
    linear, dual = rng.standard_normal((2, STEPS, DIM))
    gain, cov, smoothed = np.empty((3, STEPS, DIM, DIM))
    mean, ahead, states = np.empty((3, STEPS, DIM))
    filter_blocks(decay, variance, curvature, gain, cov)
    smooth_means(decay, curvature, gain, cov, linear, mean)
    smooth_covs(decay, curvature, gain, cov, smoothed)
    states_of(decay, variance, dual, ahead, states)

    size = STEPS * DIM
    prior = walk_covariance(torch.as_tensor(decay), torch.as_tensor(variance))
    prior = prior.reshape(size, size).numpy()
    inner = torch.block_diag(*torch.as_tensor(curvature)).numpy()
    dense = np.linalg.solve(np.eye(size) + prior @ inner, prior)
    np.testing.assert_allclose(mean.ravel(), dense @ linear.ravel())
    for step in range(STEPS):
        own = slice(step * DIM, (step + 1) * DIM)
        np.testing.assert_allclose(smoothed[step], dense[own, own], atol=1e-12)
    np.testing.assert_allclose(states.ravel(), prior @ dual.ravel())
    again = np.empty((STEPS, DIM))
    told_forward(decay, dual, again)
    np.testing.assert_array_equal(again, ahead)
