"""Questions about many users, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

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
