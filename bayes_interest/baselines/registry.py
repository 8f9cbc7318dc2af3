"""The rivals that suit a family, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bayes_interest.baselines.base import Baseline
from bayes_interest.baselines.bias import UserItemBias
from bayes_interest.baselines.counts import DecayedPopularity, OwnMostFrequent, Popularity
from bayes_interest.baselines.factorization import MatrixFactorization
from bayes_interest.baselines.features import FeatureBayes
from bayes_interest.baselines.neural import InterestStrengthNet
from bayes_interest.baselines.rates import ItemMean, RunningRate
from bayes_interest.baselines.sequence import GRUInterest, LSTMInterest, SASRecInterest
from bayes_interest.baselines.text import RecencyWeightedText, TextCosine, TextSoftmax
from bayes_interest.errors import ConfigError

WINDOW_DAYS = 7.0


def all_rivals(emission: str) -> dict[str, Callable[..., Baseline[Any]]]:
    """Name to constructor of every rival for "bernoulli", "rating" or "choice" outcomes.

    `all_rivals(emission)[name](config, encoder)` is a `Baseline`; further options as keywords.
    Quick ones come first. `matrix_factorization` needs the extra `implicit`. Raises ConfigError
    for another family.
    """
    own: dict[str, Callable[..., Baseline[Any]]]
    if emission == "choice":
        own = {"own_most_frequent": OwnMostFrequent}
    elif emission in ("bernoulli", "rating"):
        own = {
            "item_mean": ItemMean,
            "user_item_bias": UserItemBias,
            "running_rate": RunningRate,
        }
    else:
        raise ConfigError(f'emission={emission!r}: expected one of "bernoulli", "choice", "rating"')
    return {
        "popular_all_time": Popularity,
        "popular_7_days": partial(Popularity, window_days=WINDOW_DAYS),
        "popular_decayed": DecayedPopularity,
        **own,
        "text_cosine": TextCosine,
        "text_recency": RecencyWeightedText,
        "text_softmax": TextSoftmax,
        "feature_bayes": FeatureBayes,
        "matrix_factorization": MatrixFactorization,
        "interest_strength_net": InterestStrengthNet,
        "gru": GRUInterest,
        "lstm": LSTMInterest,
        "sasrec": SASRecInterest,
    }
