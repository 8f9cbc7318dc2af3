"""A posterior as a folder: safetensors, Parquet and JSON, never a pickle.

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
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safe
from torch import Tensor

from bayes_interest.config import ModelConfig
from bayes_interest.errors import StorageError
from bayes_interest.events.history import History
from bayes_interest.events.id_map import IdMap
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Layout, layout_dict
from bayes_interest.model.prepare import Standardizer, Vocabulary
from bayes_interest.posterior.posterior import FitSummary, Member, Posterior
from bayes_interest.posterior.probability_map import ProbabilityMap
from bayes_interest.posterior.ready import resolve_device
from bayes_interest.progress import logger

FORMAT: Final = "bayes_interest posterior"
FORMAT_VERSION: Final = 1  # raise it when an older package could not read the folder, or misread it
MANIFEST: Final = "manifest.json"

_FILES: Final = {
    "tensors": "safetensors", "arrays": "safetensors", "users": "parquet", "items": "parquet",
    "settings": "json",
}  # fmt: skip
_MANIFEST_DRAFT: Final = ("manifest", "json")
_OURS: Final = re.compile(
    "|".join(rf"{part}-[0-9a-f]{{32}}\.{end}" for part, end in (*_FILES.items(), _MANIFEST_DRAFT))
)
MAP_BYTES: Final = 64 * 2**20
"""A larger file of arrays is mapped rather than read."""
_MAPPABLE: Final = ("tensors", "arrays")
_LARGE: Final = ("belief.", "members/mean", "members/cov", "history.", "last_seconds")
"""What grows with users and events stays in the mapping; the rest is copied."""
_HISTORY: Final = tuple(field.name for field in fields(History) if field.name != "n_users")
_MAP: Final = ("raw", "mapped", "evidence")
_NO_FOLDER_SYNC: Final = (errno.EINVAL, errno.ENOTSUP)


def save_posterior(posterior: Posterior, folder: str | Path) -> None:
    """Write a posterior into a new or empty folder, or over the model that a folder holds.

    A model in the folder stays whole and loadable if this fails or is killed at any moment. Files
    of others in a model folder are left alone.

    Raises:
        StorageError: the folder cannot be written, or holds something that is not a model.
    """
    folder = Path(folder)
    logger.info("saving a model of %d events in %s", len(posterior.history), folder)
    try:
        made = _make_folder(folder)
        try:
            with _locked(folder):
                _check_ours(folder)
                _save_files(posterior, folder)
        finally:
            if made:  # and nothing was saved: an empty folder is removed, any other is not
                with suppress(OSError):
                    folder.rmdir()
    except StorageError:
        raise
    except OSError as err:
        raise StorageError(
            f"the model could not be saved in {folder}: {err.strerror or err}. If the folder held "
            "a model, it still loads. Make room, or choose another folder"
        ) from err


def load_posterior(
    folder: str | Path, device: str = "cpu", verify: bool | None = None
) -> Posterior:
    """The posterior that `save_posterior` wrote: same bits, same ids, tensors on `device`.

    `verify` compares checksums, for which a file is read from end to end: of all files, of none, or
    with None of those that are not mapped. Sizes are always compared.

    Raises:
        StorageError: no model there, a file missing or damaged, or a newer format.
        DeviceError: the device does not exist here.
    """
    folder, place = Path(folder), resolve_device(device)
    logger.debug("loading the model in %s", folder)
    manifest, parts = _read_parts(folder, verify)
    try:
        return _rebuild(parts, place)
    except (KeyError, TypeError, ValueError, SafetensorError) as err:
        raise StorageError(
            f"the model in {folder} is undamaged, but was written by bayes_interest "
            f"{manifest.package_version} and does not fit this version, {_package_version()} "
            f"({err!r}); load it with the version that wrote it, or fit it again"
        ) from err


# ------------------------------------------------------------ a posterior as named byte strings


def _contents(posterior: Posterior) -> dict[str, Callable[[], bytes]]:
    """How to make each file's bytes; made one at a time, so that only one is in memory."""
    return {
        "tensors": lambda: _safe_bytes(
            {name: tensor.detach().cpu().numpy() for name, tensor in _tensors(posterior).items()}
        ),
        "arrays": lambda: _safe_bytes(_arrays(posterior)),
        "users": partial(_parquet, posterior.vocabulary.users),
        "items": partial(_parquet, posterior.vocabulary.items),
        "settings": lambda: json.dumps(_settings(posterior), indent=1, default=_plain).encode(),
    }


def _tensors(posterior: Posterior) -> dict[str, Tensor]:
    values = {f"values.{name}": value for name, value in posterior.values.items()}
    return {
        "features": posterior.features, "item_cov": posterior.item_cov,
        "text_cov": posterior.text_cov,
        "belief.mean": posterior.belief.mean, "belief.cov": posterior.belief.cov, **values,
        **_member_tensors(posterior),
    }  # fmt: skip


