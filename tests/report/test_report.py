"""The report: what is in it, whose numbers they are, and that no text gets out of its place."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayes_interest as bi
from bayes_interest.config import EmissionName
from bayes_interest.errors import (
    ConfigError,
    InputError,
    ItemError,
    NotFittedError,
    StorageError,
    TimeOrderError,
)
from bayes_interest.report import html as html_module
from bayes_interest.report.html import ReportFiles, report
from tests.fitted import FAMILIES, QUICK, fit, model, parts, simulation
from tests.report.reports import EVIL, PLAIN_THEMES, THEMES, plain, titles, written

SECTIONS = [
    "summary", "users", "population", "calibration", "checks", "data", "model", "fit", "limits",
]  # fmt: skip


class Page(HTMLParser):
    """Tags, ids and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.hidden = 0
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(params=FAMILIES)
def found(request: pytest.FixtureRequest) -> tuple[Any, ReportFiles]:
    return written(request.param)


def table(files: ReportFiles, name: str) -> pd.DataFrame:
    return pd.read_csv(files.tables[name])


def test_every_section_is_there_and_in_the_contents(found: tuple[Any, ReportFiles]) -> None:
    page = Page(found[1].html)
    ids = [attrs.get("id") for attrs in page.all("section")]
    assert [name for name in ids if name in SECTIONS] == SECTIONS
    targets = {attrs["href"] for attrs in page.all("a")}
    assert {f"#{name}" for name in [*SECTIONS, "user-1", "user-2"]} <= targets
    every = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(every) == len(set(every))


def test_nothing_in_the_page_comes_from_elsewhere(found: tuple[Any, ReportFiles]) -> None:
    page = Page(found[1].html)
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert sources
    assert all(source and source.startswith(("data:", "#")) for source in sources)
    assert found[1].html.stat().st_size < 1_500_000


def test_texts_of_the_data_stay_texts(found: tuple[Any, ReportFiles]) -> None:
    _, files = found
    page = Page(files.html)
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert EVIL in page.text
    assert "alert(1)" not in re.findall(r"<script>(.*?)</script>", files.html.read_text(), re.S)[0]
    markdown = files.markdown.read_text("utf-8")
    assert "<script" not in markdown
    assert "<b>" not in markdown
    for name in files.figures.values():
        if name.suffix == ".svg":
            assert b"<script" not in name.read_bytes()


def test_markdown_tables_keep_their_columns(found: tuple[Any, ReportFiles]) -> None:
    lines = found[1].markdown.read_text("utf-8").split("\n")
    rules = [place for place, line in enumerate(lines) if re.fullmatch(r"\|( -+:? \|)+", line)]
    assert len(rules) >= 8
    for place in rules:
        columns = lines[place].count("|")
        assert len(re.findall(r"(?<!\\)\|", lines[place - 1])) == columns
        after = place + 1
        assert lines[after].startswith("|")
        while lines[after].startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", lines[after])) == columns
            after += 1
    for target in re.findall(r"\]\((report_files/[^)]+)\)", "\n".join(lines)):
        assert (found[1].markdown.parent / target).is_file()


