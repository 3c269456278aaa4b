"""The manifest: what a generation consists of, and the bytes whose SHA-256 ends its id.

Its bytes are hashed before they are parsed, and whatever they hold, parsing gives a Manifest or a ManifestError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from index.generation.errors import FileNameInvalid, FormatUnsupported, ManifestInvalid, ManifestMismatch
from index.generation.layout import MANIFEST_NAME, TIME_FORMAT, check_file_name

FORMAT_VERSION = 1
MANIFEST_SIZE_BYTES_MAX = 4 * 2**20
"""Metrics and shapes take kilobytes; a larger manifest is a mistake."""
FILE_COUNT_MAX = 1000
"""A generation has a dozen files."""
ID_HASH_DIGITS = 16
"""Hexadecimal digits of the manifest's SHA-256 in the id: 64 bits."""


class FileEntry(BaseModel):
    """What a file of the generation must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What a generation consists of and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: int
    parent: str | None
    """The generation that was current when this one was written."""
    created_at: AwareDatetime
    files: Annotated[dict[str, FileEntry], Field(max_length=FILE_COUNT_MAX)]
    metadata: dict[str, JsonValue]
    """Shapes, feature-schema hash, offline metrics, index recall: whatever the publisher says of it."""

    def to_bytes(self) -> bytes:
        """The manifest as it lies on disk. Raises ManifestInvalid when it is larger than a reader accepts."""
        try:
            text = json.dumps(
                self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False
            )
            data = (text + "\n").encode()
        except (ValueError, RecursionError) as error:
            raise ManifestInvalid(f"the manifest cannot be written as JSON: {error}") from error
        if len(data) > MANIFEST_SIZE_BYTES_MAX:
            raise ManifestInvalid(f"the manifest has {len(data)} bytes; the limit is {MANIFEST_SIZE_BYTES_MAX}")
        return data


def new_manifest(
    parent: str | None, created_at: datetime, files: Mapping[str, FileEntry], metadata: Mapping[str, Any]
) -> Manifest:
    """A manifest of the present format. Raises ManifestInvalid when the metadata is not JSON."""
    try:
        return Manifest(
            format_version=FORMAT_VERSION,
            parent=parent,
            created_at=created_at.astimezone(UTC),
            files=dict(files),
            metadata=dict(metadata),
        )
    except (ValidationError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest cannot be made: {error}") from error


def manifest_id(manifest: Manifest, data: bytes) -> str:
    """The id of the generation that has this manifest: its time in UTC and the beginning of its bytes' SHA-256."""
    return f"{manifest.created_at.astimezone(UTC).strftime(TIME_FORMAT)}-{_hash(data)}"


def parse_manifest(generation_id: str, data: bytes) -> Manifest:
    """Check the bytes against the id, then read them.

    Raises ManifestMismatch, FormatUnsupported, ManifestInvalid; nothing else, whatever the bytes.
    """
    where = f"generation {generation_id}: {MANIFEST_NAME}"
    expected_hash = generation_id.rpartition("-")[2]
    found_hash = _hash(data)
    if found_hash != expected_hash:
        raise ManifestMismatch(f"{where} has SHA-256 {found_hash}…, the generation's name says {expected_hash}…")
    if len(data) > MANIFEST_SIZE_BYTES_MAX:
        raise ManifestInvalid(f"{where} has {len(data)} bytes; the limit is {MANIFEST_SIZE_BYTES_MAX}")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{where} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ManifestInvalid(f"{where} is a JSON {type(content).__name__}, not an object")
    if content.get("format_version") != FORMAT_VERSION:
        raise FormatUnsupported(
            f"{where} has format version {content.get('format_version')!r}; this program reads {FORMAT_VERSION}"
        )
    try:
        manifest = Manifest.model_validate_json(data)
        for name in manifest.files:
            check_file_name(name)
        found_id = manifest_id(manifest, data)
    except (ValueError, OverflowError, RecursionError, FileNameInvalid) as error:
        raise ManifestInvalid(f"{where}: {error}") from error
    if found_id != generation_id:
        raise ManifestMismatch(f"{where} was created at {manifest.created_at}, which the name contradicts")
    return manifest


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:ID_HASH_DIGITS]
