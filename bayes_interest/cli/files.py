"""What commands read and write: logs, tables, models, ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bayes_interest.cli.options import MINILM, say
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import InputError, StorageError

if TYPE_CHECKING:  # loaded inside the functions: --help answers at once
    import pandas as pd

    from bayes_interest.events.id_map import IdMap
    from bayes_interest.events.read import EventLog, ItemTable
    from bayes_interest.interest_model import InterestModel
    from bayes_interest.text.encoder import Encoder


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


def titles(path: Path | None, column: str) -> dict[Any, str] | None:
    """item_id to title from an item table. Raises InputError without such a column."""
    from bayes_interest.events.read import read_items

    if path is None:
        return None
    frame = read_items(path, text_columns=[column]).frame
    return dict(zip(frame["item_id"], frame["text"], strict=True))


def draw(panel: Any, path: Path) -> None:
    """A picture to a file by its extension. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        panel.figure.savefig(path)
    except (OSError, ValueError) as cause:
        raise StorageError(f"{path}: cannot be drawn: {cause}") from cause


def mapping(
    pairs: list[str] | None, option: str = "--column", wanted: str = "OURS=YOURS, e.g. kind=event"
) -> dict[str, str] | None:
    """NAME=VALUE pairs of an option as a mapping. Raises InputError for anything else."""
    parts = [pair.partition("=") for pair in pairs or []]
    for name, sign, value in parts:
        if not (name and sign and value):
            raise InputError(f"{option} {name}{sign}{value}: expected {wanted}")
    return {name: value for name, _, value in parts} or None


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
    from bayes_interest.progress import shown

    model = InterestModel(config, encoder).fit(log, table, run)
    history = model.fit_report()
    about = history.attrs
    if not shown():  # else the fit has said so at its beginning
        say(f"emission: {about['emission']} ({about['reason']})")
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
