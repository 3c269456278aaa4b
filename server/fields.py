"""Checks of single request fields: each appends what is wrong to a list, so that a caller sees it all at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from server.errors import VIOLATIONS_MAX, Violation

TIMESTAMP_SECONDS_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the end of google.protobuf.Timestamp; its start is year 1, ours the epoch."""

SHOWN_CHARACTERS_MAX = 40
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def shown(value: str) -> str:
    """A caller's value as a message may quote it: escaped and cut."""
    return repr(value if len(value) <= SHOWN_CHARACTERS_MAX else value[:SHOWN_CHARACTERS_MAX] + "…")


def check_text(value: str, bytes_max: int, path: str, violations: list[Violation]) -> None:
    """A label or an optional id: at most `bytes_max` UTF-8 bytes, no control characters; may be empty."""
    # Nearly every text is decided by this line: ASCII has one byte a character.
    if not value or (len(value) <= bytes_max and value.isascii() and value.isprintable()):
        return
    size_bytes = len(value.encode("utf-8"))
    if size_bytes > bytes_max:
        violations.append(Violation(path, f"is {size_bytes} bytes long; at most {bytes_max} are allowed"))
    elif CONTROL_CHARACTER.search(value):
        violations.append(Violation(path, f"{shown(value)} holds a control character"))


def check_id(value: str, bytes_max: int, path: str, violations: list[Violation]) -> None:
    """An id that must be there: 1 to `bytes_max` UTF-8 bytes, no control characters."""
    if value:
        check_text(value, bytes_max, path, violations)
    else:
        violations.append(Violation(path, f"must not be empty; an id has 1 to {bytes_max} bytes"))


def check_ids(
    values: Sequence[str], count_max: int, bytes_max: int, path: str, violations: list[Violation]
) -> tuple[str, ...]:
    """A list of ids: at most `count_max`, each valid. A list that is too long is not looked into."""
    if not values:
        return ()
    if not check_count(len(values), count_max, path, violations):
        return ()
    ids = tuple(values)
    before = len(violations)
    # The common case is decided without a path string for each element.
    bytes_safe = bytes_max // 4
    for position, value in enumerate(ids):
        if not value or len(value) > bytes_safe or not value.isprintable():
            check_id(value, bytes_max, f"{path}[{position}]", violations)
            if len(violations) - before >= VIOLATIONS_MAX:
                break
    return ids


def check_count(count: int, count_max: int, path: str, violations: list[Violation]) -> bool:
    """Whether a repeated field is short enough to be looked into."""
    if count <= count_max:
        return True
    violations.append(Violation(path, f"has {count} entries; at most {count_max} are allowed"))
    return False


def check_page_size(asked: int, default: int, page_size_max: int, path: str, violations: list[Violation]) -> int:
    """The number of items to answer; 0 asks for the default."""
    if asked > page_size_max:
        violations.append(Violation(path, f"is {asked}; at most {page_size_max} are allowed"))
    return asked or default


def timestamp_s(value: Timestamp, path: str, violations: list[Violation]) -> float | None:
    """Seconds since the epoch, or None (and a violation) when it is no time that an event can have."""
    seconds, nanos = value.seconds, value.nanos
    if not 0 <= seconds <= TIMESTAMP_SECONDS_MAX:
        violations.append(
            Violation(path, f"seconds is {seconds}; must be from 0 (1970) to {TIMESTAMP_SECONDS_MAX} (end of 9999)")
        )
        return None
    if not 0 <= nanos <= 999_999_999:
        violations.append(Violation(path, f"nanos is {nanos}; must be from 0 to 999999999"))
        return None
    return seconds + nanos * 1e-9
