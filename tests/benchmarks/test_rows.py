"""A row in a process of its own: how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.rows import DONE, FAILED, TIMED_OUT, run_apart


def test_what_became_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_apart(print, ("said",), log, None) == (DONE, "")
    assert log.read_text() == "said\n"
    status, reason = run_apart(int, ("three",), log, None)
    assert (status, "invalid literal" in reason) == (FAILED, True)
    assert run_apart(time.sleep, (60,), log, 0.5) == (TIMED_OUT, "not done after 0 s")
    status, reason = run_apart(os._exit, (3,), log, None)
    assert status == FAILED


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_it_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    """A benchmark that is stopped leaves nothing running."""
    main, told = tmp_path / "main.py", tmp_path / "pid"
    main.write_text(f"""
import os, time
from pathlib import Path
from benchmarks.rows import run_apart

def work():
    Path({str(told)!r}).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    run_apart(work, (), Path({str(tmp_path / "log")!r}), None)
""")
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, main], env=os.environ | {"PYTHONPATH": root})
    wait(lambda: told.exists() and told.read_text() != "")
    child = Path("/proc") / told.read_text()
    assert child.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait(lambda: not child.exists())


def wait(until: object) -> None:
    end = time.monotonic() + 60.0
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)
