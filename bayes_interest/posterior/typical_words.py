"""Names of groups of texts: the words that are typical of each, by class-based tf-idf.

After Grootendorst (2022, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure"),
with the share of a group's texts that hold a word in place of its count, so that one long text
does not name its group, and for the idf the log of how many times larger that share is than the
share of all texts, so that common words of any language fall away. Groups that share a word divide
its weight, so that names differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

MAX_SHARE = 0.5  # words in more of all texts than this say nothing of a group
ALSO = 0.5  # of a group's share: groups with so much of a word divide it among them
LONGEST = 4  # characters of a word of a script without spaces
SAME = 0.7  # of a shorter word's texts: so many hold the longer one, too, and it is meant
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana and marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_RUN = re.compile(rf"([{_UNSPACED}]+)|([^\W\d_{_UNSPACED}][^\W_{_UNSPACED}]+)")


def words_of(text: str) -> Iterator[str]:
    """Case-folded words of two letters or more; runs of 2 to 4 characters where no spaces are."""
    for unspaced, word in _RUN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if word:
            yield word
        for size in range(2, LONGEST + 1):
            for start in range(len(unspaced) - size + 1):
                yield unspaced[start : start + size]


def typical_words(texts: Sequence[str], group: np.ndarray, n_words: int) -> list[list[str]]:
    """Up to `n_words` words per group, the most typical first; `group` (text,) counts from 0.

    Words of the same stem or with a word inside the other appear once. Fewer, down to none, where
    the texts have no more.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    counter = CountVectorizer(analyzer=lambda text: sorted(set(words_of(text))))
    n_groups = int(group.max()) + 1
    if not any(True for text in texts for _ in words_of(text)):
        return [[] for _ in range(n_groups)]
    held = counter.fit_transform(texts)  # (text, word), 0 or 1
    vocabulary = counter.get_feature_names_out()
    member = (group[None, :] == np.arange(n_groups)[:, None]).astype(float)
    hits = member @ held  # (group, word)
    total = hits.sum(0)
    share = hits / member.sum(1, keepdims=True)
    lift = share / (total / len(texts)) if n_groups > 1 else np.full_like(share, np.e)
    weight = share * np.log(np.maximum(lift, 1.0))
    weight /= (share[:, None] >= ALSO * share[None]).sum(0).clip(1)
    common = (total > max(MAX_SHARE * len(texts), 1)) & (n_groups > 1)
    stop = np.isin(vocabulary, list(ENGLISH_STOP_WORDS))
    if not (common | stop).all():
        weight[:, common | stop] = 0.0
    return [_best(vocabulary, *row, n_words) for row in zip(weight, hits, strict=True)]


def _best(vocabulary: np.ndarray, weight: np.ndarray, hits: np.ndarray, n_words: int) -> list[str]:
    length = np.array([len(word) for word in vocabulary])
    order = np.lexsort((vocabulary, -length, -weight))
    order = order[weight[order] > 0][: 50 * n_words]
    chosen: list[str] = []
    for at in order:
        word = str(vocabulary[at])
        longer = [
            str(vocabulary[other])
            for other in order
            if word in vocabulary[other] and hits[other] >= SAME * hits[at] and _unspaced(word)
        ]
        word = max(longer, key=len, default=word)
        if not any(_alike(word, other) for other in chosen):
            chosen.append(word)
        if len(chosen) == n_words:
            break
    return chosen


def _unspaced(word: str) -> bool:
    return re.fullmatch(rf"[{_UNSPACED}]+", word) is not None


def _alike(word: str, other: str) -> bool:
    """One begins with the other but for its last letter (garden, gardening), or they overlap."""
    short, long = sorted((word, other), key=len)
    if _unspaced(short):
        return short in long or long.startswith(short[1:]) or long.endswith(short[:-1])
    return long.startswith(short[: max(4, len(short) - 1)])
