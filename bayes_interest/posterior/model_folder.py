"""A folder that holds a model's files: replaced as a whole, checked when it is read.

A save writes new data files under names never used before, then replaces `manifest.json`, which
names them with sizes and checksums, in one step. So the folder holds one whole model at every
moment: the old one until that step, the new one after it. Only then are files removed that the
manifest does not name.

A large file of arrays is not read when a model is loaded but mapped into memory: the states and the
history in it are read from the disk page by page as somebody asks for them. The mapping is private:
nothing that is done to a loaded model reaches the file, and the file stays readable to it when
another save has removed its name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
from safetensors import SafetensorError, safe_open

from bayes_interest.errors import StorageError

FORMAT: Final = "bayes_interest posterior"
FORMAT_VERSION: Final = 1  # raise it when an older package could not read the folder, or misread it
MANIFEST: Final = "manifest.json"
FILES: Final = {
    "tensors": "safetensors", "arrays": "safetensors", "users": "parquet", "items": "parquet",
    "settings": "json",
}  # fmt: skip
"""Parts of a model and the ends of their files' names."""

_MANIFEST_DRAFT: Final = ("manifest", "json")
_OURS: Final = re.compile(
    "|".join(rf"{part}-[0-9a-f]{{32}}\.{end}" for part, end in (*FILES.items(), _MANIFEST_DRAFT))
)
MAP_BYTES: Final = 64 * 2**20
"""A larger file of arrays is mapped rather than read."""
_MAPPABLE: Final = ("tensors", "arrays")
_NO_FOLDER_SYNC: Final = (errno.EINVAL, errno.ENOTSUP)
_ADVICE: Final = "restore the folder from a copy, or save the model again"


def save_files(folder: Path, contents: dict[str, Callable[[], bytes]]) -> None:
    """Make the bytes of each of `FILES`, one after the other, and the folder a model of them.

    A model in the folder stays whole if this fails or is killed at any moment.

    Raises:
        StorageError: the folder holds something that is not a model, or bytes cannot be made.
        OSError: the folder cannot be written.
    """
    made = _make_folder(folder)
    try:
        with _locked(folder):
            _check_ours(folder)
            _replace_files(folder, contents)
    finally:
        if made:  # and nothing was saved: an empty folder is removed, any other is not
            with suppress(OSError):
                folder.rmdir()


def read_files(folder: Path, verify: bool | None) -> tuple[Manifest, dict[str, bytes | Mapped]]:
    """Manifest and checked contents. A save that ends while we read is followed, not an error.

    `verify` compares checksums, for which a file is read from end to end: of all files, of none, or
    with None of those that are not mapped. Sizes are always compared.

    Raises:
        StorageError: no model there, a newer format, or a file that is missing or damaged.
    """
    manifest = Manifest.read(folder)
    while True:
        try:
            return manifest, {
                part: _map_checked(folder / entry.file, entry, verify)
                if part in _MAPPABLE and entry.bytes > MAP_BYTES
                else (_read_sized if verify is False else _read_checked)(folder / entry.file, entry)
                for part, entry in manifest.files.items()
            }
        except StorageError:
            newer = Manifest.read(folder)
            if newer == manifest:
                raise
            manifest = newer


@dataclass(frozen=True)
class Mapped:
    """The arrays of a file, in its pages."""

    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, path: Path) -> Mapped:
        """All of a safetensors file."""
        with safe_open(path, framework="pt") as file:
            return cls({name: file.get_tensor(name).numpy() for name in file.keys()})  # noqa: SIM118


# ------------------------------------------------------------ the manifest


