"""Reading of the accuracy benchmark's logs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.tasks import FILES, read_task


def test_places_in_a_sequence_end_together(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m-order"
    folder.mkdir()
    log = pd.DataFrame({"user_id": list("aaabbbbbc"), "item_id": list("xyzxyzuvx")})
    log["timestamp"], log["value"] = log.groupby("user_id").cumcount(), 1.0
    items = pd.DataFrame({"item_id": list("uvxyz"), "text_basic": "film", "plot": "plot"})
    log.to_parquet(folder / FILES[0])
    items.to_parquet(folder / FILES[1])
    found = read_task(tmp_path, "ml-1m-order/choice")[0].frame
    seconds = found["timestamp"].astype("int64") // 10**9
    for user, own in found.assign(second=seconds).groupby("user_id"):
        assert own["second"].tolist() == list(range(5 - len(own), 5)), user
        assert own["item_id"].tolist() == log.loc[log["user_id"] == user, "item_id"].tolist()
