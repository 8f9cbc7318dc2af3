"""Reports of small models, each written once per process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pandas as pd

from bayes_interest.config import EmissionName
from bayes_interest.interest_model import InterestModel
from bayes_interest.report.html import ReportFiles, report
from tests.fitted import model, parts, simulation

EVIL = "<script>alert(1)</script>"
FORMULA = '=HYPERLINK("http://example.org")'
MATHS = r"$\frac{1}$ | a_b * [c](d)"
THEMES = {f"<b>odd</b> {EVIL}": ["i00000", "i00001", "i00002"], "$5 & up": ["i00003", "i00004"]}
PLAIN_THEMES = {"odd": ["i00000", "i00001"], "even": ["i00002", "i00003"]}


def titles(emission: EmissionName) -> pd.DataFrame:
    """An item table whose titles are made to do harm, each in every slate."""
    ids = simulation(emission).vectors["item_id"]
    bad = [EVIL, FORMULA, MATHS]
    return pd.DataFrame(
        {"item_id": ids, "title": [f"{bad[place % 3]} {place}" for place in range(len(ids))]}
    )


@cache
def plain() -> ReportFiles:
    """The least report: one user, no themes, no later events."""
    path = Path(tempfile.mkdtemp()) / "r.html"
    return report(model("bernoulli"), path, users=["u00001"], themes={}, k=3)


@cache
def written(emission: EmissionName) -> tuple[InterestModel, ReportFiles]:
    """A report of three users with later events, titles and themes; the folder stays."""
    fitted = model(emission)
    path = Path(tempfile.mkdtemp()) / "deep" / "report.html"
    items = titles(emission)
    files = report(
        fitted, path, users=["u00001", "u00004"], events=parts(emission)[1],
        labels=dict(zip(items["item_id"], items["title"], strict=True)), themes=THEMES, k=4,
        seed=3, title=f"A title {EVIL}",
    )  # fmt: skip
    return fitted, files
