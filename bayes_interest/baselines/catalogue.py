"""What a rival may know of the items: ids, texts, the item table's other columns, vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bayes_interest.errors import ItemError
from bayes_interest.events.read import EventLog, ItemTable
from bayes_interest.model.prepare import Embedded, embed_items, item_texts
from bayes_interest.schema import ITEM_ID, TEXT
from bayes_interest.text.encoder import Encoder


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All known items, in the order in which they were met. Texts are encoded on first use."""

    ids: np.ndarray  # external, (item,)
    texts: tuple[str, ...]  # "" where there is none
    columns: pd.DataFrame  # other columns of the item table, missing where not given, a row an item
    encoder: Encoder | None
    progress: bool = False
    front: Catalogue | None = None  # the same items without the last ones, encoded before

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        log: EventLog,
        table: ItemTable | None,
        encoder: Encoder | None,
        progress: bool = False,
    ) -> Catalogue:
        """The items `ids` as a log and an item table describe them."""
        texts = tuple(item_texts(ids, log, table))
        return cls(ids, texts, _columns(ids, table), encoder, progress)

    def extended(self, ids: np.ndarray, log: EventLog, table: ItemTable | None) -> Catalogue:
        """With the items `ids`, all of them new, at the end."""
        if not len(ids):
            return self
        new = Catalogue.of(ids, log, table, self.encoder)
        return Catalogue(
            np.concatenate((self.ids, ids)),
            (*self.texts, *new.texts),
            pd.concat((self.columns, new.columns), ignore_index=True)
            if len(new.columns.columns)
            else self.columns.reindex(range(len(self) + len(ids))),
            self.encoder,
            self.progress,
            self,
        )

    @property
    def vectors(self) -> np.ndarray:
        """Text vectors (item, embed_dim) float32; zero where there is no text or vector.

        Raises ItemError where new items have vectors of another length, and EncoderError.
        """
        return self._embedded.vectors

    @property
    def has_vector(self) -> np.ndarray:
        """(item,) bool."""
        return self._embedded.known

    @cached_property
    def _embedded(self) -> Embedded:
        if self.front is None:
            found = embed_items(self.ids, list(self.texts), self.encoder, self.progress)
        else:
            found = _joined(self.front._embedded, self._new())
        return Embedded(np.where(found.known[:, None], found.vectors, np.float32(0)), found.known)

    def _new(self) -> Embedded:
        count = 0 if self.front is None else len(self.front)
        return embed_items(self.ids[count:], list(self.texts[count:]), self.encoder, False)


def _joined(first: Embedded, second: Embedded) -> Embedded:
    width = first.vectors.shape[1]
    vectors = second.vectors
    if not second.known.any():
        vectors = np.zeros((len(vectors), width), dtype=np.float32)
    if vectors.shape[1] != width:
        raise ItemError(
            f"new items have vectors of {vectors.shape[1]} numbers, but the fit had {width} per "
            "item (1: without any text). Refit with texts, or leave the events of new items out"
        )
    known = np.concatenate((first.known, second.known))
    return Embedded(np.concatenate((first.vectors, vectors)), known)


def _columns(ids: np.ndarray, table: ItemTable | None) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame(index=range(len(ids)))
    found = table.frame.set_index(ITEM_ID).drop(columns=TEXT, errors="ignore")
    return found.reindex(ids).reset_index(drop=True)
