"""Pages of documentation, and the Python blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))


def python_blocks(page: Path) -> list[str]:
    """What stands between ```python and ```, in order; each on the lines where it stands."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text[: block.start(1)].count("\n") + block[1] for block in found]


def run_page(page: Path) -> dict[str, object]:
    """One reader, one session: the blocks in order, in one namespace."""
    names: dict[str, object] = {"__name__": "page"}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)
    return names
