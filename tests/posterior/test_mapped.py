"""A large saved model is mapped into memory: the same answers, and the files never change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import StorageError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior import model_folder, online
from bayes_interest.posterior.posterior import Posterior
from tests.fitted import FAMILIES, fit, model, parts, same

LARGE = ("tensors", "arrays")


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(model_folder, "MAP_BYTES", 0)


def opened(door: InterestModel, folder: Path, verify: bool | None = None) -> InterestModel:
    door.save(folder)
    return InterestModel.load(folder, encoder=door.encoder, verify=verify)


def file_of(folder: Path, part: str) -> Path:
    manifest = json.loads((folder / model_folder.MANIFEST).read_text())
    return folder / str(manifest["files"][part]["file"])


def checksums(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def in_a_file(array: np.ndarray) -> bool:
    """Whether the memory of an array is that of a mapped .safetensors file."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        begin, end = (int(edge, 16) for edge in line.split()[0].split("-"))
        if begin <= address < end:
            return line.endswith(".safetensors")
    return False


def states_of(posterior: Posterior) -> list[np.ndarray]:
    beliefs = (posterior.belief, *posterior.belief.members)
    return [part.numpy() for one in beliefs for part in (one.mean, one.cov)]


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.usefixtures("mapped")
def test_a_mapped_model_answers_the_same(emission: EmissionName, tmp_path: Path) -> None:
    door = model(emission)
    found = opened(door, tmp_path)
    same(found.interest(), door.interest())
    same(found.rank(k=3), door.rank(k=3))
    same(found.trajectory(["u00003"], ["i00002"]), door.trajectory(["u00003"], ["i00002"]))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_states_and_history_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = opened(model("bernoulli"), tmp_path).posterior
    assert not any(map(in_a_file, (*states_of(small), small.history.seconds)))
    monkeypatch.setattr(model_folder, "MAP_BYTES", 0)
    large = InterestModel.load(tmp_path).posterior
    held = [*states_of(large), large.history.seconds, large.history.user_index, large.last_seconds]
    assert all(map(in_a_file, held))
    assert not in_a_file(large.item_cov.numpy())  # arithmetic of all items wants its own memory


@pytest.mark.parametrize("emission", FAMILIES)
@pytest.mark.usefixtures("mapped")
def test_update_leaves_the_files_as_they_are(emission: EmissionName, tmp_path: Path) -> None:
    door, (_, test) = model(emission), parts(emission)
    found = opened(door, tmp_path)
    before = checksums(tmp_path)
    found.update(test)
    same(found.interest(), door.update(test).interest())
    assert checksums(tmp_path) == before


@pytest.mark.usefixtures("mapped")
def test_writing_into_a_loaded_model_does_not_reach_the_file(tmp_path: Path) -> None:
    posterior = opened(model("bernoulli"), tmp_path).posterior
    before = checksums(tmp_path)
    posterior.belief.mean.fill_(7.0)
    posterior.history.seconds[:] = 0.0
    assert checksums(tmp_path) == before
    again = InterestModel.load(tmp_path).posterior
    assert not torch.equal(again.belief.mean, posterior.belief.mean)


@pytest.mark.usefixtures("mapped")
def test_saving_over_the_folder_leaves_the_open_model_whole(tmp_path: Path) -> None:
    door, (_, test) = model("bernoulli"), parts("bernoulli")
    found = opened(door, tmp_path)
    wanted = found.interest()
    later = InterestModel.load(tmp_path, encoder=door.encoder).update(test)
    later.save(tmp_path)  # removes the files that `found` and `later` have mapped
    same(found.interest(), wanted)
    same(InterestModel.load(tmp_path).interest(), later.interest())
    later.save(tmp_path)
    same(InterestModel.load(tmp_path).interest(), later.interest())


@pytest.mark.usefixtures("mapped")
def test_draws_of_the_globals_are_mapped_and_updated(tmp_path: Path) -> None:
    train, test = parts("bernoulli")
    run = FitConfig(max_epochs=1, n_members=2, progress=False)
    door = fit(train, "bernoulli", fit_config=run)
    found = opened(door, tmp_path)
    assert len(states_of(found.posterior)) == 6
    same(found.interest(), door.interest())
    same(found.update(test).interest(), door.update(test).interest())


@pytest.mark.parametrize("part", LARGE)
@pytest.mark.usefixtures("mapped")
def test_what_is_checked_of_a_large_file(part: str, tmp_path: Path) -> None:
    door = model("bernoulli")
    door.save(tmp_path)
    path = file_of(tmp_path, part)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    InterestModel.load(tmp_path)  # its size is as it was
    with pytest.raises(StorageError, match=rf"{part}-.*checksum differs.*save the model again"):
        InterestModel.load(tmp_path, verify=True)
    path.write_bytes(bytes(data[:-1]))
    with pytest.raises(StorageError, match=r"bytes instead of .* incomplete"):
        InterestModel.load(tmp_path, verify=False)
    path.unlink()
    with pytest.raises(StorageError, match=r"which manifest\.json names, is missing"):
        InterestModel.load(tmp_path)


def test_checksums_of_small_files_can_be_left_out(tmp_path: Path) -> None:
    model("bernoulli").save(tmp_path)
    path = file_of(tmp_path, "users")
    table = path.read_bytes()
    path.write_bytes(table[:20] + bytes([table[20] ^ 1]) + table[21:])
    with pytest.raises(StorageError, match="checksum differs"):
        InterestModel.load(tmp_path)
    path.write_bytes(table)
    manifest = json.loads((tmp_path / model_folder.MANIFEST).read_text())
    manifest["files"]["users"]["sha256"] = "0" * 64
    (tmp_path / model_folder.MANIFEST).write_text(json.dumps(manifest))
    same(InterestModel.load(tmp_path, verify=False).interest(), model("bernoulli").interest())


# ---------------------------------------------------------------- absorbing in stretches of users


@pytest.mark.parametrize("emission", FAMILIES)
def test_users_are_absorbed_the_same_in_any_stretches(
    emission: EmissionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, (_, test) = model(emission), parts(emission)
    whole = model(emission).update(test).posterior
    monkeypatch.setattr(online, "ABSORB_EVENTS", 17)
    cut = door.update(test).posterior
    rounding = 1e-5 if emission == "choice" else 0.0  # its products are of all users at once
    for one, other in zip(states_of(cut), states_of(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=rounding)
    np.testing.assert_array_equal(cut.last_seconds, whole.last_seconds)
    _, after, last = online.filter_history(model(emission).posterior, _later(door, emission))
    np.testing.assert_allclose(after.mean.numpy(), whole.belief.mean.numpy(), atol=1e-6)
    np.testing.assert_array_equal(last, whole.last_seconds)


def _later(door: InterestModel, emission: EmissionName) -> online.History:
    """The test events as a history of the model's users."""
    before = len(model(emission).posterior.history)
    joined = door.posterior.history
    later = joined.take(joined.order >= before)
    assert len(later) == len(parts(emission)[1])
    return later.numbered()


def test_stretches_hold_every_user_once() -> None:
    history = model("bernoulli").posterior.history
    for n_events in (1, 17, 10_000):
        ranges = list(history.user_ranges(n_events))
        users = np.concatenate([np.arange(*one) for one in ranges])
        assert users.tolist() == list(range(history.n_users))
        pieces = [history.of_users(*one).item_index for one in ranges]
        assert np.concatenate(pieces).tolist() == history.item_index.tolist()
    user = int(history.user_index[-1])
    assert len(history.item_index[history.span(user)]) == history.lengths[user]
    assert pd.Series(model("bernoulli").posterior.seen_by(user)).is_unique
