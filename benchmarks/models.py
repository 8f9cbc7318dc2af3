"""The models of the accuracy benchmark: ours with its settings and ablations, and the rivals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

OURS = "bayes_interest"

MODEL: dict[str, dict[str, Any]] = {
    "ml-latest-small/choice": {"state_dim": 32},
    "ml-latest-small/liked": {"state_dim": 16},
    "movietweetings-100k/choice": {"state_dim": 32},
    "completejourney/choice": {"state_dim": 16, "n_candidates": 2000},
    "stackexchange-small/choice": {"state_dim": 16},
    "ml-1m-order/choice": {
        "state_dim": 128,
        "popularity_days": None,  # its timestamps are places in a sequence
        "context_layers": 2,
        "context_dim": 256,
        "n_candidates": 1000,
    },
}
"""Fields of `ModelConfig` by task; emission and positive_threshold are those of the task."""

FIT: dict[str, dict[str, Any]] = {
    "ml-latest-small/choice": {"max_epochs": 6},
    "ml-latest-small/liked": {"max_epochs": 8, "site_steps": 2, "item_spread": True},
    "movietweetings-100k/choice": {"max_epochs": 8},
    "completejourney/choice": {"max_epochs": 8},
    "stackexchange-small/choice": {"max_epochs": 20},
    "ml-1m-order/choice": {
        "context_epochs": 14,
        "max_epochs": 4,
        "batch_events": 1024,
        "holdout": 0.005,  # an event of each user
        "refit": False,
    },
}
"""Fields of `FitConfig` by task."""

EXPOSURE: dict[str, str] = {"ml-latest-small/liked": "ml-latest-small/choice"}
"""Tasks of outcomes where the model also ranks with the choice model of another task beside it."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "no succession": {"succession": False},
    "no repeats": {"repeats": False},
    "no likeness": {"likeness": False},
    "no popularity": {"popularity_days": None},
    "no covariates": {
        "popularity_days": None,
        "repeats": False,
        "succession": False,
        "likeness": False,
    },
    "no residuals": {"item_residuals": False},
    "no event drift": {"event_drift": False},
    "context of one layer": {"context_layers": 1},
}
"""Name to fields of `ModelConfig` that differ from the task's; edit here. Run with the first seed
only, on the tasks of `ABLATED`."""

ABLATED: tuple[str, ...] = ("stackexchange-small/choice",)

RIVAL_FIT: dict[str, Any] = {"max_epochs": 12, "patience": 2}
"""Of the rivals, the networks read it."""

RANDOM = {"interest_strength_net", "gru", "lstm", "sasrec", "matrix_factorization"}
"""Rivals with randomness: one run per seed. The others run once."""

QUICK_MODEL = {"state_dim": 4}
QUICK_FIT = {"max_epochs": 1, "refit": False}
QUICK_TASK = "stackexchange-small/choice"
QUICK_RIVALS = (
    "popular_all_time",
    "text_softmax",
    "matrix_factorization",
    "sasrec",
    "ease",
    "item_knn",
)


def variant(name: str) -> str:
    """The name in the tables of an ablation."""
    return f"{OURS} ({name})"


EXPOSED = variant("with exposure")


def is_ours(model: str) -> bool:
    """The model, or a variant of it."""
    return model == OURS or model.startswith(f"{OURS} (")


def external() -> dict[str, Callable[..., Any]]:
    """Rivals that only the benchmark has."""
    from benchmarks.external import Ease, ItemKNN, LightFMFactors

    last_5 = partial(ItemKNN, last=5)
    return {"ease": Ease, "item_knn": ItemKNN, "item_knn_last_5": last_5, "lightfm": LightFMFactors}


def model_names(task: str, emission: str, ablations: bool) -> list[str]:
    """Ours, then rivals, then ablations."""
    from bayes_interest.baselines.registry import all_rivals

    variants = [variant(name) for name in ABLATIONS] if ablations and task in ABLATED else []
    exposed = [EXPOSED] if task in EXPOSURE else []
    return [OURS, *exposed, *all_rivals(emission), *external(), *variants]


def quick_models() -> list[str]:
    """Ours, one ablation, some rivals."""
    return [OURS, *map(variant, [*ABLATIONS][:1]), *QUICK_RIVALS]


def seeds_of(model: str, seeds: list[int]) -> list[int]:
    """All for what has randomness, the first for ablations and what has none."""
    return seeds if model == OURS or model in RANDOM else seeds[:1]


def configured(model: str, task: str, spec: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Fields of both configurations, as plain values. `spec` is the task's entry in `TASKS`."""
    family: dict[str, Any] = {"emission": spec["emission"]}
    if "threshold" in spec:
        family["positive_threshold"] = spec["threshold"]
    fast = QUICK_FIT if quick else {}
    if not is_ours(model):
        return {"model": family, "fit": RIVAL_FIT | fast}
    changed = {variant(name): fields for name, fields in ABLATIONS.items()}.get(model, {})
    own = MODEL[task] | (QUICK_MODEL if quick else {}) | changed
    setting = {"model": family | own, "fit": FIT[task] | fast}
    if model == EXPOSED:
        other = EXPOSURE[task]
        setting["exposure"] = {"model": {"emission": "choice"} | MODEL[other], "fit": FIT[other]}
    return setting


def make_model(model: str, setting: dict[str, Any]) -> Any:
    """A new model of the fields in `setting`, which `configured` gave."""
    from bayes_interest.baselines.registry import all_rivals
    from bayes_interest.config import FitConfig, ModelConfig
    from bayes_interest.exposed_interest import ExposedInterest
    from bayes_interest.interest_model import InterestModel

    config = ModelConfig(**setting["model"])
    if model == EXPOSED:
        beside = setting["exposure"]
        choice = InterestModel(ModelConfig(**beside["model"]))
        fit = FitConfig(progress=False, **beside["fit"])
        return ExposedInterest(InterestModel(config), choice, fit)
    if is_ours(model):
        return InterestModel(config)
    return {**all_rivals(config.emission), **external()}[model](config)
