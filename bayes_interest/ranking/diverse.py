"""Slates in which something should please: relevance against redundancy, by the joint draws.

Two items that please in the same draws are of little use together where it is unclear which draw
is the truth. A slate is worth the probability that at least one of its items is engaged with
(Chen and Karger 2006, "Less is more"), which is a submodular function of the slate: taking the
best next item, again and again, reaches at least 1 - 1/e of the best value (Nemhauser, Wolsey and
Fisher 1978).
"""

from __future__ import annotations

import torch
from torch import Tensor

CHOICE_LOOKS = 10


def default_looks(exclusive: bool) -> int:
    """One look; of choices ten, for a single one is as likely from any slate of equal mass."""
    return CHOICE_LOOKS if exclusive else 1


def diverse_slate(
    probs: Tensor, allowed: Tensor, k: int, looks: int, exclusive: bool
) -> tuple[Tensor, Tensor]:
    """Greedy slate by P(at least one of its items is engaged with in `looks` looks).

    Given a draw of everything that is not known of the user, the looks are independent. In a look
    items are engaged with independently, `P(none) = prod_i (1 - p_i)`; or, where `exclusive`, at
    most one is, `P(none) = 1 - sum_i p_i`.

    Args:
        probs: joint draws of the items' probabilities, (draw, item).
        allowed: which items may be shown, (item,) bool.
        k: places. Fewer are filled where fewer items are allowed.
        looks: the more, the more it counts that every plausible draw finds something.
        exclusive: see above.

    Returns:
        Positions of the items in the order taken, (place,), and what each adds to the
        probability, (place,): their sum is that of the slate.
    """
    p = torch.where(allowed, probs.double(), 0.0).clamp(0.0, 1.0)
    free, mean = allowed.clone(), p.mean(0)
    none = p.new_ones(len(p), 1)  # P(nothing of the slate in one look), (draw, 1)
    taken, gains = [], []
    for _ in range(min(k, int(allowed.sum()))):
        after = (none - p).clamp_min(0.0) if exclusive else none * (1.0 - p)
        gain = (_power(none, looks) - _power(after, looks)).mean(0).masked_fill(~free, -torch.inf)
        if float(gain.max()) <= 0.0:  # something pleases in every draw: the likeliest of the rest
            gain = torch.where(free, 0.0, -torch.inf)
            place = int(mean.masked_fill(~free, -torch.inf).argmax())
        else:
            place = int(gain.argmax())
        taken.append(place)
        gains.append(gain[place])
        free[place] = False
        none = after[:, place : place + 1]
    order = torch.tensor(taken, dtype=torch.long, device=p.device)
    return order, torch.stack(gains)


def _power(values: Tensor, exponent: int) -> Tensor:
    """By repeated squaring, several times faster than a general power."""
    out, square = torch.ones_like(values), values
    while exponent:
        if exponent % 2:
            out = out * square
        exponent //= 2
        square = square * square if exponent else square
    return out
