"""`python -m towers COMMAND`: the learning side's commands.

A command module imports what is heavy (torch) inside its function, so that every other command starts at once.
"""

from __future__ import annotations

import sys

import typer

from towers.commands.benchmark import benchmark
from towers.commands.evaluate import evaluate
from towers.commands.ingest import ingest
from towers.commands.report import report
from towers.commands.train import train
from towers.commands.tune import tune
from towers.commands.update import update
from towers.schema import DataError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Learn a shop's towers.")
app.command()(ingest)
app.command()(train)
app.command()(evaluate)
app.command()(report)
app.command()(update)
app.command()(tune)
app.command()(benchmark)


@app.callback()
def _always_name_the_command() -> None:
    """With one command only, typer would not ask for its name."""


def main() -> None:
    """Run a command; what is wrong with config or data is one line on stderr and exit status 1."""
    try:
        app()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
