"""The weights of the covariates by what they foretell: outcomes of known weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bayes_interest.config import EmissionName, FitConfig, ModelConfig
from bayes_interest.events.history import History, make_history
from bayes_interest.interest_model import InterestModel
from bayes_interest.model.parameters import COVARIATES
from bayes_interest.posterior import covariates as module
from bayes_interest.posterior import held_back
from bayes_interest.posterior.covariates import SHIFT_SPREAD, Tuned, tune_covariates
from bayes_interest.posterior.online import Forecasts, filter_history, restarted
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.predict import circumstances_of_events, held_back_loss
from bayes_interest.text.precomputed import PrecomputedVectors
from tests.fitted import FAMILIES, N_ITEMS, N_USERS, fit, model, simulation

DAY = 86_400.0
N_EVENTS = 2_000
WEIGHT = torch.tensor([1.3, 0.4, -0.6, -0.9, 0.2, 0.7, -0.5, 0.8, -1.1], dtype=torch.float64)
NOTHING: dict[str, Any] = {
    "popularity_days": None, "repeats": False, "succession": False, "likeness": False,
}  # fmt: skip
COUNTED: dict[str, Any] = {
    "popularity_days": (15.0,), "repeats": True, "succession": True, "likeness": True,
}  # fmt: skip


def start(emission: EmissionName, options: dict[str, Any]) -> Posterior:
    """Before any event, with covariates of weight zero."""
    posterior = restarted(model(emission, dtype="float64", rates=False, **options).posterior)
    if COVARIATES not in posterior.values:
        return posterior
    zero = 0.0 * posterior.values[COVARIATES]
    return replace(posterior, values=posterior.values | {COVARIATES: zero})


def random_log(n_items: int = N_ITEMS) -> History:
    rng = np.random.default_rng(0)
    zeros = np.zeros(N_EVENTS, dtype=np.int64)
    seconds = 1.7e9 + np.cumsum(rng.exponential(0.02 * DAY, N_EVENTS)).round()
    user, item = rng.integers(0, N_USERS, N_EVENTS), rng.integers(0, n_items, N_EVENTS)
    return make_history(user, item, seconds, zeros, zeros, N_USERS)


def forecasts(posterior: Posterior, history: History) -> Forecasts:
    return filter_history(posterior, history, keep_cov=True)[0]


def logits_of(posterior: Posterior, found: Forecasts) -> Tensor:
    """Of every item just before every event, (event, item)."""
    part = np.arange(len(found.history))
    extra = circumstances_of_events(posterior, part, found.rows)
    mean = found.belief(torch.arange(len(part))).mean
    return mean @ posterior.items.vectors.T + posterior.items.offsets + extra[0]


def choice_loss(posterior: Posterior, found: Forecasts, tuned: Tuned) -> float:
    """Minus mean log probability with the tuned weights, slowly."""
    values = posterior.values
    if tuned.weight is not None:
        values = values | {COVARIATES: tuned.weight}
    there = replace(posterior, values=values, cold_shift=tuned.cold_shift)
    log_prob = torch.log_softmax(logits_of(there, found), 1)
    return -float(log_prob[torch.arange(len(log_prob)), found.history.item_index].mean())


# ------------------------------------------------------------------------------------ choice


def chosen() -> tuple[Posterior, Forecasts, Tensor]:
    """Items drawn from a softmax with `WEIGHT`, and the table of covariates of every item.

    The covariates stay those of the log before the draw, so that the table is a given one.
    """
    posterior = start("choice", COUNTED)
    found = forecasts(posterior, random_log())
    table = torch.zeros(N_EVENTS, N_ITEMS, len(WEIGHT), dtype=torch.float64)
    for columns, row, item, values in found.rows.entries(np.arange(N_EVENTS)):
        table[row, item, columns] += values.double()
    kinds = posterior.layout.kinds
    assert len(kinds.names) == len(WEIGHT)
    like = found.rows.likeness(np.arange(N_EVENTS)).double()
    table[:, :, kinds.columns("likeness")] = (like @ torch.as_tensor(posterior.texts).double().T).mT
    logits = logits_of(posterior, found) + table @ WEIGHT
    generator = torch.Generator().manual_seed(1)
    drawn = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0].numpy()
    # Every item is met once before, so that none is new.
    first = make_history(
        np.zeros(N_ITEMS, dtype=np.int64), np.arange(N_ITEMS), np.zeros(N_ITEMS),
        np.zeros(N_ITEMS), np.zeros(N_ITEMS, dtype=np.int64), N_USERS,
    )  # fmt: skip
    posterior = replace(posterior, history=first)
    return posterior, replace(found, history=replace(found.history, item_index=drawn)), table


def test_the_weights_of_a_softmax_are_found_again() -> None:
    posterior, found, table = chosen()
    tuned = tune_covariates(posterior, found)
    assert tuned.weight is not None
    assert not tuned.weight.requires_grad
    base = logits_of(posterior, found)
    share = torch.softmax(base + table @ WEIGHT, 1)
    mean = torch.einsum("ei,eic->ec", share, table)
    second = torch.einsum("ei,eic,eid->cd", share, table, table)
    information = second - mean.T @ mean
    sd = torch.linalg.inv(information).diagonal().sqrt()
    assert sd.max() < 1.0  # the slice says something of every weight
    z = (tuned.weight - WEIGHT) / sd
    assert z.abs().max() < 3.5
    assert tuned.cold_shift == pytest.approx(0.0, abs=1e-6)  # nothing was new
    zero = Tuned(torch.zeros_like(WEIGHT), 0.0)
    best, before = (choice_loss(posterior, found, one) for one in (tuned, zero))
    assert best < before - 0.05
    assert best <= choice_loss(posterior, found, Tuned(WEIGHT, 0.0)) + 1e-4


def test_the_weights_are_a_minimum_with_their_prior() -> None:
    posterior, found, _ = chosen()
    tuned = tune_covariates(posterior, found)
    assert tuned.weight is not None

    def penalised(weight: Tensor) -> float:
        penalty = 0.5 * float((weight / 2.0).square().sum()) / N_EVENTS
        return choice_loss(posterior, found, Tuned(weight, tuned.cold_shift)) + penalty

    best = penalised(tuned.weight)
    for index in range(len(WEIGHT)):
        for step in (-0.05, 0.05):
            moved = tuned.weight.clone()
            moved[index] += step
            assert penalised(moved) > best


def test_items_that_are_new_and_never_chosen_pull_the_shift_down() -> None:
    """Against a grid: four items stay new, seven are known."""
    posterior = start("choice", NOTHING)
    history = random_log(n_items=7)
    found = forecasts(posterior, history)
    tuned = tune_covariates(posterior, found)
    assert tuned.weight is None
    assert tuned.cold_shift < -2.0
    grid = np.linspace(-15.0, 3.0, 181)
    losses = [
        choice_loss(posterior, found, Tuned(None, shift))
        + 0.5 * (shift / SHIFT_SPREAD) ** 2 / N_EVENTS
        for shift in grid
    ]
    assert tuned.cold_shift == pytest.approx(grid[int(np.argmin(losses))], abs=0.11)


def shrunk(posterior: Posterior, n_items: int) -> tuple[Posterior, Tensor]:
    """Without its last items, which are at their prior; and their features."""
    kept = {"offset": posterior.values["offset"][:n_items]}
    kept |= {"residual": posterior.values["residual"][:n_items]}
    small = replace(
        posterior,
        layout=replace(posterior.layout, n_items=n_items),
        values=posterior.values | kept,
        features=posterior.features[:n_items],
        item_cov=posterior.item_cov[:n_items],
        has_text=posterior.has_text[:n_items],
    )
    return small, posterior.features[n_items:]


@pytest.mark.parametrize("options", [NOTHING, COUNTED])
def test_the_catalogue_pulls_the_shift_down_as_candidates_do(options: dict[str, Any]) -> None:
    """Items that nobody met: known to the model, or told beside it."""
    whole = start("choice", options)
    with torch.no_grad():
        for name in ("offset", "residual"):
            whole.values[name][7:] = 0.0
    history = random_log(n_items=7)
    found = forecasts(whole, history)
    small, unmet = shrunk(whole, 7)
    rows = forecasts(small, history).rows
    wanted, tuned = tune_covariates(whole, found), tune_covariates(small, found, unmet)
    assert tuned.cold_shift == pytest.approx(wanted.cold_shift, abs=1e-3)
    alone = tune_covariates(small, replace(found, rows=rows))
    assert tuned.cold_shift < alone.cold_shift - 1.0
    if wanted.weight is not None:
        assert tuned.weight is not None
        torch.testing.assert_close(tuned.weight, wanted.weight, rtol=1e-3, atol=1e-3)


def test_a_large_catalogue_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are alike: a tenth of them, each for ten, says the same."""
    posterior, unmet = shrunk(start("choice", NOTHING), 7)
    found = forecasts(posterior, random_log(n_items=7))
    many = unmet[:1].expand(10 * len(posterior.features), -1)
    whole = tune_covariates(posterior, found, many)
    monkeypatch.setattr(module, "MOST_UNMET", 1)
    assert tune_covariates(posterior, found, many).cold_shift == pytest.approx(
        whole.cold_shift, abs=1e-3
    )
    assert whole.cold_shift < tune_covariates(posterior, found, many[:7]).cold_shift - 0.5


