"""Two models as one ranker: what a person will come to, times how they will find it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError
from bayes_interest.events.read import read_events, read_items
from bayes_interest.html_table import html_table
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior import answers
from bayes_interest.ranking.pairs import compare_items
from bayes_interest.ranking.recommend import recommend
from bayes_interest.text.encoder import Encoder

OUTCOME, EXPOSURE = "outcome", "exposure"


class ExposedInterest:
    """Ranks by P(the next item is this one) x P(interest, given met).

    A bernoulli or rating model learns from outcomes of items that people met, and so puts first
    what would be liked by whoever met it, be it something that this person would never come to.
    Beside it stands a choice model of the same log, which knows what is met next. Probabilities
    and log probabilities of outcomes are those of the outcome model; rankings use the product.

    Args:
        outcome: a model of the family bernoulli or rating ("auto" may become one).
        exposure: a model of the family choice; by default one with the encoder of `outcome`.
        exposure_fit: how the choice model is fitted; by default as the outcome model.

    Raises:
        ConfigError: a model of the wrong family.
    """

    def __init__(
        self,
        outcome: InterestModel,
        exposure: InterestModel | None = None,
        exposure_fit: FitConfig | None = None,
    ) -> None:
        if exposure is None:
            exposure = InterestModel(ModelConfig(emission="choice"), outcome.encoder)
        if exposure.config.emission != "choice":
            raise ConfigError(
                f'exposure has emission="{exposure.config.emission}": expected a model with '
                'ModelConfig(emission="choice")'
            )
        _check_outcome(outcome.config)
        self.outcome, self.exposure, self.exposure_fit = outcome, exposure, exposure_fit

    @property
    def config(self) -> ModelConfig:
        """That of the outcome model."""
        return self.outcome.config

    @property
    def encoder(self) -> Encoder:
        """That of the outcome model."""
        return self.outcome.encoder

    def fit(
        self, events: object, items: object | None = None, config: FitConfig | None = None
    ) -> ExposedInterest:
        """Learn both from a log and item texts; returns self.

        The choice model reads values only to leave out events below a positive_threshold of its
        own. Errors are those of `InterestModel.fit`; both models then stay as they were.
        """
        log = read_events(events)
        table = None if items is None else read_items(items)
        outcome, exposure = copy.copy(self.outcome), copy.copy(self.exposure)
        outcome.fit(log, table, config)
        _check_outcome(outcome.posterior.config)
        exposure.fit(log, table, self.exposure_fit or config)
        self.outcome, self.exposure = outcome, exposure
        return self

    def update(
        self, events: object, items: object | None = None, *, learn_items: bool = False
    ) -> ExposedInterest:
        """Absorb new events into both models; see `InterestModel.update`. Returns self.

        `learn_items` is for the outcome model; the choice model's items stay.
        """
        outcome, exposure = copy.copy(self.outcome), copy.copy(self.exposure)
        outcome.update(events, items, learn_items=learn_items)
        exposure.update(events, items)
        self.outcome, self.exposure = outcome, exposure
        return self

    def interest(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        at: object = None,
        prob: float = 0.9,
    ) -> pd.DataFrame:
        """P(interest, given met): `InterestModel.interest` of the outcome model."""
        return self.outcome.interest(users, items, at, prob)

    def rank(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        by: str = "mean",
        at: object = None,
        candidates: Iterable[Any] | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 200,
        seed: int = 0,
        *,
        looks: int | None = None,
        rank_intervals: bool = False,
        abstain: float | None = None,
        fallback: str | Iterable[Any] = "popular",
        exploration: float = 1.0,
    ) -> pd.DataFrame:
        """Slates as `InterestModel.rank` gives them; for "diverse" looks are as for choice.

        `mean`, `sd`, `lower` and `upper` are of P(the next choice is this item among the allowed
        candidates, and it meets interest), from `n_draws` joint draws.
        """
        return recommend(
            self.outcome.posterior, users, k, by, at, candidates, exclude_seen, prob, n_draws, seed,
            self.exposure.posterior, looks=looks, rank_intervals=rank_intervals, abstain=abstain,
            fallback=fallback, exploration=exploration,
        )  # fmt: skip

    def compare_items(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        pairs: Iterable[Sequence[Any]] | None = None,
        at: object = None,
        prob: float = 0.9,
        n_draws: int = 400,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Which of two items stands higher by the product; see `InterestModel.compare_items`.

        `mean`, `sd`, `lower` and `upper` are of the difference of the products' logarithms, from
        `n_draws` joint draws.
        """
        return compare_items(
            self.outcome.posterior, users, items, pairs, at, prob, self.exposure.posterior,
            n_draws, seed,
        )  # fmt: skip

    def score_events(
        self,
        events: object,
        items: object | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 64,
        *,
        k: int | None = None,
        certainty: bool = False,
    ) -> pd.DataFrame:
        """Predict every event from its past; columns as in `InterestModel.score_events`.

        `mean` to `log_prob` are those of the outcome model; `rank`, `slate` and its
        certainty go by the product.
        """
        table = None if items is None else read_items(items)
        return answers.score_events(
            self.outcome.posterior, read_events(events), table, self.encoder, exclude_seen, prob,
            n_draws, k, self.exposure.posterior, certainty,
        )  # fmt: skip

    def save(self, folder: str | Path) -> None:
        """Write both models into subfolders; see `InterestModel.save`."""
        self.outcome.posterior, self.exposure.posterior  # noqa: B018  # both fitted, or nothing
        self.outcome.save(Path(folder) / OUTCOME)
        self.exposure.save(Path(folder) / EXPOSURE)

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "cpu", encoder: Encoder | None = None
    ) -> ExposedInterest:
        """Read what `save` wrote. Raises StorageError."""
        outcome = InterestModel.load(Path(folder) / OUTCOME, device, encoder)
        return cls(outcome, InterestModel.load(Path(folder) / EXPOSURE, device, encoder))

    def __repr__(self) -> str:
        return f"ExposedInterest({self.outcome!r}, {self.exposure!r})"

    def _repr_html_(self) -> str:
        """What both models are, for notebooks."""
        about = {"ranks by": "P(the next item is this one) x P(interest, given met)"}
        parts = (self.outcome._repr_html_(), self.exposure._repr_html_())
        return html_table("ExposedInterest: outcome, then exposure", about) + "".join(parts)


def _check_outcome(config: ModelConfig) -> None:
    if config.emission == "choice":
        raise ConfigError(
            "the outcome model is of the choice family, which knows no outcomes: expected "
            "bernoulli or rating. A choice model alone ranks by what comes next"
        )
