"""Where a predictor's variance comes from: the walk, the state, the item, its text, the globals."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.model.text_posterior import diagonal_of
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import level_cut, settings
from bayes_interest.schema import SECONDS_PER_DAY
from bayes_interest.statespace.random_walk import elapsed_growth


@dataclass(frozen=True)
class VarianceParts:
    """Variances whose sum is that of one predictor, averaged over draws of the globals."""

    state: float  # of the user's state as the last event left it
    walk: float  # what the walk has added since
    item: float  # of the item's residual and offset
    text: float  # of the text weights, where they are not among the draws of the globals
    globals: float  # between draws of the globals

    @property
    def total(self) -> float:
        """Their sum."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def variance_parts(
    posterior: Posterior, user: int, item: int, now: Belief, at: float
) -> VarianceParts:
    """Of one user and item, `now` the belief at `at` seconds."""
    last = posterior.last_seconds[user]
    days = float(np.nan_to_num((at - last) / SECONDS_PER_DAY))
    decay, _ = elapsed_growth(torch.tensor(days), posterior.layout.half_life_days)
    found, means = [], []
    for one, own in settings(posterior, now):
        x = one.items.vectors[item].double()
        before = float(decay) ** 2 * _along(one.belief.cov[user].double(), x)
        state = _along(own.cov[0].double(), x)
        m = torch.cat((one.values["mean"].double() + own.mean[0].double(), x.new_ones(1)))
        whole, text = item_cov_parts(one, item)
        parts = [_spread(block, m, own.cov[0].double()) for block in (whole - text, text)]
        found.append((before, state - before, *parts))
        means.append(float(own.mean[0].double() @ x + one.items.offsets[item] - level_cut(one)))
    before, walk, own_part, text = np.mean(found, axis=0).tolist()
    return VarianceParts(before, walk, own_part, text, float(np.var(means)))


def _along(cov: Tensor, x: Tensor) -> float:
    """`x . P x`, P full or diagonal."""
    return float(x**2 @ cov if cov.ndim == 1 else x @ cov @ x)


def _spread(block: Tensor, m: Tensor, cov: Tensor) -> float:
    """`Var[r . z + e]` for `(r, e) ~ N(0, block)`, `z ~ N(m, cov)`; m ends with a one."""
    if block.ndim == 1:
        variance = cov if cov.ndim == 1 else cov.diagonal()
        return float(block @ m**2 + block[:-1] @ variance)
    return float(m @ block @ m + (block[:-1, :-1] * cov).sum())


def item_cov_parts(posterior: Posterior, item: int) -> tuple[Tensor, Tensor]:
    """Covariance of an item's residual and offset, and the part that the text weights have in it.

    `with_text_variance` made a variance `b` into `B = b + c b^2`, `c` the text's variance over the
    prior's squared; undone here. Without residuals the text's variance is added as it is.
    `item_spread` then multiplied both.
    """
    given, cov = posterior.item_cov[item].double(), posterior.text_cov.double()
    if not cov.numel():
        return given, torch.zeros_like(given)
    whole = given / posterior.item_spread
    layout, values = posterior.layout, posterior.values
    scaled = posterior.features[item].double() / math.sqrt(layout.embed_dim)
    spread = torch.einsum("e,kef,f->k", scaled, cov, scaled)[[0] * layout.state_dim + [1]]
    spread[:-1] /= layout.state_dim
    known = diagonal_of(whole[None])[0]
    c = spread.clone()
    c[-1] *= math.exp(-4.0 * float(values["log_offset_scale"]))
    if layout.residuals:
        c[:-1] *= math.exp(-4.0 * float(values["log_residual_scale"]))
    bare = 2.0 * known / (1.0 + (1.0 + 4.0 * c * known).sqrt())
    if not layout.residuals:
        bare[:-1] = known[:-1] - spread[:-1]
    text = posterior.item_spread * (known - bare)
    return given, text if given.ndim == 1 else torch.diag(text)
