"""What the store says of the catalogue, for a compaction; and what it may forget afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import valkey

from index.generation import list_generations
from index.generation.layout import generation_directory
from index.generation.positions import POSITIONS_FILE, LivePositions
from server.catalogue.document import DocumentInvalid, ItemDocument, Position, position_of
from server.catalogue.live_items import LiveItems
from server.state.keys import CHANGES_KEY, ITEMS_KEY
from server.store.errors import translated

_PAGE = 1_000
_FORGET = """#!lua
local count = 0
for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
    count = count + redis.call('HDEL', KEYS[1], ARGV[at])
  end
end
return count
"""
_LOGGER = structlog.stdlib.get_logger("twinrank.catalogue")


@dataclass(frozen=True)
class Changes:
    """Documents that a generation does not hold, by item id. `position`: no change up to there is missing."""

    documents: dict[str, ItemDocument]
    position: Position


def read_changes(client: valkey.Valkey, live: LiveItems) -> Changes:
    """Everything that the generation of these tables does not hold. Raises StoreError."""
    built_in = live.built_in
    with translated():
        position = max(_last_position(client), built_in)
        documents: dict[str, ItemDocument] = {}
        for item_id, data in client.hscan_iter(ITEMS_KEY, count=_PAGE):
            try:
                document = ItemDocument.from_json(data)
            except DocumentInvalid as error:
                _LOGGER.error("a document of an item cannot be read", item_id=item_id, reason=str(error))
                continue
            is_new = position_of(document.at or "0-0") > built_in
            if is_new or live.contradicted([item_id.decode()], [document.retrievable])[0]:
                documents[item_id.decode()] = document
    # Some of these may be newer than the position: the generation holds them, and is told them once more.
    return Changes(documents, position)


def _last_position(client: valkey.Valkey) -> Position:
    """The place of the last change that there was; the stream itself may have been cut behind it."""
    if not client.exists(CHANGES_KEY):
        return (0, 0)
    facts: Any = client.xinfo_stream(CHANGES_KEY)
    return position_of(facts["last-generated-id"])


def forget_what_all_hold(client: valkey.Valkey, root: Path, is_bought_enough: Callable[[str], bool]) -> int:
    """Takes off the store what no generation on disk needs any more; how many documents. Raises StoreError, OSError.

    A document is kept when it hides its item, since another training would bring that back; when it shows an item that
    too few bought, which another training would hide; and when it counts stock, which no generation does.
    """
    oldest = min(map(_position, (generation_directory(root, each) for each in list_generations(root))), default=(0, 0))
    dropped = 0
    forget: Any = client.register_script(_FORGET)
    with translated():
        pairs: list[str | bytes] = []
        for item_id, data in client.hscan_iter(ITEMS_KEY, count=_PAGE):
            try:
                document = ItemDocument.from_json(data)
            except DocumentInvalid:
                continue
            held = position_of(document.at or "0-0") <= oldest
            is_plain = document.retrievable and document.stock_count is None
            if held and is_plain and is_bought_enough(item_id.decode()):
                pairs += [item_id, data]
            if len(pairs) >= 2 * _PAGE:
                dropped += int(forget(keys=[ITEMS_KEY], args=pairs))
                pairs = []
        if pairs:
            dropped += int(forget(keys=[ITEMS_KEY], args=pairs))
    return dropped


def _position(directory: Path) -> Position:
    path = directory / POSITIONS_FILE
    if not path.exists():
        return (0, 0)
    return position_of(LivePositions.model_validate_json(path.read_bytes()).catalogue_position)
