"""When the catalogue is compacted: so many items changed since the current generation was built, and not too often.

The work is `python -m index compact` in a process of its own at low priority: it takes a core for as long as a rebuild
of the index, and whatever becomes of it, nothing of the running server does. It ends with this process; one that a
killed process leaves behind comes to its own end, and no other works beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import structlog
import valkey.asyncio

from index.generation import GenerationError, current_id
from index.generation.layout import generation_directory
from index.generation.positions import POSITIONS_FILE, LivePositions
from server.catalogue.document import ITEM_KIND, Position, position_in, position_of
from server.config import CatalogueConfig
from server.state.keys import CHANGES_KEY, ITEMS_KEY
from server.store.address import StoreAddress
from server.store.errors import StoreError, translated

LOOK_INTERVAL_S = 5.0
"""How often the changes since the last look are counted."""
STOP_RETRY_S = 1.0
"""After so long the end is asked for again."""
CHANGES_KEPT_S, TRIM_INTERVAL_S = 3_600.0, 60.0
"""The stream keeps the changes of an hour, and is cut once a minute."""
STORE_VARIABLE = "TWINRANK_COMPACT_STORE"
"""The environment variable that brings the store's URL, which may hold a password, to the other process."""
_PRIORITY = 15
_ENTRIES_MAX = 1_000
_OUTPUT_CHARACTERS_MAX = 2_000

_LOGGER = structlog.stdlib.get_logger("twinrank.catalogue")


class Compaction:
    """Counts changed items, and has them compacted; on the running event loop."""

    def __init__(
        self,
        client: valkey.asyncio.Valkey,
        store: StoreAddress,
        root: Path,
        key_file: Path | None,
        config: CatalogueConfig,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._client, self._store, self._root, self._key_file = client, store, root, key_file
        self._config = config
        self._look_interval_s = look_interval_s
        self._changed: set[str] = set()
        self._counted_until = "0-0"
        self._counted_for = ""
        self._not_before_s = self._trim_not_before_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.done_count = self.failed_count = 0

    @property
    def changed_count(self) -> int:
        """Items that changed since the current generation was built, as counted last."""
        return len(self._changed)

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the work, and the other process where there is one."""
        if self._task is None:
            return
        while not self._task.done():  # again and again: the store's client may lose a cancellation
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=STOP_RETRY_S)

    async def _run(self) -> None:
        while True:
            try:
                await self._count()
                await self._trim()
                if self.changed_count >= self._config.compact_at_items and time.monotonic() >= self._not_before_s:
                    self._not_before_s = time.monotonic() + self._config.compact_interval_s_min
                    await self._compact()
            except (StoreError, GenerationError, OSError) as error:
                _LOGGER.debug("changes of the catalogue could not be counted", reason=str(error))
            except Exception:  # a task that ended would let changes pile up in silence
                _LOGGER.exception("the catalogue could not be compacted")
            await asyncio.sleep(self._look_interval_s)

    async def _count(self) -> None:
        """Counts the items that the stream names beyond the current generation's place in it."""
        generation_id = await asyncio.to_thread(current_id, self._root)
        if generation_id is None:
            return
        if generation_id != self._counted_for:
            self._changed = await self._changed_since(await asyncio.to_thread(_position, self._root, generation_id))
            self._counted_for = generation_id
        while True:
            with translated():
                entries: Any = await self._client.xrange(CHANGES_KEY, f"({self._counted_until}", count=_ENTRIES_MAX)
            if not entries:
                return
            self._changed.update(fields[b"id"].decode() for _, fields in entries if fields.get(b"k") == ITEM_KIND)
            self._counted_until = entries[-1][0].decode()

    async def _changed_since(self, built_in: Position) -> set[str]:
        """The items whose documents are newer; from here on the stream is counted."""
        with translated():
            last: Any = await self._client.xrevrange(CHANGES_KEY, count=1)
            self._counted_until = last[0][0].decode() if last else "0-0"
            changed = set()
            async for item_id, data in self._client.hscan_iter(ITEMS_KEY, count=_ENTRIES_MAX):
                if position_in(data) > built_in:
                    changed.add(item_id.decode())
        return changed

    async def _trim(self) -> None:
        """Keeps the stream short: followers are seconds behind it, and whoever is not reads the documents anew."""
        if time.monotonic() < self._trim_not_before_s:
            return
        self._trim_not_before_s = time.monotonic() + TRIM_INTERVAL_S
        with translated():
            now: Any = await self._client.time()
            oldest_ms = int((now[0] - CHANGES_KEPT_S) * 1_000)
            await self._client.xtrim(CHANGES_KEY, minid=str(oldest_ms), approximate=True)

    async def _compact(self) -> None:
        _LOGGER.info("the catalogue is being compacted", changed_items=self.changed_count)
        began_s = time.monotonic()
        command = [sys.executable, "-m", "index", "compact", "--root", str(self._root)]
        if self._key_file is not None:
            command += ["--key-file", str(self._key_file)]
        self._process = process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, STORE_VARIABLE: self._store.url},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, _PRIORITY)
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        said = output.decode(errors="replace").strip()[-_OUTPUT_CHARACTERS_MAX:]
        if process.returncode == 0:
            self.done_count += 1
            _LOGGER.info("the catalogue has been compacted", said=said, seconds=round(time.monotonic() - began_s, 1))
        else:
            self.failed_count += 1
            again_s = round(self._not_before_s - time.monotonic())
            _LOGGER.error("the compaction failed", status=process.returncode, said=said, again_in_s=max(again_s, 0))


def _position(root: Path, generation_id: str) -> Position:
    """How far the generation has followed the stream; a generation that knows no store has not."""
    path = generation_directory(root, generation_id) / POSITIONS_FILE
    if not path.exists():
        return (0, 0)
    return position_of(LivePositions.model_validate_json(path.read_bytes()).catalogue_position)
