"""The command line: the words of the API, files in and out."""

from __future__ import annotations

from bayes_interest.cli import commands, questions
from bayes_interest.cli.files import mapping, typed_ids
from bayes_interest.cli.options import app

__all__ = ["app", "commands", "main", "mapping", "questions", "typed_ids"]


def main() -> None:
    """Run the command line."""
    app()
