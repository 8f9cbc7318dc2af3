"""How sure a slate is: the share of it that truly belongs to the best, as expected."""

from __future__ import annotations

import torch
from torch import Tensor


def slate_certainty(draws: Tensor, slate: Tensor, k: int) -> Tensor:
    """Expected share of a slate's items that are among the k best, the mean of their `p_top_k`.

    Args:
        draws: joint draws of what is ranked, -inf where an item is not allowed, (..., draw, item).
        slate: positions of the shown items, -1 past the last, (..., place).
        k: how many places count as best.

    Returns:
        Numbers in [0, 1], (...,); NaN for an empty slate. A slate drawn blindly from n items has
        k / n; a slate that holds every allowed item has 1.
    """
    best = draws.topk(min(k, draws.shape[-1]), dim=-1).values[..., -1:]
    shown = slate >= 0
    place = slate.clamp_min(0)[..., None, :].expand(*draws.shape[:-1], slate.shape[-1])
    inside = (draws.gather(-1, place) >= best).to(torch.float64).mean(-2)
    size = shown.sum(-1)
    share = (inside * shown).sum(-1) / size.clamp_min(1)
    return torch.where(size > 0, share, torch.nan)
