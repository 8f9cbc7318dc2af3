"""What is asked about: items, or themes, which are groups of items, texts or vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_interest.errors import InputError, ItemError
from bayes_interest.model.prepare import Embedded
from bayes_interest.posterior.answers import find_items
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.schema import ITEM_ID
from bayes_interest.text.encoder import Encoder
from bayes_interest.text.precomputed import PrecomputedVectors

THEME = "theme"


@dataclass(frozen=True)
class Targets:
    """Groups of items of a posterior that also knows the themes' texts, as items of their own."""

    posterior: Posterior
    n_items: int  # real ones, which come first
    column: str  # item_id or theme
    names: list[Any]
    item: Tensor  # positions of the targets' items, one target after the other, (member,)
    owner: Tensor  # which target each belongs to, (member,)

    @property
    def sizes(self) -> Tensor:
        """How many items each has, (target,)."""
        return torch.bincount(self.owner, minlength=len(self.names))

    @property
    def single(self) -> bool:
        """Whether each has one item."""
        return len(self.item) == len(self.names)

    def mean(self, values: Tensor, power: int = 1) -> Tensor:
        """Of values (item, ...) over each target's items; their weights to a power, (target, ...).

        Power two sums variances of what is independent between items.
        """
        return self.mean_of_members(values[self.item], power)

    def mean_of_members(self, values: Tensor, power: int = 1) -> Tensor:
        """The same of values of the targets' own items, (member, ...)."""
        weight = self.sizes.to(values)[self.owner] ** -power
        parts = values * weight.reshape(-1, *[1] * (values.ndim - 1))
        out = values.new_zeros(len(self.names), *values.shape[1:])
        return out.index_add_(0, self.owner, parts)

    def total(self, values: Tensor) -> Tensor:
        """Sums of values (draw, item) over each target's items, (draw, target)."""
        out = values.new_zeros(len(values), len(self.names))
        return out.index_add_(1, self.owner, values[:, self.item])

    def of(self, posterior: Posterior) -> Targets:
        """The same of another copy of the posterior."""
        return replace(self, posterior=posterior)

    def padded(self, extra: Tensor) -> Tensor:
        """What the moment adds, (setting, 1, item), with nothing for the texts of themes."""
        more = self.posterior.layout.n_items - extra.shape[-1]
        return torch.nn.functional.pad(extra, (0, more))


def make_targets(
    posterior: Posterior,
    items: Iterable[Any] | None,
    themes: Mapping[str, object] | None,
    encoder: Encoder | None,
) -> Targets:
    """Items, by default all, or themes: name to item ids, to a text, or to a vector (embed_dim,).

    A text or vector is an item that nobody has met: its residual is at the prior. Raises
    InputError, or ItemError for an unknown item.
    """
    n_items = posterior.layout.n_items
    if themes is None:
        found = find_items(posterior, items, "items")
        names = posterior.vocabulary.items.ids[found].tolist()
        return _targets(posterior, n_items, ITEM_ID, names, list(found[:, None]))
    if items is not None:
        raise InputError("give either items= or themes=, not both")
    if not isinstance(themes, Mapping):
        raise InputError(f"themes={themes!r}: expected a dict of names to item ids or texts")
    vectors: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    for name, theme in themes.items():
        vector = theme_vector(posterior, f"themes[{name!r}]", theme, encoder)
        if vector is None:
            groups.append(_group(posterior, name, theme))
        else:
            groups.append(np.array([n_items + len(vectors)]))
            vectors.append(vector)
    return _targets(_wider(posterior, vectors), n_items, THEME, list(themes), groups)


def _targets(
    posterior: Posterior, n_items: int, column: str, names: list[Any], groups: list[np.ndarray]
) -> Targets:
    item = np.concatenate([np.zeros(0, dtype=np.int64), *groups])
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    device = posterior.features.device
    places = (torch.as_tensor(part, dtype=torch.long, device=device) for part in (item, owner))
    return Targets(posterior, n_items, column, names, *places)


def _group(posterior: Posterior, name: str, theme: Any) -> np.ndarray:
    found = np.unique(find_items(posterior, theme, f"themes[{name!r}]"))
    if not len(found):
        raise InputError(f"themes[{name!r}] is empty: expected item ids, a text or a vector")
    return found


def theme_vector(
    posterior: Posterior, called: str, theme: object, encoder: Encoder | None
) -> np.ndarray | None:
    """The raw vector (embed_dim,) of a theme that is a text or a vector; None of anything else.

    `called` names it in errors.
    """
    if isinstance(theme, str):
        if encoder is None or isinstance(encoder, PrecomputedVectors):
            raise ItemError(
                f"{called} is a text, and this model has no text encoder: give item ids or a vector"
            )
        if not posterior.has_text.any():
            raise ItemError(f"{called} is a text, and this model knows no texts: give item ids")
        if not theme.strip():
            raise InputError(f"{called} is an empty text")
        found = np.asarray(encoder.encode([theme], progress=False)[0])
    elif isinstance(theme, np.ndarray) and np.issubdtype(theme.dtype, np.floating):
        found = theme
    else:
        return None
    width = posterior.features.shape[1]
    if found.shape != (width,) or not np.isfinite(found).all():
        raise InputError(
            f"{called} has a vector of shape {found.shape}: expected {width} finite numbers"
        )
    return found.astype(np.float32)


def _wider(posterior: Posterior, vectors: list[np.ndarray]) -> Posterior:
    """With an item for each of the vectors, under names that no item has."""
    if not vectors:
        return posterior
    names: list[str] = []
    number = 0
    while len(names) < len(vectors):
        if (name := f"{THEME} {number}") not in posterior.vocabulary.items:
            names.append(name)
        number += 1
    embedded = Embedded(np.stack(vectors), np.ones(len(vectors), dtype=bool))
    return posterior.with_items(np.array(names, dtype=object), embedded)
