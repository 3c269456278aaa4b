"""The purge list: whose events were removed, and which generations still hold something of them.

A generation is immutable. What it holds of a purged person is hidden at once, by the state that says when the person
was purged; it is gone when the generation is deleted (`python -m index prune`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import valkey

from index.generation import ChecksumMismatch, GenerationError, Manifest, list_generations, read_manifest
from index.generation.positions import POSITIONS_FILE, LivePositions
from index.generation.reader import hash_file
from index.item_ids import ItemIds
from server.generation_files import USER_IDS_FILE
from server.state.keys import CHANGES_KEY, PURGED_KEY


@dataclass(frozen=True, slots=True)
class Purge:
    """One person who was purged.

    Attributes:
        person: `u:<user_id>` or `v:<visitor_id>`.
        purged_ms: when, milliseconds of the store's clock.
        first_ms: the position of the oldest event that was in the log, 0 when there was none.
    """

    person: str
    purged_ms: float
    first_ms: float

    @property
    def user_id(self) -> str:
        """Empty for a visitor."""
        return self.person[2:] if self.person.startswith("u:") else ""


def read_purges(connection: valkey.Valkey) -> list[Purge]:
    """All persons who were purged. Raises what the connection raises."""
    client: Any = connection
    return [
        Purge(person.decode(), **json.loads(said))
        for person, said in sorted(client.hgetall(PURGED_KEY).items(), key=lambda item: item[0])
    ]


def write_purges(connection: valkey.Valkey, purges: Sequence[Purge]) -> None:
    """Adds to the list, and tells all that follow changes; both or neither."""
    client: Any = connection
    pipeline = client.pipeline(transaction=True)
    for purge in purges:
        said = json.dumps({"purged_ms": purge.purged_ms, "first_ms": purge.first_ms})
        pipeline.hset(PURGED_KEY, purge.person, said)
        pipeline.xadd(CHANGES_KEY, {"k": "purge", "id": purge.person, "d": said})
    pipeline.execute()


def generations_holding(root: Path, purges: Sequence[Purge]) -> list[str]:
    """Generations that were trained on any of the persons, oldest first; those that cannot be read are left out."""
    return [generation_id for generation_id in list_generations(root) if holds(root, generation_id, purges) is True]


def holds(root: Path, generation_id: str, purges: Sequence[Purge]) -> bool | None:
    """Whether a generation was trained on any of the persons: by the shop's files or by the log. None: unreadable."""
    try:
        manifest = read_manifest(root, generation_id)
        positions = _positions(root, generation_id, manifest)
        later = [purge for purge in purges if purge.purged_ms > positions.purges_until_ms]
        if any(0 < purge.first_ms <= positions.log_until_ms for purge in later):
            return True
        user_ids = [purge.user_id for purge in later if purge.user_id]
        if not user_ids or USER_IDS_FILE not in manifest.files:
            return False
        known = ItemIds.open(_verified(root, generation_id, manifest, USER_IDS_FILE))
        return bool((known.rows(user_ids) >= 0).any())
    except (GenerationError, ValueError, OSError):  # whatever is wrong with it or with a file of it
        return None


def _positions(root: Path, generation_id: str, manifest: Manifest) -> LivePositions:
    if POSITIONS_FILE not in manifest.files:
        return LivePositions(files_until_s=0)
    return LivePositions.model_validate_json(_verified(root, generation_id, manifest, POSITIONS_FILE).read_bytes())


def _verified(root: Path, generation_id: str, manifest: Manifest, name: str) -> Path:
    path = root / generation_id / name
    if hash_file(path) != manifest.files[name]:
        raise ChecksumMismatch(f"generation {generation_id}: {name} is not what its manifest says")
    return path
