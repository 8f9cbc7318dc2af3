"""How a fit runs: the effect of every option of FitConfig, and the choice of epochs."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest import progress
from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, DeviceError
from bayes_interest.events.history import make_history
from bayes_interest.interest_model import InterestModel
from bayes_interest.model import members
from bayes_interest.model.parameters import item_terms
from bayes_interest.model.seeding import seeded
from bayes_interest.model.sequence_fit import fit_sequence
from bayes_interest.posterior.ready import (
    drift_centres,
    prepare,
    problem_of,
    resolve_device,
)
from bayes_interest.schema import SECONDS_PER_DAY
from tests.fitted import FAMILIES, encoder, fit, model, numbers, parts, simulation


def run(emission: EmissionName = "bernoulli", **options: object) -> InterestModel:
    config = FitConfig(**{"max_epochs": 3, "n_members": 1, "progress": False} | options)  # type: ignore[arg-type]
    return fit(simulation(emission).events, emission, config)


def drift(door: InterestModel) -> torch.Tensor:
    return door.posterior.values["log_drift"]


def distance(door: InterestModel) -> float:
    """How far the drift scales went from where they started."""
    centre = torch.tensor(door.posterior.layout.log_drift_centre)
    return float((drift(door) - centre).abs().max())


def test_seed() -> None:
    assert torch.equal(drift(run(seed=3)), drift(run(seed=3)))
    assert not torch.equal(drift(run(seed=3)), drift(run(seed=4)))


def test_max_epochs() -> None:
    for epochs in (1, 4):
        door = run(max_epochs=epochs, patience=100)
        assert len(door.fit_report()) == epochs
    assert distance(run(max_epochs=1, holdout=0.0)) < distance(run(max_epochs=6, holdout=0.0))


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_so_few_steps(epochs: int) -> None:
    """One user is one batch; torch's schedule divides by zero where its rise has no length."""
    events = simulation("bernoulli").events.frame
    alone = events[events["user_id"] == events["user_id"].iloc[0]]
    config = FitConfig(max_epochs=epochs, holdout=0.0, n_members=1, progress=False)
    assert len(fit(alone, "bernoulli", config).fit_report()) == epochs


def test_learning_rate() -> None:
    slow, fast = (run(learning_rate=rate, holdout=0.0) for rate in (1e-3, 3e-2))
    assert distance(slow) < distance(fast)


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_fit_that_diverges_says_so(emission: EmissionName) -> None:
    config = FitConfig(learning_rate=1e3, max_epochs=9, holdout=0.0, n_members=1, progress=False)
    with pytest.raises(ConfigError, match=r"diverged in epoch \d: learning_rate=1000 is too large"):
        fit(simulation(emission).events, emission, config)


def test_batch_events() -> None:
    # Smaller batches are more steps. (Small logs get small batches anyway, so this one is large.)
    events = pd.concat(
        simulation("bernoulli").events.frame.assign(user_id=lambda t, n=n: t["user_id"] + str(n))
        for n in range(20)
    )
    few, many = (
        fit(
            events, "bernoulli",
            FitConfig(max_epochs=1, batch_events=size, holdout=0.0, n_members=1, progress=False),
        )
        for size in (4096, 1)
    )  # fmt: skip
    assert distance(many) != distance(few)


def test_context_epochs_train_the_network_of_a_choice_before_the_rest() -> None:
    options = {"context_layers": 1, "context_dim": 8, "context_events": 4}
    heads = []
    for epochs in (1, 4):
        config = FitConfig(
            max_epochs=3, context_epochs=epochs, holdout=0.0, n_members=1, progress=False
        )
        door = fit(simulation("choice").events, "choice", config, **options)
        ready = prepare(
            simulation("choice").events, None, encoder("choice"), door.posterior.config, False
        )
        cpu = torch.device("cpu")
        with seeded(config.seed, cpu):
            trained, taken = fit_sequence(problem_of(ready, cpu), config)
        assert taken == epochs
        heads.append(trained["context_head"])
        assert {"context_head", "residual", "offset", "weight", "offset_weight"} <= set(trained)
        posterior, mixed = door.posterior, {"weight", "residual", "context_head", "context_item"}
        for name in set(trained) - mixed:  # the rest of the fit leaves them as they are
            torch.testing.assert_close(posterior.values[name], trained[name], rtol=0.0, atol=0.0)
        before = {"mean": torch.zeros(3)} | trained
        first = item_terms(posterior.layout, before, posterior.features).vectors
        assert not torch.allclose(first, posterior.items.vectors, rtol=0.1)
        for name, side in (("context_head", 0), ("context_item", 1)):
            now, then = (values[name] for values in (posterior.values, trained))
            products = posterior.items.vectors @ (now if side == 0 else now.T)
            wanted = first @ (then if side == 0 else then.T)
            torch.testing.assert_close(products, wanted, rtol=1e-3, atol=1e-3)
        assert not posterior.item_cov[: ready.n_fit].any()  # points, as the network is
    assert not torch.equal(*heads)


