"""How sure the text weights are, and what that adds to the items that lean on their text.

Scalar families; for choice see `choice_items.py`. Given the events' precisions on each item, the
text weights have a Gaussian posterior: ridge regression with the residuals integrated out. It is
kept as one covariance for the item vectors, shared by the state dimensions, and one for the
offsets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_interest.model.parameters import Globals, Layout


def diagonal_of(cov: Tensor) -> Tensor:
    """Variances from covariances (item, D, D) or from variances (item, D)."""
    return cov if cov.ndim == 2 else cov.diagonal(dim1=-2, dim2=-1)


def text_posterior_cov(
    layout: Layout, values: Globals, precision: Tensor, features: Tensor
) -> Tensor:
    """Covariances of a dimension's weights and of the offset weights, (2, embed_dim, embed_dim).

    `precision` (item, D + 1, D + 1) is that of residual and offset from the events. Empty for the
    choice family, whose precisions are diagonal.
    """
    if precision.ndim == 2:
        return precision.new_zeros(0)
    known, scaled = diagonal_of(precision), features / math.sqrt(layout.embed_dim)
    eye = torch.eye(layout.embed_dim, dtype=features.dtype, device=features.device)
    out = []
    for info, effect, divisor in (
        (known[:, :-1].mean(1), "residual", layout.state_dim),
        (known[:, -1], "offset", 1),
    ):
        if effect in values:
            info = info / (1.0 + info * torch.exp(2.0 * values[f"log_{effect}_scale"]))
        gram = scaled.T @ (info[:, None] * scaled) / divisor + eye
        out.append(torch.cholesky_inverse(torch.linalg.cholesky(gram)))
    return torch.stack(out)


def with_text_variance(
    layout: Layout, values: Globals, item_cov: Tensor, features: Tensor, text_cov: Tensor
) -> Tensor:
    """Item covariances with the uncertainty of the text part added on the diagonal.

    An item that its own events determine leans little on its text: the text's variance counts by
    the square of the share `var / scale^2` that the prior still holds.
    """
    if not text_cov.numel():
        return item_cov
    scaled = features / math.sqrt(layout.embed_dim)
    spread = torch.einsum("ie,kef,if->ik", scaled, text_cov, scaled)
    share = diagonal_of(item_cov).clone()
    share[:, -1] *= torch.exp(-2.0 * values["log_offset_scale"])
    if layout.residuals:
        share[:, :-1] *= torch.exp(-2.0 * values["log_residual_scale"])
    else:
        share[:, :-1] = 1.0
    extra = share**2 * spread[:, [0] * layout.state_dim + [1]]
    extra[:, :-1] /= layout.state_dim
    return item_cov + (extra if item_cov.ndim == 2 else torch.diag_embed(extra))
