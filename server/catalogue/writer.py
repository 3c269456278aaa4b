"""Writes changes of the catalogue into the store: whole documents, all of a call's items or none.

The document that there is comes from the store, or from the generation for an item that has not changed yet. Fields
are merged here and written by one script, which refuses when an item has changed meanwhile; then it is done again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import valkey.asyncio

from server.catalogue.base import BaseCatalogue, CurrentCatalogue
from server.catalogue.change import ItemChange
from server.catalogue.document import ItemDocument
from server.errors import CatalogueBusy, CatalogueFull
from server.state.keys import CHANGES_KEY, ITEMS_KEY
from server.store.errors import translated

ATTEMPTS_MAX = 20
"""Of one call against others that change the same items; each attempt is lost to one that went through."""
_PAUSE_S_MAX = 0.01
"""Between two attempts, so that callers of the same items do not go on in step."""
_SCRIPT = resources.files("server.catalogue").joinpath("upsert.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Upserted:
    """What a call did; `position` is the place of its last change in the stream."""

    created_count: int
    updated_count: int
    position: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a call did; `position` is the place of its last change, or "0-0" where it changed nothing."""

    deleted_count: int
    unknown_count: int
    position: str


@dataclass(frozen=True, slots=True)
class _Write:
    item_id: str
    expected: bytes
    document: ItemDocument


class CatalogueWriter:
    """One writer; any number may work on one store."""

    def __init__(self, client: valkey.asyncio.Valkey, root: Path) -> None:
        """`root`: the directory of generations."""
        self._client = client
        self._script = client.register_script(_SCRIPT)
        self._current = CurrentCatalogue(root)
        self._outside_of = ""
        self._outside: set[str] = set()

    async def base(self) -> BaseCatalogue:
        """The current generation's catalogue. Raises NoGeneration, GenerationError, OSError."""
        return await asyncio.to_thread(self._current.get)

    async def upsert(self, changes: Sequence[ItemChange]) -> Upserted:
        """Creates and changes items, each named once.

        Raises:
            CatalogueFull: the generation has no row left for a new item; nothing was written.
            CatalogueBusy: others kept changing the same items.
            StoreError, NoGeneration, GenerationError, OSError.
        """
        ids = [change.item_id for change in changes]
        for _ in range(ATTEMPTS_MAX):
            base = await self.base()
            stored = await self._stored(ids)
            unchanged = [item_id for item_id in ids if not stored[item_id]]
            of_base = await asyncio.to_thread(base.documents, unchanged)
            await self._make_room(base, [item_id for item_id in unchanged if item_id not in of_base])
            writes, created = [], 0
            for change in changes:
                raw = stored[change.item_id]
                before = ItemDocument.from_json(raw) if raw else of_base.get(change.item_id)
                is_new = before is None or before.deleted
                created += is_new
                document = change.create() if before is None or is_new else change.merge(before)
                writes.append(_Write(change.item_id, raw, document))
            if position := await self._write(writes):
                self._outside.update(item_id for item_id in unchanged if item_id not in of_base)
                return Upserted(created, len(changes) - created, position)
            await asyncio.sleep(random.uniform(0, _PAUSE_S_MAX))
        raise CatalogueBusy

    async def delete(self, item_ids: Sequence[str]) -> Deleted:
        """Removes items, each named once. Raises as `upsert`, without CatalogueFull."""
        for _ in range(ATTEMPTS_MAX):
            base = await self.base()
            stored = await self._stored(item_ids)
            writes = [
                _Write(item_id, stored[item_id], ItemDocument(deleted=True))
                for item_id, known in zip(item_ids, base.knows(item_ids), strict=True)
                if (not ItemDocument.from_json(stored[item_id]).deleted if stored[item_id] else known)
            ]
            unknown_count = len(item_ids) - len(writes)
            if not writes:
                return Deleted(0, unknown_count, "0-0")
            if position := await self._write(writes):
                return Deleted(len(writes), unknown_count, position)
            await asyncio.sleep(random.uniform(0, _PAUSE_S_MAX))
        raise CatalogueBusy

    async def get(self, item_id: str) -> ItemDocument | None:
        """The item as it is now; None where nobody knows it. Raises as `delete`."""
        raw = (await self._stored([item_id]))[item_id]
        if raw:
            document = ItemDocument.from_json(raw)
            return None if document.deleted else document
        base = await self.base()
        return (await asyncio.to_thread(base.documents, [item_id])).get(item_id)

    async def _stored(self, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The documents that the store has, as it has them; empty where it has none."""
        with translated():
            values = await _awaited(self._client.hmget(ITEMS_KEY, list(item_ids)))
        return {item_id: value or b"" for item_id, value in zip(item_ids, values, strict=True)}

    async def _make_room(self, base: BaseCatalogue, new_ids: Sequence[str]) -> None:
        """Whether the new items find rows in the generation. Every worker counts fewer: it skips what was deleted."""
        if not new_ids:
            return
        if self._outside_of != base.generation_id:
            with translated():
                keys = [key.decode() for key in await _awaited(self._client.hkeys(ITEMS_KEY))]
            known = await asyncio.to_thread(base.knows, keys)
            self._outside = {key for key, is_known in zip(keys, known, strict=True) if not is_known}
            self._outside_of = base.generation_id
        wanted = len(self._outside.union(new_ids))
        if wanted > base.spare_row_count:
            left = max(base.spare_row_count - len(self._outside), 0)
            raise CatalogueFull(
                f"{len(new_ids)} new items, but generation {base.generation_id} has rows for {left} more; they can be "
                "sent again when the catalogue has been compacted (python -m index compact)"
            )

    async def _write(self, writes: Sequence[_Write]) -> str:
        """The place of the last change; empty when an item has changed meanwhile."""
        args: list[str | bytes] = []
        for write in writes:
            args += [write.item_id, write.expected, write.document.to_json()]
        with translated():
            last = await self._script(keys=[ITEMS_KEY, CHANGES_KEY], args=args)
        return last.decode() if last else ""


async def _awaited(answer: Awaitable[list[Any]] | list[Any]) -> list[Any]:
    """The library types its clients for both worlds; this one is asyncio's."""
    assert not isinstance(answer, list)
    return await answer
