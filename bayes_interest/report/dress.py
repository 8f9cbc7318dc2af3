"""What all pictures share: colours, marks, axes of their own, and text that can be read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from bayes_interest.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    AxesType = Axes
else:
    AxesType = Any

BLUE, BAND, INK, GREY = "#0072b2", "#a6cbe3", "#1a1a1a", "#8a8a8a"
"""Blue and black differ in lightness too: for every kind of colour vision, and in grey print."""

SERIES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", (0, (5, 2))),
    ("#1a1a1a", "^", (0, (1, 1.5))),
    ("#009e73", "D", (0, (5, 2, 1, 2))),
    ("#cc79a7", "v", (0, (3, 1, 1, 1, 1, 1))),
    ("#e69f00", "P", (0, (8, 3))),
    ("#56b4e9", "X", (0, (2, 2))),
)
"""Colour (Okabe and Ito), mark and dashes of the n-th series: each tells them apart alone."""

RAMP = "cividis"
"""For every kind of colour vision, and of even lightness in grey print."""

WIDTH_INCHES = 5.2
CAPTION, LINES = 30, 2
WIDE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "PingFang SC",
    "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Noto Serif CJK SC", "AR PL UMing CN", "Droid Sans Fallback", "Arial Unicode MS",
    "Malgun Gothic", "Yu Gothic", "Unifont", "Last Resort High-Efficiency",
)  # fmt: skip
"""Tried in this order for what the usual font has no glyphs of. The last one draws boxes."""


def one_panel(height: float, width: float = WIDTH_INCHES) -> AxesType:
    """Axes in a figure of their own, outside pyplot's global list; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=200).subplots()


def dress(panel: AxesType, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Quiet axes: small grey ticks, no box, a light grid behind the data."""
    panel.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    if grid is not None:
        panel.grid(axis=grid, color="#e4e4e4", lw=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(GREY)


def dress_dates(panel: AxesType, times: pd.Series[Any]) -> None:
    """Short dates along the x axis, from the first to the last; around one moment two days."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    first, last = times.min().tz_convert(None), times.max().tz_convert(None)
    room = pd.Timedelta(days=1 if first == last else 0)
    panel.set_xlim(first - room, last + room)
    locator = AutoDateLocator(minticks=3, maxticks=6)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.xaxis.get_offset_text().set_fontsize(8)


def check_columns(
    table: pd.DataFrame, wanted: Iterable[str], source: str, *, may_be_empty: bool = False
) -> None:
    """Raise InputError where the table has no such column or no row; `source` makes such tables."""
    missing = [name for name in wanted if name not in table]
    if missing:
        raise InputError(f"the table has no column {missing[0]!r}: expected what {source} returns")
    if table.empty and not may_be_empty:
        raise InputError(f"the table is empty: there is nothing to draw of {source}")


def only_user(table: pd.DataFrame, column: str, what: str) -> Any:
    """The user whom the whole table is of. Raises InputError where there are several."""
    users = table[column].unique()
    if len(users) != 1:
        raise InputError(f"expected {what} of one user, got {len(users)}")
    return users[0]


def caption(
    key: object, labels: Mapping[Any, str] | None = None, width: int = CAPTION, lines: int = LINES
) -> str:
    """The label of an id, or the id, in so many lines and columns at most; "$" is no maths."""
    text = " ".join(str((labels or {}).get(key, key)).split())
    out = [""]
    for word in _pieces(text):
        if columns(out[-1] + word.rstrip()) <= width:
            out[-1] += word
        elif len(out) < lines and out[-1] and columns(word.rstrip()) <= width:
            out.append(word)
        else:
            out[-1] = _clipped(out[-1] + word, width)
            break
    return "\n".join(line.strip() for line in out).replace("$", r"\$")


def _pieces(text: str) -> list[str]:
    """Words with the space behind them; wide characters by themselves."""
    out: list[str] = []
    for character in text:
        if out and not _wide(character) and not _wide(out[-1][-1]) and not out[-1].endswith(" "):
            out[-1] += character
        else:
            out.append(character)
    return out


def _clipped(text: str, width: int) -> str:
    kept = text.rstrip()
    while columns(kept) > width - 1:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def columns(text: str) -> int:
    """Width of a text, where a Chinese character counts two."""
    return sum(2 if _wide(character) else 1 for character in text)


def legible(*panels: AxesType) -> None:
    """Give every text of the axes' figures a font that has its glyphs, where one is installed."""
    from matplotlib.text import Text

    for panel in panels:
        found = panel.figure.findobj(Text)
        missing = _missing("".join(text.get_text() for text in found))
        if not missing:
            continue
        families = [*_usual(), *_having(missing)]
        for text in found:
            text.set_fontfamily(families)


def _usual() -> list[str]:
    from matplotlib import rcParams

    return list(rcParams["font.family"])


def _missing(text: str) -> frozenset[str]:
    from matplotlib.font_manager import FontProperties, findfont

    path = str(findfont(FontProperties(family=_usual())))
    return frozenset(text) - _glyphs(path, frozenset(text)) - {"\n"}


@cache
def _installed() -> dict[str, str]:
    """Family to file, of the wide fonts there are."""
    from matplotlib.font_manager import fontManager

    files = {font.name: font.fname for font in reversed(fontManager.ttflist)}
    return {name: files[name] for name in WIDE_FONTS if name in files}


def _having(missing: frozenset[str]) -> list[str]:
    """Installed fonts that have some of the glyphs, each for what those before it lack."""
    out: list[str] = []
    for name, path in _installed().items():
        found = _glyphs(path, missing)
        if found:
            out.append(name)
            missing -= found
    return out


def _glyphs(path: str, characters: frozenset[str]) -> frozenset[str]:
    from matplotlib.font_manager import get_font

    font = get_font(path)
    return frozenset(one for one in characters if font.get_char_index(ord(one)))
