"""The page of simulation-based calibration."""

from __future__ import annotations

import sys

import pytest

from benchmarks import sbc


def test_some_cases_alone_do_not_replace_the_page_of_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (sbc.OUT / "SBC.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["sbc", "--cases", "bernoulli", "--table"])
    with pytest.raises(SystemExit):
        sbc.main()
    assert "give --out" in capsys.readouterr().err
    assert (sbc.OUT / "SBC.md").read_text(encoding="utf-8") == before
