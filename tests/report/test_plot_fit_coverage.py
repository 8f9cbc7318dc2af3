"""Losses, drift, coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.plots import plot_coverage, plot_drift, plot_loss
from tests.fitted import model


def test_both_losses_and_the_epoch_that_was_kept() -> None:
    frame = pd.DataFrame(
        {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "held_back_loss": [3.0, np.nan, 2.5]}
    )
    frame.attrs["best_epoch"] = 3
    ax = plot_loss(frame)
    train, held, kept = ax.get_lines()
    assert list(train.get_ydata()) == [3.0, 2.0, 1.0]
    assert list(held.get_xdata()) == [1, 3]
    assert list(kept.get_xdata()) == [3, 3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "training events", "held-back events", "epoch kept",
    ]  # fmt: skip
    silent = frame.assign(held_back_loss=np.nan)
    silent.attrs = {}
    assert len(plot_loss(silent).get_lines()) == 1


def test_the_report_of_a_fit_can_be_drawn() -> None:
    report = model("bernoulli").fit_report()
    ax = plot_loss(report, ax=Figure().subplots())
    assert list(ax.get_lines()[0].get_ydata()) == report["loss"].tolist()
    with pytest.raises(InputError, match="no column 'loss': expected what fit_report returns"):
        plot_loss(report.drop(columns="loss"))


def summary(**more: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "parameter": ["intercept", "drift_scale", "drift_scale"], "dimension": [np.nan, 0, 1],
            "mean": [5.0, 0.02, 0.1], "unit": ["logits", "per sqrt day", "per sqrt day"], **more,
        }
    )  # fmt: skip


def test_drift_scales_the_fastest_on_top() -> None:
    ax = plot_drift(summary(lower=[4.0, 0.01, np.nan], upper=[6.0, 0.03, np.nan]))
    (points,) = ax.get_lines()
    assert list(points.get_xdata()) == [0.1, 0.02]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["dimension 1", "dimension 0"]
    (bar,) = ax.collections[0].get_paths()  # one has no interval
    np.testing.assert_allclose(bar.vertices, [(0.01, 1.0), (0.03, 1.0)])
    assert ax.get_xlabel() == "drift scale (per sqrt day)"
    plain = plot_drift(summary(), labels={1: "fast"})
    assert len(plain.collections) == 0
    assert plain.get_yticklabels()[0].get_text() == "fast"
    with pytest.raises(InputError, match='no rows of "drift_scale"'):
        plot_drift(summary().head(1))


def coverage(**more: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"prob": [0.9, 0.5], "coverage": [0.8, 0.45], "lower": [0.75, 0.4], "upper": [0.85, 0.5]}
    ).assign(**more)


def test_coverage_against_what_is_claimed() -> None:
    ax = plot_coverage(coverage())
    diagonal, line = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert list(line.get_xdata()) == [0.5, 0.9]
    assert list(line.get_ydata()) == [0.45, 0.8]
    ends = [path.vertices[:, 1].tolist() for path in ax.collections[0].get_paths()]
    assert ends == [[0.4, 0.5], [0.75, 0.85]]


def test_a_line_per_model_and_kind_of_group() -> None:
    groups = pd.concat(
        [
            coverage(model=name, stratum="all", groups=kind, dependence="none")
            for name in ("ours", "other")
            for kind in ("user", "item-month")
        ]
    )
    labels = [text.get_text() for text in plot_coverage(groups).get_legend().get_texts()]
    assert labels == [
        "as claimed", "ours, user", "ours, item-month", "other, user", "other, item-month"
    ]  # fmt: skip
    bare = plot_coverage(coverage(lower=np.nan, upper=np.nan))
    assert len(bare.get_lines()) == 2
    with pytest.raises(InputError, match="no column 'coverage'"):
        plot_coverage(coverage().drop(columns="coverage"))
