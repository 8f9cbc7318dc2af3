"""What a report is made of, apart from how it is written: sections of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from bayes_interest.report.document.words import (
    change,
    count,
    date,
    missing,
    number,
    percent,
    plain,
)

ColumnKind = Literal["text", "count", "number", "percent", "change", "date", "interval", "verdict"]
ROWS_SHOWN = 30
BAR_LEFT, BAR_RIGHT = 2.0, 98.0


@dataclass(frozen=True)
class Text:
    """A paragraph; `tone` "note" is set smaller, "warn" is marked."""

    text: str
    tone: Literal["", "note", "warn"] = ""


@dataclass(frozen=True)
class Facts:
    """Names with values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """An answer of the first screen: the question, the answer in a line, and what supports it."""

    question: str
    answer: str
    lines: tuple[str, ...]
    verdict: str = ""


@dataclass(frozen=True)
class Cards:
    """The first screen."""

    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Cell:
    """What a table shows, what it sorts by, and the bar of an interval in per cent."""

    text: str
    sort: str
    note: str = ""
    mark: str = ""
    bar: tuple[float, float, float, float | None] | None = None  # lower, mean, upper, zero


@dataclass(frozen=True)
class Column:
    """A shown column. An interval is drawn from `name` and the columns of its two `bounds`."""

    name: str
    heading: str
    kind: ColumnKind = "text"
    bounds: tuple[str, str] = ("lower", "upper")
    as_percent: bool = True

    @property
    def numeric(self) -> bool:
        """Whether it stands at the right and sorts as a number."""
        return self.kind not in ("text", "verdict", "date")


@dataclass(frozen=True)
class Table:
    """A table: all of `frame` as CSV, the first rows of `columns` to be read.

    Tables of one `file` are parts of one CSV.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    limit: int = ROWS_SHOWN
    file: str = ""

    @property
    def csv(self) -> str:
        """Name of the CSV file, without the ending."""
        return self.file or self.name

    def rows(self) -> list[list[Cell]]:
        """Cells of the rows that are shown."""
        shown = self.frame.head(self.limit)
        return [
            list(row) for row in zip(*(_cells(shown, one) for one in self.columns), strict=True)
        ]

    @property
    def rest(self) -> str:
        """Where the rows are that are not shown."""
        if len(self.frame) <= self.limit:
            return ""
        return f"The first {self.limit} of {len(self.frame):,} rows; all of them in {self.csv}.csv."


@dataclass(frozen=True)
class Figure:
    """A picture as bytes, with the words that stand for it."""

    name: str
    data: bytes
    kind: Literal["svg", "png"]
    width: int  # CSS pixels
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class Drawing:
    """The graph of the model: boxes and arrows, see `model_graph`."""

    svg: str
    alt: str
    caption: str


Block = Text | Facts | Cards | Table | Figure | Drawing


@dataclass(frozen=True)
class Section:
    """A heading with blocks and parts under it."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    parts: tuple[Section, ...] = field(default=())

    def all_blocks(self) -> list[Block]:
        """Its blocks and those of its parts."""
        return [*self.blocks, *(block for part in self.parts for block in part.all_blocks())]


def _cells(frame: pd.DataFrame, column: Column) -> list[Cell]:
    if column.kind == "interval":
        return _intervals(frame, column)
    return [_cell(value, column) for value in frame[column.name]]


def _cell(value: object, column: Column) -> Cell:
    if missing(value):
        return Cell("–", "")
    write = {"count": count, "number": number, "percent": percent, "change": change}
    if column.kind == "date":
        return Cell(date(value), pd.Timestamp(value).isoformat())  # type: ignore[arg-type]
    if column.kind in write:
        return Cell(write[column.kind](float(value)), repr(float(value)))  # type: ignore[arg-type]
    text = plain(value)
    return Cell(text, text, mark=text.replace(" ", "-") if column.kind == "verdict" else "")


def _intervals(frame: pd.DataFrame, column: Column) -> list[Cell]:
    lower, upper = (frame[name].astype(float) for name in column.bounds)
    middle = frame[column.name].astype(float)
    write, ends = (percent, percent) if column.as_percent else (change, change)
    both = pd.concat([lower, middle, upper])
    high = float(both.abs().max()) if len(both) and both.notna().any() else 1.0
    low = 0.0
    if column.as_percent and high > 0.3:
        high = 1.0
    if not column.as_percent:
        low = -high
    scale = (BAR_RIGHT - BAR_LEFT) / ((high - low) or 1.0)
    zero = BAR_LEFT + scale * (0.0 - low) if low < 0.0 else None
    out = []
    for mean, least, most in zip(middle, lower, upper, strict=True):
        if missing(mean):
            out.append(Cell("–", ""))
            continue
        if missing(least) or missing(most):
            out.append(Cell(write(mean), repr(mean)))
            continue
        at = [round(BAR_LEFT + scale * (value - low), 1) for value in (least, mean, most)]
        note = f"{ends(least)} to {ends(most)}"
        out.append(Cell(write(mean), repr(mean), note, bar=(at[0], at[1], at[2], zero)))
    return out
