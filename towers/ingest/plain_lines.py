"""Lines of a plain file, `user item item …`, separated by blanks: read, checked, broken ones counted with a reason.

A row is one item of a line; a line without any counts as one row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from towers.ingest.checks import QUARANTINE_SCHEMA
from towers.schema.errors import MissingFileError, UnreadableFileError


@dataclass(frozen=True)
class Broken:
    """One rejected row: where it stands, which rule rejected it, and why."""

    source: str
    file: str
    row: int
    rule: str
    column: str
    value: str | None
    reason: str


@dataclass(frozen=True)
class PlainLines:
    """A file's users with their items, in the file's order, each user once and with at least one item."""

    items: dict[str, list[str]]
    broken: list[Broken]

    @property
    def row_count(self) -> int:
        """Rows read: those kept and those broken."""
        return sum(map(len, self.items.values())) + len(self.broken)


def read_plain_lines(path: Path, *, as_sets: bool) -> PlainLines:
    """Read a file of lines.

    Args:
        path: UTF-8 text; a user's line holds its id and its items' ids.
        as_sets: whether an item counts once a user; otherwise a repetition is one more event.

    Raises:
        MissingFileError, UnreadableFileError: there is no such file, or it is no text.
    """
    kept: dict[str, list[str]] = {}
    broken: list[Broken] = []

    def reject(line: int, rule: str, column: str, value: str | None, reason: str) -> None:
        broken.append(Broken("events", path.name, line, rule, column, value, reason))

    for number, line in enumerate(_text(path).splitlines()):
        user, *items = line.split() or [""]
        if not user:
            reject(number, "empty_line", "user", None, "the line is empty")
        elif not items:
            reject(number, "no_items", "item", user, f"the line of user {user!r} has no items")
        elif user in kept:
            for item in items:
                reject(number, "repeated_user", "user", item, f"user {user!r} has an earlier line")
        elif as_sets:
            kept[user] = list(dict.fromkeys(items))
            seen: set[str] = set()
            for item in items:
                if item in seen:
                    reject(number, "repeated_item", "item", item, f"stands twice in the set of user {user!r}")
                seen.add(item)
        else:
            kept[user] = items
    return PlainLines(kept, broken)


@dataclass(frozen=True)
class PlainAttributes:
    """Attribute ids of items, joined by blanks."""

    words: dict[str, str]
    broken: list[Broken]


def read_plain_attributes(path: Path) -> PlainAttributes:
    """Read a JSON object, item → list of attribute ids.

    Raises:
        MissingFileError, UnreadableFileError: there is no such file, or it is no JSON object.
    """
    try:
        pairs = json.loads(_text(path), object_pairs_hook=list)
    except ValueError as error:
        raise UnreadableFileError(f"{path}: not JSON: {error}") from error
    if not isinstance(pairs, list) or any(not isinstance(pair, tuple) for pair in pairs):
        raise UnreadableFileError(f"{path}: not a JSON object of item → list of attribute ids")
    words: dict[str, str] = {}
    broken: list[Broken] = []
    for number, (item, values) in enumerate(pairs):
        if item in words:
            broken.append(Broken("items", path.name, number, "repeated_item", "item", item, "stands earlier too"))
        elif not isinstance(values, list) or not all(map(_is_id, values)):
            reason = f"the attributes of item {item!r} are no list of ids"
            broken.append(Broken("items", path.name, number, "wrong_type", "attributes", str(values)[:200], reason))
        else:
            words[item] = " ".join(map(str, values))
    return PlainAttributes(words, broken)


def quarantine_table(broken: list[Broken]) -> pl.DataFrame:
    """The rejected rows as a dataset keeps them."""
    return pl.DataFrame([vars(one) for one in broken], schema=QUARANTINE_SCHEMA)


def counts_by_rule(broken: list[Broken]) -> dict[str, int]:
    """Rejected rows of each rule."""
    counts: dict[str, int] = {}
    for one in broken:
        counts[one.rule] = counts.get(one.rule, 0) + 1
    return counts


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path}: cannot be read as text: {error}") from error
