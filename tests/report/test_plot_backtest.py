"""Pictures of backtests draw the figures of the table, and only those."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plots import SERIES, plot_backtest, plot_history_curve

BANDS = ["0", "1-2", "3-9", "10-29", "30+"]


def table() -> pd.DataFrame:
    rows = []
    for m, model in enumerate(["ours", "popular", "random"]):
        for s, stratum in enumerate(["all", *(f"history={band}" for band in BANDS)]):
            for k in (5, 10, pd.NA):
                value = 0.5 - 0.1 * m + 0.01 * s + (0.0 if k is pd.NA else 0.001 * k)
                metric = "auc" if k is pd.NA else "ndcg"
                rows.append((model, metric, k, stratum, value, value - 0.02, value + 0.03, 7))
    columns = ["model", "metric", "k", "stratum", "value", "lower", "upper", "n"]
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64"})


def test_a_point_and_an_interval_per_model() -> None:
    ax = plot_backtest(table(), "ndcg", k=10)
    (points,) = ax.get_lines()
    assert points.get_xdata().tolist() == pytest.approx([0.51, 0.41, 0.31])
    assert list(points.get_ydata()) == [0, 1, 2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ours", "popular", "random"]
    ends = [path.vertices[:, 0] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(ends, [[0.49, 0.54], [0.39, 0.44], [0.29, 0.34]])
    assert ax.get_xlabel() == "ndcg at 10"
    low, high = ax.get_ylim()
    assert low > high  # the first model is on top


def test_k_and_metric_choose_the_figures() -> None:
    (points,) = plot_backtest(table(), "ndcg", k=5).get_lines()
    assert points.get_xdata()[0] == pytest.approx(0.505)
    ax = plot_backtest(table(), "auc")
    assert ax.get_lines()[0].get_xdata()[0] == pytest.approx(0.5)
    assert ax.get_xlabel() == "auc"


def test_strata_differ_in_colour_and_mark() -> None:
    ax = plot_backtest(table(), "auc", stratum=["history=0", "history=30+"])
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["history=0", "history=30+"]
    assert (np.array(first.get_ydata()) < np.array(second.get_ydata())).all()


def test_differences_have_a_line_at_zero() -> None:
    pairs = table().assign(model=lambda t: t["model"] + " - base")
    assert [0.0, 0.0] in [list(line.get_xdata()) for line in plot_backtest(pairs).get_lines()]


def test_the_history_curve_has_a_line_and_a_band_per_model() -> None:
    ax = plot_history_curve(table().sample(frac=1.0, random_state=1).sort_values("model"), "auc")
    lines = ax.get_lines()
    assert [line.get_label() for line in lines] == ["ours", "popular", "random"]
    assert lines[1].get_ydata().tolist() == pytest.approx([0.41, 0.42, 0.43, 0.44, 0.45])
    assert len(ax.collections) == 3
    assert [label.get_text() for label in ax.get_xticklabels()] == BANDS
    assert len({line.get_linestyle() for line in lines} | {line.get_marker() for line in lines}) > 3


def test_bands_that_are_missing_leave_a_gap_in_place() -> None:
    part = table()[lambda t: t["stratum"] != "history=1-2"]
    (line, *_) = plot_history_curve(part, "ndcg", k=5).get_lines()
    assert line.get_xdata().tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("plot", [plot_backtest, plot_history_curve])
def test_axes_can_be_given_and_the_figure_is_written(plot: object) -> None:
    ax = Figure().subplots()
    assert plot(table(), ax=ax) is ax  # type: ignore[operator]
    target = io.BytesIO()
    plot(table()).figure.savefig(target)  # type: ignore[operator]
    assert target.tell() > 1000


def test_series_differ_in_every_way() -> None:
    assert all(len(set(part)) == len(SERIES) for part in zip(*SERIES, strict=True))


def test_missing_figures_are_named() -> None:
    with pytest.raises(InputError, match="no metric 'map', only ndcg, auc"):
        plot_backtest(table(), "map")
    with pytest.raises(InputError, match=r"at k = \[5, 10\], not at 7"):
        plot_backtest(table(), "ndcg", k=7)
    with pytest.raises(InputError, match="needs k="):
        plot_backtest(table(), "ndcg", k=None)
    with pytest.raises(InputError, match="no stratum 'user=cold'"):
        plot_backtest(table(), stratum=["all", "user=cold"])
    with pytest.raises(InputError, match="no strata of history"):
        plot_history_curve(table()[lambda t: t["stratum"] == "all"])
