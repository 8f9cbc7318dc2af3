"""Themes for a report that was given none: groups of items whose texts are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_interest.errors import InputError
from bayes_interest.posterior.catalogue_themes import discover_themes
from bayes_interest.report.document.asked import Asked
from bayes_interest.schema import ITEM_ID, TEXT

ITEMS_PER_THEME, ITEMS_SHOWN = 4, 30


def found_themes(asked: Asked, n_themes: int) -> Mapping[str, object]:
    """Names to item ids; none without texts, or with too few items to group.

    bernoulli, rating: of a theme the mean over some items is asked, and the few that are met most
    say it; of all items it would take far longer.
    """
    if asked.items is None:
        return {}
    frame = asked.items.frame
    known = set(asked.posterior.vocabulary.items.ids.tolist())
    told = frame[frame[ITEM_ID].isin(known) & (frame[TEXT] != "")]
    count = min(n_themes, len(told) // ITEMS_PER_THEME)
    if count < 2:
        return {}
    try:
        found = discover_themes(asked.model, told[[ITEM_ID, TEXT]], count, seed=asked.seed)
    except InputError:  # the texts are too much alike to be told apart
        return {}
    if asked.emission == "choice":  # P(the next choice is one of them) is of all of them
        return found
    return {name: _best_met(asked, ids) for name, ids in found.items()}


def _best_met(asked: Asked, ids: list[Any]) -> list[Any]:
    """The items of a theme that say most of it: those with the most events, in their own order."""
    index = asked.posterior.vocabulary.items.index_of(ids)
    history = asked.posterior.history
    met = np.bincount(history.item_index, minlength=asked.posterior.layout.n_items)[index]
    kept = np.sort(np.argsort(-met, kind="stable")[:ITEMS_SHOWN])
    return [ids[place] for place in kept]
