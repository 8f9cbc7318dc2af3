"""The tasks of the accuracy benchmark: which log, which family, which candidates; and reading."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

FILES = ("interactions.parquet", "items.parquet")

MOVIES = {"text_columns": ["text_basic", "plot"], "used_items_only": True}
"""Title, genres and plot; not the tags, which look ahead."""

NO_TIMES = "the timestamps of this log are places in a sequence, not times"

TASKS: dict[str, dict[str, Any]] = {
    "ml-latest-small/choice": {
        "read": MOVIES | {"drop": ["value"]},
        "emission": "choice",
        "exclude_seen": True,
        "about": "Which film is rated next, whatever the rating.",
    },
    "ml-latest-small/liked": {
        "read": MOVIES,
        "emission": "bernoulli",
        "threshold": 4.0,
        "exclude_seen": True,
        "about": "Is the film rated 4 stars or more; ranks are those of the liked films.",
    },
    "movietweetings-100k/choice": {
        "read": {"drop": ["value"], "used_items_only": True},
        "emission": "choice",
        "exclude_seen": True,
        "about": "Which film is rated next. Very short histories, many cold users.",
    },
    "completejourney/choice": {
        "read": {"drop": ["value"], "used_items_only": True},
        "emission": "choice",
        "exclude_seen": False,
        "about": "Which product is bought next. People buy the same things again.",
    },
    "stackexchange-small/choice": {
        "read": {"drop": ["value"], "columns": {"kind": "event"}, "used_items_only": False},
        "emission": "choice",
        "exclude_seen": False,
        "about": "Which question is asked, answered or commented next. Long texts, kinds.",
    },
    "ml-1m-order/choice": {
        "read": MOVIES | {"drop": ["value"], "end_together": True},
        "emission": "choice",
        "exclude_seen": True,
        "protocol": "leave_one_out",
        "only_by_name": True,  # too long for the default run
        "leave_out": dict.fromkeys(("popular_7_days", "popular_decayed"), NO_TIMES),
        "about": "The last film of each user. This leaks: a model has seen what others did later.",
    },
}
"""What is predicted; edit here. `leave_out` maps a model's name to why it has no row."""

PROTOCOL = {"protocol": "successive", "fraction": 0.1}
"""Unless the task has its own."""


def protocol_of(task: str) -> dict[str, Any]:
    """How the log is cut: keywords of `score_backtest`."""
    own = TASKS[task].get("protocol")
    return PROTOCOL if own is None else {"protocol": own}


def check_data(data: Path, tasks: list[str]) -> None:
    """Leave with a clear message where a log is missing."""
    for name in dict.fromkeys(task.split("/")[0] for task in tasks):
        for file in FILES:
            if not (data / name / file).is_file():
                sys.exit(
                    f"{name}/{file}: no such file. The real logs are not part of the project; "
                    "pass the folder that holds them with --data (see benchmarks/README.md)"
                )


def read_task(data: Path, task: str) -> tuple[Any, Any, int]:
    """Events, items, and how many events were left out because their item has no text."""
    from bayes_interest.events.read import read_events, read_items

    how, folder = TASKS[task]["read"], data / task.split("/")[0]
    texts = {"text_columns": how["text_columns"]} if "text_columns" in how else {}
    items = read_items(folder / FILES[1], **texts)
    frame = pd.read_parquet(folder / FILES[0]).drop(columns=how.get("drop", []))
    if how.get("end_together"):  # places count from any end; so the last slice is of every user
        places = frame["timestamp"]
        frame["timestamp"] += places.max() - places.groupby(frame["user_id"]).transform("max")
    events = read_events(frame, columns=how.get("columns"), time_unit="s")
    with_text = items.frame.loc[items.frame["text"].str.strip() != "", "item_id"]
    known = events.frame["item_id"].isin(with_text)
    kept = read_events(events.frame[known].reset_index(drop=True))
    if how["used_items_only"]:
        used = items.frame["item_id"].isin(kept.frame["item_id"])
        items = read_items(items.frame[used].reset_index(drop=True))
    return kept, items, int((~known).sum())


def sizes(events: Any, items: Any, scored: pd.DataFrame, left_out: int) -> dict[str, Any]:
    """The log in figures; `scored` are the judged events."""
    tied = events.frame.duplicated(["user_id", "timestamp"], keep=False)
    return {
        "events": len(events),
        "users": int(events.frame["user_id"].nunique()),
        "items": len(items),
        "test": len(scored),
        "test_users": int(scored["user_id"].nunique()),
        "cut": scored["timestamp"].min().strftime("%Y-%m-%d"),
        "cold_user_share": float((scored["user_n_train"] == 0).mean()),
        "cold_item_share": float((scored["item_n_train"] == 0).mean()),
        "tied_share": float(tied.mean()),
        "left_out": left_out,
    }
