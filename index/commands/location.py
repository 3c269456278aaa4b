"""Where a command finds the generations and the signature key: `--root`, or `--config` of a shop."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from index.generation import GenerationError, read_key

RootOption = Annotated[Path | None, typer.Option("--root", help="The directory of generations.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A shop's TOML: its generations lie in <work_dir>/generations.")
]
KeyOption = Annotated[
    Path | None, typer.Option("--key-file", help="The signature key; unsigned generations are then refused.")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A generation's id.")]


def find_root(root: Path | None, config: Path | None) -> Path:
    """The directory of generations; ends the command when it is not told or not there."""
    if (root is None) == (config is None):
        fail("say where the generations are: either --root DIR or --config shop.toml")
    found = root if root is not None else _root_of_shop(config)
    if not found.is_dir():
        fail(f"there is no directory of generations {found}")
    return found


def find_key(key_file: Path | None) -> bytes | None:
    """The signature key, when there is one. Raises SignatureKeyInvalid."""
    return None if key_file is None else read_key(key_file)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with a generation in one line on stderr and exit with 1."""
    try:
        yield
    except (GenerationError, OSError) as error:
        fail(str(error))


def print_table(table: object) -> None:
    """Print a rich table, wide enough for an id when stdout is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def fail(message: str) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(1)


def _root_of_shop(config: Path | None) -> Path:
    assert config is not None
    try:
        work_dir = tomllib.loads(config.read_text("utf-8"))["shop"]["work_dir"]
    except OSError as error:
        fail(f"{config} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"{config} is not TOML: {error}")
    except (KeyError, TypeError):
        fail(f"{config} has no [shop] work_dir")
    if not isinstance(work_dir, str):
        fail(f"{config}: [shop] work_dir is {work_dir!r}, not a string")
    return Path(work_dir) / "generations"
