"""Items in which a user is surely enough interested; there may be none, and then it says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import logit, ndtr
from torch import Tensor

from bayes_interest.errors import InputError
from bayes_interest.posterior.answers import find_items, find_users, moment
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import check_draws, check_prob, level_cut
from bayes_interest.ranking.asked import Asked, Drawn, draw_user, each_user
from bayes_interest.ranking.scores import check_seed
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, PROBABILITY, SD, UPPER, USER_ID

COLUMNS = [USER_ID, ITEM_ID, PROBABILITY, MEAN, SD, LOWER, UPPER]
SUMMARY = [USER_ID, "n_items", "n_candidates", "nearest_item_id", "nearest_probability", "why"]


@dataclass(frozen=True, eq=False)
class ItemsAbove:
    """All items with `P(interest probability > p) >= c`, and a word on every user.

    Attributes:
        items: user_id, item_id, probability (that the interest probability exceeds p), mean, sd,
            lower, upper (of the interest probability); per user the surest first.
        users: a row per user: user_id, n_items (rows in `items`), n_candidates, nearest_item_id
            and nearest_probability (the surest candidate, in the list or not), why (what the list
            is empty for, else "").
        p, c: as asked.
    """

    items: pd.DataFrame
    users: pd.DataFrame
    p: float
    c: float

    def __repr__(self) -> str:
        empty = int((self.users["n_items"] == 0).sum())
        return (
            f"ItemsAbove: {len(self.items):,} items with P(interest > {self.p:g}) >= {self.c:g} "
            f"for {len(self.users):,} users, {empty:,} of them without any"
        )


def items_above(
    posterior: Posterior,
    users: Iterable[Any] | None,
    p: float,
    c: float,
    at: object,
    candidates: Iterable[Any] | None,
    exclude_seen: bool,
    prob: float,
    n_draws: int,
    seed: int,
) -> ItemsAbove:
    """See `InterestModel.above`."""
    check_prob(prob)
    check_draws(n_draws)
    check_seed(seed)
    for name, value in (("p", p), ("c", c)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < 1.0:
            raise InputError(f"{name}={value!r}: expected a probability between 0 and 1")
    posterior, who = find_users(posterior, users)
    allowed = np.unique(find_items(posterior, candidates, "candidates"))
    seconds = moment(posterior, at, who)
    tables: list[pd.DataFrame] = []
    summary: list[tuple[object, ...]] = []
    for asked in each_user(posterior, who, seconds, allowed, exclude_seen):
        user_id = posterior.vocabulary.users.ids[asked.user]
        if not asked.allowed.any():
            summary.append((user_id, 0, 0, None, np.nan, "no candidate is allowed"))
            continue
        drawn = draw_user(posterior, asked, prob, n_draws, seed)
        chance = _chances(posterior, asked, drawn, p)
        table = _table(posterior, asked, drawn, chance, c)
        tables.append(table)
        summary.append(_summary(posterior, asked, chance, user_id, len(table), (p, c)))
    empty = pd.DataFrame({name: [] for name in COLUMNS})
    items = pd.concat(tables, ignore_index=True) if tables else empty
    return ItemsAbove(items, pd.DataFrame(summary, columns=SUMMARY), p, c)


def _chances(posterior: Posterior, asked: Asked, drawn: Drawn, p: float) -> np.ndarray:
    """`P(interest probability > p)`, (item,): Phi for scalar families, a share of draws else."""
    if posterior.choice:
        share: np.ndarray = (drawn.probs > p).double().mean(0).cpu().numpy()
        return share
    chances, cut, mapped = [], float(level_cut(posterior)), posterior.recalibration
    if mapped is not None:
        p = float(mapped.inverse().of_arrays(np.array([p]))[0])
    for one in asked.found.each:
        sd = np.sqrt(np.maximum(_column(one.var), np.finfo(float).tiny))
        chances.append(ndtr((_column(one.mean) - cut - float(logit(p))) / sd))
    out: np.ndarray = np.mean(chances, axis=0)
    return out


def _column(values: Tensor) -> np.ndarray:
    out: np.ndarray = values.double().cpu().numpy()
    return out


def _table(
    posterior: Posterior, asked: Asked, drawn: Drawn, chance: np.ndarray, c: float
) -> pd.DataFrame:
    allowed = asked.allowed.cpu().numpy()
    found = np.flatnonzero(allowed & (chance >= c))
    found = found[np.argsort(-chance[found], kind="stable")]
    ids, interval = posterior.vocabulary, drawn.interval(torch.as_tensor(found))
    parts = {MEAN: interval.mean, SD: interval.sd, LOWER: interval.lower, UPPER: interval.upper}
    return pd.DataFrame(
        {
            USER_ID: np.repeat(ids.users.ids[asked.user : asked.user + 1], len(found)),
            ITEM_ID: ids.items.ids[found],
            PROBABILITY: chance[found],
            **{name: _column(values) for name, values in parts.items()},
        }
    )


def _summary(
    posterior: Posterior,
    asked: Asked,
    chance: np.ndarray,
    user_id: object,
    count: int,
    asked_for: tuple[float, float],
) -> tuple[object, ...]:
    allowed = np.flatnonzero(asked.allowed.cpu().numpy())
    nearest = allowed[chance[allowed].argmax()]
    item, best = posterior.vocabulary.items.ids[nearest], float(chance[nearest])
    p, c = asked_for
    why = "" if count else f"the nearest, {item!r}, has P(interest > {p:g}) = {best:.3g} < {c:g}"
    return user_id, count, len(allowed), item, best, why
