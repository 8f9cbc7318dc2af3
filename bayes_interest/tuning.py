"""The search of configurations for `InterestModel`."""

from __future__ import annotations

from pathlib import Path

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.evaluation.space import Space
from bayes_interest.evaluation.tune import TuneResult, search
from bayes_interest.interest_model import InterestModel
from bayes_interest.text.encoder import Encoder, TextEncoder


def tune(
    events: object,
    items: object | None = None,
    *,
    encoder: Encoder | None = None,
    space: Space,
    base: ModelConfig | None = None,
    config: FitConfig | None = None,
    n_trials: int = 20,
    n_windows: int = 2,
    fraction: float = 0.2,
    timeout: float | None = None,
    storage: str | Path | None = None,
    study_name: str = "bayes_interest",
    seed: int = 0,
    progress: bool = True,
) -> TuneResult:
    """Find the configuration of an `InterestModel` that best predicts what comes later.

    The last `fraction` of the events is cut into `n_windows`; for each window a model is fitted
    on everything before it and predicts its events one by one. A trial's figure is its log loss,
    the mean over the windows. Optuna's TPE sampler (Bergstra and others 2011) proposes the trials.
    Needs `pip install "bayes-interest[tune]"`.

    Pass training events only: a configuration chosen on events that also test it has seen them.

    Args:
        events: the log to search on, in any form that `read_events` takes.
        items: item table.
        encoder: of all trials; `TextEncoder()` by default.
        space: fields of `ModelConfig` or `FitConfig` to a list of values, or to a tuple (low,
            high) or (low, high, "log"); whole numbers where both ends are whole.
        base, config: the values of all other fields.
        n_trials: number of trials, those in `storage` included; failed ones count.
        n_windows, fraction: see above.
        timeout: start no further trial after so many seconds.
        storage: a file that keeps the trials: a journal (.log, .journal, .jsonl), else SQLite. A
            second call with the same file and `study_name` continues the search.
        study_name: which search in the file.
        seed: of the sampler; the seed of the fits is that of `config`.
        progress: show a progress bar.

    Returns:
        TuneResult: `best`, `best_fit`, and `trials` with the reason of every failure.

    Raises:
        InputError: an impossible space or option, Optuna missing, or a stored study of other
            events, space or configurations.
        ConfigError: no trial succeeded; the message has the first reason.
    """
    shared = encoder or TextEncoder()
    return search(
        lambda candidate: InterestModel(candidate, shared),
        events,
        items,
        space=space,
        base=base,
        config=config,
        n_trials=n_trials,
        n_windows=n_windows,
        fraction=fraction,
        timeout=timeout,
        storage=storage,
        study_name=study_name,
        seed=seed,
        progress=progress,
    )
