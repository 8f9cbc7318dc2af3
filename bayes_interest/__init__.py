"""Each user's interests over time, with tested uncertainty, from an interaction log and texts.

Importing this package loads nothing heavy: a public name brings its module in when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from bayes_interest.errors import (
    BayesInterestError,
    ConfigError,
    DataWarning,
    DeviceError,
    EncoderError,
    EventError,
    InputError,
    ItemError,
    NotFittedError,
    StorageError,
    TimeOrderError,
)

if TYPE_CHECKING:
    from bayes_interest.baselines.compare import compare
    from bayes_interest.config import FitConfig, ModelConfig
    from bayes_interest.evaluation.backtest import backtest, score_backtest
    from bayes_interest.evaluation.calibration import Calibration, calibration
    from bayes_interest.evaluation.coverage import coverage
    from bayes_interest.evaluation.feedback import simulate_feedback, summarize_feedback
    from bayes_interest.evaluation.leaks import check_no_peeking
    from bayes_interest.evaluation.policies import FeedbackStart, ModelRanking, Policy
    from bayes_interest.evaluation.protocol import Recommender
    from bayes_interest.evaluation.sbc import sbc, sbc_table
    from bayes_interest.evaluation.scores import BacktestScores
    from bayes_interest.evaluation.selective import risk_coverage
    from bayes_interest.evaluation.summarize import summarize
    from bayes_interest.evaluation.table import evaluate
    from bayes_interest.events.read import EventLog, ItemTable, read_events, read_items
    from bayes_interest.events.split import split_by_time
    from bayes_interest.events.validate import CleaningReport
    from bayes_interest.exposed_interest import ExposedInterest
    from bayes_interest.interest_model import InterestModel
    from bayes_interest.model.simulate import Simulation, simulate
    from bayes_interest.posterior.catalogue_themes import discover_themes, themes_between
    from bayes_interest.posterior.stream import InterestStream
    from bayes_interest.posterior.stream_settings import Forecast
    from bayes_interest.posterior.themes_by_column import themes_by_column
    from bayes_interest.ranking.above import ItemsAbove
    from bayes_interest.ranking.explain import Explanation
    from bayes_interest.recalibrated_interest import RecalibratedInterest
    from bayes_interest.report.html import ReportFiles, report
    from bayes_interest.text.encoder import TextEncoder
    from bayes_interest.text.hashing import HashingEncoder
    from bayes_interest.text.precomputed import PrecomputedVectors
    from bayes_interest.tuning import tune

    __version__: str

__all__ = [
    "BacktestScores",
    "BayesInterestError",
    "Calibration",
    "CleaningReport",
    "ConfigError",
    "DataWarning",
    "DeviceError",
    "EncoderError",
    "EventError",
    "EventLog",
    "Explanation",
    "ExposedInterest",
    "FeedbackStart",
    "FitConfig",
    "Forecast",
    "HashingEncoder",
    "InputError",
    "InterestModel",
    "InterestStream",
    "ItemError",
    "ItemTable",
    "ItemsAbove",
    "ModelConfig",
    "ModelRanking",
    "NotFittedError",
    "Policy",
    "PrecomputedVectors",
    "RecalibratedInterest",
    "Recommender",
    "ReportFiles",
    "Simulation",
    "StorageError",
    "TextEncoder",
    "TimeOrderError",
    "__version__",
    "backtest",
    "calibration",
    "check_no_peeking",
    "compare",
    "coverage",
    "discover_themes",
    "evaluate",
    "read_events",
    "read_items",
    "report",
    "risk_coverage",
    "sbc",
    "sbc_table",
    "score_backtest",
    "simulate",
    "simulate_feedback",
    "split_by_time",
    "summarize",
    "summarize_feedback",
    "themes_between",
    "themes_by_column",
    "tune",
]

_HOME: Final = {
    "BacktestScores": "bayes_interest.evaluation.scores",
    "Calibration": "bayes_interest.evaluation.calibration",
    "CleaningReport": "bayes_interest.events.validate",
    "EventLog": "bayes_interest.events.read",
    "Explanation": "bayes_interest.ranking.explain",
    "ExposedInterest": "bayes_interest.exposed_interest",
    "FeedbackStart": "bayes_interest.evaluation.policies",
    "FitConfig": "bayes_interest.config",
    "Forecast": "bayes_interest.posterior.stream_settings",
    "HashingEncoder": "bayes_interest.text.hashing",
    "InterestModel": "bayes_interest.interest_model",
    "InterestStream": "bayes_interest.posterior.stream",
    "ItemTable": "bayes_interest.events.read",
    "ItemsAbove": "bayes_interest.ranking.above",
    "ModelConfig": "bayes_interest.config",
    "ModelRanking": "bayes_interest.evaluation.policies",
    "Policy": "bayes_interest.evaluation.policies",
    "PrecomputedVectors": "bayes_interest.text.precomputed",
    "RecalibratedInterest": "bayes_interest.recalibrated_interest",
    "Recommender": "bayes_interest.evaluation.protocol",
    "ReportFiles": "bayes_interest.report.html",
    "Simulation": "bayes_interest.model.simulate",
    "TextEncoder": "bayes_interest.text.encoder",
    "backtest": "bayes_interest.evaluation.backtest",
    "calibration": "bayes_interest.evaluation.calibration",
    "check_no_peeking": "bayes_interest.evaluation.leaks",
    "compare": "bayes_interest.baselines.compare",
    "coverage": "bayes_interest.evaluation.coverage",
    "discover_themes": "bayes_interest.posterior.catalogue_themes",
    "evaluate": "bayes_interest.evaluation.table",
    "sbc": "bayes_interest.evaluation.sbc",
    "sbc_table": "bayes_interest.evaluation.sbc",
    "read_events": "bayes_interest.events.read",
    "read_items": "bayes_interest.events.read",
    "risk_coverage": "bayes_interest.evaluation.selective",
    "score_backtest": "bayes_interest.evaluation.backtest",
    "simulate": "bayes_interest.model.simulate",
    "simulate_feedback": "bayes_interest.evaluation.feedback",
    "split_by_time": "bayes_interest.events.split",
    "summarize": "bayes_interest.evaluation.summarize",
    "summarize_feedback": "bayes_interest.evaluation.feedback",
    "themes_between": "bayes_interest.posterior.catalogue_themes",
    "themes_by_column": "bayes_interest.posterior.themes_by_column",
    "tune": "bayes_interest.tuning",
}
"""Where each name lives that is loaded on first use."""


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562) and keep it."""
    if name == "report":  # the folder of pictures, which is also the function: see its __init__
        value: Any = import_module("bayes_interest.report")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("bayes-interest")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
