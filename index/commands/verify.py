"""`python -m index verify`: compare every checksum of one generation, of the current one, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from index.commands.location import (
    ConfigOption,
    KeyOption,
    RootOption,
    errors_in_one_line,
    fail,
    find_key,
    find_root,
    print_table,
)
from index.generation import current_id, list_generations, open_generation


def verify(
    generation_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the current one.")] = None,
    root: RootOption = None,
    config: ConfigOption = None,
    key_file: KeyOption = None,
    every: Annotated[bool, typer.Option("--all", help="Verify every generation.")] = False,
) -> None:
    """Verify a generation's manifest and files; says what is wrong first and exits with 1."""
    with errors_in_one_line():
        directory = find_root(root, config)
        key = find_key(key_file)
        for wanted in _wanted(directory, generation_id, every):
            generation = open_generation(directory, wanted, key)
            table = Table("file", "bytes", "SHA-256", title=f"{wanted}: verified")
            for name, entry in sorted(generation.manifest.files.items()):
                table.add_row(name, f"{entry.size_bytes:,}", entry.sha256)
            print_table(table)


def _wanted(root: Path, generation_id: str | None, every: bool) -> list[str]:
    if every:
        return list_generations(root)
    wanted = generation_id or current_id(root)
    if wanted is None:
        fail(f"{root} has no current generation; name one")
    return [wanted]
