"""What the ribbons show."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plot_themes import percent
from bayes_interest.report.plots import BLUE, plot_themes

TIMES = pd.date_range("2025-01-01", periods=5, freq="31D", tz="UTC")


def path(ends: dict[str, float], user: str = "u1", steps: int = 5) -> pd.DataFrame:
    tables = []
    for name, end in ends.items():
        mean = np.linspace(0.2, end, 5)[-steps:]
        tables.append(
            pd.DataFrame(
                {
                    "user_id": user, "theme": name, "timestamp": TIMES[-steps:], "mean": mean,
                    "lower": mean - 0.1, "upper": mean + 0.1,
                }
            )
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def lanes(ax) -> dict[str, tuple[np.ndarray, np.ndarray]]:  # type: ignore[no-untyped-def]
    """Theme to the heights of its mean and of its ribbon within its lane, 0 to 1."""
    names = [text.get_text() for text in ax.get_yticklabels()]
    floors = np.asarray(ax.get_yticks()) - 0.5
    lines = [line for line in ax.get_lines() if line.get_color() == BLUE]
    bands = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    return {
        name: (np.asarray(line.get_ydata()) - floor, np.sort(np.unique(band.round(9))) - floor)
        for name, floor, line, band in zip(names, floors, lines, bands, strict=True)
    }


def test_a_lane_per_theme_the_highest_at_the_end_on_top() -> None:
    ax = plot_themes(path({"low": 0.3, "high": 0.8, "middle": 0.5}))
    found = lanes(ax)
    assert list(found) == ["high", "middle", "low"]
    assert list(ax.get_yticks()) == sorted(ax.get_yticks(), reverse=True)
    # 10 % to 90 % are drawn on a scale from 0 to 100 %.
    np.testing.assert_allclose(found["high"][0], np.linspace(0.2, 0.8, 5), atol=1e-9)
    np.testing.assert_allclose(found["low"][1][[0, -1]], [0.1, 0.4], atol=1e-9)
    assert ax.get_title(loc="left") == "interests of u1"
    said = [text.get_text() for text in ax.texts]
    assert "80 %  (70 % to 90 %)" in said
    assert {"0 %", "100 %"} <= set(said)


def test_small_probabilities_fill_their_lanes() -> None:
    table = path({"a": 0.8, "b": 0.5})
    table[["mean", "lower", "upper"]] /= 100.0
    ax = plot_themes(table)
    assert lanes(ax)["a"][0][-1] > 0.6
    assert "0.80 %  (0.70 % to 0.90 %)" in [text.get_text() for text in ax.texts]


def test_rows_in_any_order_and_labels_and_own_axes() -> None:
    table = path({"a": 0.3, "b": 0.6})
    mine = Figure().subplots()
    ax = plot_themes(table.sample(frac=1.0, random_state=1), ax=mine, labels={"b": "Beethoven"})
    assert ax is mine
    found = lanes(ax)
    assert list(found) == ["Beethoven", "a"]
    np.testing.assert_allclose(found["Beethoven"][0], lanes(plot_themes(table))["b"][0])


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (1, 5), (40, 5)])
def test_one_moment_and_many_themes_can_be_seen(count: int, steps: int) -> None:
    ax = plot_themes(path({f"t{n}": 0.2 + n / 100 for n in range(count)}, steps=steps))
    line = next(line for line in ax.get_lines() if line.get_color() == BLUE)
    assert (line.get_marker() == "o") == (steps == 1)
    assert (ax.collections[0].get_linewidth()[0] > 0) == (steps == 1)
    assert np.ptp(ax.get_xlim()) == (2.0 if steps == 1 else 124.0)  # days
    ax.figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert ax.figure.get_size_inches()[1] == pytest.approx(0.8 + 0.5 * count)


def test_percentages_have_the_digits_they_need() -> None:
    found = [percent(p) for p in (1.0, 0.431, 0.0996, 0.043, 0.0012, 0.00034, 1e-9, 0.0)]
    assert found == ["100 %", "43 %", "10 %", "4.3 %", "0.12 %", "0.034 %", "< 0.0001 %", "0 %"]


def test_what_is_refused() -> None:
    both = pd.concat([path({"a": 0.3}), path({"a": 0.3}, user="u2")])
    with pytest.raises(InputError, match="expected the themes of one user, got 2"):
        plot_themes(both)
    items = path({"a": 0.3}).rename(columns={"theme": "item_id"})
    with pytest.raises(InputError, match=r"no column 'theme': expected what trajectory\(themes=\)"):
        plot_themes(items)
    with pytest.raises(InputError, match="the table is empty"):
        plot_themes(path({"a": 0.3}).head(0))
