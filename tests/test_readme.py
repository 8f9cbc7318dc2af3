"""The README's Python runs as it stands, and says what it should."""

from __future__ import annotations

import re

from tests.pages import README, python_blocks, run_page


def test_the_example_runs(capsys):
    assert python_blocks(README)
    names = run_page(README)
    assert names["scores"]["rank"].min() >= 1
    assert {"ours", "popular", "ours - popular"} <= set(names["table"]["model"])
    printed = capsys.readouterr().out
    assert "p_top_k" in printed
    assert "upper" in printed


def test_the_example_is_short():
    lines = [line for line in python_blocks(README)[0].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_no_placeholder_is_left():
    text = README.read_text(encoding="utf-8")
    assert not re.search(r"^RESULTS$|LIMITS\b|TODO", text, re.MULTILINE)
