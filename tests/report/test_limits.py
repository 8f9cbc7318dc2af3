"""What the report says the model cannot tell."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from bayes_interest.posterior.posterior import Member
from bayes_interest.report.document.section_model import limits_section
from tests.fitted import model

DRAWS, WEIGHTS = "FitConfig(n_members=16) draws them", "Weights of circumstances are points"


def limits(emission: str, drawn: bool, **config: object) -> str:
    posterior = model(emission, **config).posterior  # type: ignore[arg-type]
    if drawn:
        posterior = replace(posterior, members=(Member(posterior.values, posterior.item_cov),))
    section = limits_section(SimpleNamespace(posterior=posterior, seed=0))  # type: ignore[arg-type]
    return str(section)


def test_points_are_named_where_there_are_no_draws() -> None:
    for emission in ("bernoulli", "choice"):
        assert DRAWS in limits(emission, drawn=False)
        assert DRAWS not in limits(emission, drawn=True)
    assert f"With a small log and catalogue {DRAWS}" in limits("choice", drawn=False)


def test_drawn_weights_of_covariates_are_no_points() -> None:
    assert WEIGHTS in limits("choice", drawn=False)
    assert WEIGHTS not in limits("choice", drawn=True)
    assert WEIGHTS in limits("bernoulli", drawn=True)  # there the draws leave them
