"""Numbers, dates and strangers' texts as words that are safe where they go."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import pandas as pd

SHORT: Final = 60
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]+"
)
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MINUS: Final = "\u2212"


def plain(value: object) -> str:
    """Any id, title or text on one line, without control characters and turned writing."""
    return " ".join(_CONTROL.sub(" ", str(value)).split())


def short(value: object, width: int = SHORT) -> str:
    """`plain`, cut to a width."""
    text = plain(value)
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def for_markdown(text: str) -> str:
    """Text that Markdown and the HTML made of it show as it is."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", safe)


def for_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would take for a formula."""
    safe = frame.rename(columns=_no_formula)
    for column, kind in enumerate(safe.dtypes):
        if pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind):
            safe.isetitem(column, safe.iloc[:, column].map(_no_formula).to_numpy())
    return safe


def _no_formula(value: Any) -> Any:
    dangerous = isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA)
    return f"'{value}" if dangerous else value


def missing(value: object) -> bool:
    """None, NaN, NaT or pd.NA."""
    return value is None or value is pd.NA or value is pd.NaT or value != value


def count(value: float) -> str:
    """A whole number with thousands apart."""
    return f"{int(value):,}"


def number(value: float) -> str:
    """Three figures that count."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return signed(f"{value:,.0f}")
    if size >= 100 or value == round(value):
        return signed(f"{value:.0f}")
    if size < 1e-4:
        return "0" if value == 0 else "<0.0001" if value > 0 else f">{MINUS}0.0001"
    text = f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return signed(text.rstrip("0").rstrip("."))


def signed(text: str) -> str:
    """With a true minus sign."""
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def percent(value: float) -> str:
    """A share: whole per cents, below ten with a decimal, below one with two figures."""
    size = 100.0 * abs(value)
    if 0.0 < size < 0.001:
        return "<0.001%"
    if 99.5 <= size < 100.0:
        return ">99%"
    decimals = (
        0 if size >= 9.95 or size == 0 else 1 if size >= 0.995 else 2 if size >= 0.0995 else 3
    )
    return signed(f"{100.0 * value:.{decimals}f}%")


def change(value: float) -> str:
    """A signed number with two decimals, above ten with fewer."""
    size = abs(value)
    text = f"{value:+.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
    return signed(text) if float(text) else text[1:]


def date(value: Any) -> str:
    """A day."""
    return f"{pd.Timestamp(value):%Y-%m-%d}"


def span(since: Any, at: Any) -> str:
    """From one moment to another: days, or times of one day."""
    first, last = pd.Timestamp(since), pd.Timestamp(at)
    if first.date() != last.date():
        return f"{date(first)} to {date(last)}"
    return f"{date(first)}, {first:%H:%M:%S} to {last:%H:%M:%S}"


def listed(parts: list[str]) -> str:
    """The parts in a sentence, as in: a, b and c."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def quoted(text: str) -> str:
    """A name in a sentence, in quotation marks."""
    return f"“{text}”"


def many(value: int, noun: str) -> str:
    """A count with its noun, as in: 1 user, 2 users."""
    return f"{value:,} {noun}" + ("" if value == 1 else "s")