def test_a_large_slice_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, found, _ = chosen()
    whole = tune_covariates(posterior, found)
    monkeypatch.setattr(module, "MAX_CELLS", 700 * N_ITEMS)
    part = tune_covariates(posterior, found)
    assert whole.weight is not None
    assert part.weight is not None
    assert not torch.equal(whole.weight, part.weight)
    losses = [choice_loss(posterior, found, one) for one in (whole, part)]
    assert losses[0] <= losses[1] < losses[0] + 0.02


@pytest.mark.parametrize("true", [0.4, 1.0, 1.7])
def test_the_scale_of_a_context_is_found_again(true: float) -> None:
    posterior, found, table = chosen()
    generator = torch.Generator().manual_seed(3)
    shape = (N_EVENTS, posterior.layout.state_dim)
    context = 2.0 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logits = logits_of(posterior, found) + table @ WEIGHT
    logits = logits + true * context @ posterior.items.vectors.T
    drawn = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0].numpy()
    history = replace(found.history, item_index=drawn)
    tuned = tune_covariates(posterior, replace(found, history=history, context=context))
    assert tuned.context_scale == pytest.approx(true, abs=0.15)


# ------------------------------------------------------------------------------ scalar families


def engaged(weight: Tensor) -> tuple[Posterior, Forecasts]:
    """Outcomes drawn one step ahead from the forecasts and covariates of weight `weight`."""
    posterior = start("bernoulli", COUNTED)
    found = forecasts(posterior, random_log())
    assert found.mean is not None
    assert found.var is not None
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(N_EVENTS, generator=generator, dtype=torch.float64)
    logit = found.mean + torch.as_tensor(found.rows.own()).double() @ weight
    chance = torch.sigmoid(logit + found.var.sqrt() * noise)
    outcome = torch.bernoulli(chance, generator=generator).numpy()
    return posterior, replace(found, history=replace(found.history, outcome=outcome))


