"""Text vectors without a model: signed feature hashing of words and CJK characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bayes_interest.errors import ConfigError
from bayes_interest.text.texts import clean_texts

# Scripts written without spaces: each character is a token of its own, and the
# two-grams then stand for words (what Lucene's CJKAnalyzer does).
_UNSPACED: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana and marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_TOKEN: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


class HashingEncoder:
    """Bag of words and word pairs, hashed with signs into `embed_dim` cells and l2-normalised.

    No download, no training, no state: the same text has the same vector in every process and on
    every machine (MurmurHash3). Inner products estimate the cosine of the unhashed bags with an
    error of about `1 / sqrt(embed_dim)` (Weinberger et al. 2009, "Feature hashing for large scale
    multitask learning"). Words are case-folded runs of letters and digits; characters of scripts
    without spaces (Chinese, Japanese, Thai ...) count as words. Shared words are all that it sees:
    synonyms and other languages need a `TextEncoder`.

    Args:
        embed_dim: length of a vector, at least 2.
        ngram_range: shortest and longest run of words counted, as in scikit-learn.

    Raises:
        ConfigError: an argument has an impossible value.
    """

    def __init__(self, embed_dim: int = 256, *, ngram_range: tuple[int, int] = (1, 2)) -> None:
        if embed_dim < 2:
            raise ConfigError(f"embed_dim is {embed_dim}, expected at least 2")
        shortest, longest = ngram_range
        if not 1 <= shortest <= longest:
            raise ConfigError(
                f"ngram_range is {ngram_range}, expected (shortest, longest) with "
                "1 <= shortest <= longest"
            )
        self.embed_dim = int(embed_dim)
        self.ngram_range = (int(shortest), int(longest))
        self.name = f"hashing-{embed_dim}"

    def encode(self, texts: Sequence[str], *, progress: bool = True) -> np.ndarray:
        """Vectors (n, embed_dim) float32 of length one; row i belongs to `texts[i]`.

        Texts without a letter or digit, blank ones included, are the zero vector.

        Args:
            texts: n strings.
            progress: accepted for the protocol; this encoder is too fast to need a bar.

        Raises:
            InputError: an element of `texts` is not a string.
        """
        from sklearn.feature_extraction.text import HashingVectorizer

        cleaned = clean_texts(texts)
        if not cleaned:
            return np.zeros((0, self.embed_dim), dtype=np.float32)
        vectorizer = HashingVectorizer(
            analyzer=self._ngrams,
            n_features=self.embed_dim,
            alternate_sign=True,
            norm="l2",
            dtype=np.float32,
        )
        vectors: np.ndarray = vectorizer.transform(cleaned).toarray()
        return vectors

    def spec(self) -> dict[str, Any]:
        """JSON-able description; `encoder_from_spec` rebuilds the encoder from it."""
        return {
            "kind": "hashing",
            "embed_dim": self.embed_dim,
            "ngram_range": list(self.ngram_range),
        }

    def __repr__(self) -> str:
        return f"HashingEncoder({self.embed_dim}, ngram_range={self.ngram_range})"

    def _ngrams(self, text: str) -> list[str]:
        words = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
        shortest, longest = self.ngram_range
        return [
            " ".join(words[start : start + size])
            for size in range(shortest, longest + 1)
            for start in range(len(words) - size + 1)
        ]
