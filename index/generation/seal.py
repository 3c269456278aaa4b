"""A seal: by what the kernel says of them, the files of a generation whose SHA-256 has been compared.

Hashing is what costs most of opening a large generation. Processes of one server share the work: one of them hashes and
hands its seal to the others, which compare what the kernel says of each file: device, inode, size, and the times of its
last modification and last change. No program can set the last of these, so a file that still has its mark holds the
bytes that were hashed. A seal is for processes that trust each other; it is never written to disk.

The kernel's clock for files stands still for some milliseconds at a time, and two changes within one tick look alike. A
file that has changed just before it was hashed therefore gets no mark, and is hashed again by whoever opens it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

SETTLED_AFTER_S = 2.0
"""Far above the tick of any file system's clock: kernels have 1 to 10 ms, FAT 2 s."""


class FileMark(BaseModel):
    """What the kernel said of a file; times are nanoseconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> FileMark:
        """The mark that an open file has now. Raises OSError."""
        found = os.fstat(descriptor)
        return cls(
            device=found.st_dev,
            inode=found.st_ino,
            size_bytes=found.st_size,
            modified_ns=found.st_mtime_ns,
            changed_ns=found.st_ctime_ns,
        )

    @property
    def settled(self) -> bool:
        """Whether a change from now on would show."""
        return time.time_ns() - self.changed_ns >= SETTLED_AFTER_S * 1e9


class Seal(BaseModel):
    """Marks of files, by name, that held the bytes that the generation's manifest names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    generation_id: str
    marks: Mapping[str, FileMark]

    def holds(self, generation_id: str, name: str, mark: FileMark) -> bool:
        """Whether this file of this generation need not be hashed again."""
        return self.generation_id == generation_id and self.marks.get(name) == mark
