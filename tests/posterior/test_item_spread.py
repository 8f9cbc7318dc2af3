"""How unsure items are, as a later slice of time says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.events.history import History
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.prepare import embed_items
from bayes_interest.posterior import held_back, item_spread
from bayes_interest.posterior.item_spread import LEAST, MOST, tuned_spread
from bayes_interest.posterior.online import absorb, filter_history, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import held_back_loss
from bayes_interest.posterior.variance_parts import item_cov_parts
from tests.fitted import encoder, fit, simulation

SCALAR: tuple[EmissionName, ...] = ("bernoulli", "rating")


def fitted(emission: EmissionName, **options: object) -> InterestModel:
    run = {"holdout": 0.3, "n_members": 1, "item_spread": True} | options
    run = {"max_epochs": 3, "progress": False} | run
    return fit(simulation(emission).events, emission, FitConfig(**run))  # type: ignore[arg-type]


def apart(emission: EmissionName) -> tuple[Posterior, History]:
    """A posterior before the later half of the log, and that half."""
    posterior = fitted(emission, holdout=0.0).posterior
    history = posterior.history
    late = history.seconds >= np.median(history.seconds)
    return absorb(restarted(posterior), history.take(~late)), history.take(late)


@pytest.mark.parametrize("emission", SCALAR)
def test_it_finds_the_likeliest_width(
    emission: EmissionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of offsets that are off by as much as is said of them, and by twice and half as much."""
    monkeypatch.setattr(item_spread, "LOG_SPREAD", 1e6)
    monkeypatch.setattr(item_spread, "TOLERANCE", 1e-3)
    monkeypatch.setattr(item_spread, "LEAST", 0.01)
    monkeypatch.setattr(item_spread, "MOST", 100.0)
    posterior, late = apart(emission)
    rng = torch.Generator().manual_seed(1)
    offset = posterior.values["offset"]
    off = 1.5 * torch.randn(offset.shape, generator=rng)
    cov = torch.zeros_like(posterior.item_cov)
    cov[:, -1, -1] = 1.5**2
    wrong = replace(posterior, values=posterior.values | {"offset": offset + off}, item_cov=cov)

    def loss(factor: float) -> float:
        scaled = replace(wrong, item_cov=factor * cov)
        return held_back_loss(scaled, filter_history(scaled, late)[0])

    found = [tuned_spread(replace(wrong, item_cov=c * cov), late) for c in (0.5, 1.0, 2.0)]
    assert 0.03 < found[1] < 30.0
    assert loss(found[1]) <= min(map(loss, np.geomspace(0.01, 100.0, 30))) + 1e-6
    assert [found[0] / found[1], found[2] / found[1]] == pytest.approx([2.0, 0.5], rel=0.02)


def test_small_slices_say_little(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, late = apart("bernoulli")
    wide = replace(posterior, item_cov=20.0 * posterior.item_cov)
    far = []
    for prior_sd in (1e-3, 0.5, 1e6):
        monkeypatch.setattr(item_spread, "LOG_SPREAD", prior_sd)
        far.append(-math.log(tuned_spread(wide, late)))
    assert 0.0 <= far[0] < 0.01 < far[1] < far[2]


def test_choice_has_none() -> None:
    assert tuned_spread(*apart("choice")) == 1.0
    assert fitted("choice").posterior.item_spread == 1.0


@pytest.mark.parametrize("emission", SCALAR)
def test_the_slice_sets_it_for_old_and_new_items(
    emission: EmissionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fitted(emission).posterior.item_spread
    assert found != 1.0
    assert LEAST < found < MOST
    log = simulation(emission).events.frame
    last = log["item_id"].unique()[-1:]
    rest, new = log[~log["item_id"].isin(last)], pd.DataFrame({"item_id": last, "text": ""})
    config = FitConfig(max_epochs=3, n_members=1, item_spread=True, progress=False)
    doors = []
    for factor in (1.0, 0.4):
        monkeypatch.setattr(held_back, "tuned_spread", lambda *_, f=factor: f)
        doors.append(fit(rest, emission, config))
    before = doors[1].posterior
    plain, narrow = (door.update(rest[:0], items=new).posterior for door in doors)
    assert (plain.item_spread, narrow.item_spread) == (1.0, 0.4)
    # The weights of running rates are tuned to each, and all else a little to them.
    torch.testing.assert_close(narrow.item_cov, 0.4 * plain.item_cov, rtol=0.05, atol=1e-3)
    embedded = embed_items(last, [""], encoder(emission), progress=False)
    wide = replace(before, item_spread=1.0).with_items(last, embedded)
    torch.testing.assert_close(narrow.item_cov[-1], 0.4 * wide.item_cov[-1])
    for item in (0, -1):
        whole, text = item_cov_parts(narrow, item)
        torch.testing.assert_close(whole, narrow.item_cov[item].double())
        bare = replace(narrow, item_cov=narrow.item_cov / 0.4, item_spread=1.0)
        torch.testing.assert_close(text, 0.4 * item_cov_parts(bare, item)[1])
        assert float(text.diagonal().min()) > 0.0


def test_draws_of_all_globals_need_none() -> None:
    """Their items and states are known together."""
    assert fitted("bernoulli", n_members="auto").posterior.item_spread == 1.0


def test_only_if_asked() -> None:
    assert fitted("bernoulli", item_spread=False).posterior.item_spread == 1.0


def test_it_is_shown() -> None:
    door = fitted("rating")
    row = door.summary().set_index("parameter").loc["item_spread"]
    assert row["mean"] == door.posterior.item_spread


def test_without_a_slice_there_is_none() -> None:
    assert fitted("bernoulli", holdout=0.0).posterior.item_spread == 1.0