def test_the_held_back_slice_chooses_the_epochs_of_the_network_too() -> None:
    config = FitConfig(max_epochs=1, context_epochs=9, patience=2, n_members=1, progress=False)
    context = {"context_layers": 1, "context_dim": 8, "context_events": 4}
    door = fit(simulation("choice").events, "choice", config, **context)
    notes = door.fit_report().attrs["notes"]
    assert notes[1].startswith("network of the context: ")
    assert 1 <= int(notes[1].split()[-2]) <= 9


@pytest.mark.parametrize(("emission", "layers"), [("choice", 0), ("bernoulli", 1)])
def test_epochs_for_a_network_that_is_not_there_are_refused(
    emission: EmissionName, layers: int
) -> None:
    config = FitConfig(context_epochs=2, n_members=1, progress=False)
    with pytest.raises(ConfigError, match="context_epochs=2: there is no network"):
        fit(simulation(emission).events, emission, config, context_layers=layers)


def test_site_steps() -> None:
    one, many = (run(site_steps=steps, max_epochs=1, holdout=0.0) for steps in (1, 8))
    assert not torch.equal(drift(one), drift(many))


def test_holdout_chooses_the_epochs_and_zero_does_not() -> None:
    watched, blind = run(), run(holdout=0.0)
    assert watched.fit_report()["held_back_loss"].notna().all()
    assert "events held back" in watched.fit_report().attrs["notes"][0]
    assert blind.fit_report()["held_back_loss"].isna().all()
    assert blind.fit_report().attrs["notes"] == ["no held-back slice: holdout=0"]
    larger = run(holdout=0.4).fit_report().attrs["notes"][0]
    assert larger != watched.fit_report().attrs["notes"][0]


def test_patience_stops_early() -> None:
    # A step this large overshoots, so the held-back loss soon rises.
    options = {"max_epochs": 25, "learning_rate": 0.5}
    short, long = (run(patience=patience, **options).fit_report() for patience in (1, 25))
    assert len(short) < len(long) == 25
    assert short.attrs["stopped_early"]
    assert not long.attrs["stopped_early"]
    losses = short["held_back_loss"].to_numpy()
    assert short.attrs["best_epoch"] == 1 + int(np.argmin(losses))
    assert len(short) == short.attrs["best_epoch"] + 1


@pytest.mark.parametrize("emission", FAMILIES)
def test_refit_learns_from_the_held_back_slice_too(emission: EmissionName) -> None:
    whole, part = run(emission, refit=True), run(emission, refit=False)
    assert not torch.equal(drift(whole), drift(part))
    # Either way every event is absorbed and every user and item is known.
    for door in (whole, part):
        posterior = door.posterior
        assert len(posterior.history) == len(simulation(emission).events)
        assert posterior.layout.n_items == len(posterior.vocabulary.items)
        assert np.isfinite(numbers(door.interest())).all()


@pytest.mark.parametrize("emission", FAMILIES)
def test_items_that_come_after_the_cut_are_known_without_a_refit(emission: EmissionName) -> None:
    events = simulation(emission).events.frame.copy()
    late = events["item_id"].iloc[-1]
    events = events[(events["item_id"] != late) | (np.arange(len(events)) > 0.95 * len(events))]
    door = fit(events, emission, FitConfig(max_epochs=2, refit=False, n_members=1, progress=False))
    table = door.interest(items=[late])
    assert np.isfinite(numbers(table)).all()
    assert late in set(door.rank(["nobody"], k=99)["item_id"])


