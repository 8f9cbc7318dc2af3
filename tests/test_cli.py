"""Every command through files, as people run it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import bayes_interest
from bayes_interest.cli import app, mapping, typed_ids
from bayes_interest.errors import InputError
from bayes_interest.events.id_map import IdMap
from bayes_interest.interest_model import InterestModel
from tests.fitted import simulation

ONE = ("--epochs", "1", "--state-dim", "3", "--n-members", "1")
FIT = (*ONE, "--device", "cpu", "--emission", "bernoulli")
HELP_SCRIPT = """
import json, sys, time
start = time.perf_counter()
from bayes_interest.cli import app
try:
    app(["--help"])
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "seconds": time.perf_counter() - start,
                  "modules": sorted(sys.modules)}))
"""


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def done(*words: object) -> Result:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def table(result: Result) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(result.stdout))


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """The simulation's ids u00012 and i00003 as the integers 12 and 3."""
    ids = [name for name in ("user_id", "item_id") if name in frame]
    return frame.assign(**{name: frame[name].str[1:].astype(int) for name in ids})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """early.csv, late.csv, all.csv, vectors.parquet, items.csv and two fitted models."""
    folder = tmp_path_factory.mktemp("cli")
    drawn = simulation("bernoulli")
    events = drawn.events.frame
    cut = len(events) * 3 // 4
    events.to_csv(folder / "all.csv", index=False)
    events.iloc[:cut].to_csv(folder / "early.csv", index=False)
    events.iloc[cut:].to_csv(folder / "late.csv", index=False)
    drawn.vectors.to_parquet(folder / "vectors.parquet", index=False)
    whole(events).to_csv(folder / "whole.csv", index=False)
    pd.DataFrame(
        {
            "item_id": drawn.vectors["item_id"],
            "title": [f"title {place}" for place in range(len(drawn.vectors))],
            "plot": "a plot",
        }
    ).to_csv(folder / "items.csv", index=False)
    vectors = ("--vectors", folder / "vectors.parquet")
    done("fit", folder / "early.csv", "--model", folder / "model", *FIT, *vectors)
    done("fit", folder / "whole.csv", "--model", folder / "whole", *FIT, "--encoder", "hashing")
    return folder


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-c", HELP_SCRIPT], capture_output=True, text=True, timeout=60
    )
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["code"] == 0
    assert not {"torch", "pyro", "pandas", "numpy", "matplotlib"} & set(found["modules"])
    assert not {"numba", "scipy", "sklearn", "tqdm", "rich"} & set(found["modules"])
    assert found["seconds"] < 1.5


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "fit", "interest", "rank", "explain", "trajectory", "update", "score"),
        "evaluate",
        *("simulate", "compare", "above", "changes", "diagnose", "recalibrate", "summary"),
    ],
)
def test_every_command_has_help(command: str) -> None:
    assert command in done("--help").stdout
    assert "--" in done(command, "--help").stdout


def test_help_says_whole_sentences() -> None:
    shown = " ".join(done("--help").stdout.split())
    assert (
        "Fit on the early part of a log and compare with simple rivals on the late part." in shown
    )
    assert "..." not in shown.partition("Commands:")[2]


def test_version() -> None:
    assert done("--version").stdout == f"bayes-interest {bayes_interest.__version__}\n"


def test_fit_tells_what_it_read_and_how_it_went(files: Path, tmp_path: Path) -> None:
    result = done(
        *("fit", files / "early.csv", "--model", tmp_path / "m", *FIT, "--threshold", "1"),
        *("--items", files / "items.csv", "--text-column", "title", "--text-column", "plot"),
        *("--encoder", "hashing", "--half-life-days", "90"),
    )
    assert "rows read" in result.stderr
    assert "emission: bernoulli (as configured)" in result.stderr
    assert "fitted for 1 epochs" in result.stderr
    assert result.stdout == ""
    config = InterestModel.load(tmp_path / "m").posterior.config
    assert (config.state_dim, config.positive_threshold, config.half_life_days) == (3, 1.0, 90.0)


def test_fit_takes_the_draws_and_the_slice_it_is_given(files: Path, tmp_path: Path) -> None:
    words = (*FIT, "--vectors", files / "vectors.parquet", "--n-members", "3", "--holdout", "0")
    done("fit", files / "early.csv", "--model", tmp_path / "m", *words)
    posterior = InterestModel.load(tmp_path / "m").posterior
    assert len(posterior.members) == 3
    assert posterior.summary.notes == ("no held-back slice: holdout=0",)


