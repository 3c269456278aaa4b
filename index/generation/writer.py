"""Write a generation: into a temporary directory beside the others, fsynced, then renamed to its id in one step.

A writer that is killed leaves a directory `.tmp-…` that nobody reads and that a later publish removes after a day.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from index.generation.durable import fsync_path, write_durably
from index.generation.errors import FileNameInvalid, MissingFile, NotRegularFile, PublishError, UnexpectedFile
from index.generation.layout import MANIFEST_NAME, SIGNATURE_NAME, TEMPORARY_PREFIX, check_file_name
from index.generation.manifest import manifest_id, new_manifest
from index.generation.pointer import current_id
from index.generation.reader import hash_file
from index.generation.signature import sign

_ABANDONED_AFTER_S = 24 * 3600
"""A temporary directory without a change for so long has no writer any more."""


class GenerationWriter:
    """One new generation; a context manager that removes what was not published."""

    def __init__(self, root: Path, key: bytes | None = None) -> None:
        """Begin a generation under `root`, made when missing; signed when there is a `key`."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._key = key
        self._names: set[str] = set()
        self._published = False
        self._directory = root / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        self._directory.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()

    def path(self, name: str) -> Path:
        """Where to write the file of that name before `publish`. Raises FileNameInvalid, PublishError."""
        if self._published:
            raise PublishError(f"{name}: the generation has been published and takes no more files")
        check_file_name(name)
        if name in self._names:
            raise FileNameInvalid(f"{name} is already in the generation")
        self._names.add(name)
        return self._directory / name

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file of this content."""
        self.path(name).write_bytes(data)

    def add_file(self, name: str, source: Path) -> None:
        """Add a copy of a file."""
        shutil.copyfile(source, self.path(name))

    def publish(self, metadata: Mapping[str, Any]) -> str:
        """Make the generation visible under its id, all at once and on the disk; CURRENT stays as it is.

        `metadata` is JSON. Returns the id. Raises PublishError, FileError, ManifestError, OSError.
        """
        if self._published:
            raise PublishError("the generation has been published already")
        _remove_abandoned(self._root, self._directory)
        self._check_files()
        files = {name: hash_file(self._directory / name) for name in sorted(self._names)}
        manifest = new_manifest(current_id(self._root), datetime.now(UTC), files, metadata)
        data = manifest.to_bytes()
        generation_id = manifest_id(manifest, data)
        write_durably(self._directory / MANIFEST_NAME, data)
        if self._key is not None:
            write_durably(self._directory / SIGNATURE_NAME, sign(data, self._key))
        for name in files:
            (self._directory / name).chmod(0o644)  # some libraries write for the owner only; a server may be another
            fsync_path(self._directory / name)
        fsync_path(self._directory)
        try:
            os.rename(self._directory, self._root / generation_id)
        except OSError as error:
            raise PublishError(f"generation {generation_id} cannot be published: {error.strerror}") from error
        self._published = True
        fsync_path(self._root)
        return generation_id

    def discard(self) -> None:
        """Remove what has been written, unless it was published."""
        if not self._published:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _check_files(self) -> None:
        found = {entry.name: entry for entry in os.scandir(self._directory)}
        for name in sorted(self._names):
            if name not in found:
                raise MissingFile(f"{name} was announced to the writer and never written")
            if not found[name].is_file(follow_symlinks=False):
                raise NotRegularFile(f"{name} is not a regular file")
        if unexpected := sorted(found.keys() - self._names):
            raise UnexpectedFile(f"{unexpected[0]} was written into the generation without asking the writer")


def _remove_abandoned(root: Path, own: Path) -> None:
    """Remove what killed writers left, once nothing in it has changed for a day."""
    oldest_s = time.time() - _ABANDONED_AFTER_S
    for directory in root.glob(f"{TEMPORARY_PREFIX}*"):
        if directory == own:
            continue
        try:
            changed_s = max(path.lstat().st_mtime for path in [directory, *directory.rglob("*")])
        except FileNotFoundError:
            continue  # its writer has just published or discarded it
        if changed_s >= oldest_s:
            continue
        if directory.is_dir() and not directory.is_symlink():
            shutil.rmtree(directory, ignore_errors=True)
        else:
            directory.unlink(missing_ok=True)
