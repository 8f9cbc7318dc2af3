"""Checks and clean-up shared by the encoders, and the report of an encoding run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bayes_interest.errors import InputError


@dataclass(frozen=True)
class EncodingReport:
    """What the last call of `TextEncoder.encode` did.

    Of the distinct texts that are not blank, each was either encoded or read from the cache:
    `unique == encoded + from_cache`, plus one if any text was blank.
    """

    texts: int
    """Texts asked for, repeats included."""
    unique: int
    """Distinct texts; all blank texts count as one."""
    encoded: int
    """Distinct texts that went through the model."""
    from_cache: int
    """Distinct texts whose vector was on disk."""
    empty: int
    """Blank texts asked for; their vector is zero."""
    truncated: int
    """Distinct texts longer than `max_tokens`, whether encoded now or read from the cache."""
    max_tokens: int
    """Tokens read of each text, special tokens included."""
    seconds: float
    """Wall-clock time of the call, loading the model included."""

    @property
    def texts_per_second(self) -> float:
        """Texts asked for, repeats included, by wall-clock second of the call."""
        return self.texts / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        """One line for the log and for people."""
        return (
            f"{self.texts:,} texts in {self.seconds:.2f} s ({self.texts_per_second:,.0f} per "
            f"second): {self.unique:,} different, {self.encoded:,} encoded, {self.from_cache:,} "
            f"from the cache, {self.empty:,} blank, {self.truncated:,} cut to "
            f"{self.max_tokens} tokens"
        )


def clean_texts(texts: Iterable[str]) -> list[str]:
    """Texts as a list of `str` that can be written as UTF-8, with every blank text as `""`.

    Args:
        texts: any iterable of strings; unpaired surrogates become "?".

    Raises:
        InputError: `texts` is one string, or one of its elements is not a string.
    """
    if isinstance(texts, str | bytes):
        raise InputError(f"texts is a single {type(texts).__name__}, expected a sequence of str")
    return [_clean(text, position) for position, text in enumerate(texts)]


def _clean(text: object, position: int) -> str:
    if not isinstance(text, str):
        raise InputError(
            f"texts[{position}] is {text!r} of type {type(text).__name__}, expected str; "
            'use "" where a text is missing'
        )
    if not text or text.isspace():
        return ""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")