def test_fit_counts_dropped_rows_and_maps_columns(files: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(files / "early.csv")
    days = pd.to_datetime(frame["timestamp"]).astype("int64") / 86_400e9
    broken = frame.assign(day=days).drop(columns="timestamp").rename(columns={"user_id": "member"})
    broken.loc[3, "member"] = None
    broken.to_parquet(tmp_path / "log.parquet")
    columns = ("--column", "user_id=member", "--column", "timestamp=day", "--time-unit", "D")
    vectors = ("--vectors", files / "vectors.parquet")
    result = done(
        "fit", tmp_path / "log.parquet", "--model", tmp_path / "m", *FIT, *vectors, *columns
    )
    assert "1 dropped" in result.stderr
    assert "dropped 1: missing user_id" in result.stderr


def test_updates_teach_about_items_and_draws_are_followed_part_of_the_way(
    files: Path, tmp_path: Path
) -> None:
    before = InterestModel.load(files / "model")
    words = ("--by", "thompson", "--exploration", "0.3", "--user", "u00001")
    found = table(done("rank", "--model", files / "model", *words))
    wanted = before.rank(["u00001"], by="thompson", exploration=0.3)
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-5)
    taught, late = tmp_path / "taught", files / "late.csv"
    done("update", late, "--model", files / "model", "--save-to", taught, "--learn-items")
    after = before.update(late, learn_items=True).interest(["u00001"])
    pd.testing.assert_frame_equal(InterestModel.load(taught).interest(["u00001"]), after)


def test_interest_equals_the_api(files: Path) -> None:
    words = ("--user", "u00001", "--user", "u00002", "--item", "i00003", "--prob", "0.8")
    found = table(done("interest", "--model", files / "model", *words))
    model = InterestModel.load(files / "model")
    wanted = model.interest(["u00001", "u00002"], ["i00003"], prob=0.8)
    assert found.columns.tolist() == wanted.columns.tolist()
    np.testing.assert_allclose(found["upper"], wanted["upper"], rtol=1e-5)


@pytest.mark.parametrize("name", ["slates.csv", "deep/slates.parquet", "slates.jsonl"])
def test_rank_writes_every_format(files: Path, tmp_path: Path, name: str) -> None:
    words = ("--user", "u00001", "-k", "3", "--by", "p_top_k", "--repeats")
    result = done("rank", "--model", files / "model", *words, "--out", tmp_path / name)
    assert result.stdout == ""
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": _read_lines}
    found = read[name.rpartition(".")[2]](tmp_path / name)
    wanted = InterestModel.load(files / "model").rank(
        ["u00001"], k=3, by="p_top_k", exclude_seen=False
    )
    assert found["item_id"].tolist() == wanted["item_id"].tolist()
    np.testing.assert_allclose(found["p_top_k"], wanted["p_top_k"])


def _read_lines(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)


def test_rank_leaves_out_what_was_seen_unless_repeats(files: Path) -> None:
    seen = pd.read_csv(files / "early.csv").query("user_id == 'u00001'")["item_id"]
    words = ("rank", "--model", files / "model", "--user", "u00001", "-k", "100")
    assert not set(table(done(*words))["item_id"]) & set(seen)
    assert set(table(done(*words, "--repeats"))["item_id"]) >= set(seen)


def test_rank_among_candidates_at_a_moment(files: Path) -> None:
    words = ("--candidate", "i00004", "--candidate", "i00007", "--repeats", "--at", "2026-01-01")
    found = table(done("rank", "--model", files / "model", "--user", "u00001", *words))
    assert set(found["item_id"]) == {"i00004", "i00007"}


def test_integer_ids_are_found(files: Path) -> None:
    words = ("--model", files / "whole", "--user", "7", "--item", "3")
    found = table(done("interest", *words))
    assert found[["user_id", "item_id"]].to_numpy().tolist() == [[7, 3]]
    known = InterestModel.load(files / "whole").interest([7], [3])
    np.testing.assert_allclose(found["mean"], known["mean"], rtol=1e-5)
    assert len(table(done("trajectory", *words))) > 1


@pytest.mark.parametrize("text", ["u7", "007", "7.0", "٧"])
def test_other_ids_are_refused_where_ids_are_whole_numbers(files: Path, text: str) -> None:
    result = run("rank", "--model", files / "whole", "--user", text)
    assert result.exit_code == 2
    assert f"error: user '{text}': the user ids of this model are whole numbers" in result.stderr
    assert "Traceback" not in result.output


def test_negative_and_mixed_ids() -> None:
    assert typed_ids(["-3"], IdMap.from_ids([1, -3]), "user") == [-3]
    assert typed_ids(["7"], IdMap.from_ids(["a", "7"]), "user") == ["7"]


