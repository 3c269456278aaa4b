"""One live item as the store keeps it: JSON in the hash `tr:items`, and the same in an entry of `tr:changes`.

    {"attributes": {"brand": "Kestrel", "price": 12.5}, "available": true, "stock_count": 3, "at": "1790000000000-0"}
    {"deleted": true, "at": "1790000000000-1"}

A document is whole: what it does not say is unknown, and no generation has to be asked. `at` is the place of its change
in `tr:changes`; the script that writes it puts it there.

Errors:
    ValueError
    └── DocumentInvalid   what the store holds is no such document
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

ITEM_KIND, PURGE_KIND = b"item", b"purge"

Value = str | float
Position = tuple[int, int]
"""A place in a stream: milliseconds and a number within them. Compares as the stream is ordered."""


class DocumentInvalid(ValueError):
    """A value in the store that is no document of an item; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ItemDocument:
    """What is known of one live item.

    Attributes:
        attributes: values by column; a column that is missing is unknown.
        available: whether the shop lets it be recommended. stock_count: pieces; None where they are not counted.
        deleted: then nothing else counts.
        at: the place of its change in the stream; empty as long as it is not written.
    """

    attributes: Mapping[str, Value] = field(default_factory=dict)
    available: bool = True
    stock_count: int | None = None
    deleted: bool = False
    at: str = ""

    @property
    def retrievable(self) -> bool:
        """Whether it may appear in answers."""
        return not self.deleted and self.available and self.stock_count != 0

    def to_json(self) -> bytes:
        """The document as it is written; without `at`, which the store adds."""
        if self.deleted:
            return b'{"deleted":true}'
        parts: dict[str, object] = {"attributes": dict(self.attributes), "available": self.available}
        if self.stock_count is not None:
            parts["stock_count"] = self.stock_count
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ItemDocument:
        """Raises DocumentInvalid."""
        try:
            parts = json.loads(data)
            attributes = parts.get("attributes", {})
            stock_count = parts.get("stock_count")
            document = cls(
                {str(name): value if isinstance(value, str) else float(value) for name, value in attributes.items()},
                bool(parts.get("available", True)),
                None if stock_count is None else int(stock_count),
                bool(parts.get("deleted", False)),
                str(parts.get("at", "")),
            )
            position_of(document.at or "0-0")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DocumentInvalid(f"{data[:80]!r} is no document of an item: {error}") from error
        return document


def looks_hidden(data: bytes) -> bool:
    """Whether a stored document may hide its item, without reading the whole of it; errs on the side of yes.

    Quotes within texts are escaped, so no text looks like one of these.
    """
    return b'"deleted":true' in data or b'"available":false' in data or b'"stock_count":0' in data


def position_in(data: bytes) -> Position:
    """The place of a stored document's change, without reading the whole of it; (0, 0) where it does not say."""
    _, found, rest = data.rpartition(b'"at":"')
    try:
        return position_of(rest.rstrip(b'"}')) if found else (0, 0)
    except ValueError:
        return (0, 0)


def position_of(text: str | bytes) -> Position:
    """The place that an entry's id names. Raises ValueError."""
    milliseconds, _, number = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(milliseconds), int(number or 0)


def position_text(position: Position) -> str:
    """The entry's id of a place."""
    return f"{position[0]}-{position[1]}"
