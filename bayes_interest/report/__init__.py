"""Pictures and the uncertainty report.

`bi.report(model, "report.html", users=None, events=None, items=None, themes=None, ...)` writes the
report: see `bayes_interest.report.html.report`, which it calls. The pictures are in `report.plots`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_interest.report.html import ReportFiles


class _Report(ModuleType):
    """This package under its public name is a function, too: `bi.report` and `bi.report.plots`
    are one word, and importing a picture must not hide the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> ReportFiles:
        """See `bayes_interest.report.html.report`."""
        from bayes_interest.report.html import report

        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _Report
