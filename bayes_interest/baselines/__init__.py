"""Rivals of the model, behind one protocol: `fit`, `score_events`, `rank`.

Importing this package loads nothing heavy: a name brings its module in when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bayes_interest.baselines.base import Baseline
    from bayes_interest.baselines.bias import UserItemBias
    from bayes_interest.baselines.counts import DecayedPopularity, OwnMostFrequent, Popularity
    from bayes_interest.baselines.factorization import MatrixFactorization
    from bayes_interest.baselines.features import FeatureBayes
    from bayes_interest.baselines.neural import InterestStrengthNet
    from bayes_interest.baselines.rates import ItemMean, RunningRate
    from bayes_interest.baselines.registry import all_rivals
    from bayes_interest.baselines.sequence import GRUInterest, LSTMInterest, SASRecInterest
    from bayes_interest.baselines.text import RecencyWeightedText, TextCosine, TextSoftmax

__all__ = [
    "Baseline",
    "all_rivals",
    # counts
    "DecayedPopularity",
    "OwnMostFrequent",
    "Popularity",
    # rates
    "ItemMean",
    "RunningRate",
    "UserItemBias",
    # texts and features
    "FeatureBayes",
    "RecencyWeightedText",
    "TextCosine",
    "TextSoftmax",
    # factors and networks
    "GRUInterest",
    "InterestStrengthNet",
    "LSTMInterest",
    "MatrixFactorization",
    "SASRecInterest",
]

_HOME: Final = {
    "Baseline": "base",
    "DecayedPopularity": "counts",
    "FeatureBayes": "features",
    "GRUInterest": "sequence",
    "InterestStrengthNet": "neural",
    "ItemMean": "rates",
    "LSTMInterest": "sequence",
    "MatrixFactorization": "factorization",
    "OwnMostFrequent": "counts",
    "Popularity": "counts",
    "RecencyWeightedText": "text",
    "RunningRate": "rates",
    "SASRecInterest": "sequence",
    "TextCosine": "text",
    "TextSoftmax": "text",
    "UserItemBias": "bias",
    "all_rivals": "registry",
}
"""Where each name lives that is loaded on first use."""


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562) and keep it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
