"""The commands for the way of a model: demo, fit, questions of every day, update, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bayes_interest.cli.files import (
    fit_model,
    item_ids,
    load,
    make_encoder,
    read_log,
    read_table,
    user_ids,
    write,
)
from bayes_interest.cli.options import (
    ENCODER_HELP,
    MODEL,
    RUN,
    At,
    Column,
    Device,
    Emission,
    EncoderName,
    Epochs,
    Events,
    HalfLife,
    Holdout,
    ItemColumn,
    ItemIds,
    Items,
    LearningRate,
    Model,
    NMembers,
    Out,
    Prob,
    Repeats,
    Seed,
    StateDim,
    TextColumn,
    Threshold,
    TimeUnit,
    Users,
    Vectors,
    app,
    say,
)
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("out/demo"),
    data: Annotated[Path | None, typer.Option(help="Folder of the bundled data.")] = None,
    epochs: Epochs = RUN.max_epochs,
    encoder: Annotated[str | None, typer.Option(help=ENCODER_HELP)] = None,
) -> None:
    """Show the package at work on an invented log of which the truth is known."""
    from bayes_interest.demo import run_demo

    run_demo(out, data, epochs, None if encoder is None else make_encoder(encoder, None, "auto"))


@app.command()
def fit(
    events: Events,
    model: Model,
    items: Items = None,
    emission: Emission = MODEL.emission,
    threshold: Threshold = None,
    state_dim: StateDim = MODEL.state_dim,
    half_life_days: HalfLife = None,
    epochs: Epochs = RUN.max_epochs,
    learning_rate: LearningRate = RUN.learning_rate,
    holdout: Holdout = RUN.holdout,
    n_members: NMembers = None,
    device: Device = RUN.device,
    seed: Seed = RUN.seed,
    encoder: EncoderName = "minilm",
    vectors: Vectors = None,
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
) -> None:
    """Learn from a log and item texts, and save the model."""
    config = ModelConfig(emission, state_dim, threshold, half_life_days)  # type: ignore[arg-type]
    run = _run(device, seed, epochs, learning_rate, holdout, n_members)
    log = read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    fitted = fit_model(log, table, config, run, make_encoder(encoder, vectors, device))
    fitted.save(model)
    say(f"saved to {model}")


def _run(
    device: str,
    seed: int,
    epochs: int,
    learning_rate: float,
    holdout: float,
    n_members: int | None,
) -> FitConfig:
    many: int | Literal["auto"] = "auto" if n_members is None else n_members
    return FitConfig(device, seed, epochs, learning_rate, holdout=holdout, n_members=many)


@app.command()
def interest(
    model: Model,
    user: Users = None,
    item: ItemIds = None,
    at: At = None,
    prob: Prob = 0.9,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Interest probabilities with intervals: a row per user and item."""
    fitted = load(model, device)
    users, items = user_ids(fitted, user), item_ids(fitted, item)
    write(fitted.interest(users, items, at=at, prob=prob), out)


@app.command()
def rank(
    model: Model,
    user: Users = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Items per user.")] = 10,
    by: Annotated[str, typer.Option(help="mean, lower, upper, thompson or p_top_k.")] = "mean",
    at: At = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Item id allowed now; repeat. All items if none.")
    ] = None,
    repeats: Repeats = False,
    prob: Prob = 0.9,
    seed: Seed = 0,
    exploration: Annotated[
        float, typer.Option(help="thompson: 1 follows the draw, 0 the mean.")
    ] = 1.0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """The k items to show first to each user, under uncertainty."""
    fitted = load(model, device)
    users, candidates = user_ids(fitted, user), item_ids(fitted, candidate)
    slates = fitted.rank(
        users, k, by, at, candidates, exclude_seen=not repeats, prob=prob, seed=seed,
        exploration=exploration,
    )  # fmt: skip
    write(slates, out)


