"""Which generation is current: the file CURRENT, replaced atomically, and HISTORY, to find the way back.

HISTORY is append-only, one JSON object a line. Replayed it gives a stack: an activation puts a generation on top, a
rollback takes the top away, so rolling back twice goes two generations back. CURRENT is written first and is the truth;
when a crash kept the line of HISTORY from being written, the stack is put right from CURRENT.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from index.generation.durable import append_durably, replace_durably
from index.generation.errors import GenerationNotFound, NothingToRollBackTo, PointerInvalid, PointerMoved
from index.generation.layout import (
    CURRENT_NAME,
    HISTORY_NAME,
    LOCK_NAME,
    generation_directory,
    is_generation_id,
)
from index.generation.reader import Generation, open_generation

_HISTORY_READ_SIZE_BYTES_MAX = 2**20
"""The last ten thousand changes: nobody rolls back further."""
_CURRENT_SIZE_BYTES_MAX = 100


def current_id(root: Path) -> str | None:
    """The id in CURRENT, or None when there is no CURRENT. Raises PointerInvalid, OSError."""
    try:
        with (root / CURRENT_NAME).open("rb") as file:
            data = file.read(_CURRENT_SIZE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    text = data.decode("ascii", "replace").strip()
    if not is_generation_id(text):
        raise PointerInvalid(f"{root / CURRENT_NAME} holds {text[:60]!r}, which is no generation id")
    return text


def set_current(root: Path, generation_id: str, instead_of: str | None = None) -> None:
    """Point CURRENT at a generation, which is not verified here. Raises GenerationError, OSError.

    `instead_of`: the generation that must be current until then; PointerMoved when it is not.
    """
    with _lock(root):
        if instead_of is not None and (found := current_id(root)) != instead_of:
            raise PointerMoved(f"{root}: {found or 'no generation'} is current, no longer {instead_of}")
        _point(root, generation_id, "activate")


def activate(root: Path, generation_id: str, key: bytes | None = None) -> Generation:
    """Verify a generation and point CURRENT at it. Raises GenerationError; CURRENT then stays as it is."""
    generation = open_generation(root, generation_id, key)
    set_current(root, generation_id)
    return generation


def rollback(root: Path, key: bytes | None = None) -> str:
    """Point CURRENT at the generation that was current before, verified first, and return its id.

    Raises GenerationError; CURRENT then stays as it is.
    """
    with _lock(root):
        stack = _replay(root)
        if len(stack) < 2:
            raise NothingToRollBackTo(f"{root}: no generation was current before {stack[0] if stack else 'the first'}")
        previous_id = stack[-2]
        open_generation(root, previous_id, key)
        _point(root, previous_id, "rollback")
    return previous_id


def _point(root: Path, generation_id: str, action: Literal["activate", "rollback"]) -> None:
    if not generation_directory(root, generation_id).is_dir():
        raise GenerationNotFound(f"there is no generation {generation_id} in {root}")
    replace_durably(root / CURRENT_NAME, generation_id.encode() + b"\n")
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "action": action, "id": generation_id}
    append_durably(root / HISTORY_NAME, json.dumps(line).encode())


def _replay(root: Path) -> list[str]:
    """The generations that were current, the present one last; without those that a rollback left behind."""
    stack: list[str] = []
    for action, generation_id in _read_history(root):
        if action == "rollback" and len(stack) >= 2 and stack[-2] == generation_id:
            stack.pop()
        elif not stack or stack[-1] != generation_id:
            stack.append(generation_id)
    current = current_id(root)
    if current is None or (stack and stack[-1] == current):
        return stack
    if len(stack) >= 2 and stack[-2] == current:
        return stack[:-1]
    return [*stack, current]


def _read_history(root: Path) -> Iterator[tuple[str, str]]:
    """(action, id) of each line; a line that a crash tore is left out."""
    try:
        with (root / HISTORY_NAME).open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - _HISTORY_READ_SIZE_BYTES_MAX))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            action, generation_id = str(entry["action"]), str(entry["id"])
        except (ValueError, TypeError, KeyError):
            continue
        if is_generation_id(generation_id):
            yield action, generation_id


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One change of CURRENT at a time, between processes too."""
    if not root.is_dir():
        raise GenerationNotFound(f"{root} is not a directory of generations")
    with (root / LOCK_NAME).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
