"""Backup and restore of the embedded store: its append-only files up to one moment, with checksums.

A backup is taken while the store lives: its file is rewritten first, so that the backup is compact; then rewriting is
held off, and each file is copied up to the length that it has. Files only grow, so a length is a moment: all that was
acknowledged before the backup began is in it. Valkey's own checkers read the copies before they are called a backup.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.store.connection import connect
from server.store.errors import StoreError, StoreUnavailable, translated
from server.store.layout import StoreDirectory
from server.store.process import server_binary
from server.store.syncing import manifest_lines

CONTENTS_NAME = "backup.json"
FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20
POLL_S = 0.05
CHECK_PATIENCE_S = 3_600.0
GRABS_MAX = 20


class BackupError(StoreError):
    """The backup cannot be made, is not whole, or must not be restored there."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    directory: Path
    file_count: int
    size_bytes: int
    made_at_s: float


def back_up(store_directory: Path, target: Path, *, patience_s: float = 3_600.0) -> Backup:
    """Writes a backup of the living store into `target`, which must not exist or be empty.

    Raises:
        BackupError, StoreUnavailable: nothing usable was written; `target` is as it was.
    """
    if not store_directory.is_dir():
        raise BackupError(f"{store_directory} does not exist: there is no embedded store to back up")
    _refuse_full(target)
    directory = StoreDirectory(store_directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    client: Any = connect(directory.address, timeout_s=5.0)
    try:
        _rewrite(client, patience_s)
        with _no_rewrites(client):
            _until_no_rewrite(client, patience_s)
            files = _grab(directory, partial)
        made_at_s = time.time()
        contents = {"format": FORMAT_VERSION, "made_at_s": made_at_s, "files": files}
        _write_synced(partial / CONTENTS_NAME, json.dumps(contents, indent=1).encode())
        verify(partial)
        _sync_folder(partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise BackupError(f"the backup cannot be written: {error}") from error
    finally:
        client.close()
        shutil.rmtree(partial, ignore_errors=True)
    return Backup(target, len(files), sum(file["size_bytes"] for file in files), made_at_s)


def verify(source: Path) -> Backup:
    """Compares every file with its checksum, and has Valkey's own checker read the data.

    Raises:
        BackupError: it is no backup, or not whole; names the file.
    """
    try:
        contents = json.loads((source / CONTENTS_NAME).read_bytes())
        if contents["format"] != FORMAT_VERSION:
            raise BackupError(f"{source}: format {contents['format']}; this version reads {FORMAT_VERSION}")
        files = {str(file["name"]): file for file in contents["files"]}
        made_at_s = float(contents["made_at_s"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{source} is no backup: {CONTENTS_NAME} cannot be read: {error}") from error
    for name, file in files.items():
        if Path(name).name != name:
            raise BackupError(f"{source}: {CONTENTS_NAME} names {name!r}, which is no plain file name")
        path = source / name
        if not path.is_file():
            raise BackupError(f"{path} is missing")
        found = _sha256(path)
        if found != file["sha256"]:
            raise BackupError(f"{path} has SHA-256 {found}, expected {file['sha256']}")
    for name in files:
        if not name.endswith(".manifest"):
            _check_data(source / name)
    return Backup(source, len(files), sum(int(file["size_bytes"]) for file in files.values()), made_at_s)


def restore(source: Path, store_directory: Path) -> Backup:
    """Makes the store's directory out of a backup; the next server's store starts with it.

    Raises:
        BackupError: the backup is not whole, the directory holds data, or its store is running.
    """
    backup = verify(source)
    directory = StoreDirectory(store_directory)
    living = directory.lock("living")
    if living is None:
        raise BackupError(f"the store of {store_directory} is running: stop the server first")
    try:
        if directory.data.exists() and any(directory.data.iterdir()):
            raise BackupError(f"{directory.data} holds data, which is never overwritten: move it away first")
        partial = directory.path / "appendonlydir.new"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        for path in source.iterdir():
            if path.name != CONTENTS_NAME:
                _copy(path, partial / path.name, path.stat().st_size)
        _sync_folder(partial)
        if directory.data.exists():
            directory.data.rmdir()
        partial.rename(directory.data)
        _sync_folder(directory.path)
    except OSError as error:
        raise BackupError(f"the backup cannot be restored: {error}") from error
    finally:
        living.release()
    return backup


def _refuse_full(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} exists and is not an empty directory")


def _rewrite(client: Any, patience_s: float) -> None:
    """A fresh rewrite, so that the backup is as small as it can be."""
    with translated():
        before = _persistence(client)
        if not before["aof_enabled"]:
            raise BackupError("the store has no append-only file")
        if not before["aof_rewrite_in_progress"]:
            client.bgrewriteaof()
    _until_no_rewrite(client, patience_s)
    with translated():
        if _persistence(client)["aof_last_bgrewrite_status"] != "ok":
            raise BackupError("the store could not rewrite its file; its log says why")


def _until_no_rewrite(client: Any, patience_s: float) -> None:
    give_up_at_s = time.monotonic() + patience_s
    while True:
        with translated():
            now = _persistence(client)
        if not now["aof_rewrite_in_progress"] and not now["aof_rewrite_scheduled"]:
            return
        if time.monotonic() > give_up_at_s:
            raise StoreUnavailable(f"the store's rewrite of its file is not done after {patience_s:g} s")
        time.sleep(POLL_S)


@contextmanager
def _no_rewrites(client: Any) -> Iterator[None]:
    """Files are replaced by rewrites; while they are copied none begins."""
    with translated():
        before = client.config_get("auto-aof-rewrite-percentage")["auto-aof-rewrite-percentage"]
        client.config_set("auto-aof-rewrite-percentage", 0)
    try:
        yield
    finally:
        with translated():
            client.config_set("auto-aof-rewrite-percentage", before)


def _grab(directory: StoreDirectory, partial: Path) -> list[dict[str, Any]]:
    lines = manifest_lines(directory)
    manifest = partial / directory.manifest.name
    _write_synced(manifest, "".join(f"{line}\n" for line in lines).encode())
    for line in lines:
        name = line.split()[1]
        for attempt in range(GRABS_MAX):
            _copy(directory.data / name, partial / name, (directory.data / name).stat().st_size)
            try:
                _check_data(partial / name)
                break
            except BackupError:
                if attempt == GRABS_MAX - 1:
                    raise
            (partial / name).unlink()  # its length was taken in the midst of a write
    return [
        {"name": path.name, "size_bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(partial.iterdir())
    ]


def _copy(source: Path, target: Path, size_bytes: int) -> None:
    """The first `size_bytes` of a file, on disk when it returns."""
    with source.open("rb") as read, target.open("xb") as written:
        os.fchmod(written.fileno(), 0o600)
        left = size_bytes
        while left:
            chunk = read.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise BackupError(f"{source} became shorter while it was copied")
            written.write(chunk)
            left -= len(chunk)
        written.flush()
        os.fsync(written.fileno())


def _check_data(path: Path) -> None:
    """Has Valkey's own checkers read a file: the server's binary is these too, when it is called so."""
    checker = "valkey-check-rdb" if path.suffix == ".rdb" else "valkey-check-aof"
    checked = subprocess.run(  # noqa: S603
        [checker, str(path)],
        executable=server_binary(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHECK_PATIENCE_S,
    )
    if checked.returncode != 0:
        raise BackupError(f"{path}: the data is damaged: {checked.stdout.strip()[-500:]}")


def _persistence(client: Any) -> dict[str, Any]:
    return dict(client.info("persistence"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