def test_trajectory_on_a_grid(files: Path) -> None:
    words = ("--user", "u00001", "--item", "i00003", "--every-days", "11")
    found = table(done("trajectory", "--model", files / "model", *words))
    gaps = pd.to_datetime(found["timestamp"], format="ISO8601").diff().dt.total_seconds()
    np.testing.assert_allclose(gaps[1:-1], 11 * 86_400, atol=1e-3)


def test_trajectory_needs_a_user_and_an_item(files: Path) -> None:
    result = run("trajectory", "--model", files / "model", "--user", "u00001")
    assert result.exit_code == 2
    assert "at least one --user and one --item" in result.stderr


def test_update_saves_back_or_elsewhere(files: Path, tmp_path: Path) -> None:
    before = InterestModel.load(files / "model")
    copy = tmp_path / "copy"
    done("update", files / "late.csv", "--model", files / "model", "--save-to", copy)
    n_early = len(before.posterior.history)
    assert len(InterestModel.load(files / "model").posterior.history) == n_early
    wanted = before.update(files / "late.csv").interest(["u00001"])
    pd.testing.assert_frame_equal(InterestModel.load(copy).interest(["u00001"]), wanted)
    again = run("update", files / "early.csv", "--model", copy)
    assert again.exit_code == 2
    assert again.stderr.splitlines()[-1].startswith("error: ")
    late = pd.read_csv(files / "late.csv").tail(1).assign(timestamp="2026-01-01")
    late.to_csv(tmp_path / "one.csv", index=False)
    done("update", tmp_path / "one.csv", "--model", copy)
    assert len(InterestModel.load(copy).posterior.history) == n_early + 1 + len(
        pd.read_csv(files / "late.csv")
    )


def test_score_keeps_the_model_and_the_order(files: Path, tmp_path: Path) -> None:
    size = {path: path.stat().st_mtime_ns for path in (files / "model").rglob("*")}
    words = ("--model", files / "model", "--out", tmp_path / "s.csv")
    done("score", files / "late.csv", *words)
    found, late = pd.read_csv(tmp_path / "s.csv"), pd.read_csv(files / "late.csv")
    assert found["item_id"].tolist() == late["item_id"].tolist()
    assert found["log_prob"].le(0).all()
    assert size == {path: path.stat().st_mtime_ns for path in (files / "model").rglob("*")}


def test_evaluate_compares_with_rivals(files: Path, tmp_path: Path) -> None:
    words = ("--fraction", "0.3", "-k", "5", "--out", tmp_path / "e.csv")
    vectors = ("--vectors", files / "vectors.parquet")
    done("evaluate", files / "all.csv", *FIT, *vectors, *words)
    found = pd.read_csv(tmp_path / "e.csv")
    assert found.columns.tolist() == ["model", "metric", "k", "value", "n"]
    assert found["model"].nunique() == 4
    assert "bayes_interest" in set(found["model"])


def test_simulate_writes_a_log_that_fit_reads(tmp_path: Path) -> None:
    words = ("--users", "13", "--items", "7", "--events-per-user", "5", "--drift-scale", "0.1")
    done("simulate", "--out", tmp_path / "sim", *words)
    names = {path.name for path in (tmp_path / "sim").iterdir()}
    assert names == {"events.csv", "vectors.parquet", "event_truth.csv", "final_truth.csv"}
    vectors = ("--vectors", tmp_path / "sim" / "vectors.parquet")
    log = tmp_path / "sim" / "events.csv"
    done("fit", log, "--model", tmp_path / "m", *FIT, *vectors)
    again = ("simulate", "--out", tmp_path / "again", *words)
    done(*again)
    assert (tmp_path / "again" / "events.csv").read_bytes() == log.read_bytes()


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """A table printed with six digits is that of the API."""
    assert found.columns.tolist() == wanted.columns.tolist()
    for name in wanted:
        if pd.api.types.is_float_dtype(wanted[name]):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-12)
        else:
            told = found[name].astype(object).fillna("")
            assert told.astype(str).tolist() == wanted[name].astype(str).tolist()


def test_compare_equals_the_api(files: Path) -> None:
    words = ("--user", "u00001", "--item", "i00003", "--item", "i00004", "--prob", "0.5")
    found = table(done("compare", "--model", files / "model", *words))
    door = InterestModel.load(files / "model")
    same(found, door.compare_items(["u00001"], ["i00003", "i00004"], prob=0.5))


