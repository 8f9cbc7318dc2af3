"""What every test gets: local state only, and nothing left behind for the next test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# Tests run in parallel processes on small tensors: one thread each is faster. Read by torch when
# it is first imported, so it is set here, before any test module.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


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