def _member_tensors(posterior: Posterior) -> dict[str, Tensor]:
    """What the draws of the globals hold, stacked."""
    members, beliefs = posterior.members, posterior.belief.members
    if not members:
        return {}
    stacked = {
        f"members.{name}": torch.stack([one.values[name] for one in members])
        for name in posterior.values
    }
    covs = [one.item_cov for one in members]
    some = torch.stack([cov.flatten(1).any(1) for cov in covs]).any(0)  # the others were drawn
    return stacked | {
        "members/item_cov": torch.stack([cov[some] for cov in covs]),
        "members/uncertain": torch.nonzero(some)[:, 0],
        "members/mean": torch.stack([one.mean for one in beliefs]),
        "members/cov": torch.stack([one.cov for one in beliefs]),
    }


def _members(tensors: dict[str, Tensor], names: list[str]) -> tuple[Member, ...]:
    nothing = torch.zeros_like(tensors["item_cov"])

    def whole(cov: Tensor) -> Tensor:
        if "members/uncertain" not in tensors:  # folders of before held all items
            return cov
        return nothing.index_copy(0, tensors["members/uncertain"], cov) if len(cov) else nothing

    return tuple(
        Member({name: tensors[f"members.{name}"][draw] for name in names}, whole(cov))
        for draw, cov in enumerate(tensors.get("members/item_cov", ()))
    )


def _belief(tensors: dict[str, Tensor]) -> Belief:
    pairs = zip(tensors.get("members/mean", ()), tensors.get("members/cov", ()), strict=True)
    members = tuple(Belief(mean, cov) for mean, cov in pairs)
    return Belief(tensors["belief.mean"], tensors["belief.cov"], members)


def _arrays(posterior: Posterior) -> dict[str, np.ndarray]:
    arrays = {
        "has_text": posterior.has_text, "last_seconds": posterior.last_seconds,
        "standardizer.mean": posterior.standardizer.mean,
        "standardizer.scale": posterior.standardizer.scale,
        "standardizer.axes": posterior.standardizer.axes,
    }  # fmt: skip
    arrays |= {f"history.{name}": getattr(posterior.history, name) for name in _HISTORY}
    found = posterior.recalibration
    if found is not None:
        arrays |= {f"recalibration.{name}": getattr(found, name) for name in _MAP}
    return arrays


def _settings(posterior: Posterior) -> dict[str, Any]:
    return {
        "config": posterior.config.to_dict(),
        "layout": layout_dict(posterior.layout),
        "values": list(posterior.values),
        "kinds": posterior.vocabulary.kinds,
        "levels": posterior.vocabulary.levels,
        "cold_shift": posterior.cold_shift,
        "item_spread": posterior.item_spread,
        "n_users": posterior.history.n_users,
        "summary": asdict(posterior.summary),
        "encoder_spec": posterior.encoder_spec,
        "recalibration": _map_settings(posterior.recalibration),
    }


def _map_settings(found: ProbabilityMap | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"method": found.method, "slope": found.slope}


def _safe_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    # safetensors reads the memory of an array as if it were contiguous
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    data: bytes = safe.save(dense)
    return data


def _parquet(ids: IdMap) -> bytes:
    buffer = io.BytesIO()
    ids.to_frame().to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} has no place in JSON")


@dataclass(frozen=True)
class _Mapped:
    """The arrays of a file, in its pages."""

    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, path: Path) -> _Mapped:
        with safe_open(path, framework="pt") as file:
            return cls({name: file.get_tensor(name).numpy() for name in file.keys()})  # noqa: SIM118


def _in_memory(
    part: bytes | _Mapped, copy: Callable[[np.ndarray], Any], wrap: Callable[[np.ndarray], Any]
) -> dict[str, Any]:
    """Copies of a file's arrays; large ones of a mapped file stay where they are."""
    if isinstance(part, bytes):
        return {name: copy(array) for name, array in safe.load(part).items()}
    return {
        name: wrap(array) if name.startswith(_LARGE) else copy(array)
        for name, array in part.arrays.items()
    }


