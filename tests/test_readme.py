"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_runs(capsys):
    blocks = python_blocks()
    assert blocks
    names: dict[str, object] = {}  # one reader, one session
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["scores"]["rank"].min() >= 1
    assert {"ours", "popular", "ours - popular"} <= set(names["table"]["model"])
    printed = capsys.readouterr().out
    assert "p_top_k" in printed
    assert "upper" in printed


def test_the_example_is_short():
    lines = [line for line in python_blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_no_placeholder_is_left():
    text = README.read_text(encoding="utf-8")
    assert not re.search(r"^RESULTS$|LIMITS\b|TODO", text, re.MULTILINE)
