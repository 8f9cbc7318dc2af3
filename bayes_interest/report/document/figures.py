"""A matplotlib figure as a picture of the report: SVG or PNG, whichever takes less room."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from bayes_interest.report.document.blocks import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    AxesType = Axes
else:
    AxesType = Any

SHARP_DPI = 170
CSS_DPI = 96
SMALL_BYTES = 80_000
"""An SVG up to this size is taken as it is; a PNG would hardly be smaller."""


def picture(name: str, axes: AxesType | list[AxesType], alt: str, caption: str = "") -> Figure:
    """The figure that holds these axes; the same axes give the same bytes."""
    from matplotlib import rc_context

    first = axes[0] if isinstance(axes, list) else axes
    figure: Any = first.figure
    width, height = (math.ceil(CSS_DPI * inches) for inches in figure.get_size_inches())
    vector, raster = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    if vector.tell() <= SMALL_BYTES:
        return Figure(name, vector.getvalue(), "svg", width, height, alt, caption)
    figure.set_layout_engine("none")  # it is laid out already, which takes most of the time
    figure.savefig(raster, format="png", dpi=SHARP_DPI, metadata={"Software": None})
    if vector.tell() <= raster.tell():
        return Figure(name, vector.getvalue(), "svg", width, height, alt, caption)
    return Figure(name, raster.getvalue(), "png", width, height, alt, caption)
