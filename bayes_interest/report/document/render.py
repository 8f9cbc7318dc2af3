"""Sections as one HTML page, as Markdown, and as files beside them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from bayes_interest.errors import InputError
from bayes_interest.report.document.blocks import Block, Figure, Section, Table
from bayes_interest.report.document.words import for_csv, for_markdown

TEMPLATES = Path(__file__).parent / "templates"
TABLES, FIGURES = "tables", "figures"


def html_page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The page: no other file, no network."""
    environment = _environment(escape=True)
    assets = {name: (TEMPLATES / f"report.{name}").read_text("utf-8") for name in ("css", "js")}
    allowed = {f"{name}_hash": _hash(text) for name, text in assets.items()}
    page = environment.get_template("report.html.j2")
    return str(page.render(title=title, about=about, sections=sections, **assets, **allowed))


def _hash(text: str) -> str:
    """As a content security policy names the one script or style that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def markdown_page(title: str, about: str, sections: Sequence[Section], folder: str) -> str:
    """The same for readers of plain text; pictures and whole tables are in `folder`."""
    page = _environment(escape=False).get_template("report.md.j2")
    place = quote(folder)
    return str(page.render(title=title, about=about, sections=sections, folder=place))


def files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Tables as CSV and pictures, by their path in the folder."""
    blocks = [block for section in sections for block in section.all_blocks()]
    parts: dict[str, list[pd.DataFrame]] = {}
    for table in (block for block in blocks if isinstance(block, Table)):
        parts.setdefault(table.csv, []).append(table.frame)
    found = {f"{TABLES}/{name}.csv": _csv(frames) for name, frames in parts.items()}
    for figure in (block for block in blocks if isinstance(block, Figure)):
        found[f"{FIGURES}/{figure.name}.{figure.kind}"] = figure.data
    return found


def _csv(frames: list[pd.DataFrame]) -> bytes:
    whole = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    return for_csv(whole).to_csv(index=False, lineterminator="\n").encode("utf-8")


def _environment(escape: bool) -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as cause:
        raise InputError(
            'a report needs jinja2, which is missing: pip install "bayes-interest[report]"'
        ) from cause
    environment = Environment(
        autoescape=escape,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": for_markdown, "data_uri": _data_uri}
    environment.tests |= {"block": _is_block}
    return environment


def _is_block(block: Block, kind: str) -> bool:
    return type(block).__name__ == kind


def _data_uri(figure: Figure) -> str:
    """SVG as text where that is shorter, else base64."""
    kind = "svg+xml" if figure.kind == "svg" else "png"
    coded = f"data:image/{kind};base64,{base64.b64encode(figure.data).decode()}"
    if figure.kind == "svg":
        text = quote(figure.data.decode("utf-8"), safe=" =:/;,()'!*@$?+~-._&[]")
        coded = min(coded, f"data:image/svg+xml;utf8,{text}", key=len)
    return coded