def _rebuild(parts: dict[str, Any], device: torch.device) -> Posterior:
    """The inverse of `_contents`."""
    settings = json.loads(parts["settings"])
    # torch.tensor copies into memory aligned as torch's own: alignment can change the last bit
    copied = partial(torch.tensor, device=device)
    tensors = _in_memory(parts["tensors"], copied, partial(torch.as_tensor, device=device))
    arrays = _in_memory(parts["arrays"], np.array, np.asarray)
    return Posterior(
        config=ModelConfig.from_dict(settings["config"]),
        layout=_layout(settings["layout"]),
        vocabulary=Vocabulary(
            _ids(parts["users"]), _ids(parts["items"]), tuple(settings["kinds"]),
            tuple(settings["levels"]),
        ),
        standardizer=Standardizer(
            arrays["standardizer.mean"], arrays["standardizer.scale"], arrays["standardizer.axes"]
        ),
        features=tensors["features"],
        has_text=arrays["has_text"],
        values={name: tensors[f"values.{name}"] for name in settings["values"]},
        item_cov=tensors["item_cov"],
        text_cov=tensors["text_cov"],
        cold_shift=settings["cold_shift"],
        belief=_belief(tensors),
        last_seconds=arrays["last_seconds"],
        history=History(
            **{name: arrays[f"history.{name}"] for name in _HISTORY}, n_users=settings["n_users"]
        ),
        summary=_summary(settings["summary"]),
        encoder_spec=settings["encoder_spec"],
        members=_members(tensors, settings["values"]),
        recalibration=_map(settings.get("recalibration"), arrays),
        item_spread=settings.get("item_spread", 1.0),
    )  # fmt: skip


def _map(stored: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> ProbabilityMap | None:
    """Folders of before there were maps have none."""
    if stored is None:
        return None
    raw, mapped, evidence = (arrays[f"recalibration.{name}"] for name in _MAP)
    return ProbabilityMap(raw=raw, mapped=mapped, evidence=evidence, **stored)


def _ids(data: bytes) -> IdMap:
    return IdMap.from_frame(pd.read_parquet(io.BytesIO(data), engine="pyarrow"))


def _layout(stored: dict[str, Any]) -> Layout:
    tuples = {name: tuple(stored[name]) for name in ("log_drift_centre", "popularity_days")}
    return Layout(**{**stored, **tuples})


def _summary(stored: dict[str, Any]) -> FitSummary:
    return FitSummary(
        **{**stored, "epochs": tuple(stored["epochs"]), "notes": tuple(stored["notes"])}
    )


# ------------------------------------------------------------ the manifest


@dataclass(frozen=True)
class _Entry:
    """One data file as the manifest describes it."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    """Which files make up the model."""

    package_version: str
    files: dict[str, _Entry]

    def to_bytes(self) -> bytes:
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps({**head, **asdict(self)}, indent=1).encode()

    @classmethod
    def read(cls, folder: Path) -> _Manifest:
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
                f"this is {_package_version()} and reads up to version {FORMAT_VERSION}: upgrade "
                "bayes_interest"
            )
        try:
            files = {part: _Entry(**found["files"][part]) for part in _FILES}
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


def _package_version() -> str:
    try:
        return version("bayes-interest")
    except PackageNotFoundError:  # run from a source folder
        return "unknown"


# ------------------------------------------------------------ reading files


def _read_parts(folder: Path, verify: bool | None) -> tuple[_Manifest, dict[str, bytes | _Mapped]]:
    """Manifest and checked contents. A save that ends while we read is followed, not an error."""
    manifest = _Manifest.read(folder)
    while True:
        try:
            return manifest, {
                part: _map_checked(folder / entry.file, entry, verify)
                if part in _MAPPABLE and entry.bytes > MAP_BYTES
                else (_read_sized if verify is False else _read_checked)(folder / entry.file, entry)
                for part, entry in manifest.files.items()
            }
        except StorageError:
            newer = _Manifest.read(folder)
            if newer == manifest:
                raise
            manifest = newer


_ADVICE: Final = "restore the folder from a copy, or save the model again"


def _read_sized(path: Path, entry: _Entry) -> bytes:
    with _named(path):
        data = path.read_bytes()
    _check_size(path, len(data), entry)
    return data


def _read_checked(path: Path, entry: _Entry) -> bytes:
    data = _read_sized(path, entry)
    _check_sum(path, hashlib.sha256(data).hexdigest(), entry)
    return data


def _map_checked(path: Path, entry: _Entry, verify: bool | None) -> _Mapped:
    with _named(path):
        _check_size(path, path.stat().st_size, entry)
        if verify:
            with path.open("rb") as handle:
                _check_sum(path, hashlib.file_digest(handle, "sha256").hexdigest(), entry)
        try:
            return _Mapped.of(path)
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
            _Manifest.read(folder)
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


def _save_files(posterior: Posterior, folder: Path) -> None:
    token, files = uuid4().hex, {}
    try:
        for part, content in _contents(posterior).items():
            files[part] = _write_part(folder / f"{part}-{token}.{_FILES[part]}", content)
        draft = folder / f"manifest-{token}.json"
        _write(draft, _Manifest(_package_version(), files).to_bytes())
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
            named = {entry.file for entry in _Manifest.read(folder).files.values()}
        for path in sorted(folder.iterdir()):
            if _OURS.fullmatch(path.name) and token in path.name and path.name not in named:
                with suppress(OSError):
                    path.unlink()