def test_the_weights_of_a_scalar_family_are_found_again() -> None:
    posterior, found = engaged(WEIGHT)
    tuned = tune_covariates(posterior, found)
    assert tuned.cold_shift == 0.0
    assert tuned.weight is not None
    assert found.mean is not None
    own = torch.as_tensor(found.rows.own()).double()
    shifted = replace(found, mean=found.mean + own @ tuned.weight)
    true = replace(found, mean=found.mean + own @ WEIGHT)
    assert held_back_loss(posterior, shifted) < held_back_loss(posterior, found) - 0.01
    assert held_back_loss(posterior, shifted) <= held_back_loss(posterior, true) + 1e-4
    # A typical event's predictor is found again, whatever the collinear weights are.
    assert (own @ (tuned.weight - WEIGHT)).square().mean().sqrt() < 0.3


def test_weights_that_gain_what_chance_gives_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posterior, found = engaged(torch.zeros_like(WEIGHT))
    first = posterior.values[COVARIATES]
    tuned = tune_covariates(posterior, found)
    assert tuned.weight is not None
    assert torch.equal(tuned.weight, first)
    monkeypatch.setattr(module, "CHANCE", 1.0)
    monkeypatch.setattr(module, "LEAST_GAIN", 0.0)
    moved = tune_covariates(posterior, found)
    assert moved.weight is not None
    assert not torch.equal(moved.weight, first)  # a slice always likes some others better


def test_without_covariates_there_is_nothing_to_tune() -> None:
    posterior = start("bernoulli", NOTHING)
    found = forecasts(posterior, random_log())
    assert tune_covariates(posterior, found) == Tuned(None, 0.0)


# --------------------------------------------------------------------------------- in a fit


