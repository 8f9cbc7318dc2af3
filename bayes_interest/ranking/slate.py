"""Ordered lists of items for users, with the uncertainty of every entry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayes_interest.errors import ConfigError
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.posterior.exposure import ExposedUsers
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.ranking.asked import Asked, Drawn, draw_user, each_user
from bayes_interest.ranking.diverse import default_looks, diverse_slate
from bayes_interest.ranking.fallback import OWN, Fallback
from bayes_interest.ranking.moments_slates import Slates, all_slates
from bayes_interest.ranking.scores import (
    EDGES,
    RankOptions,
    drawn_ranks,
    picked,
    score,
    top_k_probability,
)
from bayes_interest.schema import (
    BASIS,
    EXPECTED_RANK,
    ITEM_ID,
    LOWER,
    MEAN,
    P_TOP_K,
    RANK,
    RANK_LOWER,
    RANK_UPPER,
    SCORE,
    SD,
    SLATE_CERTAINTY,
    UPPER,
    USER_ID,
)

COLUMNS = [USER_ID, RANK, ITEM_ID, SCORE, MEAN, SD, LOWER, UPPER, P_TOP_K]


def rank_users(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    options: RankOptions,
    fallback: Fallback | None = None,
    exposure: ExposedUsers | None = None,
) -> pd.DataFrame:
    """The k best candidates (item positions) of each user (positions) at moments (user,).

    With `exposure` probabilities are those of meeting the item next, and of interest. With
    `fallback` users whose slate is less certain than `options.abstain` get its items.
    """
    if options.without_draws and (posterior.choice or exposure is not None):
        raise ConfigError(
            "n_draws=0: probabilities of what is chosen next come from joint draws; leave n_draws "
            "out, or give at least 2"
        )
    if exposure is None and _streams(posterior, seconds, options):
        return _streamed(posterior, users, seconds, candidates, options, fallback)
    if options.without_draws:
        every = all_slates(posterior, users, seconds, candidates, options)
        return _table_of(posterior, users, list(every))
    asked = each_user(posterior, users, seconds, candidates, options.exclude_seen)
    tables = [
        _rank_user(posterior, one, options, fallback, exposure)
        for one in asked
        if one.allowed.any()
    ]
    if not tables:
        return pd.DataFrame({name: [] for name in [*COLUMNS, *_more_columns(options)]})
    return pd.concat(tables, ignore_index=True)


def _streams(posterior: Posterior, seconds: np.ndarray, options: RankOptions) -> bool:
    """Whether compiled loops can search for the slates."""
    if options.by == "diverse" or options.exploration != 1.0:
        return False  # they need every draw of every item
    from bayes_interest.ranking.shortlist import can_stream  # loads numba

    return can_stream(posterior, seconds)


def _streamed(
    posterior: Posterior,
    users: np.ndarray,
    seconds: np.ndarray,
    candidates: np.ndarray,
    options: RankOptions,
    fallback: Fallback | None,
) -> pd.DataFrame:
    """Found by compiled loops; but for users who get the fallback."""
    from bayes_interest.ranking.shortlist import stream_slates

    parts = list(stream_slates(posterior, users, seconds, candidates, options))
    if not any(len(one.row) for one in parts):
        names = COLUMNS[:-1] if options.without_draws else [*COLUMNS, *_more_columns(options)]
        return pd.DataFrame({name: [] for name in names})
    table = _table_of(posterior, users, parts)
    row, item = (np.concatenate([getattr(one, name) for one in parts]) for name in ("row", "item"))
    if options.rank_intervals:
        asked = each_user(posterior, users, seconds, candidates, options.exclude_seen)
        ranks = _ranks_of(posterior, asked, row, torch.as_tensor(item), options)
        table = pd.concat((table, ranks), axis=1)
    if options.abstain is None:
        return table
    _, count = np.unique(row, return_counts=True)
    chance = torch.as_tensor(table[P_TOP_K].to_numpy().copy())
    means = [float(own.mean()) for own in chance.split(count.tolist())]
    certainty = np.repeat(means, count)
    table = table.assign(**{SLATE_CERTAINTY: certainty}).assign(**{BASIS: OWN})
    unsure = certainty < options.abstain
    if not unsure.any():
        return table
    who, tables, rows = np.unique(row[unsure]), [table[~unsure]], [row[~unsure]]
    for one in each_user(posterior, users[who], seconds[who], candidates, options.exclude_seen):
        tables.append(_rank_user(posterior, one, options, fallback, None))
        rows.append(np.full(len(tables[-1]), who[one.row]))
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)


def _ranks_of(
    posterior: Posterior,
    asked: Iterable[Asked],
    row: np.ndarray,
    item: Tensor,
    options: RankOptions,
) -> pd.DataFrame:
    """Columns for `rank_intervals` of slates (row, item) in the order asked: by all draws."""
    found = []
    for one in asked:
        begin, end = np.searchsorted(row, [one.row, one.row + 1])
        if begin < end:
            draws = draw_predictors(
                posterior, one.belief, one.extra, options.n_draws, options.seed
            )[0]
            found.append(_rank_columns(draws, one.allowed, item[begin:end], options.prob))
    return pd.concat([pd.DataFrame(one) for one in found], ignore_index=True)


def _table_of(posterior: Posterior, users: np.ndarray, parts: list[Slates]) -> pd.DataFrame:
    """Of slates by moments, with p_top_k where there were draws."""
    if not parts:
        return pd.DataFrame({name: [] for name in COLUMNS[:-1]})
    row, item, score = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("row", "item", "score")
    )
    interval = np.concatenate([one.interval for one in parts], 1)
    first, ids = np.searchsorted(row, np.arange(len(users))), posterior.vocabulary
    table = pd.DataFrame(
        {
            USER_ID: ids.users.ids[users[row]],
            RANK: np.arange(1, len(row) + 1) - first[row],
            ITEM_ID: ids.items.ids[item],
            SCORE: score,
            **dict(zip((MEAN, SD, LOWER, UPPER), interval, strict=True)),
        }
    )
    chances = [one.chance for one in parts if one.chance is not None]
    return table.assign(**{P_TOP_K: np.concatenate(chances)}) if chances else table


def _rank_user(
    posterior: Posterior,
    asked: Asked,
    options: RankOptions,
    fallback: Fallback | None,
    exposure: ExposedUsers | None,
) -> pd.DataFrame:
    drawn = draw_user(posterior, asked, options.prob, options.n_draws, options.seed, exposure)
    chance = top_k_probability(drawn.order, asked.allowed, options.k)
    best, sort_by = _order(asked, drawn, chance, options, posterior.choice or exposure is not None)
    more: dict[str, Any] = {}
    if fallback is not None and options.abstain is not None:
        certainty = float(chance[best].double().mean())
        more = {SLATE_CERTAINTY: certainty, BASIS: OWN}
        if certainty < options.abstain:
            more[BASIS] = fallback.name
            best, sort_by = _best(fallback.scores(asked), options.k)
    if options.rank_intervals:
        more = _rank_columns(drawn.order, asked.allowed, best, options.prob) | more
    return _table(posterior, asked, best, sort_by, drawn, chance).assign(**more)


def _more_columns(options: RankOptions) -> list[str]:
    ranks = [EXPECTED_RANK, RANK_LOWER, RANK_UPPER] if options.rank_intervals else []
    return ranks + ([] if options.abstain is None else [SLATE_CERTAINTY, BASIS])


def _order(
    asked: Asked, drawn: Drawn, chance: Tensor, options: RankOptions, exclusive: bool
) -> tuple[Tensor, Tensor]:
    """Positions of the slate's items and their scores, (place,) each."""
    if options.by == "diverse":
        looks = default_looks(exclusive) if options.looks is None else options.looks
        return diverse_slate(drawn.probs, asked.allowed, options.k, looks, exclusive)
    pick = picked(options)
    points = drawn.mean
    if options.by in EDGES:
        everything = torch.arange(len(points), device=points.device)
        points = getattr(drawn.interval(everything), options.by)
    values = score(options.by, points, drawn.probs, chance, pick, options.exploration)
    return _best(torch.where(asked.allowed, values, values.new_tensor(-torch.inf)), options.k)


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of the finite scores (item,): positions and scores, (place,) each."""
    # Stable, so equal scores keep the order in which the model met the items.
    found = torch.sort(scores, descending=True, stable=True)
    count = min(k, int((scores > -torch.inf).sum()))
    return found.indices[:count], found.values[:count]


def _rank_columns(draws: Tensor, allowed: Tensor, best: Tensor, prob: float) -> dict[str, Any]:
    """Expected rank of the slate's items and the whole ranks that hold it with mass `prob`."""
    ranks = drawn_ranks(draws, allowed, best).double()

    def edge(tail: float, side: str) -> np.ndarray:
        found = torch.quantile(ranks, tail, dim=0, interpolation=side)
        return np.asarray(found.cpu().numpy().astype(np.int64))

    return {
        EXPECTED_RANK: ranks.mean(0).cpu().numpy(),
        RANK_LOWER: edge(0.5 - prob / 2.0, "lower"),
        RANK_UPPER: edge(0.5 + prob / 2.0, "higher"),
    }


def _table(
    posterior: Posterior, asked: Asked, best: Tensor, scores: Tensor, drawn: Drawn, chance: Tensor
) -> pd.DataFrame:
    def column(values: Tensor) -> np.ndarray:
        out: np.ndarray = values.double().cpu().numpy()
        return out

    ids, interval = posterior.vocabulary, drawn.interval(best)
    return pd.DataFrame(
        {
            USER_ID: np.repeat(ids.users.ids[asked.user : asked.user + 1], len(best)),
            RANK: np.arange(1, len(best) + 1),
            ITEM_ID: ids.items.ids[best.cpu().numpy()],
            SCORE: column(scores),
            MEAN: column(drawn.mean[best]),
            SD: column(interval.sd),
            LOWER: column(interval.lower),
            UPPER: column(interval.upper),
            P_TOP_K: column(chance[best]),
        }
    )