@app.command()
def trajectory(
    model: Model,
    user: Users = None,
    item: ItemIds = None,
    every_days: Annotated[
        float | None, typer.Option(help="A grid of days; default: at each of the user's events.")
    ] = None,
    prob: Prob = 0.9,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Interest over time given all events, with intervals. Never use it to score the past."""
    fitted = load(model, device)
    users, items = user_ids(fitted, user), item_ids(fitted, item)
    if not users or not items:
        raise InputError("trajectory needs at least one --user and one --item")
    write(fitted.trajectory(users, items, every_days, prob), out)


@app.command()
def update(
    events: Events,
    model: Model,
    items: Items = None,
    save_to: Annotated[Path | None, typer.Option(help="Another folder to save to.")] = None,
    learn_items: Annotated[
        bool, typer.Option("--learn-items", help="Events teach about items as well as users.")
    ] = False,
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
) -> None:
    """Absorb new events without a refit, and save the model back."""
    fitted = load(model, device)
    log = read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    fitted.update(log, table, learn_items=learn_items)
    fitted.save(save_to or model)
    say(f"absorbed {len(log):,} events, saved to {save_to or model}")


@app.command()
def score(
    events: Events,
    model: Model,
    items: Items = None,
    repeats: Repeats = False,
    prob: Prob = 0.9,
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
    out: Out = None,
) -> None:
    """Predict every event from what came before it; the saved model stays as it is."""
    fitted = load(model, device)
    log = read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    write(fitted.score_events(log, table, exclude_seen=not repeats, prob=prob), out)


@app.command()
def evaluate(
    events: Events,
    items: Items = None,
    fraction: Annotated[float, typer.Option(help="Share of the events to test on.")] = 0.1,
    k: Annotated[int, typer.Option("-k", "--k", help="Length of the judged lists.")] = 10,
    repeats: Repeats = False,
    emission: Emission = MODEL.emission,
    threshold: Threshold = None,
    state_dim: StateDim = MODEL.state_dim,
    half_life_days: HalfLife = None,
    epochs: Epochs = RUN.max_epochs,
    learning_rate: LearningRate = RUN.learning_rate,
    holdout: Holdout = RUN.holdout,
    n_members: NMembers = None,
    device: Device = RUN.device,
    seed: Seed = RUN.seed,
    encoder: EncoderName = "minilm",
    vectors: Vectors = None,
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
    out: Out = None,
) -> None:
    """Fit on the early part of a log and compare with simple rivals on the late part."""
    from bayes_interest.baselines.compare import compare
    from bayes_interest.events.split import split_by_time

    config = ModelConfig(emission, state_dim, threshold, half_life_days)  # type: ignore[arg-type]
    run = _run(device, seed, epochs, learning_rate, holdout, n_members)
    train, test = split_by_time(read_log(events, column, time_unit), fraction=fraction)
    table = read_table(items, item_column, text_column)
    fitted = fit_model(train, table, config, run, make_encoder(encoder, vectors, device))
    write(compare(fitted, train, test, table, exclude_seen=not repeats, k=k), out)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 200,
    items: Annotated[int, typer.Option(help="Number of items.")] = 100,
    events_per_user: Annotated[int, typer.Option(help="On average.")] = 50,
    emission: Annotated[str, typer.Option(help="bernoulli, choice or rating.")] = "bernoulli",
    drift_scale: Annotated[
        list[float] | None, typer.Option(help="Per sqrt day, one per dimension; repeat.")
    ] = None,
    days: Annotated[float, typer.Option(help="Length of the log.")] = 365.0,
    seed: Seed = 0,
) -> None:
    """Draw a log from the model: events, item vectors and the truth behind them."""
    from bayes_interest.model.simulate import simulate as draw

    scales = tuple(drift_scale or (0.02, 0.1))
    drawn = draw(users, items, events_per_user, emission, scales, days=days, seed=seed)  # type: ignore[arg-type]
    write(drawn.events.frame, out / "events.csv")
    write(drawn.vectors, out / "vectors.parquet")
    write(drawn.event_truth, out / "event_truth.csv")
    write(drawn.final_truth, out / "final_truth.csv")
    say(f"{len(drawn.events):,} events of {users:,} users, written to {out}")
