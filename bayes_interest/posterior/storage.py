"""A posterior as a folder of safetensors, Parquet and JSON, never a pickle; see `model_folder`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors import numpy as safe
from torch import Tensor

from bayes_interest.config import ModelConfig
from bayes_interest.errors import StorageError
from bayes_interest.events.history import History
from bayes_interest.events.id_map import IdMap
from bayes_interest.model.filtering import Belief
from bayes_interest.model.parameters import Layout, layout_dict
from bayes_interest.model.prepare import Standardizer, Vocabulary
from bayes_interest.posterior.model_folder import Mapped, package_version, read_files, save_files
from bayes_interest.posterior.posterior import FitSummary, Member, Posterior
from bayes_interest.posterior.probability_map import ProbabilityMap
from bayes_interest.posterior.ready import resolve_device
from bayes_interest.progress import logger

_LARGE: Final = ("belief.", "members/mean", "members/cov", "history.", "last_seconds")
"""What grows with users and events stays in the mapping; the rest is copied."""
_HISTORY: Final = tuple(field.name for field in fields(History) if field.name != "n_users")
_MAP: Final = ("raw", "mapped", "evidence")


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
        save_files(folder, _contents(posterior))
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
    manifest, parts = read_files(folder, verify)
    try:
        return _rebuild(parts, place)
    except (KeyError, TypeError, ValueError, SafetensorError) as err:
        raise StorageError(
            f"the model in {folder} is undamaged, but was written by bayes_interest "
            f"{manifest.package_version} and does not fit this version, {package_version()} "
            f"({err!r}); load it with the version that wrote it, or fit it again"
        ) from err


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


def _in_memory(
    part: bytes | Mapped, copy: Callable[[np.ndarray], Any], wrap: Callable[[np.ndarray], Any]
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
