"""Search of configurations by held-out log loss on rolling windows (Optuna's TPE)."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, InputError
from bayes_interest.evaluation.protocol import Recommender
from bayes_interest.evaluation.space import Space, check_space, configs, suggest
from bayes_interest.evaluation.windows import Window, make_windows
from bayes_interest.events.read import ItemTable, read_events, read_items
from bayes_interest.events.split import items_before
from bayes_interest.progress import bar, shown_if
from bayes_interest.schema import ITEM_ID, LOG_PROB, TIMESTAMP, USER_ID

JOURNALS = (".log", ".journal", ".jsonl")
_ERROR, _LOSSES, _SECONDS, _SETTING = "error", "losses", "seconds", "setting"


@dataclass(frozen=True)
class TuneResult:
    """The best configuration of a search, and every trial.

    Attributes:
        best: the model configuration with the lowest held-out log loss.
        best_fit: the fit configuration that belongs to it.
        trials: a row per trial, in order: trial, state ("complete" or "fail"), log_loss (mean
            over windows), a column per field of the space, seconds, error (why it failed).
    """

    best: ModelConfig
    best_fit: FitConfig
    trials: pd.DataFrame


def search(
    make_model: Callable[[ModelConfig], Recommender],
    events: object,
    items: object | None = None,
    *,
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
    """Find the configuration that best predicts events after its training; see `tune`.

    `make_model` makes an unfitted model of a configuration.
    """
    base, run = base or ModelConfig(), replace(config or FitConfig(), progress=False)
    check_space(space)
    _check_numbers(n_trials, timeout)
    log = read_events(events)
    table = None if items is None else read_items(items)
    windows = make_windows(log, "rolling", fraction=fraction, n_windows=n_windows)
    known = [None if table is None else items_before(table, one.train, log) for one in windows]
    optuna = _optuna()
    setting = _setting(windows, space, base, run)
    with _quiet(optuna), shown_if(progress):
        study = _study(optuna, storage, study_name, seed, setting)
        done = _finished(study)
        ends = math.inf if timeout is None else time.monotonic() + timeout
        with bar(total=n_trials, initial=done, desc="tune", unit="trial") as shown:
            for _ in range(done, n_trials):
                if time.monotonic() >= ends:
                    break
                _one_trial(optuna, study, space, base, run, make_model, windows, known, table)
                shown.update()
        return _result(study, space, base, run, (config or FitConfig()).progress)


def _check_numbers(n_trials: int, timeout: float | None) -> None:
    if not isinstance(n_trials, int) or isinstance(n_trials, bool) or n_trials < 1:
        raise InputError(f"n_trials={n_trials!r}: expected a whole number >= 1")
    if timeout is not None and not timeout > 0:
        raise InputError(f"timeout={timeout!r}: expected seconds > 0")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as cause:
        raise InputError(
            'tune needs Optuna, which is not installed: pip install "bayes-interest[tune]"'
        ) from cause
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna's log off for a while: a failed trial is told in the table."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _study(optuna: Any, storage: str | Path | None, name: str, seed: int, setting: str) -> Any:
    """A new study, or the stored one of this name if it was made with the same setting."""
    place = None if storage is None else _storage(optuna, Path(storage))
    study = optuna.create_study(storage=place, study_name=name, load_if_exists=True)
    known = study.user_attrs.get(_SETTING)
    if known is None:
        study.set_user_attr(_SETTING, setting)
    elif known != setting:
        raise InputError(
            f"{storage}: study {name!r} was made with other events, space or configurations; "
            "take another study_name or storage"
        )
    # A continued search must not draw its first random points again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _storage(optuna: Any, path: Path) -> Any:
    """A journal for the endings in `JOURNALS`, else an SQLite file."""
    if not path.parent.is_dir():
        raise InputError(f"storage={str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.suffix in JOURNALS:
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        return optuna.storages.JournalStorage(backend)
    return optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")


def _setting(windows: list[Window], space: Space, base: ModelConfig, run: FitConfig) -> str:
    """What decides a trial's log loss, as text: equal only where trials can be compared."""
    columns = [c for c in (USER_ID, ITEM_ID, TIMESTAMP, "value") if c in windows[0].test.frame]
    hashes = [
        [
            zlib.crc32(pd.util.hash_pandas_object(part.frame[columns]).to_numpy().tobytes())
            for part in (window.train, window.test)
        ]
        for window in windows
    ]
    fit = {name: value for name, value in run.to_dict().items() if name != "device"}
    said = {name: [type(domain).__name__, *domain] for name, domain in space.items()}
    parts = {"events": hashes, "space": said, "base": base.to_dict(), "fit": fit}
    return json.dumps(parts, sort_keys=True)


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _one_trial(
    optuna: Any,
    study: Any,
    space: Space,
    base: ModelConfig,
    run: FitConfig,
    make_model: Callable[[ModelConfig], Recommender],
    windows: list[Window],
    known: list[ItemTable | None],
    items: ItemTable | None,
) -> None:
    """Ask for values, score them on every window, tell the mean; a failure is kept with its why."""
    trial, began = study.ask(), time.perf_counter()
    try:
        chosen = {name: suggest(trial, name, domain) for name, domain in space.items()}
        model_config, fit_config = configs(chosen, base, run)
        losses = [
            held_out_loss(make_model(model_config), window, before, items, fit_config)
            for window, before in zip(windows, known, strict=True)
        ]
    # Whatever stops one configuration (an impossible value, a matrix that cannot be factorised)
    # says nothing of the others.
    except (ValueError, ArithmeticError, RuntimeError, MemoryError) as cause:
        trial.set_user_attr(_ERROR, f"{type(cause).__name__}: {cause}")
        trial.set_user_attr(_SECONDS, time.perf_counter() - began)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    trial.set_user_attr(_LOSSES, losses)
    trial.set_user_attr(_SECONDS, time.perf_counter() - began)
    study.tell(trial, float(np.mean(losses)))


def held_out_loss(
    model: Recommender,
    window: Window,
    before: ItemTable | None,
    items: ItemTable | None,
    config: FitConfig,
) -> float:
    """Mean of -log P(outcome) over the test events that have one, each from its strict past; the
    items of `before` are those that the model is fitted with.

    Raises:
        InputError: the model gives no `log_prob`, or one that is not finite.
    """
    model.fit(window.train, before, config)
    scores = model.score_events(window.test, items)
    said = scores[LOG_PROB].dropna().to_numpy(dtype=float) if LOG_PROB in scores else np.empty(0)
    if not len(said):
        raise InputError("the model gives no log_prob for any test event: nothing to tune by")
    loss = -float(said.mean())
    if not math.isfinite(loss):
        raise InputError(f"held-out log loss is {loss}")
    return loss


def _result(
    study: Any, space: Space, base: ModelConfig, run: FitConfig, progress: bool
) -> TuneResult:
    trials = pd.DataFrame([_row(trial, space) for trial in study.trials])
    if trials.empty or trials["log_loss"].isna().all():
        why = trials["error"].iloc[0] if len(trials) else "no time for a first one"
        raise ConfigError(f"no trial succeeded; the first: {why}")
    best, best_fit = configs(study.best_trial.params, base, run)
    return TuneResult(best, replace(best_fit, progress=progress), trials)


def _row(trial: Any, space: Space) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "log_loss": float("nan") if trial.value is None else trial.value,
        **{name: trial.params.get(name) for name in space},
        "seconds": trial.user_attrs.get(_SECONDS, float("nan")),
        "error": trial.user_attrs.get(_ERROR, ""),
    }
