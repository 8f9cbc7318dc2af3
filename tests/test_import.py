"""`import bayes_interest` is quick, loads nothing heavy and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import bayes_interest

HEAVY = (
    "torch",
    "pyro",
    "transformers",
    "sentence_transformers",
    "matplotlib",
    "arviz",
    "pandas",
    "pyarrow",
    "numpy",
    "scipy",
    "sklearn",
    "numba",
    "optuna",
    "implicit",
)
MAX_IMPORT_SECONDS = 0.5

IMPORT_SCRIPT = """
import json, logging, os, random, sys, time, warnings

def global_state():
    root = logging.getLogger()
    return {
        "warnings.filters": repr(warnings.filters),
        "logging": repr((root.handlers, root.level, logging.root.manager.disable)),
        "os.environ": dict(os.environ),
        "random": repr(random.getstate()),
        "sys.path": list(sys.path),
        "cwd": os.getcwd(),
    }

before = global_state()
start = time.perf_counter()
import bayes_interest
seconds = time.perf_counter() - start
after = global_state()
print(json.dumps({
    "seconds": seconds,
    "modules": sorted(sys.modules),
    "changed": [name for name in before if before[name] != after[name]],
}))
"""

RESOLVE_SCRIPT = """
import json
import numpy, pyro, torch

def global_state():
    return {
        "numpy random": repr(numpy.random.get_state()),
        "torch random": torch.get_rng_state().tolist(),
        "torch default dtype": str(torch.get_default_dtype()),
        "torch threads": torch.get_num_threads(),
        "torch grad": torch.is_grad_enabled(),
        "pyro params": sorted(pyro.get_param_store().keys()),
        "pyro validation": pyro.poutine.util.is_validation_enabled(),
    }

before = global_state()
import bayes_interest
for name in bayes_interest.__all__:
    getattr(bayes_interest, name)
after = global_state()
print(json.dumps({"changed": [name for name in before if before[name] != after[name]]}))
"""


def run_fresh(script: str) -> Any:
    """Run `script` in a new interpreter and read the JSON on its last line."""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def imports() -> list[Any]:
    return [run_fresh(IMPORT_SCRIPT) for _ in range(3)]


@pytest.mark.parametrize("package", HEAVY)
def test_import_does_not_load(imports: list[Any], package: str) -> None:
    assert package not in imports[0]["modules"]


def test_import_is_quick(imports: list[Any]) -> None:
    assert min(run["seconds"] for run in imports) < MAX_IMPORT_SECONDS


def test_import_changes_no_global_state(imports: list[Any]) -> None:
    assert imports[0]["changed"] == []


def test_loading_every_name_changes_no_numerical_state() -> None:
    assert run_fresh(RESOLVE_SCRIPT)["changed"] == []


@pytest.mark.parametrize("name", bayes_interest.__all__)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(bayes_interest, name)
    if name == "__version__":
        assert value
        return
    assert value.__name__.rpartition(".")[2] == name  # `report` is a folder, too
    # A dataclass without a docstring gets its signature as one: that is not documentation.
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")


def test_every_lazy_name_is_public() -> None:
    assert set(bayes_interest._HOME) <= set(bayes_interest.__all__)


def test_dir_lists_every_public_name() -> None:
    assert set(bayes_interest.__all__) <= set(dir(bayes_interest))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'no_such_name'"):
        bayes_interest.no_such_name  # noqa: B018
