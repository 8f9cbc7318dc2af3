"""Is the uncertainty of rankings honest, and what is it good for?

    python -m benchmarks.ranking --data ../shared/data
    python -m benchmarks.ranking --part calibration changes      # needs no data

Three parts. Calibration: on logs drawn from the model, how often an item that is given p_top_k is
among the true k best. Changes: there, how often an interest that is said to have risen has.
Selective ranking: on real logs, NDCG@10 of the events whose slates are the most certain, against
dropping those with short histories. Figures are kept in --work as JSON, and RANKING.md is written
from them. Fitted models are kept there too; --again does what is kept once more.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PARTS = ("calibration", "changes", "selective")
SIMULATED: dict[str, dict[str, Any]] = {
    "bernoulli": {"emission": "bernoulli"},
    "rating": {"emission": "rating"},
    "choice": {"emission": "choice"},
}
DRAWN_LOG = {"n_users": 1500, "n_items": 60, "events_per_user": 40, "embed_dim": 4}
MODEL = {"state_dim": 2}
CHOICE = {"event_drift": False, "popularity_days": None, "repeats": False, "succession": False,
          "likeness": False}  # fmt: skip
"""The drawn log has none of it."""
FIT = {"max_epochs": 15, "progress": False}
TASKS = (
    "stackexchange-small/choice", "ml-latest-small/choice", "ml-latest-small/liked",
    "movietweetings-100k/choice", "completejourney/choice",
)  # fmt: skip
EXPOSURE = {"ml-latest-small/liked": "ml-latest-small/choice"}
K, N_DRAWS, BIN = 10, 1000, 0.05
CHANGED_USERS = 400
NEAR = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="a folder per log")
    add("--out", type=Path, default=Path("benchmarks/RANKING.md"))
    add("--work", type=Path, default=Path("out/ranking"))
    add("--part", nargs="+", choices=PARTS, default=list(PARTS))
    add("--only", nargs="+", choices=TASKS, default=list(TASKS), help="of the real logs")
    add("--families", nargs="+", choices=list(SIMULATED), default=list(SIMULATED))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the drawn logs")
    add("--again", action="store_true", help="do what is kept once more")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    jobs = []
    for part in options.part:
        if part == "selective":
            jobs += [(part, task, 0) for task in options.only]
        else:
            jobs += [(part, name, s) for name in options.families for s in options.seeds]
    for part, name, seed in jobs:
        path = options.work / f"{part}--{name.replace('/', '--')}-{seed}.json"
        if options.again or not path.exists():
            began = time.perf_counter()
            found = json.dumps(RUN[part](name, seed, options), indent=1) + "\n"
            half = path.with_suffix(".part")  # whole or not at all
            half.write_text(found)
            half.replace(path)
            print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)
    from benchmarks.ranking_table import write_table

    write_table(options.work, options.out)
    print(f"wrote {options.out}")


def drawn_model(name: str, seed: int, options: argparse.Namespace) -> tuple[Any, Any]:
    """A log drawn from the model, and the model fitted to it, kept in the work folder."""
    import bayes_interest as bi

    log = bi.simulate(seed=seed, **DRAWN_LOG, **SIMULATED[name])
    config = bi.ModelConfig(**SIMULATED[name], **MODEL, **(CHOICE if name == "choice" else {}))
    model = bi.InterestModel(config, bi.PrecomputedVectors(log.vectors))
    folder = options.work / f"drawn--{name}-{seed}"
    if options.again or not folder.exists():
        model.fit(log.events, config=bi.FitConfig(seed=seed, **FIT)).save(folder)
    return log, bi.InterestModel.load(folder, encoder=model.encoder)


def near(said: np.ndarray, true: np.ndarray) -> list[dict[str, float]]:
    """Among what is given about each probability, how often it holds."""
    rows = []
    for middle in NEAR:
        inside = np.abs(said - middle) <= BIN
        count = int(inside.sum())
        share = {"said": float(said[inside].mean()), "true": float(true[inside].mean())}
        rows.append({"about": middle, "n": count, **(share if count else {})})
    return rows


def top_k_pairs(log: Any, model: Any, n_draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """p_top_k of every (user, item) at the user's last event, and whether it is in the true top."""
    from bayes_interest.posterior.draws import draw_predictors
    from bayes_interest.ranking.asked import each_user
    from bayes_interest.ranking.scores import top_k_probability

    posterior = model.posterior
    truth = log.final_truth.pivot(index="user_id", columns="item_id", values="probability")
    ids = posterior.vocabulary
    best = truth.loc[ids.users.ids, ids.items.ids].rank(axis=1, ascending=False) <= K
    users, everything = np.arange(len(ids.users)), np.arange(len(ids.items))
    said = []
    for asked in each_user(posterior, users, posterior.last_seconds, everything, False):
        draws = draw_predictors(posterior, asked.belief, asked.extra, n_draws, seed)[0]
        said.append(top_k_probability(draws, asked.allowed, K).numpy())
    return np.concatenate(said), best.to_numpy().astype(float).ravel()


