"""The reliability picture draws the curve of its stratum, and only that."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayes_interest.errors import InputError
from bayes_interest.report.reliability import plot_reliability


def curve() -> pd.DataFrame:
    rows = [
        (model, stratum, bin_, 0.1 + 0.2 * bin_, 0.1 + 0.15 * bin_ + shift, 0.0, 1.0, 9)
        for model, shift in (("raw", 0.0), ("mapped", 0.05))
        for stratum in ("all", "item=cold")
        for bin_ in range(4)
    ]
    columns = ["model", "stratum", "bin", "mean_predicted", "observed", "lower", "upper", "n"]
    return pd.DataFrame(rows, columns=columns)


def test_a_line_per_model_beside_the_diagonal() -> None:
    ax = plot_reliability(curve().sample(frac=1.0, random_state=0).sort_values("model"))
    diagonal, first, second = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert [first.get_label(), second.get_label()] == ["mapped", "raw"]
    np.testing.assert_allclose(second.get_xdata(), [0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(second.get_ydata(), [0.1, 0.25, 0.4, 0.55])
    assert first.get_marker() != second.get_marker()
    ends = [path.vertices[:, 1] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(ends, [[0.0, 1.0]] * 4)


def test_own_axes_and_strata() -> None:
    ax = Figure().subplots()
    assert plot_reliability(curve(), "item=cold", ax=ax) is ax
    assert len(ax.get_lines()) == 3
    ax.figure.savefig(io.BytesIO(), format="png")
    with pytest.raises(InputError, match="no stratum 'item=hot', only all, item=cold"):
        plot_reliability(curve(), "item=hot")
