"""Themes found in the catalogue of a model: groups of like items, and axes between two poles."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd

from bayes_interest.errors import ConfigError, DataWarning, InputError
from bayes_interest.events.read import ItemTable, read_items
from bayes_interest.posterior.answers import find_items
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.themes import theme_vector
from bayes_interest.posterior.themes_by_column import bands
from bayes_interest.posterior.typical_words import typical_words
from bayes_interest.schema import ITEM_ID, TEXT
from bayes_interest.text.encoder import Encoder

Likeness = Literal["interest", "text"]
STARTS = 10
TINY = 1e-9


class FittedModel(Protocol):
    """What is read of a model: what it has learned, and its encoder."""

    @property
    def posterior(self) -> Posterior:
        """The fitted state."""
        ...

    encoder: Encoder


def discover_themes(
    model: FittedModel,
    items: object,
    n_themes: int = 10,
    *,
    n_words: int = 3,
    by: Likeness = "interest",
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Groups of like items, named by the words that are typical of each, for `themes=`.

    K-means (scikit-learn) on the directions of the items' vectors; a theme's name is its
    `n_words` most typical words by class-based tf-idf, "comet, telescope, lander". Words of
    Chinese and other scripts without spaces are runs of up to four characters. Items that have
    neither text nor events point nowhere and are in no theme: a DataWarning counts them.

    Args:
        model: a fitted `InterestModel`.
        items: item_id and text, what `read_items` takes or returned; each known to the model.
        n_themes: how many groups. More are finer, and leave fewer items to learn from in each.
        n_words: words of a name.
        by: "interest" groups what the same people are drawn to (the learned item vectors),
            "text" what reads alike (the vectors of the encoder).
        seed: the same seed gives the same themes.

    Returns:
        Theme to item ids, the largest first.

    Raises:
        ConfigError: an impossible option.
        ItemError: an item is unknown to the model.
        InputError: fewer different items than themes.
    """
    _check(n_themes, n_words, by, seed)
    frame = (items if isinstance(items, ItemTable) else read_items(items)).frame
    posterior = model.posterior
    ids = frame[ITEM_ID]
    index = find_items(posterior, ids.tolist(), "items")
    vectors = posterior.items.vectors.double().cpu().numpy() if by == "interest" else raw(posterior)
    known = posterior.has_text[index] if by == "text" else np.ones(len(index), dtype=bool)
    length = np.linalg.norm(vectors[index], axis=1)
    points = known & (length > TINY)
    if not points.all():
        count = int((~points).sum())
        warnings.warn(
            DataWarning(f"{count} of {len(index)} items have nothing to be grouped by and are in "
                        f"no theme, item {ids[~points].iloc[0]!r} among them"),
            stacklevel=2,
        )  # fmt: skip
    own, texts = ids[points], frame[TEXT][points].tolist()
    group = _clusters(vectors[index][points] / length[points, None], n_themes, seed)
    names = _unique([", ".join(words) for words in typical_words(texts, group, n_words)])
    found = {name: own[group == number].tolist() for number, name in enumerate(names)}
    return dict(sorted(found.items(), key=lambda theme: -len(theme[1])))


def _check(n_themes: int, n_words: int, by: str, seed: int) -> None:
    wanted = {"n_themes": (n_themes, 1), "n_words": (n_words, 1), "seed": (seed, 0)}
    for name, (value, least) in wanted.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value!r}: expected a whole number >= {least}")
    if by not in get_args(Likeness):
        raise ConfigError(f"by={by!r}: expected one of {', '.join(get_args(Likeness))}")


def _clusters(points: np.ndarray, n_themes: int, seed: int) -> np.ndarray:
    """Numbers 0 to n_themes - 1 of the groups, (item,)."""
    from sklearn.cluster import KMeans

    distinct = len(np.unique(points.round(6), axis=0))
    if distinct < n_themes:
        raise InputError(
            f"n_themes={n_themes}, but only {distinct} of the items differ: ask for fewer themes"
        )
    found: np.ndarray = KMeans(n_themes, n_init=STARTS, random_state=seed).fit_predict(points)
    return found


