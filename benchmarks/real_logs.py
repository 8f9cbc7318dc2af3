"""Fit and compare on real logs: each test event is predicted from its past, then absorbed.

    python -m benchmarks.real_logs --data ../shared/data --out benchmarks/REAL_LOGS.md
    python -m benchmarks.real_logs --only ml-latest-small/choice   # one row, others from --work

Each row (data set and family) runs in a process of its own, so that its peak memory is its own,
and leaves a JSON file in --work. The Markdown table, and a CSV beside it, are written anew from
all the JSON files there are. A row whose JSON was made with another configuration is run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

ROWS: dict[str, dict[str, Any]] = {
    "ml-latest-small/bernoulli": {
        "model": {"emission": "bernoulli", "positive_threshold": 4.0, "state_dim": 16},
        "fit": {"learning_rate": 0.02, "max_epochs": 15, "site_steps": 1},
        "exclude_seen": True,
    },
    "ml-latest-small/rating": {
        "model": {"emission": "rating", "positive_threshold": 4.0, "state_dim": 16},
        "fit": {"learning_rate": 0.02, "max_epochs": 15, "site_steps": 1},
        "exclude_seen": True,
    },
    "ml-latest-small/choice": {
        "model": {"emission": "choice", "positive_threshold": 4.0, "state_dim": 32},
        "fit": {"learning_rate": 0.02, "max_epochs": 12},
        "exclude_seen": True,
    },
    "completejourney/choice": {
        "model": {"emission": "choice", "state_dim": 16, "n_candidates": 2000},
        "fit": {"learning_rate": 0.02, "max_epochs": 8},
        "exclude_seen": False,
    },
    "stackexchange-small/choice": {
        "model": {"emission": "choice", "state_dim": 16},
        "fit": {"learning_rate": 0.02, "max_epochs": 20},
        "exclude_seen": False,
    },
}
"""What each row fits; edit here."""

READ: dict[str, dict[str, Any]] = {
    "ml-latest-small": {"items": {"text_columns": ["text_basic", "plot"]}, "used_items_only": True},
    "completejourney": {"used_items_only": True},
    "stackexchange-small": {"events": {"columns": {"kind": "event"}}, "used_items_only": False},
}
"""How each data set is read. Candidates are all items of the table, or those with any event."""

QUICK_MODEL = {"state_dim": 4}
QUICK_FIT = {"max_epochs": 1, "refit": False}
FRACTION = 0.1
COLUMNS = {
    "log_loss": "log loss",
    "ordinal_log_loss": "ordinal log loss",
    "auc": "AUC",
    "calibration_error": "ECE",
    "ndcg": "NDCG@10",
    "hit_rate": "hit rate@10",
}
ENGINES = ("bayes-interest", "torch", "pyro-ppl", "scikit-learn")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/REAL_LOGS.md"))
    parser.add_argument("--work", type=Path, default=Path("out/real_logs"), help="kept results")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=str([*ROWS]))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--again", action="store_true", help="run rows that have a kept result")
    parser.add_argument("--table", action="store_true", help="write the table, run nothing")
    parser.add_argument(
        "--quick", action="store_true", help="prove that the path works: one epoch, 4 dimensions"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = [] if options.table else options.only or list(ROWS)
    check_data(options.data, names)
    options.work.mkdir(parents=True, exist_ok=True)
    for name in names:
        path, setting = kept_path(options.work, name), setting_of(name, options)
        if not options.again and is_kept(path, setting):
            print(f"{name}: kept result in {path}", flush=True)
            continue
        print(f"{name}: running", flush=True)
        run_apart(name, setting, options.data, path)
        write_table(options.work, options.out)
    write_table(options.work, options.out)
    print(f"wrote {options.out} and {options.out.with_suffix('.csv')}")


def check_data(data: Path, names: list[str]) -> None:
    """Leave with a clear message where a log is missing."""
    for folder in dict.fromkeys(data / name.split("/")[0] for name in names):
        for file in ("interactions.parquet", "items.parquet"):
            if not (folder / file).is_file():
                sys.exit(
                    f"{folder / file}: no such file. The real logs are not part of the project; "
                    "pass the folder that holds them with --data (see benchmarks/README.md)"
                )


def setting_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All that a result depends on besides code and data, as plain JSON values."""
    row = ROWS[name]
    quick = options.quick
    return {
        "model": row["model"] | (QUICK_MODEL if quick else {}),
        "fit": row["fit"] | (QUICK_FIT if quick else {}) | {"device": options.device},
        "exclude_seen": row["exclude_seen"],
        "read": READ[name.split("/")[0]],
        "fraction": FRACTION,
    }


def kept_path(work: Path, name: str) -> Path:
    return work / f"{name.replace('/', '--')}.json"


def is_kept(path: Path, setting: dict[str, Any]) -> bool:
    """Whether a result with this setting lies there."""
    return path.exists() and bool(json.loads(path.read_text())["setting"] == setting)


