"""Many values at once, over a connection of its own: what every batch of requests asks of the store.

The library's general way (a pool, a look at the socket, retries, packing by type, callbacks) takes twice as long,
mostly because in a server that streams megabytes through the caches its code is never there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

from valkey import Valkey
from valkey import exceptions as valkey_errors

from server.store.packing import argument


class BulkReader:
    """MGET; safe to use from several threads, which wait for each other, also while the store hangs."""

    def __init__(self, client: Valkey) -> None:
        """`client`: how to connect, and the time limits."""
        pool: Any = client.connection_pool
        self._connection = pool.make_connection()
        self._lock = threading.Lock()
        self._live = False

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, None where there is none. Raises what the library raises: see `translated`."""
        packed = b"*%d\r\n$4\r\nMGET\r\n%b" % (1 + len(keys), b"".join(map(argument, keys)))
        with self._lock:
            if self._live:
                try:
                    return self._exchange(packed)
                except valkey_errors.ConnectionError:
                    pass  # it ended while nobody looked, with the store's last life: once again on a new one
            return self._exchange(packed)

    def _exchange(self, packed: bytes) -> list[bytes | None]:
        """Connects if need be; after an error the library has disconnected."""
        self._live = False
        self._connection.send_packed_command((packed,), check_health=False)
        values = cast("list[bytes | None]", self._connection.read_response())
        self._live = True
        return values
