"""The waterfall shows every part and ends at the score."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.ranking.explain import Explanation
from bayes_interest.report.plots import BLUE, plot_explanation

DAYS = pd.date_range("2025-01-01", periods=12, freq="D", tz="UTC")


def explanation(n_events: int = 3) -> Explanation:
    """Events of -1, +2, -3, ... hundredths, and two named parts."""
    parts = [(-1.0) ** at * 0.01 * at for at in range(1, n_events + 1)]
    events = pd.DataFrame(
        {"source": "event", "name": "past event", "item_id": [f"i{at}" for at in range(n_events)],
         "timestamp": DAYS[:n_events], "kind": "", "value": 1.0, "contribution": parts}
    )  # fmt: skip
    others = pd.DataFrame(
        {"source": ["popularity", "prior", "popularity"], "contribution": [0.5, -0.75, 0.25]}
    )
    table = pd.concat((events, others), ignore_index=True)
    return Explanation(
        "u1", "i0", DAYS[-1], "bernoulli", "engages with", float(table["contribution"].sum()),
        0.4321, 0.2, 0.7, 0.9, False, table, pd.DataFrame({"source": ["state"], "variance": [1.0],
        "share": [1.0]}), pd.DataFrame(), {"i1": "a title"},
    )  # fmt: skip


def bars(panel: Any) -> list[tuple[float, float]]:
    """From and to of each bar, top to bottom."""
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in panel.patches]


def names(panel: Any) -> list[str]:
    return [label.get_text() for label in panel.get_yticklabels()]


def test_each_part_starts_where_the_last_ended_and_the_total_is_the_score() -> None:
    told = explanation()
    panel = plot_explanation(told)
    *parts, total = bars(panel)
    assert parts[0][0] == 0.0
    for one, following in pairwise(parts):
        assert one[1] == pytest.approx(following[0])
    assert parts[-1][1] == pytest.approx(told.score)
    assert total == pytest.approx((0.0, told.score))
    widths = [end - begin for begin, end in parts]
    assert sorted(widths) == pytest.approx(sorted([0.75, -0.75, -0.01, 0.02, -0.03]))
    assert names(panel)[-1] == "score (43 %)"


def test_names_are_titles_with_dates_and_words() -> None:
    panel = plot_explanation(explanation())
    assert "a title, 2025-01-02, engaged" in names(panel)
    assert "i0, 2025-01-01, engaged" in names(panel)
    renamed = plot_explanation(explanation(), labels={"i0": "other"})
    assert "other, 2025-01-01, engaged" in names(renamed)
    assert renamed.get_title(loc="right") == "other, for user u1"


def test_rising_and_falling_parts_differ_without_colour() -> None:
    panel = plot_explanation(explanation())
    for bar, (begin, end) in zip(panel.patches[:-1], bars(panel)[:-1], strict=True):
        assert (bar.get_hatch() is not None) == (end < begin)
    rising = [bar for bar in panel.patches[:-1] if bar.get_hatch() is None]
    assert {tuple(np.round(bar.get_facecolor(), 3)) for bar in rising} == {
        tuple(np.round([int(BLUE[at : at + 2], 16) / 255 for at in (1, 3, 5)] + [1.0], 3))
    }


def test_small_parts_share_a_bar() -> None:
    told = explanation(12)
    panel = plot_explanation(told, top=4)
    assert len(panel.patches) == 4 + 1 + 1
    assert names(panel)[4] == "10 smaller parts"
    assert bars(panel)[4][1] == pytest.approx(told.score)
    with pytest.raises(InputError, match="top=0"):
        plot_explanation(told, top=0)


def test_it_draws_into_given_axes_and_saves() -> None:
    figure = Figure()
    panel = figure.subplots()
    assert plot_explanation(explanation(), ax=panel) is panel
    out = io.BytesIO()
    figure.savefig(out, format="png")
    assert out.getbuffer().nbytes > 1000