def calibration(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    log, model = drawn_model(name, seed, options)
    said, true = top_k_pairs(log, model, N_DRAWS)
    return {"rows": near(said, true), "n_draws": N_DRAWS}


def risen_pairs(log: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """p_risen of every (user, item) from the first third of a user's events to the last one, and
    whether the true predictor (for choice: probability) has risen."""
    import torch

    truth = log.truth
    frame = log.events.frame
    said, true = [], []
    for row, (user, own) in enumerate(frame.groupby("user_id", sort=True)):
        if row == CHANGED_USERS:
            break
        steps = len(own) // 3, len(own) - 1
        times = own["timestamp"].sort_values().iloc[list(steps)].tolist()
        if times[0] >= times[1]:
            continue
        table = model.changes([user], since=times[0], at=times[1]).set_index("item_id")
        states = truth.states[row, list(steps)]
        logits = states @ truth.items.vectors.T + truth.items.offsets
        if truth.layout.emission == "choice":
            logits = torch.log_softmax(logits, 1)
        names = [f"i{index:05d}" for index in range(truth.layout.n_items)]
        risen = pd.Series((logits[1] > logits[0]).numpy().astype(float), index=names)
        said.append(table["p_risen"].to_numpy())
        true.append(risen.loc[table.index].to_numpy())
    return np.concatenate(said), np.concatenate(true)


def changed(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    said, true = risen_pairs(*drawn_model(name, seed, options))
    return {"rows": near(said, true)}


def selective(task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Risk-coverage curves of one real log."""
    from bayes_interest.evaluation.selective import area_difference, risk_coverage

    kept = options.work / f"{task.replace('/', '--')}.parquet"
    if options.again or not kept.exists():
        scored(task, options).to_parquet(kept)
    scores = pd.read_parquet(kept)
    scores["history, reversed"] = -scores["history"]
    curves = {}
    for by in ("expected_hits", "slate_certainty", "history", "history, reversed"):
        curve = risk_coverage(scores["rank"], scores[by], K, scores["user_id"])
        curves[by] = json.loads(curve.to_json(orient="records"))
    above = {
        other: area_difference(
            scores["rank"], scores["expected_hits"], scores[other], scores["user_id"], K
        )
        for other in ("history", "history, reversed")
    }
    n_users = int(scores["user_id"].nunique())
    return {"curves": curves, "above": above, "events": len(scores), "users": n_users}


def scored(task: str, options: argparse.Namespace) -> pd.DataFrame:
    """The judged test events with their ranks, certainties and what the user had met before."""
    from bayes_interest.events.split import split_by_time
    from benchmarks.tasks import TASKS as KNOWN
    from benchmarks.tasks import check_data, read_task

    check_data(options.data, [task])
    events, items, _ = read_task(options.data, task)
    train, test = split_by_time(events, fraction=0.1)
    model = fitted(task, train, items, options)
    scores = model.score_events(
        test, items, exclude_seen=KNOWN[task]["exclude_seen"], k=K, certainty=True
    )
    frame = test.frame.set_index(pd.Index(test.row)).sort_index()
    before = frame["user_id"].map(train.frame["user_id"].value_counts()).fillna(0)
    place = test.frame.groupby("user_id").cumcount().set_axis(pd.Index(test.row)).sort_index()
    scores["history"] = (before + place).astype(float)
    threshold = KNOWN[task].get("threshold")
    if threshold is not None:
        scores = scores[(frame["value"] >= threshold).to_numpy()]
    return scores.drop(columns="slate")


def fitted(task: str, train: Any, items: Any, options: argparse.Namespace) -> Any:
    """The model of the accuracy benchmark, kept in the work folder; with its exposure."""
    import bayes_interest as bi
    from bayes_interest.events.split import items_before
    from benchmarks.models import OURS, configured, make_model
    from benchmarks.tasks import TASKS as KNOWN
    from benchmarks.tasks import read_task

    found = []
    for name in (task, EXPOSURE.get(task)):
        if name is None:
            continue
        folder = options.work / name.replace("/", "--") / "model-0"
        if options.again or not folder.exists():
            setting = configured(OURS, name, KNOWN[name], False)
            config = bi.FitConfig(**setting["fit"], seed=0, progress=False)
            log = train if name == task else train_of(name, options)
            known = items_before(items, log, read_task(options.data, name)[0])
            make_model(OURS, setting).fit(log, known, config).save(folder)
        found.append(bi.InterestModel.load(folder))
    return found[0] if len(found) == 1 else bi.ExposedInterest(*found)


def train_of(task: str, options: argparse.Namespace) -> Any:
    from bayes_interest.events.split import split_by_time
    from benchmarks.tasks import read_task

    return split_by_time(read_task(options.data, task)[0], fraction=0.1)[0]


RUN = {"calibration": calibration, "changes": changed, "selective": selective}


if __name__ == "__main__":
    main()
