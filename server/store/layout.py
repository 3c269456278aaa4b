"""The embedded store's directory: which files lie in it, where its socket is, and who holds it.

valkey.conf       written at every start
valkey.log        the store's own log; valkey.log.1 is the one before
appendonlydir/    the data: append-only files and their manifest
socket            where the socket is, when the directory's own path is too long for one
owner.lock        held by the server that looks after the store; another one is its guest
guests.lock       shared by the guests
living.lock       held by the store's process itself, and so by the kernel freed exactly when that ends
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from server.store.address import StoreAddress

SOCKET_BYTES_MAX = 100
"""The kernel takes 107 on Linux and 103 on macOS."""
SOCKET_NAME = "valkey.sock"


class StoreDirectory:
    """A directory that is ours alone. Making the object makes the directory; the socket's path never changes then."""

    def __init__(self, path: Path) -> None:
        """Raises OSError: it cannot be made, or belongs to somebody else."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path.resolve()
        os.chmod(self.path, 0o700)
        self.socket = self._socket_path()

    @property
    def address(self) -> StoreAddress:
        """Where workers find the store."""
        return StoreAddress(f"unix://{self.socket}?db=0")

    @property
    def config_file(self) -> Path:
        """What the store is started with."""
        return self.path / "valkey.conf"

    @property
    def log_file(self) -> Path:
        """What the store says."""
        return self.path / "valkey.log"

    @property
    def pid_file(self) -> Path:
        """Which process the store was when it started last."""
        return self.path / "valkey.pid"

    @property
    def data(self) -> Path:
        """The folder of the append-only files."""
        return self.path / "appendonlydir"

    @property
    def manifest(self) -> Path:
        """Which append-only files make up the data."""
        return self.data / "appendonly.aof.manifest"

    def lock(self, name: str, *, shared: bool = False) -> Lock | None:
        """The lock if nobody else holds it, None otherwise."""
        return Lock.take(self.path / f"{name}.lock", shared=shared)

    def is_held(self, name: str) -> bool:
        """Whether somebody holds the lock, be it shared."""
        lock = self.lock(name)
        if lock is None:
            return True
        lock.release()
        return False

    def _socket_path(self) -> Path:
        own = self.path / SOCKET_NAME
        if len(os.fsencode(own)) <= SOCKET_BYTES_MAX:
            return own
        memory = self.path / "socket"
        for _ in range(3):
            try:
                remembered = Path(os.fsdecode(memory.read_bytes()))
            except FileNotFoundError:
                self._remember_new(memory)
                continue
            # A cleaner of temporary files may have taken it, and somebody else its name.
            with suppress(FileExistsError):
                remembered.parent.mkdir(mode=0o700)
            status = remembered.parent.lstat()
            if status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700:
                return remembered
            memory.unlink(missing_ok=True)
        raise OSError(errno.EACCES, "no private place for the store's socket", str(memory))

    def _remember_new(self, memory: Path) -> None:
        place = tempfile.mkdtemp(prefix="twinrank-store-", dir=_short_temporary_directory())
        written = memory.with_name(f"socket.{os.getpid()}.new")
        written.write_bytes(os.fsencode(Path(place) / SOCKET_NAME))
        try:
            os.link(written, memory)  # of several that start at once, one wins
        except FileExistsError:
            os.rmdir(place)
        finally:
            written.unlink()


class Lock:
    """An flock: of this process, or of every process that inherited its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, shared: bool) -> Lock | None:
        """The lock, or None when somebody else has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Gives it back; processes that inherited it keep it. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _short_temporary_directory() -> str:
    return min((tempfile.gettempdir(), "/tmp"), key=len)  # noqa: S108 - a private directory is made in it