def test_above_writes_the_items_and_why_there_are_none(files: Path, tmp_path: Path) -> None:
    words = ("--model", files / "model", "--user", "u00001", "--user", "u00002", "-p", "0.6")
    result = done("above", *words, "-c", "0.5", "--repeats", "--users-out", tmp_path / "u.csv")
    users = ["u00001", "u00002"]
    wanted = InterestModel.load(files / "model").above(users, 0.6, 0.5, exclude_seen=False)
    assert len(wanted.items)
    same(table(result), wanted.items)
    same(pd.read_csv(tmp_path / "u.csv"), wanted.users)
    assert f"{len(wanted.items)} items with P(interest > 0.6) >= 0.5" in result.stderr
    among = (*words, "-c", "0.01", "--candidate", "i00004", "--repeats")
    assert set(table(done("above", *among))["item_id"]) == {"i00004"}


def test_changes_of_items_and_the_largest(files: Path) -> None:
    here = ("--model", files / "model", "--since", "2023-12-15", "--user", "u00001")
    door = InterestModel.load(files / "model")
    options = {"since": "2023-12-15", "prob": 0.5}
    items = ["i00003", "i00004"]
    found = table(done("changes", *here, "--item", items[0], "--item", items[1], "--prob", "0.5"))
    wanted = door.changes(["u00001"], items, **options)
    same(found.drop(columns=["since", "at"]), wanted.drop(columns=["since", "at"]))
    top = table(done("changes", *here, "--prob", "0.01", "--top", "2"))
    assert len(top) == 2


def test_changes_of_a_theme(files: Path, tmp_path: Path) -> None:
    log = pd.read_csv(files / "early.csv").drop(columns="value")
    soup = log["item_id"].isin(["i00001", "i00002", "i00003"])
    log.assign(text=np.where(soup, "tomato soup", "moon rocket")).to_csv(tmp_path / "log.csv")
    model = ("--model", tmp_path / "m")
    done("fit", tmp_path / "log.csv", *model, *ONE, "--encoder", "hashing", "--emission", "choice")
    words = (*model, "--since", "2023-12-15", "--user", "u00001", "--theme", "soup=tomato soup")
    found = table(done("changes", *words, "--theme", "space=moon rocket"))
    assert found["theme"].tolist() == ["soup", "space"]
    door, themes = (
        InterestModel.load(tmp_path / "m"),
        {"soup": "tomato soup", "space": "moon rocket"},
    )
    wanted = door.changes(["u00001"], since="2023-12-15", themes=themes)
    np.testing.assert_allclose(found["change"], wanted["change"], rtol=1e-5)


def test_diagnose_tells_the_verdicts(files: Path) -> None:
    words = ("--model", files / "model", "--n-draws", "100", "--n-users", "5")
    result = done("diagnose", *words)
    found = table(result)
    wanted = InterestModel.load(files / "model").diagnose(n_users=5, n_draws=100)
    same(found, wanted)
    good = int((wanted["verdict"] == "good").sum())
    assert f"good: {good}" in result.stderr
    assert "note: calibration of later events: no events after the fit" in result.stderr
    later = table(done("diagnose", files / "late.csv", *words))
    assert set(later["check"]) - set(found["check"]) == {"calibration of later events"}


def test_recalibrate_saves_the_map_and_takes_it_away(files: Path, tmp_path: Path) -> None:
    words = ("--model", files / "model", "--method", "platt", "--save-to", tmp_path / "m")
    result = done("recalibrate", files / "late.csv", *words)
    assert "recalibrated by platt from" in result.stderr
    door = InterestModel.load(files / "model")
    assert door.posterior.recalibration is None
    wanted = door.recalibrate(files / "late.csv", method="platt").interest(["u00001"])
    found = InterestModel.load(tmp_path / "m")
    pd.testing.assert_frame_equal(found.interest(["u00001"]), wanted)
    done("recalibrate", "--remove", "--model", tmp_path / "m")
    assert InterestModel.load(tmp_path / "m").posterior.recalibration is None


def test_summary_equals_the_api(files: Path) -> None:
    found = table(done("summary", "--model", files / "model", "--prob", "0.5"))
    same(found.astype({"dimension": object}), InterestModel.load(files / "model").summary(0.5))


