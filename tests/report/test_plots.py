from __future__ import annotations

import io

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plots import BLUE, plot_trajectory

TIMES = pd.date_range("2025-01-01", periods=7, freq="31D", tz="UTC")
ITEMS = ["i1", "i2", "i3", "i4", "i5"]


def path(items: list[str] = ITEMS, user: str = "u1") -> pd.DataFrame:
    tables = [
        pd.DataFrame(
            {
                "user_id": user,
                "item_id": item,
                "timestamp": TIMES,
                "mean": [0.1 * step + 0.01 * place for step in range(1, 8)],
                "lower": 0.05,
                "upper": 0.95,
            }
        )
        for place, item in enumerate(items)
    ]
    return pd.concat(tables, ignore_index=True)


def events() -> pd.DataFrame:
    return pd.DataFrame(
        {"item_id": ["i1", "i1", "i2"], "timestamp": TIMES[:3], "value": [1.0, 0.0, 1.0]}
    )


def test_a_panel_per_item_with_the_mean_as_its_line() -> None:
    axes = plot_trajectory(path(), labels={"i2": "two"})
    assert [ax.get_title(loc="left") for ax in axes] == ["i1", "two", "i3", "i4", "i5"]
    (line,) = axes[1].get_lines()
    assert line.get_color() == BLUE
    assert list(line.get_ydata()) == path(["i0", "i2"])["mean"].tolist()[7:]
    assert all(ax.get_ylim() == (0.0, 1.0) for ax in axes)


def test_rows_in_any_order_draw_the_same_line() -> None:
    mixed = path(["i1"]).sample(frac=1.0, random_state=3)
    (ax,) = plot_trajectory(mixed)
    assert list(ax.get_lines()[0].get_ydata()) == path(["i1"])["mean"].tolist()


def test_truth_is_drawn_where_it_is_known() -> None:
    truth = path(["i2"]).rename(columns={"mean": "probability"})
    axes = plot_trajectory(path(), truth)
    assert [len(ax.get_lines()[1].get_xdata()) for ax in axes] == [0, 7, 0, 0, 0]


def test_events_are_ticks_at_the_edge_of_their_outcome() -> None:
    axes = plot_trajectory(path(), events=events())
    top, bottom = axes[0].collections[1:]
    assert [len(top.get_segments()), len(bottom.get_segments())] == [1, 1]
    assert top.get_segments()[0].max() > bottom.get_segments()[0][:, 1].max()
    assert len(axes[1].collections[2].get_segments()) == 0


def test_the_key_names_what_is_drawn() -> None:
    truth = path().rename(columns={"mean": "probability"})
    figure = plot_trajectory(path(), truth, events())[0].figure
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "mean interest",
        "interval",
        "truth",
        "engaged (top edge)",
        "not engaged (bottom edge)",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_number_of_panels_can_be_written(count: int) -> None:
    axes = plot_trajectory(path(ITEMS[:count]))
    assert len(axes) == count
    target = io.BytesIO()
    axes[0].figure.savefig(target, format="png")
    assert target.getvalue().startswith(b"\x89PNG")


def test_given_axes_are_used_and_pyplot_is_left_alone() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    mine = Figure().subplots()
    assert plot_trajectory(path(["i1"]), ax=mine) == [mine]
    plot_trajectory(path())
    assert pyplot.get_fignums() == before


def test_two_users_are_refused() -> None:
    with pytest.raises(InputError, match="of one user, got 2"):
        plot_trajectory(pd.concat([path(), path(user="u2")]))


def test_many_items_do_not_fit_one_axes() -> None:
    with pytest.raises(InputError, match="room for one item, the trajectory has 5"):
        plot_trajectory(path(), ax=Figure().subplots())