@pytest.mark.parametrize("context_layers", [0, 1])
@pytest.mark.parametrize("refit", [False, True])
def test_a_fit_of_choices_keeps_what_the_slice_says(
    refit: bool, context_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Posterior, Forecasts, Tuned]] = []

    def spy(posterior: Posterior, found: Forecasts, unmet: Tensor) -> Tuned:
        seen.append((posterior, found, tune_covariates(posterior, found, unmet)))
        return seen[-1][2]

    monkeypatch.setattr(held_back, "tune_covariates", spy)
    config = FitConfig(max_epochs=3, n_members=1, progress=False, refit=refit)
    door = fit(
        simulation("choice").events, "choice", config, context_layers=context_layers, context_dim=4
    )
    ((posterior, found, tuned),) = seen
    assert tuned.weight is not None
    fitted = Tuned(posterior.values[COVARIATES], 0.0)
    assert not torch.equal(fitted.weight, tuned.weight)
    assert choice_loss(posterior, found, tuned) < choice_loss(posterior, found, fitted)
    assert torch.equal(door.posterior.values[COVARIATES], tuned.weight)
    assert door.posterior.cold_shift == tuned.cold_shift
    assert (tuned.context_scale != 1.0) == (context_layers > 0)
    if context_layers and not refit:
        head = posterior.values["context_head"] * tuned.context_scale
        assert torch.equal(door.posterior.values["context_head"], head)


@pytest.mark.parametrize(("refit", "context_epochs"), [(False, 0), (True, 0), (True, 1)])
def test_a_context_that_the_slice_weighs_at_nothing_is_nothing(
    refit: bool, context_epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*told: Any) -> Tuned:
        return replace(tune_covariates(*told), context_scale=0.0)

    monkeypatch.setattr(held_back, "tune_covariates", silent)
    config = FitConfig(
        max_epochs=1, context_epochs=context_epochs, n_members=1, progress=False, refit=refit
    )
    door = fit(simulation("choice").events, "choice", config, context_layers=1, context_dim=4)
    assert not door.posterior.values["context_head"].any()


@pytest.mark.parametrize("emission", FAMILIES)
def test_without_a_slice_nothing_is_tuned(
    emission: EmissionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Tuned:
        raise AssertionError("tuned without a slice")

    monkeypatch.setattr(held_back, "tune_covariates", never)
    config = FitConfig(max_epochs=1, n_members=1, progress=False, holdout=0)
    assert fit(simulation(emission).events, emission, config).posterior.cold_shift == 0.0


def beside_unwanted(n_extra: int, config: FitConfig, **options: Any) -> InterestModel:
    """Fitted on a log of choices, with a catalogue that has items beside those of the log."""
    drawn = simulation("choice")
    rng, names = np.random.default_rng(0), [f"x{i}" for i in range(n_extra)]
    known = drawn.vectors.set_index("item_id").iloc[:, 0]
    extra = rng.normal(size=(n_extra, len(known.iloc[0])))
    table = pd.DataFrame({"item_id": [*known.index, *names], "vector": [*known, *extra]})
    door = InterestModel(
        ModelConfig(emission="choice", state_dim=2, **options), PrecomputedVectors(table)
    )
    return door.fit(drawn.events, table[["item_id"]], config)


def test_a_large_catalogue_that_nobody_wants_takes_little_of_the_probability() -> None:
    """Two thousand items of the catalogue beside eleven that people take."""
    door = beside_unwanted(2_000, FitConfig(max_epochs=3, n_members=1, progress=False))
    found = door.interest([door.posterior.vocabulary.users.ids[0]]).set_index("item_id")["mean"]
    assert found.sum() == pytest.approx(1.0, abs=1e-3)
    unwanted = found[found.index.str.startswith("x")]
    assert len(unwanted) == 2_000
    assert unwanted.sum() < 0.1  # a slice of 30 events can hardly say less


@pytest.mark.parametrize(("context_layers", "told"), [(1, True), (0, False)])
def test_a_fit_without_a_slice_says_what_it_does_not_know(context_layers: int, told: bool) -> None:
    """A network is never drawn, so its fit is one of a large log."""
    config = FitConfig(max_epochs=1, n_members=1, progress=False, holdout=0.0)
    door = beside_unwanted(3, config, context_layers=context_layers, context_dim=4)
    said = any(
        "3 items of the catalogue that nobody chose" in n for n in door.posterior.summary.notes
    )
    assert said == told
