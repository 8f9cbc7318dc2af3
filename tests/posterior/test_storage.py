"""A saved posterior: nothing changes, nothing is lost, and what is broken is named."""

from __future__ import annotations

import ast
import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import DeviceError, StorageError
from bayes_interest.events.history import make_history
from bayes_interest.events.id_map import IdMap
from bayes_interest.model.prepare import Embedded
from bayes_interest.model.simulate import simulate
from bayes_interest.posterior import model_folder, storage
from bayes_interest.posterior.learn import learn
from bayes_interest.posterior.model_folder import MANIFEST
from bayes_interest.posterior.online import absorb, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import (
    Interval,
    advanced_belief,
    circumstances,
    clock,
    predictors,
    sigmoid_interval,
)
from bayes_interest.posterior.storage import load_posterior, save_posterior
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import loud

FAMILIES: tuple[EmissionName, ...] = ("bernoulli", "rating", "choice")
PARTS = ("arrays", "items", "settings", "tensors", "users")
DATA_STEPS = 8
"""Steps before the new manifest is in force: five data files, manifest, folder, replacement."""
ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def fitted(emission: EmissionName) -> Posterior:
    drawn = simulate(n_users=7, n_items=11, events_per_user=13, emission=emission)
    return learn(
        drawn.events, None, PrecomputedVectors(drawn.vectors),
        ModelConfig(emission=emission, state_dim=2),
        FitConfig(max_epochs=2, n_members=1, progress=False),
    )  # fmt: skip


@pytest.fixture(scope="session")
def posteriors() -> dict[str, Posterior]:
    return {emission: fitted(emission) for emission in FAMILIES}


@pytest.fixture
def old(posteriors: dict[str, Posterior]) -> Posterior:
    return posteriors["bernoulli"]


@pytest.fixture
def new(posteriors: dict[str, Posterior]) -> Posterior:
    return posteriors["choice"]


def assert_same(first: Any, second: Any, place: str = "posterior") -> None:
    """Equal types and bits, all the way down."""
    assert type(first) is type(second), place
    if isinstance(first, IdMap):
        assert_same(list(first.ids.tolist()), list(second.ids.tolist()), place)
        assert first.ids.dtype == second.ids.dtype, place
    elif is_dataclass(first):
        for field in fields(first):
            pair = getattr(first, field.name), getattr(second, field.name)
            assert_same(*pair, f"{place}.{field.name}")
    elif isinstance(first, torch.Tensor):
        assert first.device == second.device, place
        assert_same(first.cpu().numpy(), second.cpu().numpy(), place)
    elif isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape), place
        assert first.tobytes() == second.tobytes(), place
    elif isinstance(first, dict):
        assert list(first) == list(second), place
        for key, value in first.items():
            assert_same(value, second[key], f"{place}[{key!r}]")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), place
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{place}[{index}]")
    else:
        assert repr(first) == repr(second), place


def round_trip(posterior: Posterior, folder: Path) -> Posterior:
    save_posterior(posterior, folder)
    return load_posterior(folder)


def all_interest(posterior: Posterior) -> Interval:
    users = np.arange(len(posterior.vocabulary.users))
    seconds = np.full(len(users), clock(posterior) + 86_400.0)
    extra = circumstances(posterior, users, seconds)
    found = predictors(posterior, advanced_belief(posterior, users, seconds), extra)
    return sigmoid_interval(found.mean, found.var, prob=0.9)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def part_file(folder: Path, part: str) -> Path:
    return folder / json.loads((folder / MANIFEST).read_text())["files"][part]["file"]


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ------------------------------------------------------------ load(save(p)) changes nothing


@pytest.mark.parametrize("emission", FAMILIES)
def test_round_trip_keeps_every_bit(
    posteriors: dict[str, Posterior], emission: str, tmp_path: Path
) -> None:
    before = posteriors[emission]
    after = round_trip(before, tmp_path / "parent" / "model")
    assert_same(before, after)
    assert_same(all_interest(before), all_interest(after))
    assert before.item_cov.ndim == (2 if emission == "choice" else 3)  # both forms are covered
    assert (len(before.layout.popularity_days) > 1) == (emission == "choice")
    assert after.layout.likeness is (emission == "choice")
    assert_same(before.texts, after.texts)
    assert (before.texts is not None) == (emission == "choice")
    assert before.standardizer.axes.shape == (before.layout.embed_dim,) * 2


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.parametrize("days", [(1.0, 20.0), (3.5,), 20.0])
def test_a_model_with_a_context_and_windows_keeps_every_bit(
    emission: EmissionName, days: Any, tmp_path: Path
) -> None:
    door = loud(emission, popularity_days=days)
    before = door.posterior
    after = round_trip(before, tmp_path)
    assert_same(before, after)
    assert after.config.popularity_days == days
    assert after.layout.popularity_days == (days if isinstance(days, tuple) else (days,))
    assert after.layout.context_layers == 2
    assert_same(all_interest(before), all_interest(after))


