"""Each test has a cache folder of its own, and tiny models are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.text import tiny_models


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BAYES_INTEREST_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")
