"""What a disk surely holds of a file when the power fails: its length at the last fsync or fdatasync that had returned.

A small library, preloaded into the server and the store, writes down each such call (sync_record.c).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("sync_record.c")
VARIABLE = "SYNC_RECORD"


class NoCompiler(RuntimeError):
    """There is no C compiler on this machine."""


@dataclass(frozen=True, slots=True)
class Sync:
    """One call that returned. `size_bytes`: of the file when the call began; times as of time.monotonic()."""

    device: int
    inode: int
    size_bytes: int
    began_s: float
    ended_s: float


def build(directory: Path) -> Path:
    """The library. Raises NoCompiler."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoCompiler("the power test needs a C compiler: cc, gcc or clang")
    library = directory / "sync_record.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def environment(library: Path, record: Path) -> dict[str, str]:
    """What a process, and all that it starts, needs to be recorded."""
    return {"LD_PRELOAD": str(library), VARIABLE: str(record)}


def read_record(text: str) -> list[Sync]:
    """The calls, in the order of their ends. Raises ValueError for a line that is none."""
    syncs = []
    for line in text.splitlines():
        device, inode, size_bytes, began_ns, ended_ns, _ = map(int, line.split())
        syncs.append(Sync(device, inode, size_bytes, began_ns / 1e9, ended_ns / 1e9))
    return sorted(syncs, key=lambda sync: sync.ended_s)


def durable_bytes(syncs: Iterable[Sync], device: int, inode: int, at_s: float) -> int:
    """How much of a file that only grows was surely on the disk at a moment; 0 when it was never synced."""
    of_file = (sync for sync in syncs if (sync.device, sync.inode) == (device, inode) and sync.ended_s <= at_s)
    return max((sync.size_bytes for sync in of_file), default=0)


@dataclass(frozen=True, slots=True)
class Cut:
    """One file after a power failure: what it had, and what is left of it."""

    name: str
    size_bytes: int
    durable_bytes: int


def cut_copy(data: Path, target: Path, syncs: list[Sync], at_s: float) -> list[Cut]:
    """Copies the store's data as the disk would hold it at `at_s`. The manifest, which is replaced whole, is kept."""
    target.mkdir(parents=True)
    cuts = []
    for path in sorted(data.iterdir()):
        status = path.stat()
        shutil.copyfile(path, target / path.name)
        if path.suffix == ".manifest":
            continue
        kept = min(durable_bytes(syncs, status.st_dev, status.st_ino, at_s), status.st_size)
        with (target / path.name).open("r+b") as file:
            file.truncate(kept)
        cuts.append(Cut(path.name, status.st_size, kept))
    return cuts
