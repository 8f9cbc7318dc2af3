"""Picture of ranks: a panel per quantity, and the wrong one is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from bayes_interest.report.plot_sbc import plot_sbc


def test_a_panel_per_quantity_with_its_curve() -> None:
    rng = np.random.default_rng(0)
    columns = {"right": rng.integers(0, 16, 300), "wrong": rng.integers(0, 9, 300)}
    ranks = pd.concat(
        [
            pd.DataFrame({"run": range(300), "quantity": name, "rank": rank, "n_draws": 15})
            for name, rank in columns.items()
        ]
    )
    axes = plot_sbc(ranks)
    assert [axis.get_title() for axis in axes] == ["right", "wrong (outside)"]
    curve = axes[1].lines[-1].get_ydata()
    below = np.array([(columns["wrong"] <= value).mean() for value in range(15)])
    assert np.asarray(curve) == pytest.approx(below - np.arange(1, 16) / 16)
    wider = plot_sbc(ranks, prob=0.5)[0].collections[0].get_paths()[0].get_extents().height
    assert wider < axes[0].collections[0].get_paths()[0].get_extents().height
    plt.close("all")
