"""Progress bars and the log: one way to make them, one switch to silence the bars.

A bar appears once the work has taken two seconds, on a terminal or in a notebook; never where
stderr goes to a file or a pipe, and never with the environment variable BAYES_INTEREST_PROGRESS=0,
which is read every time. What was done goes to the logger "bayes_interest": fits, updates,
recalibrations and encodings at INFO, saving, loading and the like at DEBUG.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tqdm import tqdm

SWITCH: Final = "BAYES_INTEREST_PROGRESS"
DELAY_SECONDS: Final = 2.0
_OFF: Final = ("0", "false", "no", "off")
_allowed: ContextVar[bool] = ContextVar("bayes_interest_progress", default=True)

logger = logging.getLogger("bayes_interest")
logger.addHandler(logging.NullHandler())  # what is shown is for the application to say


@contextmanager
def shown_if(wanted: bool) -> Iterator[None]:
    """Within it no bar is shown unless `wanted`, here and in everything called from here."""
    token = _allowed.set(_allowed.get() and wanted)
    try:
        yield
    finally:
        _allowed.reset(token)


def shown() -> bool:
    """Whether there is somebody to show a bar to, and nothing forbids it."""
    if not _allowed.get() or os.environ.get(SWITCH, "").strip().lower() in _OFF:
        return False
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """A kernel's stderr is no terminal, but its front end shows bars."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return getattr(shell, "kernel", None) is not None


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
) -> tqdm[Any]:
    """A tqdm bar over `iterable`, or one of `total` steps to be updated by hand."""
    from tqdm.auto import tqdm

    return tqdm(
        iterable, total=total, desc=desc, unit=unit, disable=not shown(), initial=initial,
        delay=DELAY_SECONDS, leave=None,
    )  # fmt: skip
