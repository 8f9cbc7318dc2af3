"""Questions about many users, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bayes_interest.model.filtering import Belief
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import Predictors, predictors

ROWS = 64
"""For which the log is read once."""
AT_ONCE = 8
"""Whose predictors are computed together."""


def in_blocks(n_rows: int, extras: Callable[[slice], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """A few rows at a time, with what their moments add to predictors, (setting, row, item), by
    `extras(rows)`.
    """
    for begin in range(0, n_rows, ROWS):
        end = min(begin + ROWS, n_rows)
        extra = extras(slice(begin, end))
        for first in range(begin, end, AT_ONCE):
            last = min(first + AT_ONCE, end)
            yield slice(first, last), extra[:, first - begin : last - begin]


def few_predictors(posterior: Posterior, belief: Belief, extra: Tensor) -> Predictors:
    """`predictors` of `AT_ONCE` users at most, always computed as for so many: products of other
    shapes may round differently, and a user's bits shall not depend on who else is asked about.
    """
    count = len(belief.mean)
    rows = torch.arange(AT_ONCE, device=extra.device) % count
    found = predictors(posterior, belief.take(rows), extra[:, rows])
    return found.of(slice(count), slice(None))
