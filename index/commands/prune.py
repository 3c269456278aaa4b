"""`python -m index prune`: deletes the generations that hold something of persons who were purged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from index.commands.location import RootOption, errors_in_one_line, fail, find_root
from index.generation import current_id, list_generations
from index.generation.removal import remove_generation
from server.config import ConfigError, ServerConfig, StoreMode, read_config
from server.events.purge_list import Purge, holds, read_purges
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.errors import StoreError, translated
from server.store.keeper import default_directory
from server.store.layout import StoreDirectory

TIMEOUT_S = 30.0

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store: unix:///path/valkey.sock or valkey://host:port."),
]
ServerConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The server's TOML, which says where store and generations are.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")]


def prune(
    root: RootOption = None,
    store: StoreOption = None,
    config: ServerConfigOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete generations that were trained on purged persons; never the current one."""
    with errors_in_one_line():
        address, directory = _places(root, store, config)
        purges = _purges(address)
        current = current_id(directory)
        deleted = kept = unreadable = 0
        for generation_id in list_generations(directory):
            held = holds(directory, generation_id, purges)
            if held is None:
                print(f"{generation_id}: cannot be read, so nobody knows whom it holds; kept")
                unreadable += 1
            elif held and generation_id == current:
                print(
                    f"{generation_id}: holds purged persons and is current; kept. Publish a new generation, then prune"
                )
                kept += 1
            elif held:
                if not dry_run:
                    remove_generation(directory, generation_id)
                print(f"{generation_id}: {'would be deleted' if dry_run else 'deleted'}")
                deleted += 1
        what = "to delete" if dry_run else "deleted"
        print(f"{len(purges)} purged, {deleted} {what}, {kept} kept as current, {unreadable} unreadable")
        if unreadable:
            raise typer.Exit(1)


def _purges(address: StoreAddress) -> list[Purge]:
    connection: Any = connect(address, timeout_s=TIMEOUT_S)
    try:
        with translated():
            return read_purges(connection)
    except StoreError as error:
        fail(f"{address}: {error}")
    finally:
        connection.close()


def _places(root: Path | None, store: str | None, config: Path | None) -> tuple[StoreAddress, Path]:
    """The store and the directory of generations: each said directly, or by the server's configuration."""
    if config is None:
        if store is None or root is None:
            fail("say where store and generations are: --config server.toml, or --store URL and --root DIR")
        return StoreAddress(store), find_root(root, None)
    try:
        read = read_config(config)
    except ConfigError as error:
        fail(str(error))
    directory = find_root(root if root is not None else read.generations.root, None)
    return StoreAddress(store) if store is not None else _store_of(read), directory


def _store_of(config: ServerConfig) -> StoreAddress:
    if config.store.mode is StoreMode.OFF:
        fail("the server's configuration has no store: store.mode is 'off'; say --store URL")
    if config.store.url is not None:
        return StoreAddress(config.store.url.get_secret_value())
    return StoreDirectory(default_directory(config)).address
