"""The pictures of all users and all items."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plots import plot_catalogue, plot_population

RNG = np.random.default_rng(4)


def users(count: int = 7) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(count)], "n_events": range(count),
            "slate_certainty": np.linspace(0.9, 0.2, count), "mean_sd": np.linspace(0.5, 2, count),
            "drifted": RNG.permutation(count) / 10.0,
        }
    )  # fmt: skip


@pytest.mark.parametrize("by", ["slate_certainty", "mean_sd"])
def test_a_point_per_user_and_names_of_those_who_stand_out(by: str) -> None:
    table = users()
    ax = plot_population(table, by=by, n_named=2, labels={"u6": "Ann"})  # type: ignore[arg-type]
    points = ax.collections[0]
    np.testing.assert_allclose(points.get_offsets(), table[[by, "drifted"]])
    np.testing.assert_allclose(points.get_array(), [1, 1, 2, 3, 4, 5, 6])
    far = table.nlargest(2, "drifted")["user_id"]
    wanted = {"Ann" if name == "u6" else name for name in {*far, "u5", "u6"}}  # the least certain
    assert {text.get_text() for text in ax.texts} == wanted
    medians = [line.get_xdata()[0] for line in ax.get_lines()][:1]
    np.testing.assert_allclose(medians, [table[by].median()])


@pytest.mark.parametrize("count", [1, 200])
def test_any_number_of_users_can_be_written(count: int) -> None:
    ax = plot_population(users(count), ax=Figure(layout="constrained").subplots())
    ax.figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert len(ax.collections[0].get_offsets()) == count


def items(count: int = 6, of_user: bool = True) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(count)], "x": RNG.normal(size=count),
            "y": np.arange(count, dtype=float), "n_events": np.arange(count) * 25,
        }
    )  # fmt: skip
    if not of_user:
        return table
    mean = np.linspace(0.2, 0.8, count)
    return table.assign(mean=mean, lower=mean - 0.1, upper=mean + np.linspace(-0.1, 0.9, count))


def test_items_lie_where_the_table_says_and_grow_with_their_events() -> None:
    table = items(of_user=False)
    ax = plot_catalogue(table, n_named=2, labels={"i5": "Jazz"})
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets(), table[["x", "y"]])
    assert (np.diff(points.get_sizes()) > 0).all()
    assert [text.get_text() for text in ax.texts] == ["Jazz", "i4"]  # with most events


def test_interest_is_the_colour_and_uncertainty_the_hole() -> None:
    table = items()
    ax = plot_catalogue(table.sample(frac=1.0, random_state=1), n_named=1)
    (rings,) = ax.collections
    np.testing.assert_allclose(rings.get_offsets(), table[["x", "y"]])  # most interest on top
    edge, size = np.asarray(rings.get_linewidths()), np.sqrt(rings.get_sizes())
    hole = (size - edge) / (size + edge)  # of the outer diameter
    np.testing.assert_allclose(hole, 0.7 * (table["upper"] - table["lower"]), atol=1e-9)
    bright = rings.get_edgecolors()[:, :3].mean(1)
    assert (np.diff(bright) > 0).all()
    assert [text.get_text() for text in ax.texts] == ["i5"]
    (key,) = ax.figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "0 events", "31 events", "125 events", "full disc: sure; this ring: interval 100 % wide",
    ]  # fmt: skip


def test_small_probabilities_have_holes_relative_to_the_widest() -> None:
    table = items()
    table[["mean", "lower", "upper"]] /= 1_000.0
    (rings,) = plot_catalogue(table).collections
    edge, size = np.asarray(rings.get_linewidths()), np.sqrt(rings.get_sizes())
    np.testing.assert_allclose(((size - edge) / (size + edge))[-1], 0.7)


def test_labels_that_would_cover_each_other_are_left_out() -> None:
    table = items(of_user=False).assign(x=0.0, y=[0.0, 0.001, 0.5, 0.501, 1.0, 1.001])
    said = [text.get_text() for text in plot_catalogue(table, n_named=6).texts]
    assert said == ["i5", "i3", "i1"]
    assert not list(plot_catalogue(table, n_named=0).texts)


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_items_can_be_written(count: int) -> None:
    for of_user in (True, False):
        ax = plot_catalogue(items(count, of_user), ax=Figure(layout="constrained").subplots())
        ax.figure.savefig(io.BytesIO(), format="png", dpi=40)
        assert len(ax.collections[0].get_offsets()) == count


def test_many_items_have_smaller_marks() -> None:
    sizes = [plot_catalogue(items(n)).collections[0].get_sizes().max() for n in (40, 400, 800)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)  # holes differ a little
    assert sizes[2] < 0.6 * sizes[1]


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="by='drifted': expected one of slate_certainty, mean_sd"):
        plot_population(users(), by="drifted")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n_named=-1: expected a whole number >= 0"):
        plot_population(users(), n_named=-1)
    with pytest.raises(InputError, match="n_named=True: expected a whole number >= 0"):
        plot_catalogue(items(), n_named=True)
    with pytest.raises(InputError, match="no column 'drifted': expected what population returns"):
        plot_population(users().drop(columns="drifted"))
    with pytest.raises(InputError, match="no column 'upper'"):
        plot_catalogue(items().drop(columns="upper"))
    with pytest.raises(InputError, match="the table is empty"):
        plot_catalogue(items().head(0))