def _unique(names: list[str]) -> list[str]:
    """With "theme" for what has no words, and numbers behind what is there twice."""
    out: list[str] = []
    for name in names:
        wanted, number = name or "theme 1", 1
        while wanted in out:
            number += 1
            wanted = f"{name or 'theme'} {number}"
        out.append(wanted)
    return out


def raw(posterior: Posterior) -> np.ndarray:
    """The items' vectors as the encoder gave them, (item, embed_dim) float64."""
    scaled = posterior.features.double().cpu().numpy()
    vectors: np.ndarray = scaled * posterior.standardizer.scale + posterior.standardizer.mean
    return vectors


def themes_between(
    model: FittedModel,
    low: object,
    high: object,
    items: object | None = None,
    *,
    n_bands: int = 3,
    names: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """Themes along an axis between two poles, for `themes=`: "sad" to "cheerful", by the texts.

    An item's place is the cosine between its vector and the difference of the poles' vectors
    (SemAxis; An, Kwak and Ahn 2018); the places are cut into bands of as many items each. It is
    as good as the encoder knows the words: look at the items at both ends. A column with such a
    figure, from a classifier or from people, is better: `themes_by_column`.

    Args:
        model: a fitted `InterestModel` with texts or vectors.
        low, high: each a text, a vector as the encoder makes them, or ids of typical items.
        items: ids to place; by default all that have a text or vector.
        n_bands: how many themes.
        names: theirs, from low to high. By default poles that are texts name the ends, and what
            lies between is "between" with a number.

    Returns:
        Theme to item ids, from low to high, within each by their place.

    Raises:
        InputError: poles that are the same, an item without a text, too few items, or no names.
        ItemError: an item is unknown, or a text was given to a model without a text encoder.
    """
    posterior = model.posterior
    index = np.flatnonzero(posterior.has_text) if items is None else find_items(
        posterior, items, "items"  # type: ignore[arg-type]
    )  # fmt: skip
    silent = ~posterior.has_text[index]
    ids = pd.Series(posterior.vocabulary.items.ids[index], dtype=object)
    if silent.any():
        raise InputError(
            f"item {ids[silent].iloc[0]!r} has no text or vector ({int(silent.sum())} such): it "
            "has no place between the poles; leave it out"
        )
    vectors, poles = raw(posterior), (("low", low), ("high", high))
    ends = [_pole(posterior, vectors, name, pole, model.encoder) for name, pole in poles]
    axis = ends[1] - ends[0]
    if np.linalg.norm(axis) < TINY:
        raise InputError(f"low={low!r} and high={high!r} have the same vector: there is no axis")
    size = np.maximum(np.linalg.norm(vectors[index], axis=1), TINY)
    place = vectors[index] @ axis / np.linalg.norm(axis) / size
    order = np.argsort(place, kind="stable")
    rank = np.arange(len(order), dtype=float)
    if isinstance(n_bands, bool) or not isinstance(n_bands, int) or not 2 <= n_bands <= len(rank):
        raise InputError(
            f"n_bands={n_bands!r}: expected a whole number from 2 to that of the items, {len(rank)}"
        )
    called = _band_names(low, high, n_bands) if names is None else names
    return bands(ids.iloc[order].reset_index(drop=True), rank, "", n_bands, names=called)


def _pole(
    posterior: Posterior, vectors: np.ndarray, name: str, pole: object, encoder: Encoder
) -> np.ndarray:
    """A unit vector, (embed_dim,)."""
    found = theme_vector(posterior, name, pole, encoder)
    if found is None:
        index = find_items(posterior, pole, name)  # type: ignore[arg-type]
        if not len(index) or not posterior.has_text[index].all():
            raise InputError(f"{name}={pole!r}: expected items that have a text or vector")
        found = vectors[index].mean(0)
    unit: np.ndarray = found / max(float(np.linalg.norm(found)), TINY)
    return unit.astype(np.float64)


def _band_names(low: object, high: object, n_bands: int) -> list[str]:
    if not (isinstance(low, str) and isinstance(high, str)) or low == high:
        raise InputError(f"names=None: poles that are not two texts need names=, {n_bands} of them")
    middle = [f"between {number}" for number in range(1, n_bands - 1)]
    return [low, *(["between"] if n_bands == 3 else middle), high]
