"""The event log does not grow for ever: its 64 streams are trimmed by age and by bytes, the oldest events first."""

from __future__ import annotations

import time
from typing import Any

import structlog

from server.config import LogConfig
from server.state.keys import SHARD_COUNT, log_key
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.errors import StoreError, translated

TRIM_INTERVAL_S = 60.0
ASKING_S = 5.0
SAMPLES = 20
"""Of each stream MEMORY USAGE looks at so many nodes (of some 100 events each), and takes the rest for alike."""
TRIM_TO_PART = 0.95
"""A log over its limit is trimmed a little more, so that it does not have to be at every look."""
DAY_MS = 86_400_000

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


class Retention:
    """Trims one store. Both cuts are made at nodes of the streams (`~`): cheap, and at most some 100 events late."""

    def __init__(self, address: StoreAddress, config: LogConfig) -> None:
        self._client: Any = connect(address, timeout_s=ASKING_S)
        self._config = config
        self.interval_s = TRIM_INTERVAL_S

    def trim(self) -> int:
        """Trims all shards; what the log takes afterwards, in bytes.

        Raises:
            StoreError: the store is down.
        """
        with translated():
            seconds, microseconds = self._client.time()
            oldest_ms = seconds * 1000 + microseconds // 1000 - self._config.retention_days * DAY_MS
            pipe = self._client.pipeline(transaction=False)
            for shard in range(SHARD_COUNT):
                pipe.xtrim(log_key(shard), minid=f"{max(oldest_ms, 0)}-0", approximate=True, limit=0)
            trimmed = sum(pipe.execute())
            used_bytes = self._used_bytes()
            total_bytes = sum(used_bytes)
            limit_bytes = self._config.retention_mb * 1_000_000
            if total_bytes > limit_bytes:
                trimmed += self._shrink(used_bytes, limit_bytes * TRIM_TO_PART / total_bytes)
                total_bytes = sum(self._used_bytes())
        if trimmed:
            _LOGGER.info("event log trimmed", event_count=trimmed, log_bytes=total_bytes)
        return total_bytes

    def trim_quietly(self, log_bytes: int) -> int:
        """The same; a store that is down or busy is left for the next time, and `log_bytes` is returned."""
        try:
            return self.trim()
        except StoreError as error:
            _LOGGER.warning("event log not trimmed", reason=str(error))
            return log_bytes

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    def _used_bytes(self) -> list[int]:
        pipe = self._client.pipeline(transaction=False)
        for shard in range(SHARD_COUNT):
            pipe.memory_usage(log_key(shard), samples=SAMPLES)
        return [int(size or 0) for size in pipe.execute()]

    def _shrink(self, used_bytes: list[int], kept_part: float) -> int:
        """Persons are dealt to the shards by a hash, so the same part of each goes back to about the same time."""
        pipe = self._client.pipeline(transaction=False)
        for shard in range(SHARD_COUNT):
            pipe.xlen(log_key(shard))
        lengths = pipe.execute()
        for shard, (length, size) in enumerate(zip(lengths, used_bytes, strict=True)):
            if size:
                pipe.xtrim(log_key(shard), maxlen=int(length * kept_part), approximate=True, limit=0)
        started_s = time.monotonic()
        removed = sum(pipe.execute())
        _LOGGER.debug("event log shrunk", seconds=round(time.monotonic() - started_s, 3))
        return int(removed)
