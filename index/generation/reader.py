"""Open a generation: nothing in it is parsed before its SHA-256 has been compared.

The order: the manifest's hash against the id (and its signature, when a key is given), then the manifest itself, then
the directory's entries against the manifest, then every file's size and SHA-256. Only then does the caller get a path.
With a seal (index.generation.seal) the files that have not changed since another process hashed them are not hashed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from index.generation.errors import (
    ChecksumMismatch,
    GenerationNotFound,
    MissingFile,
    NotRegularFile,
    SizeMismatch,
    UnexpectedFile,
)
from index.generation.layout import MANIFEST_NAME, SIGNATURE_NAME, generation_directory, is_generation_id
from index.generation.manifest import MANIFEST_SIZE_BYTES_MAX, FileEntry, Manifest, parse_manifest
from index.generation.seal import FileMark, Seal
from index.generation.signature import SIGNATURE_SIZE_BYTES_MAX, check_signature

_CHUNK_SIZE_BYTES = 16 * 2**20
"""Of one read. Reading and hashing go on without the interpreter's lock, but each chunk has to get it back twice, which
takes up to 5 ms while another thread imports."""


@dataclass(frozen=True)
class Generation:
    """A generation whose every file has been verified; `seal` spares the next process that opens it the hashing."""

    id: str
    directory: Path
    manifest: Manifest
    seal: Seal

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files, without the manifest's."""
        return tuple(sorted(self.manifest.files))

    def path(self, name: str) -> Path:
        """Where a file lies. Raises MissingFile when the generation has none of that name."""
        self._entry(name)
        return self.directory / name

    def bytes(self, name: str) -> bytes:
        """A small file's content, its checksum compared once more. Raises FileError."""
        entry = self._entry(name)
        data = _read(self.id, self.directory / name, entry.size_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise ChecksumMismatch(f"generation {self.id}: {name} has SHA-256 {found}, expected {entry.sha256}")
        return data

    def _entry(self, name: str) -> FileEntry:
        if name not in self.manifest.files:
            listed = ", ".join(sorted(self.manifest.files))
            raise MissingFile(f"generation {self.id} has no file {name}; it has {listed}")
        return self.manifest.files[name]


def open_generation(root: Path, generation_id: str, key: bytes | None = None, seal: Seal | None = None) -> Generation:
    """Verify a generation and open it. With a `key`, an unsigned one is refused. Raises GenerationError, OSError.

    Files whose mark is in the `seal`, which a process of the same server made, are not hashed again.
    """
    manifest = read_manifest(root, generation_id, key)
    directory = generation_directory(root, generation_id)
    _check_entries(generation_id, directory, manifest)
    marks: dict[str, FileMark] = {}
    for name, entry in sorted(manifest.files.items()):
        if (mark := _check_file(generation_id, directory / name, entry, seal)) is not None:
            marks[name] = mark
    return Generation(generation_id, directory, manifest, Seal(generation_id=generation_id, marks=marks))


def read_manifest(root: Path, generation_id: str, key: bytes | None = None) -> Manifest:
    """The manifest alone, verified; the other files are not looked at. Raises GenerationError, OSError."""
    directory = generation_directory(root, generation_id)
    try:
        mode = directory.lstat().st_mode
    except FileNotFoundError as error:
        raise GenerationNotFound(f"there is no generation {generation_id} in {root}") from error
    if not stat.S_ISDIR(mode):
        raise NotRegularFile(f"generation {generation_id} is not a directory (links are not followed)")
    data = _read(generation_id, directory / MANIFEST_NAME, MANIFEST_SIZE_BYTES_MAX)
    if key is not None:
        signature_path = directory / SIGNATURE_NAME
        signed = os.path.lexists(signature_path)
        signature = _read(generation_id, signature_path, SIGNATURE_SIZE_BYTES_MAX) if signed else None
        check_signature(generation_id, data, signature, key)
    return parse_manifest(generation_id, data)


def list_generations(root: Path) -> list[str]:
    """The ids of the published generations, oldest first; what they hold is not verified. A missing root has none."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(root) if is_generation_id(entry.name))


def hash_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file, streamed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, size_bytes=file.tell())


def _check_entries(generation_id: str, directory: Path, manifest: Manifest) -> None:
    found = set(os.listdir(directory))
    listed = {*manifest.files, MANIFEST_NAME}
    if missing := sorted(listed - found):
        raise MissingFile(f"generation {generation_id}: {missing[0]} is missing")
    if unexpected := sorted(found - listed - {SIGNATURE_NAME}):
        raise UnexpectedFile(f"generation {generation_id}: {unexpected[0]} is not in the manifest")
    if SIGNATURE_NAME in found:  # read above only when a key is configured
        os.close(_open_regular(generation_id, directory / SIGNATURE_NAME))


def _check_file(generation_id: str, path: Path, entry: FileEntry, seal: Seal | None) -> FileMark | None:
    """Compares size and SHA-256; the file's mark, when one can be given."""
    descriptor = _open_regular(generation_id, path)
    with open(descriptor, "rb", buffering=0) as file:
        mark = FileMark.of(descriptor)
        if mark.size_bytes != entry.size_bytes:
            raise SizeMismatch(
                f"generation {generation_id}: {path.name} has {mark.size_bytes} bytes, expected {entry.size_bytes}"
            )
        if seal is not None and seal.holds(generation_id, path.name, mark):
            return mark
        settled = mark.settled
        found = _sha256(file)
        unchanged = FileMark.of(descriptor) == mark
    if found != entry.sha256:
        raise ChecksumMismatch(f"generation {generation_id}: {path.name} has SHA-256 {found}, expected {entry.sha256}")
    return mark if settled and unchanged else None


def _sha256(file: FileIO) -> str:
    digest = hashlib.sha256()
    with mmap.mmap(-1, _CHUNK_SIZE_BYTES) as buffer, memoryview(buffer) as view:  # given back to the kernel at the end
        while count := file.readinto(view):
            digest.update(view[:count])
    return digest.hexdigest()


def _read(generation_id: str, path: Path, size_bytes_max: int) -> bytes:
    with open(_open_regular(generation_id, path), "rb") as file:
        data = file.read(size_bytes_max + 1)
    if len(data) > size_bytes_max:
        raise SizeMismatch(f"generation {generation_id}: {path.name} has more than {size_bytes_max} bytes")
    return data


def _open_regular(generation_id: str, path: Path) -> int:
    """A descriptor of a regular file, never of a link's target; a pipe does not block."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise NotRegularFile(f"generation {generation_id}: {path.name} is not a regular file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MissingFile(f"generation {generation_id}: {path.name} is missing") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularFile(f"generation {generation_id}: {path.name} is not a regular file")
    return descriptor