@pytest.mark.parametrize("emission", FAMILIES)
def test_learning_goes_on_as_if_nothing_had_happened(
    posteriors: dict[str, Posterior], emission: str, tmp_path: Path
) -> None:
    before = posteriors[emission]
    users = np.array([0, 5, 0])
    more = make_history(
        users, np.array([3, 10, 3]), clock(before) + np.array([9.0, 5.0, 99.0]), np.ones(3),
        np.zeros(3, dtype=np.int64), len(before.vocabulary.users),
    )  # fmt: skip
    assert_same(absorb(before, more), absorb(round_trip(before, tmp_path), more))


@pytest.mark.parametrize(
    "ids",
    [[1, "1", "汤 ✨", "", "a\nb\0", 2**70, -3], [5, 3, 2**62], ["nan", "None", "007"]],
    ids=["mixed", "integers", "strings"],
)
def test_ids_keep_their_type_and_order(old: Posterior, ids: list[Any], tmp_path: Path) -> None:
    names = IdMap.from_ids(ids)
    users = replace(old, vocabulary=replace(old.vocabulary, users=IdMap.from_ids([])))
    before = replace(users, vocabulary=replace(users.vocabulary, items=names))
    after = round_trip(before, tmp_path).vocabulary
    assert_same(before.vocabulary, after)
    assert [type(key) for key in after.items.ids.tolist()] == [type(key) for key in ids]


def test_users_without_events_stay_without(new: Posterior, tmp_path: Path) -> None:
    before = new.with_users(np.array(["naïve", "new"], dtype=object))
    after = round_trip(before, tmp_path)
    assert np.isnan(after.last_seconds[-2:]).all()
    assert_same(before, after)


def test_items_added_later_are_kept(old: Posterior, tmp_path: Path) -> None:
    embedded = Embedded(np.ones((2, 8), dtype=np.float32), np.array([True, False]))
    before = old.with_items(np.array(["x", "y"], dtype=object), embedded)
    assert_same(before, round_trip(before, tmp_path))


@pytest.mark.parametrize("kinds", [(), ("",), ("view", "köp")])
@pytest.mark.parametrize("spec", [None, {"kind": "text", "model": "m", "nested": {"a": [1, 2.5]}}])
def test_settings_are_kept(
    old: Posterior, kinds: tuple[str, ...], spec: dict[str, Any] | None, tmp_path: Path
) -> None:
    epochs = ({"epoch": 1, "loss": 0.1, "held_back_loss": math.nan}, {"epoch": 2, "loss": 1e-320})
    before = replace(
        old,
        vocabulary=replace(old.vocabulary, kinds=kinds, levels=(0.1, 1e300, math.inf)),
        summary=replace(old.summary, epochs=epochs, notes=("ü", "b")),
        encoder_spec=spec,
        cold_shift=-1 / 3,
        item_spread=2 / 7,
        config=replace(old.config, half_life_days=1 / 7, n_candidates=5),
    )
    assert_same(before, round_trip(before, tmp_path))


def test_no_history_no_text_and_strange_strides(new: Posterior, tmp_path: Path) -> None:
    wide = torch.arange(8.0 * 11).reshape(8, 11)
    shared = torch.zeros(4)
    before = replace(
        restarted(new),
        features=wide.T,
        has_text=np.zeros(22, dtype=bool)[::2],
        values={**new.values, "mean": shared[::2], "log_drift": shared[1::2]},
    )
    assert not before.features.is_contiguous()
    assert_same(before, round_trip(before, tmp_path))


