"""The export to ArviZ says what the model's own tables say, in names that ArviZ understands."""

from __future__ import annotations

import logging
import sys
import warnings
from functools import cache
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest

from bayes_interest.config import EmissionName, FitConfig
from bayes_interest.errors import ConfigError, InputError, ItemError
from bayes_interest.evaluation.guide_sample import draw_guide
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.interest import trajectory
from bayes_interest.report import arviz_export
from tests.fitted import FAMILIES, STATE_DIM, fit, loud, model, parts

OLD = "InferenceData" in vars(az)  # ArviZ before 1
ITEMS = ["i00003", "i00001"]
USERS = ["u00002", "u00008"]
GROUPS = {
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "prior",
    "prior_predictive",
    "observed_data",
    "constant_data",
}


@cache
def with_members() -> InterestModel:
    config = FitConfig(max_epochs=1, n_members=3, progress=False)
    return fit(parts("bernoulli")[0], "bernoulli", config, state_dim=2, rates=False)


@cache
def export(emission: EmissionName, draws: int = 300) -> Any:
    return model(emission).to_arviz(USERS, ITEMS, draws, prior_draws=7)


def groups(found: Any) -> set[str]:
    return set(found.groups()) if OLD else {name.strip("/") for name in found.groups} - {""}


def quietly_loo(found: Any) -> Any:
    """LOO by event, with its honest warning about small logs and few draws left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return az.loo(found, pointwise=True)


def loo_values(found: Any) -> np.ndarray:
    loo = quietly_loo(found)
    values: np.ndarray = (loo.loo_i if OLD else loo.elpd_i).values
    return values


@pytest.mark.parametrize("emission", FAMILIES)
def test_events_carry_real_ids_and_times(emission: EmissionName) -> None:
    found, log = export(emission), parts(emission)[0]
    assert groups(found) == GROUPS
    posterior = found["posterior"]
    assert posterior["state"].dims == ("chain", "draw", "event", "state_dim")
    assert posterior["interest"].dims == ("chain", "draw", "event", "item")
    assert posterior["item"].values.tolist() == ITEMS
    assert posterior.sizes["state_dim"] == STATE_DIM
    wanted = log[log["user_id"].isin(USERS)]
    for name in GROUPS - {"constant_data"}:
        event = found[name]["event"]
        got = pd.DataFrame({key: event[key].values for key in ("user_id", "item_id", "timestamp")})
        got["timestamp"] = got["timestamp"].dt.tz_localize("UTC").astype("datetime64[us, UTC]")
        ours = wanted[got.columns].astype({"timestamp": "datetime64[us, UTC]"})
        order = ["user_id", "timestamp"]
        pd.testing.assert_frame_equal(
            got.sort_values(order, ignore_index=True),
            ours.sort_values(order, ignore_index=True),
            check_dtype=False,
        )


@pytest.mark.parametrize("emission", FAMILIES)
def test_observed_outcomes_are_those_of_the_log(emission: EmissionName) -> None:
    found, log = export(emission), parts(emission)[0]
    outcome = found["observed_data"]["outcome"]
    if emission == "choice":
        names = found["constant_data"]["choosable_item_id"].values[outcome.values]
        assert names.tolist() == outcome["item_id"].values.tolist()
        return
    key = ["user_id", "item_id", "timestamp"]
    times = pd.to_datetime(outcome["timestamp"].values, utc=True)
    got = pd.MultiIndex.from_arrays([outcome["user_id"].values, outcome["item_id"].values, times])
    values = log.set_index(key)["value"].loc[got]
    np.testing.assert_array_equal(outcome.values, values.to_numpy())


@pytest.mark.parametrize("emission", FAMILIES)
def test_interest_is_that_of_the_trajectory(emission: EmissionName) -> None:
    posterior = model(emission).to_arviz(USERS, ITEMS, 2000, prior_draws=0)["posterior"]
    table = trajectory(model(emission).posterior, USERS, ITEMS, None, 0.9, n_draws=20_000)
    _agree(posterior, table, heavy_tails=emission == "choice")


def _agree(posterior: Any, table: pd.DataFrame, heavy_tails: bool = False) -> None:
    table = table.assign(timestamp=table["timestamp"].dt.tz_localize(None))
    for (user, item), rows in table.groupby(["user_id", "item_id"]):
        own = posterior["interest"].sel(item=item)
        own = own[..., (own["user_id"] == user).values]
        rows = rows.set_index("timestamp").loc[own["timestamp"].values]
        drawn = own.values[0]
        error = rows["sd"].to_numpy() / np.sqrt(len(drawn))
        assert (np.abs(drawn.mean(0) - rows["mean"]) < 5.0 * error + 2e-3).all()
        if heavy_tails:  # there sds of draws are less steady than edges
            edges = np.quantile(drawn, [0.05, 0.95], axis=0).T
            np.testing.assert_allclose(edges, rows[["lower", "upper"]], rtol=0.2, atol=2e-3)
        else:
            np.testing.assert_allclose(drawn.std(0), rows["sd"], rtol=0.15)


@pytest.mark.parametrize("door", [lambda: with_members(), lambda: loud("rating")])
def test_interest_with_members_and_with_context(door: Any) -> None:
    posterior = door().to_arviz(USERS[:1], ITEMS[:1], 2000, prior_draws=0)["posterior"]
    _agree(posterior, door().trajectory(USERS[:1], ITEMS[:1]))


def test_recalibrated_draws_have_the_bounds_of_the_trajectory() -> None:
    door = model("bernoulli")
    raw = door.to_arviz(USERS[:1], ITEMS[:1], 2000, prior_draws=0)["posterior"]["interest"]
    door.recalibrate(parts("bernoulli")[1], method="platt")
    mapped = door.to_arviz(USERS[:1], ITEMS[:1], 2000, prior_draws=0)["posterior"]["interest"]
    assert np.abs(mapped.values - raw.values).max() > 0.01
    table = door.trajectory(USERS[:1], ITEMS[:1])
    lower, upper = np.quantile(mapped.values[0, :, :, 0], [0.05, 0.95], axis=0)
    np.testing.assert_allclose(lower, table["lower"], atol=0.05)
    np.testing.assert_allclose(upper, table["upper"], atol=0.05)


@pytest.mark.parametrize(
    "door", [lambda: model("bernoulli"), lambda: model("rating"), with_members]
)
def test_loo_of_the_states_is_that_of_diagnose(door: Any) -> None:
    """Importance weights of 2,000 draws against the guide with each event's site divided out."""
    chosen = door()
    found = chosen.to_arviz(draws=2000, prior_draws=0, only_states=True)
    exact = draw_guide(chosen.posterior, 200, 100, 0).loo
    assert exact is not None
    apart = loo_values(found) - exact.log_prob
    assert abs(apart.mean()) < 0.01 < 0.2 * (exact.in_sample - exact.log_prob).mean()
    assert np.abs(apart).max() < 0.15
    table = chosen.diagnose(n_draws=100).set_index("check")
    outcome = found["observed_data"]["outcome"].values
    share = np.unique(outcome, return_counts=True)[1] / len(outcome)
    left_out = table.loc["left-out loss", "value"] + (share * np.log(share)).sum()
    assert loo_values(found).mean() == pytest.approx(left_out, abs=0.01)


