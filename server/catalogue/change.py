"""What a caller wants changed of an item, and what that makes of the document that there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from server.catalogue.document import ItemDocument, Value


@dataclass(frozen=True, slots=True)
class FieldMask:
    """Which fields of an existing item change; `attributes`: single ones, by name."""

    available: bool = False
    stock_count: bool = False
    all_attributes: bool = False
    attributes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One item of an UpsertItems call, validated.

    Attributes:
        available, stock_count: None where the call does not say.
        mask: None: the fields that are set, and the attributes that are given.
    """

    item_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    available: bool | None = None
    stock_count: int | None = None
    mask: FieldMask | None = None

    def create(self) -> ItemDocument:
        """The document of an item that is new; what the call does not say is unknown."""
        available = True if self.available is None else self.available
        return ItemDocument(dict(self.attributes), available, self.stock_count)

    def merge(self, document: ItemDocument) -> ItemDocument:
        """The document of an item that is there, with the fields changed that the call names."""
        mask = self.mask
        if mask is None:
            return replace(
                document,
                attributes={**document.attributes, **self.attributes},
                available=document.available if self.available is None else self.available,
                stock_count=document.stock_count if self.stock_count is None else self.stock_count,
                at="",
            )
        attributes = dict(document.attributes)
        if mask.all_attributes:
            attributes = dict(self.attributes)
        for name in mask.attributes:
            if name in self.attributes:
                attributes[name] = self.attributes[name]
            else:
                attributes.pop(name, None)
        available = document.available
        if mask.available:
            available = True if self.available is None else self.available
        stock_count = self.stock_count if mask.stock_count else document.stock_count
        return ItemDocument(attributes, available, stock_count)
