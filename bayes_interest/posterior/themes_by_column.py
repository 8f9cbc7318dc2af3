"""Themes from a column of the item table: categories, tags, or bands of a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.events.read import ItemTable, read_items
from bayes_interest.schema import ITEM_ID

WORDS = {2: ("low", "high"), 3: ("low", "middle", "high")}


def themes_by_column(
    items: object,
    column: str,
    *,
    separator: str = "|",
    n_bands: int = 3,
    edges: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """Themes for `themes=` of the model's methods, from what a table says of its items.

    - Categories: a theme per value. A cell may hold several, as a list or as "drama|comedy"; the
      item is then in each. Largest theme first; an ordered categorical keeps its order.
    - Yes or no: `column` and "not `column`".
    - Numbers, such as a sentiment or a year: bands, "low sentiment (-0.9 to -0.2)" and so on, each
      with as many items as the others as nearly as ties allow. Codes of categories: make them
      strings first.

    Items without a value are in no theme.

    Args:
        items: what `read_items` takes, or what it returned.
        column: its column.
        separator: between several categories in one cell; "" where cells are whole.
        n_bands: of a numeric column.
        edges: inner limits of the bands instead, increasing; a value at a limit is in the upper
            band. A band without items is left out.
        names: of the bands, from low to high.

    Returns:
        Theme to item ids, in the order of the table.

    Raises:
        InputError: there is no such column, it is empty, or an option does not fit it.
    """
    frame = (items if isinstance(items, ItemTable) else read_items(items)).frame
    if column not in frame:
        raise InputError(f"items have no column {column!r}, only {', '.join(map(str, frame))}")
    own = frame[[ITEM_ID, column]].dropna()
    numeric = pd.api.types.is_numeric_dtype(own[column])
    yes_no = pd.api.types.is_bool_dtype(own[column])
    if (edges is not None or names is not None) and (yes_no or not numeric):
        raise InputError(f"edges= and names= are for numbers, and column {column!r} has none")
    if own.empty:
        raise InputError(f"column {column!r} of the items is empty: there are no themes in it")
    if yes_no:
        return _by_name(own[ITEM_ID], np.where(own[column], column, f"not {column}"))
    if numeric:
        return bands(own[ITEM_ID], own[column].to_numpy(float), column, n_bands, edges, names)
    return _by_category(own, column, separator)


def _by_category(own: pd.DataFrame, column: str, separator: str) -> dict[str, list[Any]]:
    ranks = None
    if isinstance(own[column].dtype, pd.CategoricalDtype) and own[column].cat.ordered:
        ranks = [str(value) for value in own[column].cat.categories]
    cells = own[column].astype(object).map(lambda cell: _split(cell, separator))
    flat = own.assign(**{column: cells}).explode(column).dropna()
    if flat.empty:
        raise InputError(f"column {column!r} of the items is empty: there are no themes in it")
    found = _by_name(flat[ITEM_ID], flat[column].to_numpy())
    return found if ranks is None else {name: found[name] for name in ranks if name in found}


def _split(cell: object, separator: str) -> list[str]:
    """The names in a cell, each once."""
    if isinstance(cell, str):
        parts: Iterable[Any] = cell.split(separator) if separator else [cell]
    elif isinstance(cell, Iterable):
        parts = cell
    else:
        parts = [cell]
    names = (str(part).strip() for part in parts if not pd.isna(part))
    return list(dict.fromkeys(name for name in names if name))


def _by_name(ids: pd.Series[Any], names: np.ndarray) -> dict[str, list[Any]]:
    """Largest first, equals by name."""
    found = {str(name): part.tolist() for name, part in ids.groupby(names, sort=True)}
    return dict(sorted(found.items(), key=lambda theme: -len(theme[1])))


def bands(
    ids: pd.Series[Any],
    values: np.ndarray,
    what: str,
    n_bands: int,
    edges: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """Items by bands of a number (item,), from low to high; `what` names the number."""
    if edges is None:
        if isinstance(n_bands, bool) or not isinstance(n_bands, int) or n_bands < 2:
            raise InputError(f"n_bands={n_bands!r}: expected a whole number >= 2")
        inner = np.quantile(values, np.arange(1, n_bands) / n_bands, method="higher")
        limits = np.unique(inner[inner > values.min()])
    else:
        limits = _checked_edges(edges)
    count = len(limits) + 1
    if names is not None and (isinstance(names, str) or len(set(names)) != count):
        raise InputError(f"names={names!r}: expected {count} different names, one for each band")
    place = np.searchsorted(limits, values, side="right")
    words = WORDS.get(count, (None,) * count)
    out: dict[str, list[Any]] = {}
    for number in range(count):
        inside = place == number
        if not inside.any():
            continue
        if names is None:
            span = f"{values[inside].min():.3g} to {values[inside].max():.3g}"
            word = words[number]
            name = f"{what} {span}" if word is None else f"{word} {what} ({span})"
        else:
            name = str(names[number])
        out[name] = ids[inside].tolist()
    return out


def _checked_edges(edges: Sequence[float]) -> np.ndarray:
    numbers = isinstance(edges, Iterable) and not isinstance(edges, str)
    if not numbers or not all(isinstance(edge, Real) for edge in edges):
        raise InputError(f"edges={edges!r}: expected numbers, for example edges=[-0.2, 0.2]")
    limits = np.asarray(list(edges), dtype=float)
    if not len(limits) or not (np.diff(limits) > 0).all() or not np.isfinite(limits).all():
        raise InputError(f"edges={edges!r}: expected one or more finite, increasing numbers")
    return limits