def test_uncertainty_of_items_counts_unless_states_alone_are_asked_for() -> None:
    both = [model("bernoulli").to_arviz(USERS, ITEMS, 300, prior_draws=0, only_states=only)
            for only in (False, True)]  # fmt: skip
    wide, narrow = (one["posterior"]["interest"].values[0].std(0).mean() for one in both)
    assert narrow < 0.95 * wide


def test_summary_hdi_and_plots_need_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    found = export("bernoulli")
    with caplog.at_level(logging.WARNING):
        if OLD:
            table = az.summary(found, var_names=["interest"], kind="stats", hdi_prob=0.9)
            az.hdi(found, var_names=["interest"], hdi_prob=0.9)
            az.plot_forest(found, var_names=["interest"], combined=True, hdi_prob=0.9, show=False)
        else:
            options = {"ci_prob": 0.9, "ci_kind": "eti"}
            table = az.summary(found, var_names=["interest"], kind="stats", **options)
            az.hdi(found, var_names=["interest"], prob=0.9)
    assert not caplog.records
    assert len(table) == found["posterior"].sizes["event"] * len(ITEMS)
    assert not table.isna().any(axis=None)
    assert not any("hat" in name or "ess" in name for name in table.columns)


def test_drawn_globals_stand_in_the_posterior_and_points_in_constant_data() -> None:
    drawn = with_members().to_arviz(USERS, draws=7, prior_draws=2)
    scale = drawn["posterior"]["drift_scale"]
    assert scale.dims == ("chain", "draw", "state_dim")
    members = [one.values["log_drift"].exp().numpy() for one in with_members().posterior.members]
    np.testing.assert_allclose(scale.values[0], [members[turn % 3] for turn in range(7)], rtol=1e-6)
    assert "drift_scale" not in drawn["constant_data"]
    point = export("rating")
    assert "drift_scale" not in point["posterior"]
    assert point["constant_data"]["cut_point"]["cut"].values.tolist()[0] == "rating >= 1"
    weights = point["constant_data"]["covariate_weight"]
    assert "item_rate" in weights["covariate"].values


