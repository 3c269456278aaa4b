"""`python -m server.store status | backup TARGET | restore SOURCE [--config FILE]`: the store, for operators."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from server.config import ConfigError, ServerConfig, StoreMode, read_config
from server.store.address import StoreAddress
from server.store.backup import Backup, back_up, restore
from server.store.connection import connect, read_facts, warnings_of
from server.store.errors import StoreError
from server.store.keeper import default_directory
from server.store.layout import StoreDirectory

ASKING_S = 5.0
EXTERNAL = (
    "the store is external (store.mode): back it up and restore it with its own means, such as its provider's "
    "snapshots, or BGSAVE and a copy of its dump file"
)


def main() -> int:
    """The command; 0 when it did what was asked, 1 when it could not, 2 when it was asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m server.store", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the server's TOML file")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="whether the store answers, and what it holds")
    backup = commands.add_parser("backup", help="while the server runs: writes a verified copy")
    backup.add_argument("target", type=Path, help="a directory that does not exist yet, or is empty")
    restoring = commands.add_parser("restore", help="while no server runs: makes the store's files from a backup")
    restoring.add_argument("source", type=Path, help="the directory that backup wrote")
    arguments = parser.parse_args()
    try:
        config = read_config(arguments.config)
        if config.store.mode is StoreMode.OFF:
            raise ConfigError("store.mode is 'off': there is no store")
        if arguments.command == "status":
            return _status(config)
        if config.store.mode is StoreMode.EXTERNAL:
            raise ConfigError(EXTERNAL)
        directory = default_directory(config)
        if arguments.command == "backup":
            _tell("backed up", back_up(directory, arguments.target))
        else:
            _tell(f"restored into {directory}", restore(arguments.source, directory))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _status(config: ServerConfig) -> int:
    if config.store.url is not None:
        address = StoreAddress(config.store.url.get_secret_value())
    else:
        path = default_directory(config)
        if not path.is_dir():
            raise StoreError(f"{path} does not exist: no server has run with it yet")
        directory = StoreDirectory(path)
        address = directory.address
        print(f"directory   {directory.path}")
        print(f"server      {'looks after it' if directory.is_held('owner') else 'none'}")
    print(f"address     {address}")
    client = connect(address, timeout_s=ASKING_S)
    try:
        facts = read_facts(client)
    finally:
        client.connection_pool.disconnect()
    print(f"state       {f'loads its file, {facts.loading_part:.0%}' if facts.loading else 'up'}")
    print(f"version     {facts.version}, process {facts.process_id}")
    fsync = {"always": "always", "no": "every_second, by the server", "everysec": "everysec, by the store"}
    print(f"durability  {fsync.get(facts.aof_fsync, facts.aof_fsync) if facts.aof_enabled else 'none'}")
    print(f"file        {'written' if facts.aof_write_ok else 'CANNOT BE WRITTEN: disk full?'}")
    limit = f" of {facts.memory_bytes_max / 1e6:,.0f} MB" if facts.memory_bytes_max else ""
    print(f"memory      {facts.memory_bytes / 1e6:,.1f} MB{limit}")
    print(f"keys        {facts.key_count:,}")
    for warning in warnings_of(facts):
        print(f"warning     {warning}")
    return 0


def _tell(what: str, backup: Backup) -> None:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(backup.made_at_s))
    print(f"{what}: {backup.directory}, {backup.file_count} files, {backup.size_bytes:,} bytes, of {made}")


if __name__ == "__main__":
    sys.exit(main())