def test_what_cannot_be_is_one_line_and_exit_code_2(files: Path, tmp_path: Path) -> None:
    here = ("--model", files / "model")
    for words, message in {
        ("fit", tmp_path / "no.csv", "--model", tmp_path / "m"): "no such file",
        ("fit", files / "early.csv", "--model", "m", "--emission", "gamma"): "emission='gamma'",
        ("fit", files / "early.csv", "--model", "m", "--column", "kind"): "expected OURS=YOURS",
        ("fit", files / "early.csv", "--model", "m", "--text-column", "t"): "need --items",
        ("fit", files / "early.csv", "--model", "m", "--device", "tpu7"): 'device="tpu7"',
        ("fit", files / "early.csv", "--model", "m", "--n-members", "0"): "n_members=0: expected",
        ("fit", files / "early.csv", "--model", "m", "--holdout", "2"): "holdout=2.0",
        ("evaluate", files / "all.csv", "--n-members", "0"): "n_members=0: expected",
        ("evaluate", files / "all.csv", "--holdout", "2"): "holdout=2.0",
        ("interest", "--model", tmp_path / "none"): str(tmp_path / "none"),
        ("interest", *here, "--item", "i9999"): "item 'i9999' is unknown",
        ("interest", *here, "--at", "1999-01-01"): "before the last absorbed event",
        ("interest", *here, "--prob", "90"): "90",
        ("rank", *here, "--by", "luck"): "luck",
        ("simulate", "--out", tmp_path / "s", "--items", "1"): "n_items >= 2",
        ("compare", *here, "--item", "i00003"): "at least two --item",
        ("above", *here, "-p", "50"): "p=50.0: expected a probability",
        ("changes", *here, "--since", "2023-12-15", "--theme", "soup"): "expected NAME=TEXT",
        ("changes", *here, "--since", "2030-12-15"): "there is no time to change in",
        ("diagnose", *here, "--n-draws", "7"): "n_draws=7: expected a whole number, at least 100",
        ("recalibrate", *here): "either a log of events or --remove",
        ("recalibrate", files / "late.csv", *here, "--method", "luck"): "method='luck'",
        ("summary", *here, "--prob", "90"): "prob=90.0",
    }.items():
        result = run(*words)
        assert result.exit_code == 2, words
        assert result.stderr.splitlines()[-1].startswith("error: "), words
        assert message in result.stderr, words
        assert isinstance(result.exception, SystemExit), words


def test_vectors_and_encoder_exclude_each_other(files: Path) -> None:
    words = ("--vectors", files / "vectors.parquet", "--encoder", "hashing")
    result = run("fit", files / "early.csv", "--model", "m", *words)
    assert result.exit_code == 2
    assert "not both" in result.stderr


def test_an_unknown_table_format_is_refused_before_any_work(files: Path) -> None:
    result = run("rank", "--model", files / "model", "--out", "slates.xlsx")
    assert result.exit_code == 2
    assert "unknown extension" in result.stderr


def test_a_place_that_cannot_be_written_is_an_error(files: Path) -> None:
    out = files / "early.csv" / "slates.csv"
    result = run("rank", "--model", files / "model", "--user", "u00001", "--out", out)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_data_warnings_are_notes(files: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(files / "late.csv")
    times = pd.to_datetime(frame["timestamp"]).astype("datetime64[ms, UTC]")
    frame.assign(timestamp=times.astype("int64")).to_csv(tmp_path / "ms.csv", index=False)
    result = done("score", tmp_path / "ms.csv", "--model", files / "model")
    assert "note: " in result.stderr
    assert "Warning" not in result.stderr


def test_mapping() -> None:
    assert mapping(None) is None
    assert mapping(["kind=event", "value=a=b"]) == {"kind": "event", "value": "a=b"}
    with pytest.raises(InputError, match="--column =x: expected OURS=YOURS"):
        mapping(["=x"])


def test_explain_says_it_in_words_draws_it_and_lists_the_parts(files: Path, tmp_path: Path) -> None:
    picture = tmp_path / "why" / "picture.png"
    result = done(
        *("explain", "--model", files / "model", "--user", "u00003", "--item", "i00001"),
        *("--items", files / "items.csv", "--picture", picture, "--prob", "0.8"),
    )
    model = InterestModel.load(files / "model")
    told = model.explain("u00003", "i00001", prob=0.8)
    parts = table(result)
    assert parts["contribution"].sum() == pytest.approx(told.score, abs=1e-4)
    assert list(parts.columns) == list(told.contributions.columns)
    assert "title 1" in result.stderr
    assert "the chance that user u00003" in result.stderr
    assert "with 80 % certainty" in result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_explain_knows_whole_ids_and_refuses_a_strange_picture(files: Path, tmp_path: Path) -> None:
    words = ("explain", "--model", files / "whole", "--user", "3", "--item", "1")
    assert len(table(done(*words)))
    result = run(*words, "--picture", tmp_path / "picture.strange")
    assert result.exit_code == 2
    assert "picture.strange: cannot be drawn" in result.stderr
