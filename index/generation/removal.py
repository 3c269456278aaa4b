"""Deletes a published generation: it is gone from the root at once, or still there whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from index.generation.errors import GenerationNotFound, PointerError
from index.generation.layout import TEMPORARY_PREFIX, generation_directory
from index.generation.pointer import _lock, current_id


class GenerationIsCurrent(PointerError):
    """The generation that CURRENT names is not deleted."""


def remove_generation(root: Path, generation_id: str) -> None:
    """Deletes a generation that is not current; servers that have it open go on with what they mapped.

    Raises GenerationIsCurrent, GenerationNotFound, GenerationIdInvalid, OSError.
    """
    directory = generation_directory(root, generation_id)
    doomed = root / f"{TEMPORARY_PREFIX}removed-{generation_id}"
    with _lock(root):
        if current_id(root) == generation_id:
            raise GenerationIsCurrent(f"generation {generation_id} is current; activate another before it is deleted")
        try:
            directory.rename(doomed)
        except FileNotFoundError as error:
            raise GenerationNotFound(f"there is no generation {generation_id} in {root}") from error
    shutil.rmtree(doomed)
