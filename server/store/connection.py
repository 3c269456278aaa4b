"""Connections to the store: sync and asyncio clients with a time limit, and the facts that a store tells of itself.

A write is never repeated in secret: after an error nobody knows whether it was done, and the caller decides. Every new
connection asks HELLO first, so that a cluster, a replica or a server that is too old is refused before it gets data.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import valkey
import valkey.asyncio
from valkey import exceptions as valkey_errors
from valkey.utils import LIBVALKEY_AVAILABLE

from server.store.address import StoreAddress
from server.store.errors import StoreUnfit, translated

VERSION_MIN = (7, 2)
"""The first Valkey; XTRIM MINID and scripts' flags are older."""


def connect(address: StoreAddress, *, timeout_s: float) -> valkey.Valkey:
    """A client of answers in bytes; it connects at its first command. Safe to use from several threads.

    Its errors are the library's: put `with translated():` around calls. A store that is unfit raises StoreUnfit.
    """
    pools: Any = valkey.ConnectionPool  # the library's annotations end here
    return valkey.Valkey(connection_pool=pools.from_url(**_options(address, timeout_s, _greet)))


def connect_async(address: StoreAddress, *, timeout_s: float) -> valkey.asyncio.Valkey:
    """The same for an event loop. The owner has to `await client.aclose()`."""
    pools: Any = valkey.asyncio.ConnectionPool
    return valkey.asyncio.Valkey.from_pool(pools.from_url(**_options(address, timeout_s, _greet_async)))


@dataclass(frozen=True)
class StoreFacts:
    """What a store says of itself."""

    version: str
    process_id: int
    run_id: str
    """Another one after each start."""
    loading: bool
    loading_part: float
    """0 … 1 of the file that is being loaded."""
    aof_enabled: bool
    aof_fsync: str
    """`always`, `everysec` or `no`; empty where CONFIG is forbidden."""
    aof_write_ok: bool
    memory_bytes: int
    memory_bytes_max: int
    """0: no limit."""
    eviction_policy: str
    key_count: int


def read_facts(connection: valkey.Valkey) -> StoreFacts:
    """Asks the store about itself; works while it loads its file, too.

    Raises:
        StoreUnavailable, StoreUnfit: it does not answer, or cannot be our store.
    """
    client: Any = connection  # whose annotations allow for its asyncio twin
    with translated():
        info: dict[str, Any] = {}
        for section in ("server", "persistence", "memory", "keyspace"):
            info |= client.info(section)
        try:
            fsync = client.config_get("appendfsync").get("appendfsync", "")
        except valkey_errors.ResponseError:  # managed stores forbid CONFIG
            fsync = ""
    size = float(info.get("loading_total_bytes", 0) or 0)
    return StoreFacts(
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        process_id=int(info.get("process_id", 0)),
        run_id=str(info.get("run_id", "")),
        loading=bool(info.get("loading", 0)),
        loading_part=float(info.get("loading_loaded_bytes", 0)) / size if size else 0.0,
        aof_enabled=bool(info.get("aof_enabled", 0)),
        aof_fsync=str(fsync),
        aof_write_ok=str(info.get("aof_last_write_status", "ok")) == "ok",
        memory_bytes=int(info.get("used_memory", 0)),
        memory_bytes_max=int(info.get("maxmemory", 0)),
        eviction_policy=str(info.get("maxmemory_policy", "")),
        key_count=sum(int(of["keys"]) for name, of in info.items() if name.startswith("db") and isinstance(of, dict)),
    )


def warnings_of(facts: StoreFacts) -> list[str]:
    """What is unsafe about a store that somebody else runs, one sentence each; it is used all the same."""
    found = []
    if not facts.aof_enabled:
        found.append("the store has no append-only file: what it acknowledges is lost when it ends (appendonly no)")
    if facts.eviction_policy not in ("noeviction", ""):
        found.append(f"the store may throw away what it acknowledged (maxmemory-policy {facts.eviction_policy})")
    return found


def _options(address: StoreAddress, timeout_s: float, greet: Any) -> dict[str, Any]:
    if not LIBVALKEY_AVAILABLE:
        raise StoreUnfit("the parser of the store's answers is missing: pip install 'valkey[libvalkey]'")
    return {
        "url": address.url,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "valkey_connect_func": greet,
        "lib_name": None,
        "lib_version": None,
    }


def _greet(connection: Any) -> None:
    try:
        connection.on_connect()
        connection.send_command("HELLO", 2, check_health=False)
        _refuse_unfit(connection.read_response())
    except BaseException:
        connection.disconnect()
        raise


async def _greet_async(connection: Any) -> None:
    try:
        await connection.on_connect()
        await connection.send_command("HELLO", 2)
        _refuse_unfit(await connection.read_response())
    except (Exception, asyncio.CancelledError):
        await connection.disconnect(nowait=True)
        raise


def _refuse_unfit(hello: list[Any]) -> None:
    names = (_text(name) for name in hello[::2])
    said = dict(zip(names, map(_text, hello[1::2]), strict=True))
    if said["mode"] != "standalone":
        raise StoreUnfit(
            f"the store runs in {said['mode']} mode, which is not supported: the log and the state of a shopper change "
            "together, in one server. Give the address of one primary (cluster-enabled no)"
        )
    if said["role"] != "master":
        raise StoreUnfit(f"the store is a {said['role']}, which takes no writes: give the address of its primary")
    version = tuple(int(part) for part in said["version"].split(".")[:2])
    if version < VERSION_MIN:
        raise StoreUnfit(f"the store has version {said['version']}; at least {'.'.join(map(str, VERSION_MIN))} needed")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
