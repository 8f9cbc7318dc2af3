"""The commands for closer questions: which of two, what is above or changed, can it be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bayes_interest.cli.files import (
    draw,
    item_ids,
    load,
    mapping,
    read_log,
    read_table,
    titles,
    user_ids,
    write,
)
from bayes_interest.cli.options import (
    At,
    Column,
    Device,
    ItemColumn,
    ItemIds,
    Items,
    Model,
    Out,
    Prob,
    Repeats,
    Seed,
    TextColumn,
    TimeUnit,
    Users,
    app,
    say,
)
from bayes_interest.errors import InputError

Candidates = Annotated[
    list[str] | None,
    typer.Option("--candidate", help="Item id allowed now; repeat. All items if none."),
]
Later = Annotated[Path | None, typer.Argument(help="Log of events after those absorbed.")]
REPORT_TITLE = "Interest, and how sure it is"


@app.command()
def explain(
    model: Model,
    user: Annotated[str, typer.Option(help="User id.")],
    item: Annotated[str, typer.Option(help="Item id.")],
    at: At = None,
    prob: Prob = 0.9,
    seed: Seed = 0,
    items: Annotated[Path | None, typer.Option(help="Item table, to say titles for ids.")] = None,
    title: Annotated[str, typer.Option(help="Column of the item table with the titles.")] = "title",
    picture: Annotated[Path | None, typer.Option(help="png, svg or pdf to draw to.")] = None,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Why a user's interest in an item is what it is: in words, and as a table of its parts."""
    fitted = load(model, device)
    users, what = user_ids(fitted, [user]), item_ids(fitted, [item])
    assert users is not None
    assert what is not None
    told = fitted.explain(
        users[0], what[0], at=at, prob=prob, seed=seed, labels=titles(items, title)
    )
    say(told)
    if picture is not None:
        from bayes_interest.report.plots import plot_explanation

        draw(plot_explanation(told), picture)
    write(told.contributions, out)


@app.command()
def compare(
    model: Model,
    item: ItemIds = None,
    user: Users = None,
    at: At = None,
    prob: Prob = 0.9,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Which of two items interests a user more, and how sure that is: a row per user and pair."""
    fitted = load(model, device)
    users, items = user_ids(fitted, user), item_ids(fitted, item)
    if items is None or len(items) < 2:
        raise InputError("compare needs at least two --item")
    write(fitted.compare_items(users, items, at=at, prob=prob), out)


@app.command()
def above(
    model: Model,
    p: Annotated[float, typer.Option("-p", "--p", help="Interest probability to be above.")] = 0.5,
    c: Annotated[float, typer.Option("-c", "--c", help="How sure that has to be.")] = 0.9,
    user: Users = None,
    at: At = None,
    candidate: Candidates = None,
    repeats: Repeats = False,
    prob: Prob = 0.9,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    users_out: Annotated[
        Path | None, typer.Option(help="A row per user: how many, the nearest, why none.")
    ] = None,
) -> None:
    """All items whose interest probability is above p with probability c; there may be none."""
    fitted = load(model, device)
    users, candidates = user_ids(fitted, user), item_ids(fitted, candidate)
    found = fitted.above(users, p, c, at, candidates, not repeats, prob=prob, seed=seed)
    say(found)
    if users_out is not None:
        write(found.users, users_out)
    write(found.items, out)


@app.command()
def changes(
    model: Model,
    since: Annotated[str, typer.Option(help="Moment from which change is counted, ISO 8601.")],
    user: Users = None,
    item: ItemIds = None,
    theme: Annotated[
        list[str] | None, typer.Option(help="NAME=TEXT instead of items; repeat.")
    ] = None,
    at: At = None,
    prob: Prob = 0.9,
    top: Annotated[int | None, typer.Option(help="Only so many, the largest sure ones.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Has interest risen or fallen since a date, with intervals? A row per user and item."""
    fitted = load(model, device)
    users, items = user_ids(fitted, user), item_ids(fitted, item)
    themes = mapping(theme, "--theme", "NAME=TEXT, e.g. space=planets and stars")
    write(
        fitted.changes(users, items, since, at, prob, themes=themes, top=top, seed=seed),
        out,
    )


@app.command()
def diagnose(
    model: Model,
    events: Later = None,
    items: Items = None,
    n_users: Annotated[int, typer.Option(help="Users whose states are looked at.")] = 200,
    n_draws: Annotated[int, typer.Option(help="Draws of them, at least 100.")] = 400,
    seed: Seed = 0,
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
    out: Out = None,
) -> None:
    """Is this model to be trusted? A row per check: good, look, or do not trust."""
    fitted = load(model, device)
    log = None if events is None else read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    found = fitted.diagnose(log, table, n_users, n_draws, seed)
    counts = found["verdict"].value_counts()
    say(", ".join(f"{verdict}: {count}" for verdict, count in counts.items()))
    for check, reason in found.attrs["absent"].items():
        say(f"note: {check}: {reason}")
    write(found, out)


@app.command()
def recalibrate(
    model: Model,
    events: Later = None,
    items: Items = None,
    method: Annotated[
        str, typer.Option(help="auto, temperature, platt, isotonic or identity.")
    ] = "auto",
    memory: Annotated[int, typer.Option(help="Events of former maps that count, too.")] = 0,
    remove: Annotated[bool, typer.Option("--remove", help="Take the map away instead.")] = False,
    save_to: Annotated[Path | None, typer.Option(help="Another folder to save to.")] = None,
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
) -> None:
    """Learn a map of probabilities from later events, and save the model back with it."""
    if remove == (events is not None):
        raise InputError("recalibrate needs either a log of events or --remove")
    fitted = load(model, device)
    log: Any = None if events is None else read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    fitted.recalibrate(log, table, method, memory)  # type: ignore[arg-type]
    fitted.save(save_to or model)
    mapped = fitted.posterior.recalibration
    if mapped is None:
        say(f"took the map away, saved to {save_to or model}")
        return
    say(f"recalibrated by {mapped.method} from {len(mapped.evidence):,} events")
    say(f"saved to {save_to or model}; update absorbs the events, which this did not")


@app.command()
def summary(model: Model, prob: Prob = 0.9, device: Device = "cpu", out: Out = None) -> None:
    """The global parameters with units and what they mean: how fast interest drifts, and more."""
    write(load(model, device).summary(prob), out)


@app.command()
def report(
    model: Model,
    out: Annotated[Path, typer.Option(help="Page to write, ending in .html.")] = Path(
        "report.html"
    ),
    user: Users = None,
    events: Annotated[
        Path | None, typer.Option(help="Events after those absorbed, to measure calibration.")
    ] = None,
    items: Items = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Items per user.")] = 10,
    since: Annotated[str | None, typer.Option(help="Tell changes since then, ISO 8601.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = REPORT_TITLE,
    prob: Prob = 0.9,
    seed: Seed = 0,
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
) -> None:
    """One page for people: who likes what, how sure, what changed, and whether to trust it."""
    from bayes_interest.report.html import report as write_report

    fitted = load(model, device)
    later = None if events is None else read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    files = write_report(
        fitted, out, user_ids(fitted, user), later, table, prob=prob, k=k, title=title, seed=seed,
        since=since,
    )  # fmt: skip
    say(f"written: {files.html}, {files.markdown.name}, {files.folder.name}/")
