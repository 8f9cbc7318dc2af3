"""The questions of `InterestModel` that a report asks; the class itself stands a layer above."""

from __future__ import annotations

from typing import Any, Protocol

import pandas as pd

from bayes_interest.posterior.posterior import Posterior
from bayes_interest.text.encoder import Encoder


class Door(Protocol):
    """A fitted `InterestModel`."""

    encoder: Encoder

    @property
    def posterior(self) -> Posterior:
        """The fitted state."""

    def fit_report(self) -> pd.DataFrame:
        """See `InterestModel`, as for the rest."""

    def interest(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def rank(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def changes(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def trajectory(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def score_events(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def diagnose(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def summary(self, prob: float = 0.9) -> pd.DataFrame: ...  # noqa: D102

    def explain(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102

    def population(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102

    def catalogue_map(self, *args: Any, **kwargs: Any) -> pd.DataFrame: ...  # noqa: D102
