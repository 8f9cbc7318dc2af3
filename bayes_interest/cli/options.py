"""The program, its options in one place, and how errors and notes are told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import BayesInterestError, DataWarning

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

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Whole sentences, wrapped; what is inherited cuts them to one line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, of.help or "") for name, of in self.commands.items()])


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
    rich_markup_mode=None,  # plain help: loading rich takes longer than all the rest
    help="What each user is interested in, how sure that is, and what to show first.",
)


def _table_path(path: Path | None) -> Path | None:
    if path is not None and not path.name.lower().endswith(TABLES):
        raise typer.BadParameter(f"{path}: unknown extension, supported are {', '.join(TABLES)}")
    return path


Events = Annotated[
    Path, typer.Argument(help="Interaction log: csv, jsonl, parquet or a folder of it.")
]
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
Holdout = Annotated[
    float, typer.Option(help="Last share of time held back to stop early; 0 trains for --epochs.")
]
NMembers = Annotated[
    int | None,
    typer.Option(
        help="Draws of the globals that predictions integrate over; 1 is quick. 16 where all can "
        "be drawn if not given."
    ),
]
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
