"""What models and encoders say of themselves; nothing of the data gets into HTML as markup."""

from __future__ import annotations

import re

import pytest

from bayes_interest.config import EmissionName, ModelConfig
from bayes_interest.exposed_interest import ExposedInterest
from bayes_interest.html_table import html_table
from bayes_interest.interest_model import InterestModel
from bayes_interest.recalibrated_interest import RecalibratedInterest
from bayes_interest.text.encoder import HashingEncoder, PrecomputedVectors, TextEncoder
from tests.fitted import FAMILIES, encoder, fit, loud, model, parts, simulation

EVIL = "<script>alert('x')</script>&"


def cells(html: str) -> dict[str, str]:
    """Name to text of a table's rows."""
    rows = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", html)
    assert rows
    return dict(rows)


@pytest.mark.parametrize("emission", FAMILIES)
def test_a_fitted_model_tells_what_it_is(emission: EmissionName) -> None:
    door = model(emission)
    said, known = cells(door._repr_html_()), door.posterior.vocabulary
    assert said["family"].startswith(emission)
    assert said["users"] == str(len(known.users))
    assert said["items"].startswith(f"{len(known.items)}, ")
    assert said["events"].startswith(f"{len(door.posterior.history)}, 2023-11-14 to ")
    assert said["state"].startswith("3 dimensions, random walk in time")
    assert ("with every event" in said["state"]) == (emission == "choice")
    assert said["global parameters"] == "best values (points)"
    assert said["recalibrated"] == "no"
    assert said["encoder"] == "PrecomputedVectors(11 items, 7 numbers each)"
    assert ("interest is" in said) == (emission == "rating")
    assert f"InterestModel({emission}, " in repr(door)


def test_what_is_optional_is_told_where_it_is() -> None:
    door = model("bernoulli", half_life_days=40.0).recalibrate(
        parts("bernoulli")[1], method="platt"
    )
    assert "half-life of 40 days" in cells(door._repr_html_())["state"]
    assert cells(door._repr_html_())["recalibrated"] == "platt"
    assert repr(door).endswith("recalibrated by platt)")
    assert cells(loud("rating")._repr_html_())["context"] == "2 layers, 6 wide"
    fresh = InterestModel(ModelConfig(emission="rating"), HashingEncoder(64))
    assert repr(fresh) == (
        "InterestModel(rating, HashingEncoder(64, ngram_range=(1, 2)), not fitted)"
    )
    assert "not fitted" in fresh._repr_html_()


def test_names_from_the_data_are_escaped() -> None:
    log = simulation("bernoulli").events.frame.copy()
    log["kind"] = EVIL
    log.loc[log.index[::2], "kind"] = "view"
    html = fit(log, "bernoulli", state_dim=2)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert EVIL not in html_table(EVIL, {EVIL: EVIL})


def test_wrappers_tell_of_their_models() -> None:
    exposed = ExposedInterest(model("bernoulli"), model("choice"))
    assert exposed._repr_html_().count("<table>") == 3
    wrapped = RecalibratedInterest(model("bernoulli"), "platt", 0.2, refresh=500)
    said = cells(wrapped._repr_html_())
    assert (said["method"], said["learns anew"]) == ("platt", "every 500 events")
    assert said["learns from"] == "the last 0.2 of the events of fit"
    assert "platt" in repr(wrapped)


def test_encoders_tell_what_changes_their_vectors() -> None:
    assert repr(TextEncoder()) == "TextEncoder('all-MiniLM-L6-v2')"
    said = repr(TextEncoder("some/model", pooling="cls", max_tokens=9, batch_tokens=7))
    assert said == "TextEncoder('some/model', pooling='cls', max_tokens=9)"
    assert repr(encoder("choice")) == "PrecomputedVectors(11 items, 7 numbers each)"
    assert isinstance(encoder("choice"), PrecomputedVectors)
