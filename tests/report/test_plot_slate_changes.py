"""The forest plots: slates and changes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plots import BLUE, GREY, plot_changes, plot_slate


def slate(count: int = 3, user: str = "u1", **more: object) -> pd.DataFrame:
    mean = np.linspace(0.8, 0.3, count)
    return pd.DataFrame(
        {
            "user_id": user, "rank": range(1, count + 1), "mean": mean,
            "item_id": [f"i{n}" for n in range(count)],
            "lower": mean - 0.2, "upper": mean + 0.15, "p_top_k": mean / 2, **more,
        }
    )  # fmt: skip


def bars(lines: Any) -> np.ndarray:
    """left, right and height of every bar."""
    ends = [path.vertices for path in lines.get_paths()]
    return np.array([(one[0, 0], one[1, 0], one[0, 1]) for one in ends])


def test_a_slate_is_drawn_from_top_to_bottom() -> None:
    ax = plot_slate(slate().sample(frac=1.0, random_state=0), labels={"i1": "Jazz"})
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1. i0", "2. Jazz", "3. i2"]
    assert ax.yaxis_inverted()
    (points,) = ax.get_lines()
    np.testing.assert_allclose(points.get_xdata(), [0.8, 0.55, 0.3])
    assert list(points.get_ydata()) == [0, 1, 2]
    np.testing.assert_allclose(
        bars(ax.collections[0])[:, :2], [(0.6, 0.95), (0.35, 0.7), (0.1, 0.45)]
    )
    assert [text.get_text() for text in ax.texts] == ["40 %", "28 %", "15 %", "P(in the top 3)"]
    assert ax.get_xlim() == (0.0, 1.0)
    assert ax.get_title(loc="left") == "slate of u1"


def test_a_slate_says_how_sure_it_is_and_whose() -> None:
    own = plot_slate(slate(slate_certainty=0.42, basis="own interest"))
    assert own.get_title(loc="left") == "slate of u1 (certainty 42 %)"
    other = plot_slate(slate(slate_certainty=0.1, basis="popular"))
    said = other.get_title(loc="left")
    assert said == "slate of u1 (certainty 10 %; too little is known: popular)"


def test_small_probabilities_get_a_scale_of_their_own() -> None:
    table = slate()
    table[["mean", "lower", "upper"]] /= 100.0
    ax = plot_slate(table)
    assert ax.get_xlim()[0] == 0.0
    assert 0.0095 <= ax.get_xlim()[1] < 0.02


@pytest.mark.parametrize("count", [1, 40])
def test_any_length_can_be_written(count: int) -> None:
    long = {
        f"i{n}": "A very long title of a thing that nobody can remember " * 3 for n in range(40)
    }
    ax = plot_slate(slate(count), labels=long)
    assert len(ax.get_yticks()) == count
    ax.figure.savefig(io.BytesIO(), format="png", dpi=40)
    left = min(text.get_window_extent().x0 for text in ax.get_yticklabels())
    assert left >= 0.0  # nothing is cut off
    assert plot_slate(slate(count), ax=(mine := Figure().subplots())) is mine


def test_slates_of_two_users_are_refused() -> None:
    with pytest.raises(InputError, match="expected the slate of one user, got 2"):
        plot_slate(pd.concat([slate(), slate(user="u2")]))
    with pytest.raises(InputError, match="no column 'p_top_k': expected what rank returns"):
        plot_slate(slate().drop(columns="p_top_k"))


def moved(key: str = "theme", users: tuple[str, ...] = ("u1",)) -> pd.DataFrame:
    rows = [
        (user, name, change, change - half, change + half, risen)
        for user in users
        for name, change, half, risen in (
            ("flat", 0.1, 0.5, 0.6), ("up", 1.0, 0.4, 0.99), ("down", -0.8, 0.3, 0.004),
        )
    ]  # fmt: skip
    columns = ["user_id", key, "change", "lower", "upper", "p_risen"]
    table = pd.DataFrame(rows, columns=columns)
    span = pd.to_datetime(["2025-06-01", "2025-12-31"], utc=True)
    return table.assign(since=span[0], at=span[1])


def test_changes_point_where_they_went_and_are_hollow_where_unsure() -> None:
    ax = plot_changes(moved())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["up", "flat", "down"]
    risen, fallen, unsure, zero = ax.get_lines()
    for line, at, change, mark in (
        (risen, 0, 1.0, ">"), (fallen, 2, -0.8, "<"), (unsure, 1, 0.1, "o"),
    ):  # fmt: skip
        assert (list(line.get_ydata()), list(line.get_xdata())) == ([at], [change])
        assert line.get_marker() == mark
    assert risen.get_markerfacecolor() == BLUE
    assert unsure.get_markerfacecolor() == "white"
    assert unsure.get_color() == GREY
    assert list(zero.get_xdata()) == [0.0, 0.0]
    np.testing.assert_allclose(bars(ax.collections[0]), [(0.6, 1.4, 0.0)])
    assert [text.get_text() for text in ax.texts] == ["99 %", "60 %", "0.40 %", "P(risen)"]
    assert ax.get_title(loc="left") == "changes of u1, 2025-06-01 to 2025-12-31"


def test_only_the_surest_changes_are_drawn_and_the_rest_counted() -> None:
    ax = plot_changes(moved("item_id"), top=2, labels={"up": "Up!"})
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Up!", "down"]
    assert ax.get_title(loc="left").replace("\n", " ").endswith("2 of 3")


def test_changes_of_several_users_name_them() -> None:
    ax = plot_changes(moved(users=("u1", "u2")))
    assert "up  [u2]" in [text.get_text() for text in ax.get_yticklabels()]
    assert ax.get_title(loc="left").startswith("changes of several users")


def test_no_sure_change_is_a_picture_too() -> None:
    ax = plot_changes(moved().head(0))
    assert [text.get_text() for text in ax.texts] == ["no change whose interval leaves out zero"]
    with pytest.raises(InputError, match="top=0: expected a whole number >= 1"):
        plot_changes(moved(), top=0)
    with pytest.raises(InputError, match="no column 'change': expected what changes returns"):
        plot_changes(moved().drop(columns="change"))