def test_numpy_scalars_are_written_as_numbers(old: Posterior, tmp_path: Path) -> None:
    summary = replace(old.summary, best_epoch=np.int64(3), stopped_early=np.bool_(True))
    after = round_trip(replace(old, summary=summary), tmp_path).summary
    assert (after.best_epoch, after.stopped_early) == (3, True)


def test_loaded_arrays_do_not_depend_on_the_folder(old: Posterior, tmp_path: Path) -> None:
    after = round_trip(old, tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    after.features.add_(0.0)
    after.last_seconds[:] += 0.0
    assert_same(old, after)


def test_a_missing_device_is_named(old: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    with pytest.raises(DeviceError, match='device="cuda:99" cannot be used'):
        load_posterior(tmp_path, device="cuda:99")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_tensors_land_on_the_device_and_come_back(old: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path / "one")
    there = load_posterior(tmp_path / "one", device="cuda")
    tensors = [there.features, there.item_cov, there.belief.mean, there.belief.cov]
    assert {value.device.type for value in (*tensors, *there.values.values())} == {"cuda"}
    assert_same(old, round_trip(there, tmp_path / "two"))


# ------------------------------------------------------------ no pickle


def test_no_pickle_anywhere(new: Posterior, tmp_path: Path) -> None:
    save_posterior(new, tmp_path)
    starts = {path.suffix: path.read_bytes()[:9] for path in tmp_path.iterdir()}
    assert set(starts) == {".safetensors", ".parquet", ".json"}
    assert starts[".parquet"].startswith(b"PAR1")
    assert starts[".safetensors"][8:] == b"{"
    for path in tmp_path.iterdir():
        # A safetensors file starts with the length of its JSON header: any byte may come first.
        if path.suffix != ".safetensors":
            assert not path.read_bytes().startswith((b"\x80", b"PK")), path.name
    code = [Path(module.__file__ or "").read_text() for module in (storage, model_folder)]
    tree = ast.parse("\n".join(code).replace("from __future__ import annotations", ""))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert "pickle" not in ast.dump(tree).replace("never a pickle", "")
    assert "torch.load" not in ast.unparse(tree)
    assert "torch.save" not in ast.unparse(tree)
    assert "allow_pickle" not in called


# ------------------------------------------------------------ saving over a model


def test_saving_again_replaces_and_tidies(old: Posterior, new: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    foreign = {"README.md", "users.parquet", "tensors-1.safetensors", "notes"}
    for name in foreign - {"notes"}:
        (tmp_path / name).write_text("mine")
    (tmp_path / "notes").mkdir()
    leftover = tmp_path / f"users-{'0' * 32}.parquet"  # of a killed save
    leftover.write_text("half")
    first = {part_file(tmp_path, part).name for part in PARTS}
    save_posterior(new, tmp_path)
    second = {part_file(tmp_path, part).name for part in PARTS}
    assert names_in(tmp_path) == {MANIFEST, *second, *foreign}
    assert not first & second
    assert (tmp_path / "users.parquet").read_text() == "mine"
    assert_same(new, load_posterior(tmp_path))


def test_an_unfinished_first_save_can_be_repeated(old: Posterior, tmp_path: Path) -> None:
    (tmp_path / f"tensors-{'0' * 32}.safetensors").write_text("half")
    with pytest.raises(StorageError, match=r"manifest\.json is missing .*did not finish"):
        load_posterior(tmp_path)
    assert_same(old, round_trip(old, tmp_path))
    assert len(names_in(tmp_path)) == 1 + len(PARTS)


def full_disk_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The `step`-th fsync or replacement finds no room; the file is left half written."""
    count = iter(range(1000))

    def guarded(action: Callable[..., None]) -> Callable[..., None]:
        def attempt(*args: Any) -> None:
            if next(count) == step:
                if isinstance(args[0], int) and len(args) == 1:
                    halve(args[0])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            action(*args)

        return attempt

    monkeypatch.setattr(os, "fsync", guarded(os.fsync))
    monkeypatch.setattr(os, "replace", guarded(os.replace))


def halve(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    except OSError:  # a folder
        return


def test_a_full_disk_at_any_step_leaves_a_whole_model(
    old: Posterior, new: Posterior, tmp_path: Path
) -> None:
    for step in range(100):
        folder = tmp_path / str(step)
        save_posterior(old, folder)
        before = names_in(folder)
        with pytest.MonkeyPatch.context() as patch:
            full_disk_at(patch, step)
            try:
                save_posterior(new, folder)
                break
            except StorageError as err:
                wanted = rf"could not be saved in {re.escape(str(folder))}: No space left"
                assert re.search(wanted, str(err))  # noqa: PT017
                assert isinstance(err.__cause__, OSError)  # noqa: PT017
        if step < DATA_STEPS:
            assert names_in(folder) == before  # and nothing is left behind
        assert_same(old if step < DATA_STEPS else new, load_posterior(folder))
    assert step == DATA_STEPS + 1  # the last failure was after the replacement
    assert_same(new, load_posterior(folder))


def test_a_full_disk_leaves_no_new_folder(
    old: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk_at(monkeypatch, 3)
    with pytest.raises(StorageError, match="No space left"):
        save_posterior(old, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_real_refused_write_leaves_the_old_model(
    old: Posterior, new: Posterior, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    save_posterior(old, tmp_path)
    before = names_in(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            save_posterior(new, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == before
    assert_same(old, load_posterior(tmp_path))


def test_an_interrupt_leaves_the_old_model_and_no_litter(
    old: Posterior, new: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_posterior(old, tmp_path)
    before = names_in(tmp_path)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_posterior(new, tmp_path)
    assert names_in(tmp_path) == before
    assert_same(old, load_posterior(tmp_path))


KILLED_SAVES = """
import os, pathlib, shutil, signal, sys
from bayes_interest.posterior.storage import load_posterior, save_posterior

place = pathlib.Path(sys.argv[1])
new = load_posterior(place / "new")

def deadly(action, step, count):
    def attempt(*args, **options):
        if next(count) == step:
            if action is os.fsync:
                try:
                    os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
                except OSError:
                    pass
            os.kill(os.getpid(), signal.SIGKILL)
        return action(*args, **options)
    return attempt

for step in range(100):
    folder = place / f"killed-{step}"
    shutil.copytree(place / "old", folder)
    child = os.fork()
    if child == 0:
        count = iter(range(1000))
        os.fsync = deadly(os.fsync, step, count)
        os.replace = deadly(os.replace, step, count)
        pathlib.Path.unlink = deadly(pathlib.Path.unlink, step, count)
        save_posterior(new, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


@needs_fork
def test_a_save_killed_at_any_step_leaves_a_whole_model(
    old: Posterior, new: Posterior, tmp_path: Path
) -> None:
    save_posterior(old, tmp_path / "old")
    save_posterior(new, tmp_path / "new")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_SAVES, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.glob("killed-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(folders) == DATA_STEPS + 1 + len(PARTS) + 1  # the last was not killed
    for step, folder in enumerate(folders):
        assert_same(old if step < DATA_STEPS else new, load_posterior(folder))
        save_posterior(new, folder)
        assert len(names_in(folder)) == 1 + len(PARTS)  # what the killed one left is gone


def test_a_load_during_a_save_gets_the_new_model(
    old: Posterior, new: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_posterior(old, tmp_path)
    read, saved = model_folder._read_checked, []

    def interrupted(path: Path, entry: Any) -> bytes:
        if not saved:
            saved.append(True)
            save_posterior(new, tmp_path)
        return read(path, entry)

    monkeypatch.setattr(model_folder, "_read_checked", interrupted)
    assert_same(new, load_posterior(tmp_path))


@needs_fork
def test_saves_at_the_same_time_take_turns(old: Posterior, new: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    both = [threading.Thread(target=save_posterior, args=(p, tmp_path)) for p in (old, new) * 3]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    last = load_posterior(tmp_path)
    assert_same(old if last.config.emission == "bernoulli" else new, last)
    assert len(names_in(tmp_path)) == 1 + len(PARTS)


# ------------------------------------------------------------ where a model cannot be saved


@pytest.mark.parametrize("name", ["thesis.txt", MANIFEST, ".hidden"])
def test_a_foreign_folder_is_left_alone(old: Posterior, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"name": "a browser extension"}')
    with pytest.raises(StorageError, match=r"nothing was saved: .*left as it is; save into a new"):
        save_posterior(old, tmp_path)
    assert names_in(tmp_path) == {name}
    assert "extension" in (tmp_path / name).read_text()


def test_a_model_of_a_newer_version_is_not_overwritten(old: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    edit_manifest(tmp_path, format_version=99)
    before = names_in(tmp_path)
    with pytest.raises(StorageError, match=r"nothing was saved: .*format version 99"):
        save_posterior(old, tmp_path)
    assert names_in(tmp_path) == before


def test_a_file_is_no_folder(old: Posterior, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("mine")
    with pytest.raises(StorageError, match="model is a file; a model is saved as a folder"):
        save_posterior(old, path)
    with pytest.raises(StorageError, match=r"could not be saved in .*below: Not a directory"):
        save_posterior(old, path / "below")
    with pytest.raises(StorageError, match="model is a file, not a folder; pass a folder"):
        load_posterior(path)
    assert path.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_without_permission_is_named(old: Posterior, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=r"could not be saved in .*: Permission denied"):
        save_posterior(old, tmp_path / "model")


def test_what_json_cannot_hold_is_refused_before_anything_changes(
    old: Posterior, tmp_path: Path
) -> None:
    save_posterior(old, tmp_path)
    before = names_in(tmp_path)
    with pytest.raises(StorageError, match=r"no settings-.*: complex 1j has no place in JSON"):
        save_posterior(replace(old, encoder_spec={"kind": 1j}), tmp_path)
    half = IdMap.from_ids(["\ud800"])
    with pytest.raises(StorageError, match=r"no users-.*surrogates not allowed"):
        save_posterior(replace(old, vocabulary=replace(old.vocabulary, users=half)), tmp_path)
    assert names_in(tmp_path) == before


# ------------------------------------------------------------ what cannot be loaded


def test_no_folder_and_no_manifest_are_named(old: Posterior, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere does not exist; pass a folder"):
        load_posterior(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=r"holds no model: manifest\.json is missing"):
        load_posterior(tmp_path)


@pytest.mark.parametrize("part", PARTS)
def test_a_cut_changed_or_missing_file_is_named(old: Posterior, part: str, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    path = part_file(tmp_path, part)
    name, whole = re.escape(str(path)), path.read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        wanted = f"{name} has {size} bytes instead of {len(whole)}: .*restore the folder"
        with pytest.raises(StorageError, match=wanted):
            load_posterior(tmp_path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(StorageError, match=rf"{name} was changed .*restore the folder"):
        load_posterior(tmp_path)
    path.unlink()
    with pytest.raises(StorageError, match=rf"{name}, which manifest.json names, is missing"):
        load_posterior(tmp_path)


def test_a_cut_manifest_is_named(old: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    whole = (tmp_path / MANIFEST).read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / MANIFEST).write_bytes(whole[:size])
        with pytest.raises(StorageError, match=r"manifest\.json is not readable JSON .*restore"):
            load_posterior(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"\xff" + whole)
    with pytest.raises(StorageError, match=r"manifest\.json is not readable JSON"):
        load_posterior(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", '{"format": "onnx"}', '{"format_version": 1}'])
def test_a_foreign_manifest_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(StorageError, match=r"manifest\.json is not the manifest of a bayes_int"):
        load_posterior(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(old: Posterior, tmp_path: Path) -> None:
    save_posterior(old, tmp_path)
    edit_manifest(tmp_path, format_version=model_folder.FORMAT_VERSION + 1, package_version="9.8.7")
    wanted = "format version 2, written by bayes_interest 9.8.7; .* upgrade bayes_interest"
    with pytest.raises(StorageError, match=wanted):
        load_posterior(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": "one"},
        {"format_version": 0},
        {"files": {}},
        {"files": None},
        {"files": {part: {"file": "x", "bytes": 1} for part in PARTS}},
        {"files": {part: {"file": "../x", "bytes": 1, "sha256": ""} for part in PARTS}},
    ],
)
def test_an_impossible_manifest_is_named(
    old: Posterior, changes: dict[str, Any], tmp_path: Path
) -> None:
    save_posterior(old, tmp_path)
    edit_manifest(tmp_path, **changes)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged .*restore the folder"):
        load_posterior(tmp_path)


def test_settings_of_another_version_are_named(
    old: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = storage._settings
    monkeypatch.setattr(
        storage, "_settings", lambda p: known(p) | {"config": {"a_future_field": 1}}
    )
    save_posterior(old, tmp_path)
    with pytest.raises(StorageError, match=r"is undamaged, but .*a_future_field.*fit it again"):
        load_posterior(tmp_path)
