"""Bars only for somebody who looks on, one switch for all of them; and a log that is quiet."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bayes_interest import progress
from bayes_interest.config import FitConfig
from bayes_interest.evaluation.feedback import simulate_feedback
from tests.fitted import QUICK, fit, model, parts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def looking_on(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal where bars do not wait; not a fixture, as pytest sets stderr before each test."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    monkeypatch.delenv(progress.SWITCH, raising=False)
    return screen


WORK = {
    "fit": lambda: fit(
        parts("bernoulli")[0], "bernoulli", FitConfig(max_epochs=1, n_members=1), state_dim=2
    ),
    "interest": lambda: model("bernoulli").interest(),
    "users": lambda: model("bernoulli").rank(k=2),
    "trajectory": lambda: model("bernoulli").trajectory(["u00001"], ["i00001"]),
    "changes": lambda: model("bernoulli").changes(["u00001"], ["i00001"], since="2023-12-01"),
    "score": lambda: model("bernoulli").score_events(parts("bernoulli")[1]),
    "filter": lambda: model("bernoulli").update(parts("bernoulli")[1]),
    "diagnose": lambda: model("bernoulli").diagnose(n_draws=100),
    "draws": lambda: model("bernoulli").to_arviz(["u00001"], draws=2, prior_draws=2),
}


@pytest.mark.parametrize("name", WORK)
def test_work_shows_a_bar_on_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looking_on(monkeypatch)
    WORK[name]()
    assert f"{name}:" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv(progress.SWITCH, "0")
    WORK[name]()
    assert terminal.getvalue().strip("\0") == ""


def test_progress_false_silences_all_that_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looking_on(monkeypatch)
    fit(parts("bernoulli")[0], "bernoulli", QUICK, state_dim=2)
    simulate_feedback(["random"], n_users=3, n_items=5, n_rounds=1, k=2, seeds=[0], progress=False)
    assert terminal.getvalue() == ""


def test_permission_can_be_taken_and_not_given_back_inside() -> None:
    with progress.shown_if(False):
        with progress.shown_if(True):
            assert not progress._allowed.get()
        assert not progress._allowed.get()
    assert progress._allowed.get()
    with pytest.raises(ZeroDivisionError), progress.shown_if(False):
        _ = 1 / 0
    assert progress._allowed.get()


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("off", False), ("1", True)])
def test_the_switch(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looking_on(monkeypatch)
    monkeypatch.setenv(progress.SWITCH, value)
    assert progress.shown() == wanted


def test_bars_wait_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looking_on(monkeypatch)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.2)
    for _ in progress.bar(range(3), desc="quick", unit="step"):
        pass
    assert terminal.getvalue() == ""
    for _ in progress.bar(range(3), desc="slow", unit="step"):
        time.sleep(0.15)
    assert "slow" in terminal.getvalue()


def test_a_pipe_has_no_bars_and_a_notebook_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delenv(progress.SWITCH, raising=False)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not progress.shown()
    for shell, wanted in (
        (None, False),
        (SimpleNamespace(kernel=object()), True),
        (SimpleNamespace(), False),
    ):
        kernel: Any = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", kernel)
        assert progress.shown() == wanted


def test_the_log_tells_what_was_done(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    with caplog.at_level(logging.DEBUG, logger="bayes_interest"):
        door = fit(parts("bernoulli")[0], "bernoulli", QUICK, state_dim=2)
        door.recalibrate(parts("bernoulli")[1], method="platt")
        door.update(parts("bernoulli")[1])
        door.save(tmp_path / "m")
        type(door).load(tmp_path / "m")
    told = caplog.text
    for words in (
        "emission: bernoulli (as configured)",
        "fitted bernoulli for",
        "recalibrated by platt from",
        "absorbing",
        "saving a model of",
        "loading the model in",
    ):
        assert words in told
    assert {record.name for record in caplog.records} == {"bayes_interest"}


def test_the_log_says_nothing_unless_asked() -> None:
    script = "from bayes_interest.progress import logger; logger.warning('unseen')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
