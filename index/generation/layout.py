"""Names on disk: what a generations directory and a generation in it may contain.

<root>/
    CURRENT                                 the id of the generation that is served
    HISTORY                                 one line for each time that CURRENT changed
    .lock                                   held while CURRENT changes
    .tmp-<random>/                          a generation being written, or the rest of a killed writer
    20260131T120000-0123456789abcdef/       a generation: manifest.json, manifest.sig when signed, and its files
"""

from __future__ import annotations

import re
from pathlib import Path

from index.generation.errors import FileNameInvalid, GenerationIdInvalid

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
CURRENT_NAME = "CURRENT"
HISTORY_NAME = "HISTORY"
LOCK_NAME = ".lock"
TEMPORARY_PREFIX = ".tmp-"
TIME_FORMAT = "%Y%m%dT%H%M%S"

_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{16}", re.ASCII)
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def is_generation_id(text: str) -> bool:
    """Whether the text has the form of an id; says nothing of whether the generation exists."""
    return _ID.fullmatch(text) is not None


def generation_directory(root: Path, generation_id: str) -> Path:
    """Where the generation lies. Raises GenerationIdInvalid, so that no id leads out of the root."""
    if not is_generation_id(generation_id):
        raise GenerationIdInvalid(f"{generation_id!r} is no generation id such as 20260131T120000-0123456789abcdef")
    return root / generation_id


def check_file_name(name: str) -> None:
    """Refuse a name with a path separator, a leading dot, or that of the manifest. Raises FileNameInvalid."""
    if _FILE_NAME.fullmatch(name) is None:
        raise FileNameInvalid(
            f"{name!r} cannot name a file of a generation: up to 100 letters, digits, '.', '_' and '-', no dot first"
        )
    if name in (MANIFEST_NAME, SIGNATURE_NAME):
        raise FileNameInvalid(f"{name!r} is written by the writer itself")