def run_apart(name: str, setting: dict[str, Any], data: Path, path: Path) -> None:
    """One row in a fresh process."""
    process = multiprocessing.get_context("spawn").Process(
        target=run_row, args=(name, setting, data, path)
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(f"{name}: failed with exit code {process.exitcode}")


def run_row(name: str, setting: dict[str, Any], data: Path, path: Path) -> None:
    """Fit, score, compare; write the result."""
    from bayes_interest.baselines.compare import compare
    from bayes_interest.config import FitConfig, ModelConfig
    from bayes_interest.events.split import split_by_time
    from bayes_interest.interest_model import InterestModel

    events, items, left_out = read_log(data / name.split("/")[0], setting["read"])
    train, test = split_by_time(events, fraction=setting["fraction"])
    model = InterestModel(ModelConfig(**setting["model"]))
    model.encoder.encode(items.frame["text"].tolist(), progress=False)  # kept in its cache
    began = time.perf_counter()
    model.fit(train, items, FitConfig(**setting["fit"], progress=False))
    seconds, peak = time.perf_counter() - began, peak_mb()
    began = time.perf_counter()
    table = compare(model, train, test, items, setting["exclude_seen"])
    result = {
        "name": name,
        "setting": setting,
        "data": sizes(train, test, items) | {"left_out": left_out},
        "fit_seconds": seconds,
        "fit_peak_mb": peak,
        "compare_seconds": time.perf_counter() - began,
        "epochs": int(model.fit_report().attrs["best_epoch"]),
        "machine": machine(),
        "table": json.loads(table.to_json(orient="records")),
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(table.to_string(), f"\n{name}: fit {seconds:.0f} s, peak {peak:.0f} MB", flush=True)


def read_log(folder: Path, how: dict[str, Any]) -> tuple[Any, Any, int]:
    """Events, items, and how many events were left out because their item has no text."""
    from bayes_interest.events.read import read_events, read_items

    items = read_items(folder / "items.parquet", **how.get("items", {}))
    events = read_events(folder / "interactions.parquet", **how.get("events", {}))
    with_text = items.frame.loc[items.frame["text"].str.strip() != "", "item_id"]
    known = events.frame["item_id"].isin(with_text)
    kept = read_events(events.frame[known].reset_index(drop=True))
    if how["used_items_only"]:
        used = items.frame["item_id"].isin(kept.frame["item_id"])
        items = read_items(items.frame[used].reset_index(drop=True))
    return kept, items, int((~known).sum())


def sizes(train: Any, test: Any, items: Any) -> dict[str, Any]:
    past, later = train.frame, test.frame
    return {
        "train": len(past),
        "test": len(later),
        "cut": later["timestamp"].iloc[0].strftime("%Y-%m-%d"),
        "users": int(pd.concat((past["user_id"], later["user_id"])).nunique()),
        "items": len(items),
        "cold_user_share": float((~later["user_id"].isin(past["user_id"])).mean()),
        "cold_item_share": float((~later["item_id"].isin(past["item_id"])).mean()),
        "tied_share": float(later.duplicated(["user_id", "timestamp"], keep=False).mean()),
    }


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ENGINES},
        "date": time.strftime("%Y-%m-%d"),
    }


def write_table(work: Path, out: Path) -> None:
    """Markdown and CSV, whole, from every kept result."""
    paths = [kept_path(work, name) for name in ROWS]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    parts = [HEAD, *(section(result) for result in results)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(parts))
    tables = [tidy(result) for result in results]
    if tables:
        pd.concat(tables, ignore_index=True).to_csv(out.with_suffix(".csv"), index=False)


HEAD = """# Real logs

Made by `python -m benchmarks.real_logs`; do not edit. The last 10 % of each log is test: one
global cut in time, every test event predicted from what came before it and then absorbed, all
items ranked, ties counted against the item. What the figures mean: `bayes_interest.evaluate`;
the rivals: `bayes_interest.baselines.compare`; the data: [README](README.md).
"""


def section(result: dict[str, Any]) -> str:
    """One data set and family."""
    data, setting = result["data"], result["setting"]
    ranked = "unseen items" if setting["exclude_seen"] else "all items, seen ones too"
    host = result["machine"]
    chosen = [f"{key}={value}" for part in ("model", "fit") for key, value in setting[part].items()]
    return "\n".join(
        (
            f"## {result['name']}\n",
            f"{data['users']:,} users, {data['items']:,} items, {data['train']:,} train and "
            f"{data['test']:,} test events (from {data['cut']}); "
            f"of the test events {data['cold_user_share']:.0%} are of users and "
            f"{data['cold_item_share']:.0%} of items without a train event, and "
            f"{data['tied_share']:.0%} share user and second with another. "
            f"{data['left_out']:,} events of items without text were left out. "
            f"Ranked: {ranked}.\n",
            markdown(pd.DataFrame(result["table"])),
            f"\nFit {result['fit_seconds']:.0f} s ({result['epochs']} epochs, texts encoded "
            f"before), peak memory {result['fit_peak_mb']:,.0f} MB; scoring with all models "
            f"{result['compare_seconds']:.0f} s. {', '.join(chosen)}. {host['system']}, "
            f"{host['cores']} cores, OMP_NUM_THREADS {host['threads']}, "
            f"torch {host['versions']['torch']}, {host['date']}.\n",
        )
    )


def markdown(table: pd.DataFrame) -> str:
    """A row per model, a column per metric that the family has."""
    metrics = [metric for metric in COLUMNS if (table["metric"] == metric).any()]
    names = table["model"].drop_duplicates().tolist()
    wide = table.pivot(index="model", columns="metric", values="value").loc[names, metrics]
    counts = table.groupby("metric")["n"].max()
    heads = [f"{COLUMNS[metric]} (n={counts[metric]:,})" for metric in metrics]
    lines = [["model", *heads], ["---", *["---:"] * len(metrics)]]
    for name, row in wide.iterrows():
        lines.append([str(name), *("" if pd.isna(v) else f"{v:.4f}" for v in row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tidy(result: dict[str, Any]) -> pd.DataFrame:
    """The rows of the CSV."""
    table = pd.DataFrame(result["table"]).astype({"k": "Int64"})
    table.insert(0, "row", result["name"])
    return table.assign(
        fit_seconds=round(result["fit_seconds"], 1), fit_peak_mb=round(result["fit_peak_mb"])
    )


if __name__ == "__main__":
    main()
