"""A map of the items in two dimensions: like items near each other."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.posterior.interest import interest
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, UPPER

MapMethod = Literal["auto", "tsne", "pca"]
PERPLEXITY, FEWEST, MANY = 30.0, 5, 2_000
N_DRAWS = 400


def catalogue_map(
    posterior: Posterior, user: Any, at: object, prob: float, method: str, seed: int
) -> pd.DataFrame:
    """See `InterestModel.catalogue_map`."""
    if method not in get_args(MapMethod):
        raise ConfigError(f"method={method!r}: expected one of {', '.join(get_args(MapMethod))}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed={seed!r}: expected a whole number >= 0")
    if user is None and at is not None:
        raise InputError(f"at={at!r} is of a user's interest: give user= too")
    count = np.bincount(posterior.history.item_index, minlength=posterior.layout.n_items)
    spot = _places(posterior.items.vectors.double().cpu().numpy(), method, seed)
    ids = posterior.vocabulary.items.ids
    found = pd.DataFrame({ITEM_ID: ids, "x": spot[:, 0], "y": spot[:, 1], "n_events": count})
    if user is None:
        return found
    table = interest(posterior, [user], None, at, prob, N_DRAWS)
    return found.assign(**{name: table[name].to_numpy() for name in (MEAN, LOWER, UPPER)})


def _places(vectors: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Of the items' directions, or along a state of one dimension of the vectors, (item, 2)."""
    from sklearn.manifold import TSNE

    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    points = vectors if vectors.shape[1] == 1 else vectors / np.maximum(length, 1e-12)
    plane = _plane(points)
    distinct = len(np.unique(points.round(6), axis=0))
    small = distinct < FEWEST or points.shape[1] == 1
    if small or method == "pca" or (method == "auto" and len(points) > MANY):
        return plane
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3.0)
    start = plane / max(plane[:, 0].std(), 1e-12) * 1e-4
    found: np.ndarray = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(
        points
    )
    return found


def _plane(points: np.ndarray) -> np.ndarray:
    """Along the first two principal axes, each with its largest loading positive, (item, 2)."""
    centred = points - points.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    found = centred @ axes.T
    out: np.ndarray = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    return out
