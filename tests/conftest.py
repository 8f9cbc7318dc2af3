"""What every test gets: local state only, and nothing left behind for the next test."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress

# Tests run in parallel processes on small tensors: one thread each is faster. Read by torch when
# it is first imported, so it is set here, before any test module.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """ArviZ writes down the day it was first imported on: processes that do so at once collide."""
    if not hasattr(config, "workerinput"):
        with warnings.catch_warnings(), suppress(ImportError):
            warnings.simplefilter("ignore")
            import arviz  # noqa: F401


@pytest.fixture(autouse=True)
def _clean_globals() -> Iterator[None]:
    """Empty Pyro's param store and put torch's default dtype back, where they are loaded."""
    torch = sys.modules.get("torch")
    dtype = torch.get_default_dtype() if torch else None
    yield
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()
    torch = sys.modules.get("torch")
    if torch:
        torch.set_default_dtype(dtype or torch.float32)