@dataclass(frozen=True)
class _Entry:
    """One data file as the manifest describes it."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Which files make up the model."""

    package_version: str
    files: dict[str, _Entry]

    def to_bytes(self) -> bytes:
        """As JSON."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps({**head, **asdict(self)}, indent=1).encode()

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises StorageError that says what is wrong and what to do."""
        path = folder / MANIFEST
        found = _manifest_json(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise StorageError(
                f"{path} is not the manifest of a bayes_interest model; pass the folder that "
                "save() was given"
            )
        written_by, number = found.get("package_version"), found.get("format_version")
        if isinstance(number, int) and number > FORMAT_VERSION:
            raise StorageError(
                f"{path} has format version {number}, written by bayes_interest {written_by}; "
                f"this is {package_version()} and reads up to version {FORMAT_VERSION}: upgrade "
                "bayes_interest"
            )
        try:
            files = {part: _Entry(**found["files"][part]) for part in FILES}
            if number != FORMAT_VERSION or not all(_is_named(files[part]) for part in files):
                raise ValueError("an entry has an impossible value")
        except (KeyError, TypeError, ValueError) as err:
            raise StorageError(
                f"{path} is damaged ({err!r}); restore the folder from a copy, or save the model "
                "again into a new one"
            ) from err
        return cls(str(written_by), files)


def _manifest_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as err:
        if not path.parent.is_dir():
            what = "is a file, not a folder" if path.parent.exists() else "does not exist"
            raise StorageError(f"{path.parent} {what}; pass a folder that save() wrote") from err
        raise StorageError(
            f"{path.parent} holds no model: {MANIFEST} is missing (not a model folder, or its "
            "first save did not finish); pass a folder that save() wrote"
        ) from err
    except OSError as err:
        raise StorageError(f"{path} cannot be read: {err.strerror or err}") from err
    except ValueError as err:  # not JSON, or not text
        raise StorageError(
            f"{path} is not readable JSON ({err}); restore it from a copy, or save the model again "
            "into a new folder"
        ) from err


def _is_named(entry: _Entry) -> bool:
    return isinstance(entry.file, str) and _OURS.fullmatch(entry.file) is not None


def package_version() -> str:
    """Of this package, as it is installed."""
    try:
        return version("bayes-interest")
    except PackageNotFoundError:  # run from a source folder
        return "unknown"


# ------------------------------------------------------------ reading files


def _read_sized(path: Path, entry: _Entry) -> bytes:
    with _named(path):
        data = path.read_bytes()
    _check_size(path, len(data), entry)
    return data


def _read_checked(path: Path, entry: _Entry) -> bytes:
    data = _read_sized(path, entry)
    _check_sum(path, hashlib.sha256(data).hexdigest(), entry)
    return data


def _map_checked(path: Path, entry: _Entry, verify: bool | None) -> Mapped:
    with _named(path):
        _check_size(path, path.stat().st_size, entry)
        if verify:
            with path.open("rb") as handle:
                _check_sum(path, hashlib.file_digest(handle, "sha256").hexdigest(), entry)
        try:
            return Mapped.of(path)
        except SafetensorError as err:
            raise StorageError(f"{path} cannot be read ({err}); {_ADVICE}") from err


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Troubles of the file system as StorageError."""
    try:
        yield
    except FileNotFoundError as err:
        raise StorageError(f"{path}, which {MANIFEST} names, is missing; {_ADVICE}") from err
    except OSError as err:
        raise StorageError(f"{path} cannot be read: {err.strerror or err}") from err


def _check_size(path: Path, size: int, entry: _Entry) -> None:
    if size != entry.bytes:
        raise StorageError(
            f"{path} has {size} bytes instead of {entry.bytes}: it is incomplete or was "
            f"changed; {_ADVICE}"
        )


def _check_sum(path: Path, found: str, entry: _Entry) -> None:
    if found != entry.sha256:
        raise StorageError(f"{path} was changed after it was saved (checksum differs); {_ADVICE}")


# ------------------------------------------------------------ writing files


def _make_folder(folder: Path) -> bool:
    """Whether the folder had to be made."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; a model is saved as a folder: choose another name")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if made:
        _sync_folder(folder.parent)
    return made


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One save at a time, where folders can be locked; the system frees a killed one's lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_ours(folder: Path) -> None:
    """A folder to save into holds a model, or nothing but what an unfinished save left."""
    names = sorted(path.name for path in folder.iterdir())
    if MANIFEST in names:
        try:
            Manifest.read(folder)
        except StorageError as err:
            raise StorageError(
                f"nothing was saved: {folder} may hold something else ({err}). It was left as it "
                "is; save into a new or empty folder"
            ) from err
        return
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise StorageError(
            f"nothing was saved: {folder} is not empty and not a model folder (it holds "
            f"{foreign[0]!r}). It was left as it is; save into a new or empty folder"
        )


def _replace_files(folder: Path, contents: dict[str, Callable[[], bytes]]) -> None:
    token, files = uuid4().hex, {}
    try:
        for part, content in contents.items():
            files[part] = _write_part(folder / f"{part}-{token}.{FILES[part]}", content)
        draft = folder / f"manifest-{token}.json"
        _write(draft, Manifest(package_version(), files).to_bytes())
        _sync_folder(folder)
        os.replace(draft, folder / MANIFEST)  # noqa: PTH105 (the tests fail and kill it)
        _sync_folder(folder)
    except BaseException:
        _remove_unnamed(folder, token)
        raise
    _remove_unnamed(folder)


def _write_part(path: Path, content: Callable[[], bytes]) -> _Entry:
    try:
        data = content()
    except (TypeError, ValueError) as err:  # for example an encoder's spec that is not JSON
        raise StorageError(f"the model cannot be saved: no {path.name} can be made: {err}") from err
    _write(path, data)
    return _Entry(path.name, len(data), hashlib.sha256(data).hexdigest())


def _write(path: Path, data: bytes) -> None:
    """A new file, on the disk when this returns."""
    with path.open("xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Names in the folder, on the disk when this returns."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as err:
        if err.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def _remove_unnamed(folder: Path, token: str = "") -> None:
    """Remove data files (of one save) that the manifest does not name; try, and never fail."""
    with suppress(OSError):  # a StorageError, too: without knowing the named files, none is removed
        named: set[str] = set()
        if (folder / MANIFEST).exists():
            named = {entry.file for entry in Manifest.read(folder).files.values()}
        for path in sorted(folder.iterdir()):
            if _OURS.fullmatch(path.name) and token in path.name and path.name not in named:
                with suppress(OSError):
                    path.unlink()
