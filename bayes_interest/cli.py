"""The command line: the words of the API, files in and out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import (
    BayesInterestError,
    DataWarning,
    InputError,
    StorageError,
)

if TYPE_CHECKING:  # loaded inside the functions: --help answers at once
    import pandas as pd

    from bayes_interest.events.id_map import IdMap
    from bayes_interest.events.read import EventLog, ItemTable
    from bayes_interest.interest_model import InterestModel
    from bayes_interest.text.encoder import Encoder

TABLES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")
MODEL, RUN = ModelConfig(), FitConfig()
MINILM = "minilm"
ENCODER_HELP = "minilm, hashing, or a folder or hub name of a text model."
USAGE_ERROR = 2


def say(message: object) -> None:
    """A line for people, on stderr: stdout is for tables."""
    typer.echo(str(message), err=True)


@contextmanager
def _notes() -> Iterator[None]:
    """Show the package's own warnings as notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, DataWarning):
                say(f"note: {message}")
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; errors made for people become one line and exit code 2."""
        try:
            with _notes():
                return super().invoke(ctx)
        except BayesInterestError as error:
            say(f"error: {error}")
            raise typer.Exit(USAGE_ERROR) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What each user is interested in, how sure that is, and what to show first.",
)


def _table_path(path: Path | None) -> Path | None:
    if path is not None and not path.name.lower().endswith(TABLES):
        raise typer.BadParameter(f"{path}: unknown extension, supported are {', '.join(TABLES)}")
    return path


Events = Annotated[Path, typer.Argument(help="Interaction log: csv, parquet or jsonl.")]
Items = Annotated[Path | None, typer.Option(help="Item table: item_id and texts.")]
Model = Annotated[Path, typer.Option("--model", help="Folder of the model.")]
Users = Annotated[
    list[str] | None, typer.Option("--user", help="User id; repeat for more. All if none.")
]
ItemIds = Annotated[list[str] | None, typer.Option("--item", help="Item id; repeat for more.")]
Out = Annotated[
    Path | None,
    typer.Option(callback=_table_path, help="csv, parquet or jsonl; CSV on stdout if left out."),
]
Column = Annotated[
    list[str] | None, typer.Option(help="OURS=YOURS: name of a column in the log, e.g. kind=event.")
]
ItemColumn = Annotated[list[str] | None, typer.Option(help="OURS=YOURS for the item table.")]
TextColumn = Annotated[
    list[str] | None, typer.Option(help="Column of the item table to read as text; repeat to join.")
]
TimeUnit = Annotated[str, typer.Option(help="Unit of numeric times: s, ms, us, ns, D or auto.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Prob = Annotated[float, typer.Option(help="Mass of the interval from lower to upper.")]
At = Annotated[str | None, typer.Option(help="Moment of the question, ISO 8601; default: latest.")]
Seed = Annotated[int, typer.Option(help="Same seed, same answer.")]
Repeats = Annotated[bool, typer.Option("--repeats", help="Also items that the user has seen.")]
Emission = Annotated[str, typer.Option(help="auto, bernoulli, choice or rating.")]
Threshold = Annotated[float | None, typer.Option(help="A value from here on is a positive one.")]
StateDim = Annotated[int, typer.Option(help="Dimensions of a user's interest.")]
HalfLife = Annotated[
    float | None, typer.Option(help="Interest returns to average with this half-life.")
]
Epochs = Annotated[int, typer.Option(help="Passes over the log at most.")]
LearningRate = Annotated[float, typer.Option(help="Peak step size.")]
EncoderName = Annotated[str, typer.Option("--encoder", help=ENCODER_HELP)]
Vectors = Annotated[
    Path | None, typer.Option(help="Item vectors instead of texts: item_id and numbers.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"bayes-interest {version('bayes-interest')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show it.")
    ] = False,
) -> None:
    pass


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
    run = FitConfig(device, seed, epochs, learning_rate)
    log = read_log(events, column, time_unit)
    table = read_table(items, item_column, text_column)
    fitted = fit_model(log, table, config, run, make_encoder(encoder, vectors, device))
    fitted.save(model)
    say(f"saved to {model}")


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
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """The k items to show first to each user, under uncertainty."""
    fitted = load(model, device)
    users, candidates = user_ids(fitted, user), item_ids(fitted, candidate)
    slates = fitted.rank(
        users, k, by, at, candidates, exclude_seen=not repeats, prob=prob, seed=seed
    )
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
    device: Device = "cpu",
    column: Column = None,
    item_column: ItemColumn = None,
    text_column: TextColumn = None,
    time_unit: TimeUnit = "auto",
) -> None:
    """Absorb new events without a refit, and save the model back."""
    fitted = load(model, device)
    log = read_log(events, column, time_unit)
    fitted.update(log, read_table(items, item_column, text_column))
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
    run = FitConfig(device, seed, epochs, learning_rate)
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


def read_log(path: Path, column: list[str] | None, time_unit: str) -> EventLog:
    """The log, with what reading dropped told on stderr."""
    from bayes_interest.events.read import read_events

    log = read_events(path, columns=mapping(column), time_unit=time_unit)
    say(f"{path}: {log.report}")
    return log


def read_table(
    path: Path | None, column: list[str] | None, text_column: list[str] | None
) -> ItemTable | None:
    """The item table, with what reading dropped told on stderr."""
    from bayes_interest.events.read import read_items

    if path is None:
        if column or text_column:
            raise InputError("--item-column and --text-column need --items")
        return None
    table = read_items(path, columns=mapping(column), text_columns=text_column or None)
    say(f"{path}: {table.report}")
    return table


def mapping(pairs: list[str] | None) -> dict[str, str] | None:
    """OURS=YOURS pairs as a mapping. Raises InputError for anything else."""
    parts = [pair.partition("=") for pair in pairs or []]
    for ours, sign, yours in parts:
        if not (ours and sign and yours):
            raise InputError(f"--column {ours}{sign}{yours}: expected OURS=YOURS, e.g. kind=event")
    return {ours: yours for ours, _, yours in parts} or None


def make_encoder(name: str, vectors: Path | None, device: str) -> Encoder:
    """The encoder for a name, or the vectors of a file."""
    if vectors is not None:
        from bayes_interest.events.read import read_items
        from bayes_interest.text.precomputed import PrecomputedVectors

        if name != MINILM:
            raise InputError("give --encoder or --vectors, not both")
        return PrecomputedVectors(read_items(vectors).frame.drop(columns="text"))
    if name == "hashing":
        from bayes_interest.text.hashing import HashingEncoder

        return HashingEncoder()
    from bayes_interest.text.encoder import TextEncoder

    return TextEncoder(None if name == MINILM else name, device=device)


def fit_model(
    log: EventLog, table: ItemTable | None, config: ModelConfig, run: FitConfig, encoder: Encoder
) -> InterestModel:
    """Fit, and tell in some lines how it went."""
    from bayes_interest.interest_model import InterestModel

    model = InterestModel(config, encoder).fit(log, table, run)
    history = model.fit_report()
    about = history.attrs
    loss = f", loss {history['loss'].iloc[-1]:.4f}" if len(history) else ""
    say(f"fitted for {about['best_epoch']} epochs{loss}, {about['seconds']:.1f} s")
    for note in about["notes"]:
        say(f"note: {note}")
    return model


def load(folder: Path, device: str) -> InterestModel:
    """A saved model."""
    from bayes_interest.interest_model import InterestModel

    return InterestModel.load(folder, device)


def user_ids(model: InterestModel, given: list[str] | None) -> list[Any] | None:
    """User ids as the model knows them; None for all."""
    return typed_ids(given, model.posterior.vocabulary.users, "user") if given else None


def item_ids(model: InterestModel, given: list[str] | None) -> list[Any] | None:
    """Item ids as the model knows them; None for all."""
    return typed_ids(given, model.posterior.vocabulary.items, "item") if given else None


def typed_ids(given: list[str], known: IdMap, name: str) -> list[Any]:
    """Ids from the command line as integers where the known ids are. Raises InputError."""
    if not all(isinstance(key, int) for key in known.ids.tolist()):
        return list(given)
    for text in given:
        if not text.removeprefix("-").isdecimal() or str(int(text)) != text:
            example = known.ids[0] if len(known) else 17
            raise InputError(
                f"{name} {text!r}: the {name} ids of this model are whole numbers, e.g. {example}"
            )
    return [int(text) for text in given]


def write(table: pd.DataFrame, out: Path | None) -> None:
    """A table to a file by its extension, or as CSV to stdout. Raises StorageError."""
    if out is None:
        typer.echo(table.to_csv(index=False, float_format="%.6g"), nl=False)
        return
    name = out.name.lower()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            table.to_parquet(out, index=False)
        elif ".csv" in name:
            table.to_csv(out, index=False)
        else:
            table.to_json(out, orient="records", lines=True, date_format="iso", date_unit="us")
    except OSError as cause:
        raise StorageError(f"{out}: cannot be written: {cause}") from cause


def main() -> None:
    """Run the command line."""
    app()