def test_no_cell_of_a_csv_file_is_a_formula(found: tuple[Any, ReportFiles]) -> None:
    cells = []
    for path in found[1].tables.values():
        with path.open(encoding="utf-8", newline="") as file:
            cells += [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    started = [cell for cell in cells if cell.lstrip()[:1] in tuple("=+-@")]
    assert all(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?|-?inf", cell) for cell in started)


def test_figures_say_in_words_what_they_show(found: tuple[Any, ReportFiles]) -> None:
    _, files = found
    pictures = Page(files.html).all("img")
    names = {str(attrs["id"]).removeprefix("figure-") for attrs in pictures}
    assert names == set(files.figures)
    assert {"loss", "drift", "population", "reliability", "interest-1", "explanation-2"} <= names
    for attrs in pictures:
        assert re.search(r"\d", str(attrs["alt"]))
        assert len(str(attrs["alt"])) > 40


def test_numbers_are_those_of_the_models_tables(found: tuple[Any, ReportFiles]) -> None:
    fitted, files = found
    slate = fitted.rank(["u00001"], 4, prob=0.9, seed=3, n_draws=200, abstain=0.0)
    told = table(files, "user_slates")
    own = told[told["user_id"] == "u00001"]
    assert own["item_id"].tolist() == slate["item_id"].tolist()
    for column in ("mean", "lower", "upper", "p_top_k", "slate_certainty"):
        np.testing.assert_allclose(own[column], slate[column], rtol=1e-9)
    now = fitted.interest(["u00004"], themes=THEMES, n_draws=200)
    told = table(files, "user_themes")
    own = told[told["user_id"] == "u00004"].set_index("theme")
    np.testing.assert_allclose(own.loc[list(THEMES), "mean"], now["mean"], rtol=1e-9)
    told, summary = table(files, "parameters"), fitted.summary()
    assert sorted(told["parameter"].unique()) == sorted(summary["parameter"].unique())
    for name, own in summary.groupby("parameter"):
        found_mean = told.loc[told["parameter"] == name, "mean"]
        np.testing.assert_allclose(found_mean, own["mean"].astype(float), rtol=1e-6)
    population = fitted.population(k=4, seed=3).sort_values("user_id", ignore_index=True)
    told = table(files, "population").sort_values("user_id", ignore_index=True)
    np.testing.assert_allclose(told["slate_certainty"], population["slate_certainty"])
    checks = fitted.diagnose(n_users=50, n_draws=200, seed=3)
    told = table(files, "checks").set_index("check")
    assert told.loc[checks["check"], "verdict"].tolist() == checks["verdict"].tolist()


def test_calibration_is_that_of_the_scored_events(found: tuple[Any, ReportFiles]) -> None:
    fitted, files = found
    later = parts(fitted.config.emission)[1]
    quality = table(files, "quality").set_index("figure")
    scored = fitted.score_events(later)
    log_prob = scored["log_prob"].dropna()
    if fitted.config.emission == "rating":  # of being at or above the level, as `mean` is
        level = fitted.posterior.vocabulary.levels[fitted.posterior.level]
        log_prob = np.log(np.where(later["value"] >= level, scored["mean"], 1.0 - scored["mean"]))
    told = quality.loc["log loss (lower is better)", "value"]
    assert told == pytest.approx(-log_prob.mean(), rel=1e-5)
    assert f"Over {len(later)} later events" in Page(files.html).text


def test_shown_cells_are_rounded_numbers_of_the_tables() -> None:
    fitted, files = written("bernoulli")
    best = table(files, "user_slates").iloc[0]
    text = Page(files.html).text
    lower, upper = (f"{x:.0%}" if x >= 0.1 else f"{x:.1%}" for x in best[["lower", "upper"]])
    assert f"{lower} to {upper}" in text
    assert f"{len(fitted.posterior.history):,}" in text


def small(path: Path, fitted: Any, **more: Any) -> ReportFiles:
    return report(fitted, path, **({"users": ["u00001"], "themes": {}, "k": 3} | more))


def test_the_order_of_the_source_of_later_events_says_nothing(tmp_path: Path) -> None:
    frame = parts("bernoulli")[1]
    late_first = bi.read_events(frame.iloc[::-1])
    files = [
        small(tmp_path / f"{name}.html", model("bernoulli"), events=events)
        for name, events in (("in_order", frame), ("reversed", late_first))
    ]
    told = [table(one, "quality") for one in files]
    pd.testing.assert_frame_equal(told[0], told[1])


def test_without_later_events_it_says_so_and_how_to() -> None:
    files = plain()
    text = Page(files.html).text
    assert "was not measured" in text
    assert "split_by_time" in text
    assert "reliability" not in files.figures
    assert "calibration" not in files.tables


def test_the_options_change_what_is_shown(tmp_path: Path) -> None:
    first = plain()
    other = small(
        tmp_path / "b.html", model("bernoulli"), k=2, prob=0.5, since="2020-01-05", title="Mine",
        users=["u00002", "u00003"], themes=PLAIN_THEMES, labels={"i00001": "a chair"},
    )  # fmt: skip
    assert len(table(first, "user_slates")) == 3
    assert table(other, "user_slates")["user_id"].value_counts().tolist() == [2, 2]
    assert "user_themes" not in first.tables
    assert sorted(table(other, "user_themes")["theme"].unique()) == ["even", "odd"]
    text = Page(other.html).text
    assert "50% interval" in text
    assert "a chair" in text
    assert "Mine" in text
    assert set(table(other, "user_changes")["since"]) == {"2020-01-05 00:00:00+00:00"}
    widths = [table(one, "user_slates").eval("upper - lower").mean() for one in (first, other)]
    assert widths[1] < 0.7 * widths[0]


def test_the_default_users_are_the_ends_of_the_population(tmp_path: Path) -> None:
    fitted = model("bernoulli")
    files = small(tmp_path / "r.html", fitted, users=None)
    shown = table(files, "users").set_index("reason")["user_id"]
    population = fitted.population(k=3).set_index("user_id")
    assert shown["surest"] == population["slate_certainty"].idxmax()
    assert shown["least sure"] == population["slate_certainty"].idxmin()
    assert 3 <= len(shown) == shown.nunique() <= 5


def test_the_same_seed_writes_the_same_page(tmp_path: Path) -> None:
    again = small(tmp_path / "r.html", model("bernoulli"))
    assert again.html.read_text() == plain().html.read_text()
    assert again.markdown.read_text() == plain().markdown.read_text()


def test_a_recalibrated_model_shows_both_curves(tmp_path: Path) -> None:
    early, later = bi.split_by_time(parts("bernoulli")[1], fraction=0.5)
    fitted = model("bernoulli").recalibrate(early, method="temperature")
    files = small(tmp_path / "r.html", fitted, events=later)
    assert set(table(files, "calibration")["model"]) == {"as fitted", "recalibrated"}
    assert "(temperature), learned from" in Page(files.html).text


def test_one_user_at_one_moment(tmp_path: Path) -> None:
    frame = (
        parts("bernoulli")[0]
        .iloc[:2]
        .assign(user_id="u00001", timestamp="2024-01-01", value=[0.0, 1.0])
    )
    fitted = fit(frame, "bernoulli", fit_config=replace(QUICK, holdout=0.0))
    files = report(fitted, tmp_path / "r.html", themes={})
    text = Page(files.html).text
    assert "no time in which to change" in text
    assert "1 user, " in text


def test_what_reading_dropped_is_told(tmp_path: Path) -> None:
    broken = pd.concat([parts("bernoulli")[0], parts("bernoulli")[0].assign(timestamp="never")])
    log = bi.read_events(broken)
    files = small(tmp_path / "r.html", model("bernoulli"), cleaning=log.report)
    assert int(table(files, "dropped_log")["rows"].sum()) == len(parts("bernoulli")[0])
    assert "unreadable timestamp" in Page(files.html).text


def test_an_old_report_is_replaced_only_by_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.html"
    shutil.copytree(plain().html.parent, tmp_path, dirs_exist_ok=True)

    def fail(*_: object) -> None:
        raise RuntimeError("half way")

    with monkeypatch.context() as patch:
        patch.setattr(html_module, "markdown_page", fail)
        with pytest.raises(RuntimeError, match="half way"):
            small(path, model("bernoulli"), title="A new heading")
    assert "A new heading" not in Page(path).text
    files = small(path, model("bernoulli"), title="A new heading")
    assert "A new heading" in Page(path).text
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.html", "r.md", "r_files"]
    assert all(one.is_file() for one in [*files.tables.values(), *files.figures.values()])


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "r_files").mkdir()
    (tmp_path / "r_files" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"thesis\.txt.*no report wrote"):
        small(tmp_path / "r.html", model("bernoulli"))


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"users": ["nobody"]}, InputError, "'nobody' is unknown to the model"),
        ({"users": []}, InputError, "at least one user id"),
        ({"users": "u00001"}, InputError, "expected a list of ids"),
        ({"prob": 1.5}, InputError, "prob"),
        ({"k": 0}, InputError, "k=0: expected a whole number"),
        ({"seed": -1}, InputError, "seed=-1"),
        ({"labels": {"nothing": "x"}}, ItemError, "'nothing' is unknown"),
        ({"themes": {"x": ["nothing"]}}, ItemError, "nothing"),
        ({"events": parts("bernoulli")[0]}, TimeOrderError, "."),
    ],
)
def test_errors_say_what_is_wrong(
    tmp_path: Path, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(tmp_path / "r.html", model("bernoulli"), **more)
    assert not list(tmp_path.iterdir())


def test_wrong_models_and_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.html"):
        small(tmp_path / "r.pdf", model("bernoulli"))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        report(bi.InterestModel(), tmp_path / "r.html")
    with pytest.raises(ConfigError, match=r"pass its \.model"):
        report(bi.RecalibratedInterest(model("bernoulli")), tmp_path / "r.html")
    with pytest.raises(ConfigError, match=r"pass its \.outcome"):
        report(bi.ExposedInterest(model("bernoulli")), tmp_path / "r.html")
    with pytest.raises(ConfigError, match="got str"):
        report("model", tmp_path / "r.html")


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    real = html_module.find_spec
    monkeypatch.setattr(html_module, "find_spec", lambda n: None if n == library else real(n))
    with pytest.raises(InputError, match=rf"needs {library}.*bayes-interest\[report\]"):
        small(tmp_path / "r.html", model("bernoulli"))


def test_the_public_name_is_function_and_folder() -> None:
    import bayes_interest.report.plots

    assert callable(bi.report)
    assert bi.report.plots is bayes_interest.report.plots
    with pytest.raises(ConfigError, match="got str"):
        bi.report("model", "r.html")


@pytest.mark.parametrize("emission", FAMILIES)
def test_titles_of_an_item_table_are_used(tmp_path: Path, emission: EmissionName) -> None:
    from bayes_interest.report.document.asked import titles_of

    table = bi.read_items(titles(emission))
    assert titles_of(table)["i00000"].startswith(EVIL)


@pytest.mark.parametrize("emission", FAMILIES)
def test_themes_are_found_in_the_texts_of_the_items(tmp_path: Path, emission: EmissionName) -> None:
    from bayes_interest.report.document.asked import ask
    from bayes_interest.report.document.themes import found_themes

    ids = simulation(emission).vectors["item_id"]
    words = ["comet telescope", "bread oven", "tulip garden"]
    items = pd.DataFrame({"item_id": ids, "text": [words[n % 3] for n in range(len(ids))]})

    def asked(table: object) -> Any:
        return ask(model(emission), None, None, table, None, None, None, None, 0.9, 5, 0, None)

    found = found_themes(asked(items), 2)
    assert len(found) == 2
    assert sorted(item for group in found.values() for item in group) == sorted(ids)
    assert found_themes(asked(None), 2) == {}
    assert found_themes(asked(items.assign(text="")), 2) == {}
