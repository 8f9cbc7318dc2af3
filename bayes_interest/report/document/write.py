"""The files of a report, put in place only when all of them are whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bayes_interest.errors import InputError, StorageError
from bayes_interest.report.document.render import FIGURES, TABLES

ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Places:
    """Where the parts of a report go."""

    html: Path
    markdown: Path
    folder: Path


def places_of(path: str | Path) -> Places:
    """From the path of the page. Raises InputError for another ending, StorageError for a folder
    that is not a report's.
    """
    html = Path(path)
    if html.suffix.lower() not in ENDINGS:
        raise InputError(f"path={str(path)!r}: expected a file that ends in .html")
    folder = html.with_name(f"{html.stem}_files")
    if html.is_dir():
        raise StorageError(f"{html}: is a folder, a report is a file")
    if folder.exists():
        others = (
            [one.name for one in folder.iterdir() if one.name not in (TABLES, FIGURES)]
            if folder.is_dir()
            else [folder.name]
        )
        if others:
            raise StorageError(
                f"{folder}: holds {sorted(others)[0]!r}, which no report wrote, and a report "
                "replaces this folder. Choose another path, or move it away"
            )
    return Places(html, html.with_suffix(".md"), folder)


def write_all(places: Places, pages: tuple[str, str], files: Mapping[str, bytes]) -> None:
    """Write to a folder beside, then move into place, the page last.

    Raises:
        StorageError: something cannot be written; the former report is then as it was.
    """
    parent = places.html.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=parent) as name:
            draft = Path(name)
            _draft(draft, pages, files)
            if places.folder.exists():
                places.folder.rename(draft / "former")
            (draft / "files").rename(places.folder)
            (draft / "page.md").replace(places.markdown)
            (draft / "page.html").replace(places.html)
    except OSError as cause:
        raise StorageError(f"{places.html}: the report cannot be written: {cause}") from cause


def _draft(draft: Path, pages: tuple[str, str], files: Mapping[str, bytes]) -> None:
    for name, text in zip(("page.html", "page.md"), pages, strict=True):
        (draft / name).write_text(text, encoding="utf-8", newline="\n")
    for kind in (TABLES, FIGURES):
        (draft / "files" / kind).mkdir(parents=True)
    for name, data in files.items():
        (draft / "files" / name).write_bytes(data)