@pytest.mark.parametrize("emission", FAMILIES)
def test_prior_knows_nothing_of_outcomes(emission: EmissionName) -> None:
    found = model(emission).to_arviz(USERS, ITEMS, 50, prior_draws=120)
    start = np.flatnonzero(np.diff(found["prior"]["event"]["user_id"].values != USERS[0]))
    prior = found["prior"]
    deviation = prior["state"].values[0] - prior["mean_state"].values[0][:, None]
    first = deviation[:, [0, start[0] + 1]]
    assert abs(first.mean()) < 0.2
    assert first.std() == pytest.approx(1.0, abs=0.15)
    centre = np.log(prior["drift_scale"].values[0]).mean(0)
    wanted = model(emission).posterior.layout.log_drift_centre
    np.testing.assert_allclose(centre, wanted, atol=5.0 * 1.5 / np.sqrt(120))
    outcome = found["prior_predictive"]["outcome"].values
    assert set(np.unique(outcome)) <= set(range(11))
    assert outcome.std() > 0.0


@pytest.mark.parametrize("emission", FAMILIES)
def test_outcomes_drawn_anew_follow_the_log_likelihood(emission: EmissionName) -> None:
    found = export(emission, 2000)
    observed = found["observed_data"]["outcome"].values
    again = (found["posterior_predictive"]["outcome"].values[0] == observed).mean(0)
    chance = np.exp(found["log_likelihood"]["outcome"].values[0]).mean(0)
    np.testing.assert_allclose(again, chance, atol=0.06)


def test_states_move_together_along_a_path() -> None:
    """Joint draws: neighbours of a path are correlated, which margins alone would not be."""
    state = export("bernoulli")["posterior"]["state"].values[0, :, :2, 0]
    assert np.corrcoef(state.T)[0, 1] > 0.9


def test_same_seed_same_draws_and_no_items_no_interest() -> None:
    first, again = (model("choice").to_arviz(USERS, draws=5, prior_draws=2, seed=3) for _ in "ab")
    other = model("choice").to_arviz(USERS, draws=5, prior_draws=2, seed=4)
    for group, name in (("posterior", "state"), ("prior", "state")):
        one, two = first[group][name].values, again[group][name].values
        np.testing.assert_array_equal(one, two)
        assert (one != other[group][name].values).any()
    assert "interest" not in first["posterior"]
    assert groups(model("choice").to_arviz(USERS, draws=5, prior_draws=0)) == GROUPS - {
        "prior", "prior_predictive",
    }  # fmt: skip


def test_everything_can_be_written_to_files() -> None:
    for name in GROUPS:
        dataset = export("choice")[name]
        kinds = {variable.dtype.kind for variable in dataset.variables.values()}
        assert kinds <= set("ifUMb")


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    door = model("bernoulli")
    for options, error, message in (
        ({"users": ["nobody"]}, InputError, "user 'nobody' has no event"),
        ({"users": []}, InputError, "users=.. is nobody"),
        ({"users": "u00002"}, InputError, "expected a list of ids"),
        ({"items": ["i99999"]}, ItemError, "item 'i99999' is unknown"),
        ({"draws": 1}, ConfigError, "n_draws=1"),
        ({"prior_draws": -1}, ConfigError, "prior_draws=-1"),
        ({"seed": 0.5}, ConfigError, "seed=0.5"),
    ):
        with pytest.raises(error, match=message):
            door.to_arviz(**options)
    monkeypatch.setattr(arviz_export, "MAX_CELLS", 230 * 11 * 9)
    model("choice").to_arviz(draws=7, prior_draws=2)
    with pytest.raises(InputError, match=r"8 draws at 230 events are too many"):
        model("choice").to_arviz(draws=8, prior_draws=2)
    monkeypatch.setattr(arviz_export, "MAX_NUMBERS", 1000)
    with pytest.raises(InputError, match=r"400 draws at 230 events are too many .* choose users="):
        door.to_arviz()


def test_arviz_is_there_though_two_processes_import_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def collides_once(name: str) -> object:
        asked.append(name)
        if len(asked) == 1:
            raise FileNotFoundError("daily_warning.tmp")
        return az

    monkeypatch.setattr(arviz_export, "import_module", collides_once)
    idata = model("bernoulli").to_arviz()
    assert "posterior" in idata.groups()
    assert asked == ["arviz", "arviz"]


def test_without_arviz_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(InputError, match=r'ArviZ, .* pip install "bayes-interest\[report\]"'):
        model("bernoulli").to_arviz()