@pytest.mark.parametrize("emission", FAMILIES)
def test_the_best_epoch_is_the_one_kept(emission: EmissionName) -> None:
    options = {"learning_rate": 0.5, "patience": 25, "refit": False}
    long = run(emission, max_epochs=12, **options)
    report = long.fit_report()
    assert report.attrs["best_epoch"] == 1 + int(report["held_back_loss"].argmin())
    assert report["epoch"].tolist() == list(range(1, 13))
    assert (report["seconds"] > 0).all()


def test_a_log_too_small_to_hold_back_is_fitted_whole() -> None:
    door = fit(parts("bernoulli")[0][:60], "bernoulli")
    assert door.fit_report().attrs["notes"] == ["the log is too small to hold back a slice of time"]


def test_device() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert run(device="cpu").posterior.features.device == torch.device("cpu")
    with pytest.raises(DeviceError, match='device="cuda:99" cannot be used on this machine'):
        resolve_device("cuda:99")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("emission", FAMILIES)
def test_cuda_answers_as_the_cpu_does(emission: EmissionName) -> None:
    first, second = (run(emission, device=device) for device in ("cpu", "cuda"))
    assert second.posterior.features.device.type == "cuda"
    np.testing.assert_allclose(numbers(first.interest()), numbers(second.interest()), atol=0.02)


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    run(max_epochs=1, progress=False)
    assert capsys.readouterr().err == ""
    run(max_epochs=1, progress=True)
    assert "epoch" in capsys.readouterr().err


def test_drift_scales_start_around_one_unit_of_variance_per_history() -> None:
    days = np.array([0.0, 10.0, 40.0, 0.0, 90.0, 5.0])
    zeros = np.zeros(6, dtype=np.int64)
    history = make_history(
        np.array([0, 0, 0, 1, 1, 2]), zeros, days * SECONDS_PER_DAY, zeros, zeros, 3
    )
    span = (3 * 40.0 + 2 * 90.0) / 5  # weighted by events; one event spans nothing
    centres = np.array(drift_centres(history, 3))
    np.testing.assert_allclose(np.exp(2 * centres) * span, [0.03, 0.3, 3.0])
    assert np.exp(2 * drift_centres(history, 1)[0]) * span == pytest.approx(0.3)


def test_the_encoder_is_described_in_the_posterior() -> None:
    assert model("choice").posterior.encoder_spec == {"kind": "precomputed", "embed_dim": 7}


def with_ghost(late: bool, holdout: float = 0.0) -> InterestModel:
    """Fitted with all items but the most frequent one having been chosen; that one is known from
    the start, or comes after the fit.
    """
    drawn = simulation("choice")
    frame = drawn.events.frame
    most = frame["item_id"].mode()[0]
    rest = frame[frame["item_id"] != most]
    items = pd.DataFrame({"item_id": [most], "text": [""]})
    door = InterestModel(ModelConfig(emission="choice", state_dim=2), encoder("choice"))
    run = FitConfig(max_epochs=5, holdout=holdout, progress=False)
    door.fit(rest, None if late else items, run)
    return door.update(rest[:0], items=items) if late else door


def share_of_ghost(door: InterestModel) -> float:
    ghost = door.posterior.vocabulary.items.ids[-1]
    return float(door.interest(items=[ghost])["mean"].mean())


def test_that_nobody_chose_an_item_of_the_catalogue_is_told_to_small_fits() -> None:
    known, late = with_ghost(late=False), with_ghost(late=True)
    assert len(known.posterior.values["offset"]) == len(late.posterior.values["offset"])
    assert share_of_ghost(known) < 0.3 * share_of_ghost(late)
    each = known.posterior.members
    assert len({float(one.values["offset"][-1]) for one in each}) == len(each) > 1  # drawn, too


def test_else_items_without_an_event_count_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    told = share_of_ghost(with_ghost(late=False))
    assert share_of_ghost(with_ghost(late=False, holdout=0.1)) > 3.0 * told
    monkeypatch.setattr(members, "CHOICE_WORK", 0)
    large = share_of_ghost(with_ghost(late=False))
    assert large > 3.0 * told
    assert large == pytest.approx(share_of_ghost(with_ghost(late=True)), rel=0.1)
